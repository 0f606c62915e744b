package gateway

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Fault makes one direction of a connection worse than API Gateway has to be.
// The shares are probabilities per message, 0 to 1.
type Fault struct {
	Drop      float64
	Duplicate float64
	Reorder   float64       // the message is held back for up to Window
	Window    time.Duration // 0 means 50 ms
}

func (f Fault) none() bool { return f.Drop == 0 && f.Duplicate == 0 && f.Reorder == 0 }

// Faults are the switches of a WebSocket API. The same Seed makes the same
// decisions for the n-th message of the m-th connection.
type Faults struct {
	Seed           uint64
	In             Fault   // client to integration
	Out            Fault   // posts to client
	LoseDisconnect float64 // share of $disconnect events that are never sent
}

// line applies a Fault to the messages of one direction of one connection.
type line struct {
	fault Fault          // set once
	wg    sync.WaitGroup // held-back messages

	mu  sync.Mutex
	rng *rand.Rand // guarded by mu
}

func newLine(f Fault, seed, stream uint64) *line {
	if f.Window <= 0 {
		f.Window = 50 * time.Millisecond
	}
	return &line{fault: f, rng: rand.New(rand.NewPCG(seed, stream))}
}

// pass calls deliver never, once or twice; now, or later from another goroutine.
func (l *line) pass(deliver func()) {
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
func (l *line) roll() []time.Duration {
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

// wait returns when nothing is held back any more.
func (l *line) wait() { l.wg.Wait() }
