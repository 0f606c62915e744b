// Package linksim is a network on virtual time: links with a rate, a drop-tail queue,
// delay, jitter, loss and reordering, and flows that send over them what an estimator
// of bandwidth allows. Nothing in it waits, and all chance comes from one seed, so a
// minute of traffic takes milliseconds and is the same at every run.
//
// Tests of what controls rates use it (roomtask/bwe). It knows none of them: a Flow
// sees its Estimator through an interface. It must not read a clock or a socket.
//
// Read net.go first (the events), then link.go (the path) and flow.go (the sender and
// the receiver at its ends); svg.go draws what was recorded.
package linksim

import (
	"container/heap"
	"math/rand/v2"
)

// Units of virtual time, in ns.
const (
	Millisecond = int64(1e6)
	Second      = int64(1e9)
)

// Net is the clock and the events to come. It belongs to one goroutine.
type Net struct {
	Rand   *rand.Rand // set once
	now    int64
	count  int // of events ever added: those of one moment happen in this order
	events events
}

// New starts a network at second 1: a time of 0 often means that there is none.
func New(seed uint64) *Net {
	return &Net{Rand: rand.New(rand.NewPCG(seed, 0x6c696e6b)), now: Second}
}

// Now returns the virtual time in ns.
func (n *Net) Now() int64 { return n.now }

// At calls f at t, or now if that has passed.
func (n *Net) At(t int64, f func()) {
	n.count++
	heap.Push(&n.events, event{max(t, n.now), n.count, f})
}

// After calls f when d has passed.
func (n *Net) After(d int64, f func()) { n.At(n.now+d, f) }

// Every calls f each period, for the first time when one has passed.
func (n *Net) Every(period int64, f func()) {
	n.After(period, func() { f(); n.Every(period, f) })
}

// Run lets d pass.
func (n *Net) Run(d int64) {
	end := n.now + d
	for len(n.events) > 0 && n.events[0].at <= end {
		e := heap.Pop(&n.events).(event)
		n.now = e.at
		e.f()
	}
	n.now = end
}

type event struct {
	at    int64
	order int
	f     func()
}

type events []event

func (e events) Len() int { return len(e) }

func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || (e[i].at == e[j].at && e[i].order < e[j].order)
}

func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }

func (e *events) Push(x any) { *e = append(*e, x.(event)) }

func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	old[len(old)-1] = event{}
	*e = old[:len(old)-1]
	return last
}
