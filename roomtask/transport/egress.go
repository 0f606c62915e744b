package transport

import (
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"
)

// drainTimeout bounds how long Close waits for a socket that takes nothing more.
const drainTimeout = 100 * time.Millisecond

// egress batches sealed RTP. Writers copy into the filling batch. The senders' workers,
// who write nearly all of it, send it themselves at the end of their run (flush): so it
// clocks itself, and the busier the task, the longer the runs. For other writers there is
// the flusher, one goroutine, which yields once, so that who is ready to write does, and
// then sends. A writer that finds the batch full sends it itself, which is the bound on
// memory and the pressure back on the writers.
type egress struct {
	out  sender
	wake chan struct{} // holds 1; sent to by the writer that sets awake
	done chan struct{} // closed when the flusher has ended

	sendMu  sync.Mutex // held while a batch is sent; taken before mu
	sending *batch     // guarded by sendMu; empty while it is free

	mu      sync.Mutex
	filling *batch // guarded by mu
	awake   bool   // guarded by mu: the flusher is on its way
	closed  bool   // guarded by mu
}

// sender sends a batch's packets, the order of each route kept. It cannot fail: what
// the kernel refuses is counted and gone, as anything sent by UDP may be.
type sender interface{ send(b *batch) }

func newEgress(out sender) *egress {
	e := &egress{
		out: out, wake: make(chan struct{}, 1), done: make(chan struct{}),
		sending: newBatch(), filling: newBatch(),
	}
	go e.loop()
	return e
}

// write takes a copy of p. It fails only after close. With wake, the flusher sends it.
func (e *egress) write(p []byte, to netip.AddrPort, wake bool) error {
	for {
		e.mu.Lock()
		if e.closed {
			e.mu.Unlock()
			return net.ErrClosed
		}
		if e.filling.add(p, to) {
			wake = wake && !e.awake
			e.awake = e.awake || wake
			e.mu.Unlock()
			if wake {
				e.wake <- struct{}{}
			}
			return nil
		}
		e.mu.Unlock()
		e.flush()
	}
}

// loop is the flusher.
func (e *egress) loop() {
	defer close(e.done)
	for range e.wake {
		for more := true; more; {
			runtime.Gosched()
			e.flush()
			e.mu.Lock()
			more = !e.filling.empty()
			e.awake = more
			closed := e.closed
			e.mu.Unlock()
			if closed && !more {
				return
			}
		}
	}
}

// flush sends what was written before the call.
func (e *egress) flush() {
	e.mu.Lock()
	empty := e.filling.empty()
	e.mu.Unlock()
	if empty {
		return // all of it is sent, or being sent
	}
	e.sendMu.Lock()
	defer e.sendMu.Unlock()
	e.mu.Lock()
	e.sending, e.filling = e.filling, e.sending
	e.mu.Unlock()
	if !e.sending.empty() {
		e.out.send(e.sending)
		e.sending.reset()
	}
}

// close refuses further writes, and returns when what was written has been sent.
func (e *egress) close() {
	e.mu.Lock()
	wake := !e.closed && !e.awake
	e.closed, e.awake = true, true
	e.mu.Unlock()
	if wake {
		e.wake <- struct{}{}
	}
	<-e.done
	e.sendMu.Lock() // a writer that found the batch full may still be sending it
	defer e.sendMu.Unlock()
}
