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

// readRetries is how many read errors in a row end the socket. Pion's mux gives up
// at the first one, which would end the media of the whole room for what may be
// one late ICMP error.
const readRetries = 100

// socket is the task's UDP socket. It is an ice.AddrPortReaderWriter, so that
// neither direction allocates.
type socket struct {
	*net.UDPConn
	local    netip.AddrPort
	counters *counters
	endOnce  sync.Once
	ended    chan struct{} // closed when the mux's reader has seen the end
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
	return &socket{
		UDPConn: conn, counters: c, ended: make(chan struct{}),
		local: netip.AddrPortFrom(local.Addr().Unmap(), local.Port()),
	}, nil
}

// ReadFromAddrPort reads one datagram. It returns an error only when the socket is
// closed, which is io.EOF and the mux's sign to end quietly, or reading fails for good.
func (s *socket) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	for tries := 0; ; tries++ {
		n, from, err := s.ReadFromUDPAddrPort(b)
		if err == nil {
			s.counters.udpPacketsIn.Add(1)
			s.counters.udpBytesIn.Add(uint64(n))
			return n, from, nil
		}
		if errors.Is(err, net.ErrClosed) {
			err = io.EOF
		}
		if errors.Is(err, io.EOF) || tries == readRetries {
			s.endOnce.Do(func() { close(s.ended) })
			return 0, netip.AddrPort{}, err
		}
		s.counters.udpReadErrors.Add(1)
		time.Sleep(time.Millisecond) // an error that stays must not spin
	}
}

// WriteToAddrPort sends one datagram: STUN, DTLS, SRTP or SRTCP of any participant.
func (s *socket) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	n, err := s.WriteToUDPAddrPort(b, to)
	if err != nil {
		s.counters.udpWriteErrors.Add(1)
		return n, err
	}
	s.counters.udpPacketsOut.Add(1)
	s.counters.udpBytesOut.Add(uint64(n))
	return n, nil
}

// ReadFrom is ReadFromAddrPort for callers of net.PacketConn.
func (s *socket) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := s.ReadFromAddrPort(b)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// WriteTo is WriteToAddrPort for callers of net.PacketConn.
func (s *socket) WriteTo(b []byte, to net.Addr) (int, error) {
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, fmt.Errorf("transport: write to a %T", to)
	}
	addr := udp.AddrPort()
	return s.WriteToAddrPort(b, netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()))
}
