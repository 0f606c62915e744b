package transport

import (
	"net"
	"net/netip"
)

// receiver reads one datagram after the other.
type receiver interface {
	// next waits for a datagram. Its bytes are valid until the next call.
	next() (b []byte, from netip.AddrPort, err error)
}

// plainReceiver reads with one call for each datagram.
type plainReceiver struct {
	conn *net.UDPConn
	buf  [8192]byte
}

func (p *plainReceiver) next() (b []byte, from netip.AddrPort, err error) {
	n, from, err := p.conn.ReadFromUDPAddrPort(p.buf[:])
	return p.buf[:n], from, err
}
