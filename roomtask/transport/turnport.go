package transport

import (
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// Queues of one UDP socket's relayed traffic, in datagrams. Requests have their own, so
// that a flood of them delays no media.
const (
	turnControlQueue = 128
	turnDataQueue    = 512
)

// maxUnpaid bounds what unauthenticated requests have paid for ahead, in bytes.
const maxUnpaid = 16 << 10

// turnDatagram is one that the socket's reader has set aside.
type turnDatagram struct {
	buf  []byte
	from netip.AddrPort
}

// turnPort is a UDP socket as the TURN server sees it: the datagrams that the socket's
// reader sets aside for it. The server reads and answers in one goroutine.
type turnPort struct {
	s       *socket
	control chan turnDatagram
	data    chan turnDatagram
	done    chan struct{} // closed by Close
	closed  atomic.Bool

	// Owned by the server's goroutine, which answers a request before it reads the next.
	request int // bytes of the request being answered
	budget  int // bytes that unauthenticated requests have paid for, and not got
}

func newTURNPort(s *socket) *turnPort {
	return &turnPort{
		s: s, control: make(chan turnDatagram, turnControlQueue), data: make(chan turnDatagram, turnDataQueue), done: make(chan struct{}),
	}
}

// take sets a datagram aside, on the socket's reader. What there is no room for is
// dropped.
func (p *turnPort) take(c class, b []byte, from netip.AddrPort) {
	if len(b) > maxTURNFrame {
		return
	}
	queue := p.control
	if c == classData {
		queue = p.data
	}
	if len(queue) == cap(queue) { // only the reader adds
		p.s.counters.relayDropped.Add(1)
		return
	}
	queue <- turnDatagram{append([]byte(nil), b...), from}
}

// ReadFrom gives the next datagram, data before requests.
func (p *turnPort) ReadFrom(b []byte) (int, net.Addr, error) {
	var d turnDatagram
	select {
	case d = <-p.data:
	default:
		select {
		case d = <-p.data:
		case d = <-p.control:
		case <-p.done:
			return 0, nil, net.ErrClosed
		}
	}
	p.request = len(d.buf)
	return copy(b, d.buf), net.UDPAddrFromAddrPort(d.from), nil
}

// WriteTo sends to a client. Those who have proved nothing get at most one and a half
// times the bytes that they sent, all of them together: the source of a datagram is
// anybody's word. A request that has not paid for its answer is lost; its repetition
// will have.
func (p *turnPort) WriteTo(b []byte, to net.Addr) (int, error) {
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, net.InvalidAddrError("not a UDP address")
	}
	if unauthenticated(b) {
		p.budget = min(p.budget+p.request*3/2, maxUnpaid)
		p.request = 0
		if p.budget < len(b) {
			p.s.counters.relayUnpaid.Add(1)
			return len(b), nil
		}
		p.budget -= len(b)
	}
	at := udp.AddrPort()
	return p.s.writeNow(b, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
}

// LocalAddr is the socket's.
func (p *turnPort) LocalAddr() net.Addr { return p.s.LocalAddr() }

// Close ends reading; the socket is its owner's to close.
func (p *turnPort) Close() error {
	if !p.closed.Swap(true) {
		close(p.done)
	}
	return nil
}

// SetDeadline does nothing: the server sets none.
func (p *turnPort) SetDeadline(time.Time) error      { return nil }
func (p *turnPort) SetReadDeadline(time.Time) error  { return nil }
func (p *turnPort) SetWriteDeadline(time.Time) error { return nil }
