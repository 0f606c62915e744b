package conn

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestPipe(t *testing.T) {
	ended := 0
	var sent []byte
	p := newPipe(func(b []byte) (int, error) { sent = append(sent, b...); return len(b), nil }, func() { ended++ })
	for n := range pipeQueue + 3 { // what there is no room for is lost
		p.put([]byte{byte(n), byte(n >> 8)})
	}
	b := make([]byte, 10)
	for n := range pipeQueue {
		if size, _, err := p.ReadFrom(b); size != 2 || err != nil || b[0] != byte(n) || b[1] != byte(n>>8) {
			t.Fatalf("datagram %d: %x, %v", n, b[:size], err)
		}
	}
	if p.queue != nil {
		t.Error("the queue is kept")
	}
	if n, err := p.WriteTo([]byte("out"), nil); n != 3 || err != nil || string(sent) != "out" {
		t.Errorf("%d, %v, %q", n, err, sent)
	}
	p.put([]byte("late"))
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if ended != 1 || !p.over() {
		t.Errorf("told %d times of the end", ended)
	}
	if _, _, err := p.ReadFrom(b); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after Close: %v", err)
	}
	if _, err := p.WriteTo(b, nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("written after Close: %v", err)
	}
	p.put([]byte("later"))
}

// TestPipeWakesItsReader: by a datagram, a deadline that has passed, and the end.
func TestPipeWakesItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipe(nil, func() {})
		type read struct {
			b   string
			err error
		}
		reads := make(chan read, 1)
		wait := func() {
			go func() {
				b := make([]byte, 10)
				n, _, err := p.ReadFrom(b)
				reads <- read{string(b[:n]), err}
			}()
			synctest.Wait()
		}
		wait()
		p.put([]byte("hello"))
		p.put([]byte("again")) // before the reader has run
		if r := <-reads; r.b != "hello" || r.err != nil {
			t.Errorf("%+v", r)
		}
		wait()
		if r := <-reads; r.b != "again" || r.err != nil {
			t.Errorf("%+v", r)
		}
		wait()
		if err := p.SetReadDeadline(time.Now()); err != nil {
			t.Error(err)
		}
		if r := <-reads; !errors.Is(r.err, os.ErrDeadlineExceeded) {
			t.Errorf("%+v", r)
		}
		p.put([]byte("more")) // nobody waits
		if err := p.SetDeadline(time.Time{}); err != nil {
			t.Error(err)
		}
		wait()
		if r := <-reads; r.b != "more" {
			t.Errorf("%+v", r)
		}
		wait()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if r := <-reads; !errors.Is(r.err, net.ErrClosed) {
			t.Errorf("%+v", r)
		}
	})
}
