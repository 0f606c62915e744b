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
	// Overloaded is told when what Withheld returns has changed; nil = nobody asks. It is set
	// before the first sender joins, called by any worker, and must not block.
	Overloaded func(withheld float64)

	workers []*worker // set once
	trips   longest
	load    overload

	mu     sync.Mutex
	joined int       // senders so far
	due    []*Sender // to be woken at the next turn
	spare  []*Sender // due's other half, empty
	timer  *time.Timer
	armed  bool
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

// tripsHold is how long a round trip counts at least, and twice that at most.
const tripsHold = 3 * second

// longest is the longest round trip of the last seconds, of all senders.
type longest struct {
	mu sync.Mutex
	// guarded by mu, ns
	begun, now, before int64
}

// roll begins a new interval when the present one is over. The caller holds mu.
func (l *longest) roll(now int64) {
	switch d := now - l.begun; {
	case d >= 2*tripsHold:
		l.begun, l.before, l.now = now, 0, 0
	case d >= tripsHold:
		l.begun, l.before, l.now = now, l.now, 0
	}
}

func (l *longest) add(rtt, now int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.roll(now)
	l.now = max(l.now, rtt)
}

// LongestRTT is the longest round trip to any receiver in the last 3 to 6 s, in
// nanoseconds; 0 = none is known.
func (w *Wheel) LongestRTT(now int64) int64 {
	l := &w.trips
	l.mu.Lock()
	defer l.mu.Unlock()
	l.roll(now)
	return max(l.now, l.before)
}
