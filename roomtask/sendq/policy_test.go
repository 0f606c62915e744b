package sendq

import (
	"testing"
	"time"

	"mayfly/roomtask/alloc"
)

// show is a scripted publisher: one packet of each layer every 20 ms, and keyframes
// when they are asked for.
type show struct {
	*publisher
	sizes []int // bytes of a frame of each camera layer; 50 frames a second
	asked map[uint32]int
	n     int
}

func newShow(p *publisher, sizes ...int) *show {
	return &show{publisher: p, sizes: sizes, asked: map[uint32]int{}}
}

func (c *show) key(ssrc uint32) bool {
	n := c.plis(ssrc)
	key := c.n == 0 || n > c.asked[ssrc]
	c.asked[ssrc] = n
	return key
}

func (c *show) step() {
	for l, size := range c.sizes {
		key := c.key(c.base() + uint32(l))
		c.frame(l, key, size)
		for range 8 { // a keyframe takes more
			if key {
				c.frame(l, false, size)
			}
		}
	}
	c.speak()
	c.n++
}

// call is one subscriber who sees a screen and three cameras and hears everybody, over
// a bottleneck.
func (r *rig) call(b *bottleneck) (steps []func()) {
	names := []string{"ann", "bob", "cat", "dan"}
	for i, name := range names {
		p := newShow(r.publisher(name), 375, 1250) // 150 and 500 kbit/s
		r.s.SetSeat(i, r.wire.audioOut(i), r.wire.numberedOut(i))
		if i == 0 {
			r.s.Assign(0, Assignment{Audio: p.mic(), Video: p.screen(), Width: 1280, Height: 720})
			steps = append(steps, func() { p.screenFrame(p.key(p.base() + 9)); p.speak(); p.n++ })
			continue
		}
		r.s.Assign(i, Assignment{Audio: p.mic(), Video: p.camera(), Width: 640, Height: 360, Speaking: i == 1})
		steps = append(steps, p.step)
	}
	r.wire.forget = true
	return append(steps, r.wire.through(b, r.s))
}

func audioLost(sum map[uint32]*passed) (lost, got int) {
	for seat := range 4 {
		if p := sum[uint32(100*seat+1)]; p != nil {
			lost, got = lost+p.lost, got+p.got
		}
	}
	return lost, got
}

func TestANarrowPathShedsVideoAndSparesAudio(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		b := newBottleneck(4_000_000)
		steps := r.call(b)
		r.tick(10*time.Second, steps...)
		for seat := range 4 {
			if st := r.seat(seat); st.Layer != st.Wanted || st.Layer < 0 {
				t.Fatalf("seat %d has layer %d of %d on a wide path: %+v", seat, st.Layer, st.Wanted, r.s.Snapshot().Path)
			}
		}
		if lost, _ := audioLost(b.take()); lost > 0 {
			t.Errorf("%d packets of audio lost on a wide path", lost)
		}
		b.set(400_000)
		r.tick(2*time.Second, steps...)
		lost, got := audioLost(b.take())
		t.Logf("in the first 2 s at 400 kbit/s: %d of %d audio packets lost", lost, lost+got)
		r.tick(2*time.Second, steps...)
		b.take()
		r.tick(8*time.Second, steps...)
		sum := b.take()
		if lost, got := audioLost(sum); lost > 0 || got != 4*50*8 {
			t.Errorf("%d packets of audio lost, %d of %d came on the narrow path", lost, got, 4*50*8)
		}
		if st := r.seat(0); st.Layer != 0 || st.Paused != "" {
			t.Errorf("the screen has layer %d, paused %q", st.Layer, st.Paused)
		}
		if a, b := r.seat(2), r.seat(3); a.Paused != alloc.ReasonBandwidth || b.Paused != alloc.ReasonBandwidth {
			t.Errorf("two faces are paused %q and %q", a.Paused, b.Paused)
		}
		snap := r.s.Snapshot()
		t.Logf("%+v, drops %+v", snap.Path, snap.Drops)
		b.set(4_000_000)
		back := 0
		for ; back < 60 && !r.allWanted(); back++ {
			r.tick(500*time.Millisecond, steps...)
		}
		t.Logf("all is back after %d ms", back*500)
		if !r.allWanted() {
			t.Errorf("not all is back after 30 s: %+v", r.s.Snapshot())
		}
	})
}

func (r *rig) allWanted() bool {
	for _, st := range r.s.Snapshot().Seats {
		if st.Layer < 0 || st.Layer != st.Wanted {
			return false
		}
	}
	return true
}
