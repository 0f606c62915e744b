package sendq

import (
	"sync"
	"time"
)

// wheelStep is the time between two turns. A frame that leaves at 2.5 times the rate
// of its stream takes 13 ms, so it is spread over a few of them.
const wheelStep = 5 * time.Millisecond

// Wheel drives the senders of a room, which share one. It has the goroutines that do
// their work, one for each processor (worker.go), and the only timer, which wakes those
// that have packets waiting for their time and runs only while somebody waits.
type Wheel struct {
	// Flush sends what the senders' writers have kept back so far; nil = they keep
	// nothing back. It is set before the first sender joins, and is called by all workers.
	Flush func()

	workers []*worker // set once

	mu    sync.Mutex
	due   []*Sender // to be woken at the next turn
	spare []*Sender // due's other half, empty
	timer *time.Timer
	armed bool
}

// NewWheel makes a wheel that stands still.
func NewWheel() *Wheel {
	w := &Wheel{}
	w.workers = newWorkers(w)
	return w
}

// await lets s be woken at the next turn. s must not be waiting already.
func (w *Wheel) await(s *Sender) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.due = append(w.due, s)
	switch {
	case w.armed:
	case w.timer == nil:
		w.timer = time.AfterFunc(wheelStep, w.turn)
	default:
		w.timer.Reset(wheelStep)
	}
	w.armed = true
}

// turn wakes all that wait. They come back if they still must.
func (w *Wheel) turn() {
	w.mu.Lock()
	due := w.due
	w.due, w.armed = w.spare, false
	w.spare = nil
	w.mu.Unlock()
	for i, s := range due {
		s.in.nudge(nudgeWheel)
		due[i] = nil
	}
	w.mu.Lock()
	w.spare = due[:0]
	w.mu.Unlock()
}
