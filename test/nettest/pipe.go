package nettest

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

const (
	maxDelay = 30 * time.Second
	// maxHeld bounds what one direction may hold, whatever the settings: 8 MiB is 2 s
	// at 32 Mbit/s.
	maxHeld = 8 << 20
)

// pipe is one direction. It reads no clock: now is given, in nanoseconds, and never
// runs backwards. Its owner pushes packets and takes those that are due.
type pipe[T any] struct {
	s   Settings
	rng *rand.Rand

	queue  []item[T] // before the bottleneck; the first is being sent
	queued int       // bytes in queue
	left   float64   // bits of the first that are still to be sent
	served int64     // until when left is reckoned
	bad    bool      // state of Burst

	due   dueHeap[T] // past the bottleneck, by the time of arrival
	order uint64     // counts what went into due, to keep equal times in order
	under int        // bytes in due
	last  int64      // latest arrival of those that keep the order

	count Counters
}

type item[T any] struct {
	v     T
	size  int
	at    int64 // came to the queue; in due: arrives
	order uint64
	late  time.Duration // beyond Delay, by jitter
	hold  bool          // is to be passed by others
	twice bool
}

func newPipe[T any](s Settings, seed uint64) *pipe[T] {
	return &pipe[T]{s: s, rng: rand.New(rand.NewPCG(seed, 0x6e657474657374))}
}

// set changes the settings. What waits before the bottleneck goes on at the new rate;
// what is past it arrives as planned.
func (p *pipe[T]) set(now int64, s Settings) {
	p.serve(now)
	p.s = s
	p.serve(now)
}

// push takes a packet. Each draws the same number of random numbers whatever the
// settings are, so that a change of settings does not change the fate of later packets.
func (p *pipe[T]) push(now int64, size int, v T) {
	p.serve(now)
	p.count.In++
	p.count.InBytes += int64(size)
	var draw [6]float64
	for i := range draw {
		draw[i] = p.rng.Float64()
	}
	if p.chance(draw[0], draw[1], draw[2]) {
		p.count.Lost++
		return
	}
	if !p.fits(size) {
		p.count.Overflow++
		return
	}
	it := item[T]{
		v: v, size: size, at: now,
		late: time.Duration(draw[3] * float64(p.s.Jitter)), hold: draw[4] < p.s.Reorder, twice: draw[5] < p.s.Duplicate,
	}
	if p.s.Rate == 0 && len(p.queue) == 0 {
		p.pass(it, now)
		return
	}
	if len(p.queue) == 0 {
		p.left, p.served = float64(size)*8, now
	}
	p.queue = append(p.queue, it)
	p.queued += size
}

// chance decides whether the network loses a packet.
func (p *pipe[T]) chance(single, change, inBurst float64) bool {
	if p.bad {
		p.bad = change >= p.s.Burst.Leave
	} else {
		p.bad = change < p.s.Burst.Enter
	}
	return single < p.s.Loss || p.bad && inBurst < p.s.Burst.Loss
}

func (p *pipe[T]) fits(size int) bool {
	if p.queued+p.under+size > maxHeld {
		return false
	}
	if p.s.Rate == 0 || len(p.queue) == 0 { // what the bottleneck is free for always fits
		return true
	}
	if p.s.QueueBytes > 0 && p.queued+size > p.s.QueueBytes {
		return false
	}
	return p.s.QueueTime == 0 || int64(p.queued)*8*int64(time.Second)/p.s.Rate <= int64(p.s.QueueTime)
}

// serve lets the bottleneck work until now.
func (p *pipe[T]) serve(now int64) {
	for len(p.queue) > 0 {
		done := p.served
		if p.s.Rate > 0 {
			done += int64(p.left * float64(time.Second) / float64(p.s.Rate))
		}
		if done > now {
			p.left -= float64(now-p.served) * float64(p.s.Rate) / float64(time.Second)
			p.served = now
			return
		}
		it := p.queue[0]
		p.queue[0] = item[T]{}
		p.queue = p.queue[1:]
		p.queued -= it.size
		p.count.LongestQueue = max(p.count.LongestQueue, done-it.at)
		p.pass(it, done)
		p.served = done
		if len(p.queue) > 0 {
			p.left = float64(p.queue[0].size) * 8
		}
	}
	p.queue = nil // or its array would only grow
}

// pass sends a packet on its way behind the bottleneck, which it left at the given time.
func (p *pipe[T]) pass(it item[T], at int64) {
	arrives := at + int64(p.s.Delay) + int64(it.late)
	if it.hold {
		p.count.Reordered++
		arrives += int64(p.s.ReorderBy)
	} else {
		arrives = max(arrives, p.last)
		p.last = arrives
	}
	it.at = arrives
	p.arrive(it)
	if it.twice {
		p.count.Duplicated++
		p.arrive(it)
	}
}

func (p *pipe[T]) arrive(it item[T]) {
	p.order++
	it.order = p.order
	p.under += it.size
	heap.Push(&p.due, it)
}

// pop returns a packet that has arrived.
func (p *pipe[T]) pop(now int64) (v T, ok bool) {
	p.serve(now)
	if len(p.due) == 0 || p.due[0].at > now {
		return v, false
	}
	it := heap.Pop(&p.due).(item[T])
	p.under -= it.size
	p.count.Out++
	p.count.OutBytes += int64(it.size)
	return it.v, true
}

// next is when pop should be called again; false if nothing is under way.
func (p *pipe[T]) next() (at int64, ok bool) {
	if len(p.due) > 0 {
		at, ok = p.due[0].at, true
	}
	if len(p.queue) > 0 {
		done := p.served
		if p.s.Rate > 0 {
			done += int64(p.left * float64(time.Second) / float64(p.s.Rate))
		}
		if !ok || done < at {
			at, ok = done, true
		}
	}
	return at, ok
}

func (p *pipe[T]) counters() Counters {
	c := p.count
	c.Held = p.queued + p.under
	return c
}

// dueHeap orders packets by their arrival (container/heap).
type dueHeap[T any] []item[T]

func (h dueHeap[T]) Len() int { return len(h) }
func (h dueHeap[T]) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].order < h[j].order
}
func (h dueHeap[T]) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *dueHeap[T]) Push(x any)   { *h = append(*h, x.(item[T])) }
func (h *dueHeap[T]) Pop() any {
	old := *h
	it := old[len(old)-1]
	old[len(old)-1] = item[T]{}
	*h = old[:len(old)-1]
	return it
}
