package sendq

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"
)

// TestWorkersServeManySenders leaves work with many senders from several goroutines:
// each sender does its own in order, and never in two places at the same time.
func TestWorkersServeManySenders(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	synctest.Test(t, func(t *testing.T) {
		const senders, writers, each = 40, 4, 200
		wheel := NewWheel()
		type account struct {
			s    *Sender
			busy atomic.Bool
			last [writers]int
		}
		all := make([]*account, senders)
		for i := range all {
			all[i] = &account{s: New(Config{Now: clock, WriteRTCP: func([]rtcp.Packet) error { return nil }, Wheel: wheel})}
		}
		if a, b := wheel.workers[0].load(), wheel.workers[1].load(); a != senders/2 || b != senders/2 {
			t.Errorf("%d and %d senders", a, b)
		}
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for n := range each {
					for _, a := range all {
						a.s.in.command(func() {
							if a.busy.Swap(true) {
								t.Error("one sender in two places")
							}
							if a.last[w] != n {
								t.Errorf("work %d of %d came as number %d", n, w, a.last[w])
							}
							a.last[w]++
							a.busy.Store(false)
						})
					}
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		for i, a := range all {
			if a.last != [writers]int{each, each, each, each} {
				t.Errorf("sender %d did %v", i, a.last)
			}
			a.s.Close()
		}
		synctest.Wait()
		for _, k := range wheel.workers {
			if k.running || k.senders != 0 {
				t.Errorf("a worker goes on for %d senders", k.senders)
			}
		}
		again := New(Config{Now: clock, WriteRTCP: func([]rtcp.Packet) error { return nil }, Wheel: wheel})
		done := make(chan struct{})
		again.in.command(func() { close(done) })
		<-done
		again.Close()
	})
}

// TestWorkersFlush has a hundred senders write: what they wrote has left when the worker
// sleeps, and the first of them need not wait for the last.
func TestWorkersFlush(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	synctest.Test(t, func(t *testing.T) {
		var waits, most, flushes int // the one worker's, and the test's while that sleeps
		wheel := NewWheel()
		wheel.Flush = func() { most, waits, flushes = max(most, waits), 0, flushes+1 }
		var all []*Sender
		for range 100 {
			all = append(all, New(Config{Now: clock, WriteRTCP: func([]rtcp.Packet) error { return nil }, Wheel: wheel}))
		}
		synctest.Wait()
		for round := range 5 {
			flushes = 0
			for _, s := range all {
				s.in.command(func() { waits++ })
			}
			synctest.Wait()
			if waits != 0 {
				t.Errorf("round %d: %d writes wait while the worker sleeps", round, waits)
			}
			if flushes > len(all)/flushAfter+2 {
				t.Errorf("round %d: %d flushes for %d senders", round, flushes, len(all))
			}
		}
		if most > flushAfter {
			t.Errorf("%d senders' writes waited for each other, want at most %d", most, flushAfter)
		}
		for _, s := range all {
			s.Close()
		}
	})
}

// TestLongWorkIsTakenUpAgain leaves one sender more than it does in a turn.
func TestLongWorkIsTakenUpAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ann := r.publisher("ann")
		r.s.SetSeat(0, nil, r.wire.videoOut(0))
		r.assign(0, Assignment{Video: ann.camera(), Width: 320, Height: 180})
		ann.frame(0, true, 100)
		r.tick(300 * time.Millisecond)
		r.wire.take()
		ann.frame(0, true, 1000)
		const frames = 3 * turnSteps * videoRun
		for range frames {
			ann.frame(0, false, 10)
		}
		if got := len(r.wire.take()); got != frames+1 {
			t.Errorf("%d packets of %d", got, frames+1)
		}
	})
}
