package ingest

import (
	"io"
	"sync"
	"time"

	"mayfly/roomtask/rtpx"
)

// earlyPackets is how many packets at the beginning of a stream are kept for Pion,
// which reads up to twelve of an undeclared SSRC to find its mid and rid.
const earlyPackets = 16

// earlyFor is how long they wait to be read. Of a declared SSRC Pion reads one or
// none.
const earlyFor = int64(10 * time.Second)

// sink receives the RTP of one SSRC. Write runs on Pion's SRTP goroutine only.
type sink struct {
	// set once
	p    *Publisher
	ssrc uint32
	born int64

	early early

	// guarded by Publisher.mu
	media   *layer // the layer that this SSRC feeds
	repairs *layer // the layer that it retransmits
	retired bool   // another SSRC took its layer over
	expired bool   // early packets are gone
}

func newSink(p *Publisher, ssrc uint32) *sink {
	s := &sink{p: p, ssrc: ssrc, born: p.cfg.Now()}
	s.early.init()
	return s
}

// Write takes one decrypted packet. It never blocks, and never fails: Pion would log
// each error.
func (s *sink) Write(b []byte) (int, error) {
	now := s.p.cfg.Now()
	s.early.keep(b)
	var h rtpx.Header
	if err := h.Parse(b); err != nil {
		s.p.mu.Lock()
		s.p.stats.Malformed++
		s.p.mu.Unlock()
		return len(b), nil
	}
	s.p.receive(s, &h, len(b), now)
	return len(b), nil
}

// Read returns the stream's first packets, and then blocks until Close.
func (s *sink) Read(b []byte) (int, error) { return s.early.read(b) }

// Close ends the stream. A later packet of the same SSRC makes a new sink.
func (s *sink) Close() error {
	s.early.close()
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if s.p.streams[s.ssrc] == s {
		delete(s.p.streams, s.ssrc)
	}
	s.media, s.repairs = nil, nil
	return nil
}

// early keeps copies of the first packets of a stream until they are read.
type early struct {
	full bool // owned by the writer: nothing more will be kept

	mu   sync.Mutex
	more sync.Cond
	// guarded by mu
	kept   int
	queue  [][]byte
	closed bool
}

func (e *early) init() { e.more.L = &e.mu }

func (e *early) keep(b []byte) {
	if e.full {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || e.kept == earlyPackets {
		e.full = true
		return
	}
	e.kept++
	e.queue = append(e.queue, append([]byte(nil), b...))
	e.more.Signal()
}

func (e *early) read(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.queue) == 0 && !e.closed {
		e.more.Wait()
	}
	if e.closed {
		return 0, io.EOF
	}
	if len(e.queue[0]) > len(b) {
		return 0, io.ErrShortBuffer
	}
	n := copy(b, e.queue[0])
	e.queue = e.queue[1:]
	return n, nil
}

// expire forgets what nobody has read. Reads go on to block until close.
func (e *early) expire() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.kept, e.queue = earlyPackets, nil
}

func (e *early) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed, e.queue = true, nil
	e.more.Broadcast()
}

// refusal is a stream that goes nowhere: it takes everything, and gives nothing.
type refusal struct{ end early }

func newRefusal() *refusal {
	r := &refusal{}
	r.end.init()
	return r
}

func (r *refusal) Write(b []byte) (int, error) { return len(b), nil }
func (r *refusal) Read(b []byte) (int, error)  { return r.end.read(b) }
func (r *refusal) Close() error                { r.end.close(); return nil }
