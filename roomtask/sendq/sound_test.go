package sendq

import (
	"runtime"
	"testing"
	"testing/synctest"

	"mayfly/roomtask/rtpx"
)

// TestSoundPassesPictures leaves a worker a second of pictures for each of twenty viewers,
// and then a word: everybody has it before the first of them has had a few pictures more.
func TestSoundPassesPictures(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // one worker
	synctest.Test(t, func(t *testing.T) {
		const viewers, frames = 20, 300
		r := &rig{t: t, pool: rtpx.NewPool(64 << 20), wire: &wire{}}
		ann, wheel := r.publisher("ann"), NewWheel()
		var all []*Sender
		for i := range viewers {
			s := New(Config{Now: clock, WriteRTCP: r.wire.writeRTCP, Wheel: wheel})
			s.SetSeat(i, r.wire.audioOut(i), r.wire.videoOut(i))
			s.Assign(i, Assignment{Audio: ann.mic(), Video: ann.camera(), Width: 320, Height: 180})
			all = append(all, s)
		}
		r.s = all[0]
		ann.frame(0, true, 100)
		ann.speak()
		r.tick(300 * 1e6)
		r.wire.take()

		r.wire.hold, r.wire.entered = make(chan struct{}), make(chan struct{})
		hold := r.wire.hold
		ann.frame(0, false, 10)
		<-r.wire.entered // the worker is in the first viewer's turn
		for range frames {
			ann.frame(0, false, 10)
		}
		ann.speak()
		r.wire.mu.Lock()
		r.wire.hold = nil
		r.wire.mu.Unlock()
		close(hold)

		heard, seen := 0, 0
		for i, p := range r.wire.take() {
			switch p.SSRC % 100 {
			case 1:
				if heard++; i > videoRun+viewers {
					t.Errorf("viewer %d heard it after %d other packets", p.SSRC/100, i)
				}
			case 2:
				seen++
			}
		}
		if heard != viewers || seen != viewers*(frames+1) {
			t.Errorf("%d of %d heard it, %d of %d pictures came", heard, viewers, seen, viewers*(frames+1))
		}
		for _, s := range all {
			s.Close()
		}
		ann.in.Close()
		if n := r.pool.Out(); n != 0 {
			t.Errorf("%d bytes of packets were not given back", n)
		}
	})
}

// TestFaultInSound lets a sender that was hurried meet a bug, asleep or in its turn: it
// ends, and once.
func TestFaultInSound(t *testing.T) {
	for _, asleep := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			faults := 0
			s := New(Config{Now: clock, WriteRTCP: (&wire{}).writeRTCP, Fault: func(any) { faults++ }})
			hurried := func() {
				s.in.mu.Lock()
				s.in.audio.slots = append(s.in.audio.slots, entry{}) // of no line
				s.in.mu.Unlock()
				s.worker.hurry(s)
				if n := s.worker.sounds(); n != 1 {
					t.Errorf("%d senders were hurried", n)
				}
			}
			synctest.Wait()
			if asleep {
				hurried()
			} else {
				s.in.command(hurried)
			}
			synctest.Wait()
			if faults != 1 || s.in.command(func() {}) {
				t.Errorf("asleep %v: %d faults were told", asleep, faults)
			}
			s.Close()
		})
	}
}
