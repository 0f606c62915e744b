package sendq

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"mayfly/roomtask/bwe"
	"mayfly/roomtask/forward"
)

const (
	// turnSteps is how many steps one sender may take before the others have their turn.
	turnSteps = 8
	// flushAfter is after how many senders' turns the socket sends what they wrote, so
	// that the first of many viewers need not wait for the last. A run is one destination's,
	// so fewer do not make runs shorter; a system call is little beside what it sends.
	flushAfter = 8
)

// worker is a goroutine that does the work of many senders, one after the other. A
// packet that is published wakes it once, and not each of a hundred subscribers: the
// switches between that many goroutines cost more than the packets do. It also has the
// socket send what they wrote, before it sleeps at the latest: all that one sender wrote
// in its turn leaves in the longest runs that the socket can make.
type worker struct {
	wake  chan struct{} // holds 1; sent to by who finds the worker asleep
	wheel *Wheel        // set once

	scratch forward.Scratch // owned by the goroutine: of all forwarders that it runs
	acks    []bwe.Ack       // owned by the goroutine: of the report that it reads
	batches []batch         // owned by the goroutine: empty ones, for the senders' turns
	hurried []*Sender       // owned by the goroutine: urgent's other half, empty

	turns, late atomic.Uint32 // since the last look; added to by the goroutine
	urgency     atomic.Bool   // somebody is in urgent; set and cleared under mu

	mu      sync.Mutex
	ready   []*Sender // have something in their inbox; each is here at most once
	spare   []*Sender // ready's other half, empty
	urgent  []*Sender // have sound in their inbox while they wait for their turn; each at most once
	asleep  bool
	running bool // its goroutine exists: while it has senders
	senders int
}

// workers are as many as can run at the same time.
func newWorkers(w *Wheel) []*worker {
	all := make([]*worker, runtime.GOMAXPROCS(0))
	for i := range all {
		all[i] = &worker{wheel: w, wake: make(chan struct{}, 1)}
	}
	return all
}

// golden is the golden ratio's fraction: its multiples' fractions are spread evenly over
// 0 to 1, however many there are.
const golden = 0.6180339887

// join gives a sender to the worker that has the fewest. Its luck is between 0 and 1, and
// not like that of those who came just before.
func (w *Wheel) join() (k *worker, luck float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	least, load := w.workers[0], w.workers[0].load()
	for _, k := range w.workers[1:] {
		if n := k.load(); n < load {
			least, load = k, n
		}
	}
	least.hire()
	w.joined++
	return least, math.Mod(float64(w.joined)*golden, 1)
}

func (k *worker) load() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.senders
}

// hire starts the goroutine with the first sender.
func (k *worker) hire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.senders++
	if !k.running {
		k.running = true
		go k.run()
	}
}

// leave is called by the goroutine itself, in the sender's last turn.
func (k *worker) leave() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.senders--
}

// add gives the sender a turn. It must not have one coming.
func (k *worker) add(s *Sender) {
	k.mu.Lock()
	k.ready = append(k.ready, s)
	wake := k.asleep
	k.asleep = false
	k.mu.Unlock()
	if wake {
		k.wake <- struct{}{} // never waits: there is one only while it sleeps
	}
}

// hurry lets the sender send its sound before those who are ready have their turns.
func (k *worker) hurry(s *Sender) {
	k.mu.Lock()
	k.urgent = append(k.urgent, s)
	k.urgency.Store(true)
	k.mu.Unlock()
}

// sounds sends what is urgent, and returns how many senders had some. It is looked for
// after each of a turn's steps, so that a voice waits for a few of one viewer's pictures
// at most, and not for those of all viewers.
func (k *worker) sounds() (n int) {
	if !k.urgency.Load() {
		return 0
	}
	k.mu.Lock()
	some := k.urgent
	k.urgent, k.hurried = k.hurried, nil
	k.urgency.Store(false)
	k.mu.Unlock()
	for i, s := range some {
		some[i] = nil
		s.safely(s.sound) // who fails is closed, which is a turn's to do
	}
	k.hurried = some[:0]
	return len(some)
}

// run ends when the last sender has left.
func (k *worker) run() {
	turns := 0 // since the last flush
	for {
		k.mu.Lock()
		round := k.ready
		switch {
		case len(round) > 0:
			k.ready, k.spare = k.spare[:0], nil
		case turns > 0: // before it sleeps
		case k.senders == 0:
			k.running = false
			k.mu.Unlock()
			return
		default:
			k.asleep = true
		}
		k.mu.Unlock()
		if len(round) == 0 {
			if turns == 0 {
				<-k.wake
			} else {
				k.flush()
				turns = 0
			}
			continue
		}
		for i, s := range round {
			round[i] = nil
			if s.safely(s.turn) {
				k.add(s)
			}
			if turns += 1 + k.sounds(); turns >= flushAfter {
				k.flush()
				turns = 0
			}
		}
		k.mu.Lock()
		k.spare = round[:0]
		k.mu.Unlock()
	}
}

func (k *worker) flush() {
	if k.wheel.Flush != nil {
		k.wheel.Flush()
	}
}

// turn does what lies in the inbox, and returns true if there is still more. What is
// urgent is looked for again after every few packets of video, so that audio never
// waits for more than those.
func (s *Sender) turn() (again bool) {
	s.borrow()
	for i := range turnSteps {
		if i > 0 && s.worker.urgency.Load() {
			return true
		}
		if !s.in.take(&s.work, s.more) {
			s.giveBack()
			return false
		}
		if s.work.closed {
			s.shutdown()
			s.worker.leave()
			close(s.done)
			return false
		}
		now := s.cfg.Now()
		if arrival, ok := s.oldest(); ok {
			s.worker.turned(arrival, now)
		}
		s.more = s.step(now)
	}
	return true
}

// sound sends the sound that lies in the inbox, and leaves all else for a turn.
func (s *Sender) sound() (again bool) {
	held := s.holds
	s.borrow()
	if s.in.takeAudio(&s.work) {
		s.sendAudio(s.cfg.Now())
		s.count.publish()
	}
	if !held {
		s.giveBack()
	}
	return false
}

// keptRoom is how many packets a batch that nobody uses may have room for, and keptTWCC
// how many bytes of feedback: what one sender's bad moment took is not kept for all.
const (
	keptRoom = 64
	keptTWCC = 2 << 10
)

// borrow takes one of the worker's batches for a turn, unless the last one left some in
// the sender's own. So there are a few, and not one for each sender.
func (s *Sender) borrow() {
	k := s.worker
	if s.holds {
		return
	}
	if s.holds = true; len(k.batches) > 0 {
		last := len(k.batches) - 1
		s.work, k.batches = k.batches[last], k.batches[:last]
	}
}

// giveBack ends the use of a batch of which nothing is left.
func (s *Sender) giveBack() {
	b := s.work
	b.nudges, b.closed = 0, false
	for _, q := range []*fifo{&b.audio, &b.video} {
		if q.head = 0; cap(q.slots) > keptRoom {
			q.slots = nil
		}
		q.slots = q.slots[:0]
	}
	if cap(b.twcc) > keptTWCC {
		b.twcc = nil
	}
	s.work, s.holds = batch{}, false
	s.worker.batches = append(s.worker.batches, b)
}
