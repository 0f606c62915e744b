package sendq

import (
	"testing"
	"time"
)

// TestScreenAfterAnHourOfTalk: sound alone proves a tenth of what a screen needs, and
// nothing can be probed with before video was sent. It must be seen all the same, and on
// a path that is too narrow for it the sound must outlive the attempt.
func TestScreenAfterAnHourOfTalk(t *testing.T) {
	for _, c := range []struct {
		name string
		bps  int64
		seen bool
	}{{"wide", 10_000_000, true}, {"narrow", 150_000, false}} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				b := newBottleneck(c.bps)
				ann := newShow(r.publisher("ann"))
				r.s.SetSeat(0, r.wire.audioOut(0), r.wire.numberedOut(0))
				r.s.Assign(0, Assignment{Audio: ann.mic()})
				r.wire.forget = true
				through := r.wire.through(b, r.s)
				share := func() { // 1.5 Mbit/s
					key, ssrc := ann.key(ann.base()+9), ann.base()+9
					for i := range 4 {
						ann.send(ssrc, ptVP8, "2", "", 450, ann.picture(ssrc, key && i == 0, 1920, 1080, 930))
					}
					ann.n++
					ann.speak()
				}
				r.tick(20*time.Second, share, through)
				b.take()
				r.s.Assign(0, Assignment{Audio: ann.mic(), Video: ann.screen(), Width: 1280, Height: 720})
				took := time.Duration(0)
				for ; took < 10*time.Second && r.seat(0).Layer < 0; took += 20 * time.Millisecond {
					r.tick(20*time.Millisecond, share, through)
				}
				r.tick(10*time.Second, share, through)
				lost, got := audioLost(b.take())
				t.Logf("seen after %v, and then %v; %d of %d packets of sound lost", took, r.seat(0).Layer >= 0, lost, lost+got)
				if c.seen && (took > time.Second || r.seat(0).Layer < 0 || lost > 0) {
					t.Errorf("on a wide path: %+v", r.s.Snapshot())
				}
				if !c.seen && (r.seat(0).Layer >= 0 || lost > 50) {
					t.Errorf("on a narrow path: %+v", r.s.Snapshot())
				}
			})
		})
	}
}

// TestReceiverThatIsLate: a browser that is busy is there half a second after its last
// flight of the handshake has come. What was sent to it meanwhile is lost; the picture, of
// one layer that takes twice what is taken for granted of a path, stays from then on.
func TestReceiverThatIsLate(t *testing.T) {
	for _, late := range []time.Duration{0, 200 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second} {
		inBubble(t, func(t *testing.T, r *rig) {
			b := newBottleneck(10_000_000)
			ann := newShow(r.publisher("ann"))
			r.wire.forget = true
			share := func() { // 1.2 Mbit/s
				key, ssrc := ann.key(ann.base()+9), ann.base()+9
				for i := range 3 {
					ann.send(ssrc, ptVP8, "2", "", 600, ann.picture(ssrc, key && i == 0, 1280, 720, 950))
				}
				ann.n++
				ann.speak()
			}
			r.tick(2*time.Second, share)
			r.s.SetSeat(0, r.wire.audioOut(0), r.wire.numberedOut(0))
			r.s.Assign(0, Assignment{Audio: ann.mic(), Video: ann.screen(), Width: 1280, Height: 720})
			r.tick(late, share)
			through := r.wire.through(b, r.s)
			for i := range 400 {
				r.tick(20*time.Millisecond, share, through)
				if seat := r.seat(0); seat.Paused != "" {
					t.Fatalf("late by %v: %q %d ms after it is there: %+v", late, seat.Paused, 20*(i+1), r.s.Snapshot().Path)
				}
			}
		})
	}
}
