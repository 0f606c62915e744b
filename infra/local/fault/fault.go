// Package fault loses, doubles and reorders messages by a seed. infra/local's
// gateway and fleet put their messages and events through it. It must not know what
// they carry. Read Line.Pass first.
package fault

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Fault says how bad one direction is. The shares are probabilities per message, 0
// to 1.
type Fault struct {
	Drop      float64
	Duplicate float64
	Reorder   float64       // the message is held back for up to Window
	Window    time.Duration // 0 means 50 ms
}

func (f Fault) none() bool { return f.Drop == 0 && f.Duplicate == 0 && f.Reorder == 0 }

// Line applies a Fault to the messages of one direction of one connection.
type Line struct {
	fault Fault          // set once
	wg    sync.WaitGroup // held-back messages

	mu  sync.Mutex
	rng *rand.Rand // guarded by mu
}

// NewLine makes a Line. The same seed and stream make the same decisions.
func NewLine(f Fault, seed, stream uint64) *Line {
	if f.Window <= 0 {
		f.Window = 50 * time.Millisecond
	}
	return &Line{fault: f, rng: rand.New(rand.NewPCG(seed, stream))}
}

// Pass calls deliver never, once or twice; now, or later from another goroutine.
func (l *Line) Pass(deliver func()) {
	if l.fault.none() {
		deliver()
		return
	}
	for _, hold := range l.roll() {
		if hold == 0 {
			deliver()
			continue
		}
		l.wg.Add(1)
		time.AfterFunc(hold, func() {
			defer l.wg.Done()
			deliver()
		})
	}
}

// roll decides on one message: one entry per copy, saying how long it is held back.
func (l *Line) roll() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	drop, dup := l.rng.Float64() < l.fault.Drop, l.rng.Float64() < l.fault.Duplicate
	copies := 1
	if dup {
		copies = 2
	}
	if drop {
		copies = 0
	}
	holds := make([]time.Duration, copies)
	for i := range holds {
		if l.rng.Float64() < l.fault.Reorder {
			holds[i] = 1 + time.Duration(l.rng.Int64N(int64(l.fault.Window)))
		}
	}
	return holds
}

// Wait returns when nothing is held back any more.
func (l *Line) Wait() { l.wg.Wait() }
