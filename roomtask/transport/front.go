package transport

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// firstBytes is how long a connection may take to say what it is. A client's first
	// bytes come with its handshake's end.
	firstBytes = 5 * time.Second
	// maxHalfOpen bounds the connections that have not said it. Beyond, the oldest goes:
	// who means to talk has talked before a flood has filled it.
	maxHalfOpen = 128
)

// front is behind all TCP listeners: it reads a connection's first bytes, and hands it
// to whom it is for. Each connection has a goroutine until then; one of ICE keeps it.
type front struct {
	counters *counters
	relay    *relay
	mux      *mux
	turn     *handoff // bare TURN
	secure   *handoff // TURN within TLS
	tls      *tls.Config
	ctx      context.Context // ends with close
	stop     context.CancelFunc
	running  sync.WaitGroup

	mu   sync.Mutex
	half list.List // guarded by mu: net.Conn that have not been told apart, the oldest first
}

func newFront(c *counters, r *relay, m *mux, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error), at net.Addr) *front {
	f := &front{counters: c, relay: r, mux: m, turn: newHandoff(at), secure: newHandoff(at)}
	f.ctx, f.stop = context.WithCancel(context.Background())
	if certificate != nil {
		f.tls = &tls.Config{GetCertificate: certificate, MinVersion: tls.VersionTLS12}
	}
	return f
}

// serve accepts from a listener until it is closed.
func (f *front) serve(l *listener) {
	f.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.running.Go(func() { f.admit(c) })
		}
	})
}

// admit decides what a connection is. One of ICE it serves until it ends.
func (f *front) admit(c net.Conn) {
	head, kind := f.sniff(c)
	conn := &headed{Conn: c, head: head}
	var err error
	switch {
	case kind == classMedia:
		f.frames(conn)
	case kind == classControl && f.relay != nil:
		err = f.give(f.turn, conn)
	case kind == classTLS && f.tls != nil && f.relay != nil:
		err = f.give(f.secure, tls.Server(conn, f.tls))
	default:
		f.counters.tcpUnknown.Add(1)
		err = errors.New("transport: nobody's connection")
	}
	if err != nil {
		_ = c.Close()
	}
}

func (f *front) give(to *handoff, c net.Conn) error {
	c, err := f.relay.admit(f.ctx, c)
	if err != nil {
		return err
	}
	return to.give(c)
}

// sniff reads until the first bytes have told what a connection is.
func (f *front) sniff(c net.Conn) (head []byte, kind class) {
	defer f.undecided(c)()
	if err := c.SetReadDeadline(time.Now().Add(firstBytes)); err != nil {
		return nil, classNone
	}
	buf := make([]byte, sniffBytes)
	for n := 0; n < len(buf); {
		m, err := c.Read(buf[n:])
		n += m
		if kind = classifyTCP(buf[:n]); kind != classMore {
			head = buf[:n]
			break
		}
		if err != nil {
			return nil, classNone
		}
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return nil, classNone
	}
	return head, kind
}

// undecided counts a connection until decided is called.
func (f *front) undecided(c net.Conn) (decided func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil { // close has gone through the others
		_ = c.Close()
	}
	if f.half.Len() >= maxHalfOpen {
		oldest := f.half.Front()
		_ = f.half.Remove(oldest).(net.Conn).Close()
		f.counters.tcpRefused.Add(1)
	}
	mine := f.half.PushBack(c)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.half.Remove(mine) // does nothing if it was pushed out
	}
}

// close ends what is undecided or shaking hands, and waits for all connections. The
// listeners and the mux, which ends those of ICE, are closed before.
func (f *front) close() {
	f.stop()
	f.mu.Lock()
	for e := f.half.Front(); e != nil; e = e.Next() {
		_ = e.Value.(net.Conn).Close()
	}
	f.mu.Unlock()
	_, _ = f.turn.Close(), f.secure.Close()
	f.running.Wait()
}

// headed is a connection whose first bytes have been read already.
type headed struct {
	net.Conn
	head []byte // owned by the reader
}

func (c *headed) Read(b []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(b, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// handoff is a listener of connections that somebody else has accepted.
type handoff struct {
	at    net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandoff(at net.Addr) *handoff {
	return &handoff{at: at, conns: make(chan net.Conn), done: make(chan struct{})}
}

// give hands a connection to Accept's caller.
func (h *handoff) give(c net.Conn) error {
	select {
	case h.conns <- c:
		return nil
	case <-h.done:
		return net.ErrClosed
	}
}

// Accept waits for a connection.
func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (h *handoff) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr is the address of the listener in front.
func (h *handoff) Addr() net.Addr { return h.at }
