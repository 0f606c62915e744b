package conn

import (
	"net"
	"os"
	"sync"
	"time"
	"unsafe"

	"mayfly/roomtask/transport"
)

const (
	// pipeQueue is in datagrams that DTLS has not read yet: twice what the client may have
	// under way of SCTP.
	pipeQueue = 256
	// maxDatagram is the longest that any way takes.
	maxDatagram = 2048
)

// pipe is what the DTLS connection reads from and writes to. Who reads a socket puts
// datagrams in, and never waits: what there is no room for is dropped, as by a network.
type pipe struct {
	send  func(b []byte) (int, error) // set once
	ended func()                      // set once: DTLS has closed the pipe

	mu      sync.Mutex
	cond    sync.Cond   // of mu: something to read, or a reason not to wait
	lent    *byte       // guarded by mu: the reader's buffer, all of whose pages are not there
	into    []byte      // guarded by mu: where the waiting reader wants the next datagram; nil = nobody waits
	size    int         // guarded by mu: of what was put there
	queue   []*datagram // guarded by mu: empty while somebody waits
	expired bool        // guarded by mu: the read deadline has passed
	closed  bool        // guarded by mu
}

// datagram is one that is kept for later.
type datagram struct {
	b    [maxDatagram]byte
	size int
}

// datagrams holds what is not in use, of all connections: few are in use at a time.
var datagrams = sync.Pool{New: func() any { return new(datagram) }}

func newPipe(send func(b []byte) (int, error), ended func()) *pipe {
	p := &pipe{send: send, ended: ended}
	p.cond.L = &p.mu
	return p
}

// put gives DTLS a datagram, into the buffer of its reader if that waits.
func (p *pipe) put(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed || len(b) > maxDatagram:
	case p.into != nil:
		p.size = copy(p.into, b)
		p.into = nil
		p.cond.Broadcast()
	case len(p.queue) < pipeQueue:
		d := datagrams.Get().(*datagram)
		d.size = copy(d.b[:], b)
		p.queue = append(p.queue, d)
	}
}

// ReadFrom waits for a datagram. One goroutine at a time calls it.
func (p *pipe) ReadFrom(b []byte) (int, net.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) > 0 && !p.closed {
		d := p.queue[0]
		p.queue[0] = nil
		if p.queue = p.queue[1:]; len(p.queue) == 0 {
			p.queue = nil // a burst's is not kept
		}
		n := copy(b, d.b[:d.size])
		datagrams.Put(d)
		return n, there, nil
	}
	if !p.closed && !p.expired {
		if at := unsafe.SliceData(b); at != p.lent {
			p.lent = at
			transport.Lend(b, maxDatagram)
		}
		for p.into = b; p.into != nil && !p.closed && !p.expired; {
			p.cond.Wait()
		}
		if p.into == nil {
			return p.size, there, nil
		}
		p.into = nil
	}
	if p.closed {
		return 0, nil, net.ErrClosed
	}
	return 0, nil, os.ErrDeadlineExceeded
}

// WriteTo sends a datagram to the client.
func (p *pipe) WriteTo(b []byte, _ net.Addr) (int, error) {
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return 0, net.ErrClosed
	}
	return p.send(b)
}

// Close ends reading and writing.
func (p *pipe) Close() error {
	p.mu.Lock()
	first := !p.closed
	p.closed = true
	for _, d := range p.queue {
		datagrams.Put(d)
	}
	p.queue = nil
	p.cond.Broadcast()
	p.mu.Unlock()
	if first {
		p.ended()
	}
	return nil
}

// over tells whether the pipe is closed.
func (p *pipe) over() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// SetReadDeadline ends a waiting read if t has passed. Pion uses it for that alone.
func (p *pipe) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expired = !t.IsZero() && time.Until(t) <= 0
	p.cond.Broadcast()
	return nil
}

// SetWriteDeadline does nothing: no write waits.
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline is SetReadDeadline.
func (p *pipe) SetDeadline(t time.Time) error { return p.SetReadDeadline(t) }

// LocalAddr is a name: which addresses are in use is ICE's to know.
func (p *pipe) LocalAddr() net.Addr { return here }

// name is an address of a pipe's end.
type name string

const (
	here  name = "task"
	there name = "client"
)

func (name) Network() string  { return "ice" }
func (n name) String() string { return string(n) }

var _ net.PacketConn = (*pipe)(nil)
