package invoke

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Async invokes a function the way an event source does that does not wait: each
// payload is its own concurrent invocation, tried three times in all, then given
// to DeadLetter. The order of payloads is not kept, as on Lambda.
type Async struct {
	// Set once.
	Function Function
	// Wait is the pause before the second attempt; the third waits twice as long.
	// Lambda waits one and two minutes. 0 means 1 s.
	Wait       time.Duration
	Log        *slog.Logger
	DeadLetter func(payload []byte, err error) // optional

	wg sync.WaitGroup
}

// Send starts the invocation and returns. ctx ends the attempts, and must live as
// long as they may take.
func (a *Async) Send(ctx context.Context, payload []byte) {
	a.wg.Go(func() { a.run(ctx, payload) })
}

// WaitIdle returns when every invocation that was sent has ended.
func (a *Async) WaitIdle() { a.wg.Wait() }

func (a *Async) run(ctx context.Context, payload []byte) {
	wait := a.Wait
	if wait <= 0 {
		wait = time.Second
	}
	var err error
	for attempt := 1; attempt <= 3; attempt++ {
		if _, err = a.Function.Call(ctx, payload); err == nil {
			return
		}
		if attempt == 3 || !sleep(ctx, wait*time.Duration(attempt)) {
			break
		}
	}
	a.Log.Error("event not handled", "function", a.Function.Name, "err", err)
	if a.DeadLetter != nil {
		a.DeadLetter(payload, err)
	}
}

// Stream invokes a function with ordered batches of records, as Lambda's event
// source mapping does for one shard of a stream: one batch at a time, repeated
// until it succeeds or Attempts are used up. Put never blocks.
type Stream struct {
	// Set once.
	function Function
	encode   func(records []any) ([]byte, error)
	failed   func(answer []byte, records []any) int
	attempts int
	batch    int
	log      *slog.Logger
	wake     chan struct{} // capacity 1
	done     chan struct{} // closed when the loop has ended
	cancel   context.CancelFunc

	mu      sync.Mutex
	pending []any // guarded by mu
	closing bool  // guarded by mu
}

// StreamConfig configures a Stream.
type StreamConfig struct {
	Function Function
	Encode   func(records []any) ([]byte, error) // makes the event of a batch
	// Failed reads the first record that an answer reports as failed: the batch is
	// repeated from it. Its length means none. nil means that answers report nothing.
	Failed   func(answer []byte, records []any) int
	Batch    int // most records in one event; 0 means 100
	Attempts int // per batch; 0 means 5
	Log      *slog.Logger
}

// NewStream starts the loop. Close ends it.
func NewStream(ctx context.Context, c StreamConfig) *Stream {
	if c.Batch <= 0 {
		c.Batch = 100
	}
	if c.Attempts <= 0 {
		c.Attempts = 5
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &Stream{
		function: c.Function, encode: c.Encode, failed: c.Failed, attempts: c.Attempts, batch: c.Batch, log: c.Log,
		wake: make(chan struct{}, 1), done: make(chan struct{}), cancel: cancel,
	}
	go s.loop(ctx)
	return s
}

// Put adds records to the stream's end.
func (s *Stream) Put(records ...any) {
	s.mu.Lock()
	if !s.closing {
		s.pending = append(s.pending, records...)
	}
	s.mu.Unlock()
	s.signal()
}

// Close hands over what is pending, waiting until ctx ends at most, and stops.
func (s *Stream) Close(ctx context.Context) {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.signal()
	select {
	case <-s.done:
	case <-ctx.Done():
	}
	s.cancel()
	<-s.done
}

func (s *Stream) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Stream) loop(ctx context.Context) {
	defer close(s.done)
	for {
		batch, closing := s.take()
		if len(batch) > 0 {
			s.deliver(ctx, batch)
			continue
		}
		if closing {
			return
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Stream) take() (batch []any, closing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.pending), s.batch)
	batch, s.pending = s.pending[:n:n], s.pending[n:]
	return batch, s.closing
}

func (s *Stream) deliver(ctx context.Context, batch []any) {
	wait := 100 * time.Millisecond
	for attempt := 1; ; attempt++ {
		from, err := s.call(ctx, batch)
		if batch = batch[from:]; len(batch) == 0 {
			return
		}
		if attempt >= s.attempts || !sleep(ctx, wait) {
			s.log.Error("stream batch dropped", "function", s.function.Name, "records", len(batch), "attempts", attempt, "err", err)
			return
		}
		wait = min(2*wait, 5*time.Second)
	}
}

// call invokes the function once, and returns the record to go on from.
func (s *Stream) call(ctx context.Context, batch []any) (from int, err error) {
	payload, err := s.encode(batch)
	if err != nil {
		s.log.Error("stream records not encoded", "function", s.function.Name, "records", len(batch), "err", err)
		return len(batch), err
	}
	answer, err := s.function.Call(ctx, payload)
	switch {
	case err != nil:
		return 0, err
	case s.failed == nil:
		return len(batch), nil
	}
	return s.failed(answer, batch), nil
}

// sleep waits for d and says whether the context still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
