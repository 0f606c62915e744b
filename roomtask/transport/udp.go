package transport

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// udpBuffer is asked of the kernel for each direction, which may grant less: at
// 50 Mbit/s it covers a pause of the reader of about 300 ms.
const udpBuffer = 2 << 20

// readRetries is how many read errors in a row end the socket: the first one may be one
// late ICMP error.
const readRetries = 100

// socket is a UDP socket of the task's, a way of the mux. Neither direction allocates.
type socket struct {
	*net.UDPConn
	local    netip.AddrPort
	counters *counters
	in       receiver // used by serve's goroutine alone
	quick    *quickSender
	egress   *egress // nil where there is no batching
	guard    *guard
	turn     *turnPort // set before the first read; nil without a relay

	closeOnce sync.Once
	closeErr  error // set in closeOnce
}

func listenUDP(at netip.AddrPort, c *counters) (*socket, error) {
	network := "udp4"
	if at.Addr().Is6() {
		network = "udp6"
	}
	conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("listen UDP: %w", err)
	}
	// The kernel's limit wins silently; a smaller buffer only shortens the pause that is covered.
	_ = conn.SetReadBuffer(udpBuffer)
	_ = conn.SetWriteBuffer(udpBuffer)
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	s := &socket{
		UDPConn: conn, counters: c, in: newReceiver(conn), quick: newQuickSender(conn), guard: newGuard(),
		local: netip.AddrPortFrom(local.Addr().Unmap(), local.Port()),
	}
	if out := newSender(conn, c); out != nil {
		s.egress = newEgress(out)
	}
	return s, nil
}

// Close sends what is still batched, but waits at most drainTimeout for room, and
// closes the socket.
func (s *socket) Close() error {
	s.closeOnce.Do(func() {
		if s.egress != nil {
			_ = s.SetWriteDeadline(time.Now().Add(drainTimeout))
			s.egress.close()
		}
		s.closeErr = s.UDPConn.Close()
	})
	return s.closeErr
}

// serve reads until the socket is closed, and hands to the mux what may be an agent's.
func (s *socket) serve(m *mux) {
	for {
		b, from, err := s.next()
		if err != nil {
			return
		}
		m.deliver(s, b, from)
	}
}

// next waits for a datagram that a session may see. Its bytes are valid until the next call.
// It fails only when the socket is closed, which is io.EOF, or reading fails for good.
func (s *socket) next() ([]byte, netip.AddrPort, error) {
	for tries := 0; ; tries++ {
		p, from, err := s.in.next()
		if err == nil {
			tries = -1
			from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
			s.counters.udpPacketsIn.Add(1)
			s.counters.udpBytesIn.Add(uint64(len(p)))
			if s.aside(p, from) {
				continue
			}
			if reserved(from.Addr()) || !s.guard.in(p, from) {
				s.counters.udpRefused.Add(1)
				continue
			}
			return p, from, nil
		}
		if errors.Is(err, net.ErrClosed) {
			err = io.EOF
		}
		if errors.Is(err, io.EOF) || tries == readRetries {
			return nil, netip.AddrPort{}, err
		}
		s.counters.udpReadErrors.Add(1)
		time.Sleep(time.Millisecond) // an error that stays must not spin
	}
}

// send is WriteToAddrPort: the way of the mux.
func (s *socket) send(b []byte, to netip.AddrPort) (int, error) { return s.WriteToAddrPort(b, to) }

// via is the way of a client who is at an address of the socket's.
func (s *socket) via(netip.AddrPort) string { return ViaUDP }

// forget does nothing: the guard forgets by itself.
func (s *socket) forget(netip.AddrPort) {}

// WriteToAddrPort sends one datagram of any participant. Sealed RTP is copied and
// leaves with the next flush, in the order of its destination; that it was sent is
// not known here, so it never fails but on a closed socket. STUN, DTLS and SRTCP are
// sent at once.
func (s *socket) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	return s.write(b, to, true)
}

// write is WriteToAddrPort. Without wake, sealed RTP waits for who flushes.
func (s *socket) write(b []byte, to netip.AddrPort, wake bool) (int, error) {
	if s.batched(b, to) {
		if err := s.egress.write(b, to, wake); err != nil {
			s.counters.udpWriteErrors.Add(1)
			return 0, err
		}
		return len(b), nil
	}
	s.guard.out(b, to)
	return s.writeNow(b, to)
}

// aside tells whether a datagram is the relay's, or nobody's, and not a session's.
func (s *socket) aside(b []byte, from netip.AddrPort) bool {
	c := classifyUDP(b)
	if c == classMedia {
		return false
	}
	if s.turn == nil || c == classNone {
		s.counters.udpRefused.Add(1)
		return true
	}
	s.turn.take(c, b, from)
	return true
}

// writeNow sends one datagram.
func (s *socket) writeNow(b []byte, to netip.AddrPort) (int, error) {
	n := len(b)
	if !s.quick.send(b, to) {
		var err error
		if n, err = s.WriteToUDPAddrPort(b, to); err != nil {
			s.counters.udpWriteErrors.Add(1)
			return n, err
		}
	}
	s.counters.udpPacketsOut.Add(1)
	s.counters.udpBytesOut.Add(uint64(n))
	return n, nil
}

// batched tells whether a datagram may wait for the next flush. Destinations that
// the socket's family or a zone makes special are left to the net package.
func (s *socket) batched(b []byte, to netip.AddrPort) bool {
	addr := to.Addr()
	return s.egress != nil && sealedRTP(b) && len(b) <= runBytes &&
		addr.Is4() == s.local.Addr().Is4() && addr.Zone() == "" && to.Port() != 0
}
