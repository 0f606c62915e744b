package transport

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// frameHeader is RFC 4571's length.
	frameHeader = 2
	// framedKept is what a connection's buffers may keep while nothing waits.
	framedKept = 8 << 10
)

// iceConn is a client's TCP connection, a way of the mux with one address. It is closed
// when its session ends, or does not answer.
type iceConn struct {
	net.Conn
	counters *counters
	at       netip.AddrPort
	answered atomic.Bool    // something was sent: the client has proved who it is
	writers  sync.WaitGroup // at most one

	mu      sync.Mutex
	out     []byte // guarded by mu: frames that the writer has not taken
	spare   []byte // guarded by mu: the writer's, between its turns
	writing bool   // guarded by mu: there is a writer
	closed  bool   // guarded by mu
}

// frames serves a connection that begins with an ICE check, until it ends.
func (f *front) frames(c net.Conn) {
	w := &iceConn{Conn: c, counters: f.counters, at: c.RemoteAddr().(*net.TCPAddr).AddrPort()}
	w.at = netip.AddrPortFrom(w.at.Addr().Unmap(), w.at.Port())
	in := bufio.NewReaderSize(c, 2*receiveLimit)
	defer func() {
		_ = w.Close()
		w.writers.Wait()
		f.mux.lose(w, w.at)
	}()
	if !f.first(w, in) {
		f.counters.tcpUnknown.Add(1)
		return
	}
	unanswered := time.AfterFunc(firstBytes, func() {
		if !w.answered.Load() {
			_ = w.Close()
		}
	})
	defer unanswered.Stop()
	for {
		b, err := frame(in)
		if err != nil {
			return
		}
		f.mux.deliver(w, b, w.at)
		_, _ = in.Discard(len(b)) // it is buffered
	}
}

// first hands on the first frame, and tells whether it was for anybody. Until then the
// connection is one of those that have not said what they are.
func (f *front) first(w *iceConn, in *bufio.Reader) bool {
	defer f.undecided(w.Conn)()
	if err := w.SetReadDeadline(time.Now().Add(firstBytes)); err != nil {
		return false
	}
	b, err := frame(in)
	if err != nil || w.SetReadDeadline(time.Time{}) != nil || !f.mux.deliver(w, b, w.at) {
		return false
	}
	_, _ = in.Discard(len(b)) // it is buffered
	return true
}

// frame waits for a frame of RFC 4571, whose bytes are valid until the next call, and are
// the caller's to discard. One that is longer than any datagram is an error.
func frame(in *bufio.Reader) ([]byte, error) {
	head, err := in.Peek(frameHeader)
	if err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint16(head))
	if size > receiveLimit {
		return nil, errFrame
	}
	_, _ = in.Discard(frameHeader) // it is buffered
	return in.Peek(size)
}

// send queues a frame. What there is no room for is dropped, as a network would.
func (w *iceConn) send(b []byte, _ netip.AddrPort) (int, error) {
	w.answered.Store(true)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return 0, io.ErrClosedPipe
	case len(w.out)+frameHeader+len(b) > tcpWriteBuffer || len(b) > receiveLimit:
		w.counters.tcpDropped.Add(1)
		return len(b), nil
	}
	w.out = append(binary.BigEndian.AppendUint16(w.out, uint16(len(b))), b...)
	if !w.writing {
		w.writing = true
		w.writers.Go(w.write)
	}
	return len(b), nil
}

// write is the writer: it is there while something waits.
func (w *iceConn) write() {
	for {
		w.mu.Lock()
		if len(w.out) == 0 || w.closed {
			w.writing = false
			if cap(w.out)+cap(w.spare) > framedKept {
				w.out, w.spare = nil, nil
			}
			w.mu.Unlock()
			return
		}
		b := w.out
		w.out, w.spare = w.spare[:0], nil
		w.mu.Unlock()
		if _, err := w.Write(b); err != nil {
			_ = w.Close()
		}
		w.mu.Lock()
		w.spare = b[:0]
		w.mu.Unlock()
	}
}

// Close ends reading and writing.
func (w *iceConn) Close() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	return w.Conn.Close()
}

// via is the way of a client who holds the connection.
func (w *iceConn) via(netip.AddrPort) string { return ViaTCP }

// forget ends the connection: it has no other use.
func (w *iceConn) forget(netip.AddrPort) { _ = w.Close() }
