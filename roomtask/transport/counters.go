package transport

import "sync/atomic"

// Counters are sums since Open, but for TCPOpen and RelayAllocations. Bytes are payload bytes of UDP,
// and of TCP with its 2-byte framing (RFC 4571); STUN is in them. What is out has
// been taken by the kernel, or it is in UDPWriteErrors or UDPDropped.
type Counters struct {
	UDPPacketsIn, UDPPacketsOut   uint64
	UDPBytesIn, UDPBytesOut       uint64
	UDPReadErrors, UDPWriteErrors uint64
	// UDPRuns are sends of several datagrams as one, UDPSegments the datagrams in them.
	UDPRuns, UDPSegments uint64
	// UDPFallbacks are runs that had to go singly, and faculties the kernel turned out
	// to lack; UDPDropped are batched datagrams that it refused; UDPWaits are the times
	// a batch waited for room in the socket's buffer.
	UDPFallbacks, UDPDropped, UDPWaits uint64
	// UDPRefused are datagrams that no participant was shown: DTLS from where no check has
	// passed, and what is neither STUN, DTLS nor RTP.
	UDPRefused uint64
	// Unread are datagrams of any way for which an agent had no room, TCPDropped frames for
	// which a TCP client had none.
	Unread, TCPDropped      uint64
	TCPAccepted, TCPRefused uint64
	TCPBytesIn, TCPBytesOut uint64
	TCPOpen                 int64
	// TCPUnknown are connections that turned out to be nobody's, or said nothing in time.
	TCPUnknown uint64
	// RelayAllocations are those that exist. RelayRefused are packets that clients meant
	// for another peer than the task, RelayDropped those for which there was no room, and
	// RelayUnpaid the answers kept back from clients who had sent too little for them.
	RelayAllocations                        int64
	RelayRefused, RelayDropped, RelayUnpaid uint64
	// Requests to the relay that were signed with a credential too old to allocate, of
	// nobody who is here, or not by who was given it.
	RelayExpired, RelayStrangers, RelayForged uint64
}

// counters are changed from any goroutine.
type counters struct {
	udpPacketsIn, udpPacketsOut, udpBytesIn, udpBytesOut, udpReadErrors, udpWriteErrors atomic.Uint64
	udpRuns, udpSegments, udpFallbacks, udpDropped, udpWaits, udpRefused                atomic.Uint64
	tcpAccepted, tcpRefused, tcpBytesIn, tcpBytesOut                                    atomic.Uint64
	unread, tcpDropped                                                                  atomic.Uint64
	tcpUnknown, relayRefused, relayDropped, relayUnpaid                                 atomic.Uint64
	relayExpired, relayStrangers, relayForged                                           atomic.Uint64
	tcpOpen, relayAllocations                                                           atomic.Int64
}

func (c *counters) snapshot() Counters {
	return Counters{
		UDPPacketsIn: c.udpPacketsIn.Load(), UDPPacketsOut: c.udpPacketsOut.Load(),
		UDPBytesIn: c.udpBytesIn.Load(), UDPBytesOut: c.udpBytesOut.Load(),
		UDPReadErrors: c.udpReadErrors.Load(), UDPWriteErrors: c.udpWriteErrors.Load(),
		UDPRuns: c.udpRuns.Load(), UDPSegments: c.udpSegments.Load(), UDPFallbacks: c.udpFallbacks.Load(),
		UDPDropped: c.udpDropped.Load(), UDPWaits: c.udpWaits.Load(), UDPRefused: c.udpRefused.Load(),
		TCPAccepted: c.tcpAccepted.Load(), TCPRefused: c.tcpRefused.Load(),
		TCPBytesIn: c.tcpBytesIn.Load(), TCPBytesOut: c.tcpBytesOut.Load(),
		Unread: c.unread.Load(), TCPDropped: c.tcpDropped.Load(),
		TCPOpen: c.tcpOpen.Load(), TCPUnknown: c.tcpUnknown.Load(),
		RelayAllocations: c.relayAllocations.Load(), RelayRefused: c.relayRefused.Load(),
		RelayDropped: c.relayDropped.Load(), RelayUnpaid: c.relayUnpaid.Load(),
		RelayExpired: c.relayExpired.Load(), RelayStrangers: c.relayStrangers.Load(), RelayForged: c.relayForged.Load(),
	}
}
