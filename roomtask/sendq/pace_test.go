package sendq

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtp"

	"mayfly/roomtask/bwe"
)

// limit paces video to an estimate of bps until nothing waits any more. The receiver
// must be one of whose path no limit is known.
func (r *rig) limit(bps int64) {
	r.s.in.command(func() {
		r.s.pace.adjust(&bwe.Snapshot{State: bwe.Congested, Bps: bps, SentBps: bps}, 0, clock())
	})
	synctest.Wait()
}

// waits is what the pacer holds, and may hold.
func (r *rig) waits() (bytes, room int64) {
	done := make(chan struct{})
	r.s.in.command(func() {
		bytes, room = r.s.pace.queue.videoBytes(), r.s.pace.queue.room()
		close(done)
	})
	<-done
	return bytes, room
}

// onWheel says whether the sender waits for its wheel. All must be quiet.
func (r *rig) onWheel() bool {
	w := r.s.cfg.Wheel
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.armed
}

// watch seats cameras, each with its lowest layer, and audio of the first; what they
// need to start is sent and taken.
func (r *rig) watch(out func(seat int) *Out, pubs ...*publisher) {
	for i, p := range pubs {
		r.s.SetSeat(i, r.wire.audioOut(i), out(i))
		p.frame(0, true, 200)
		p.speak()
		r.s.Assign(i, Assignment{Audio: p.mic(), Video: p.camera(), Width: 320, Height: 180, Speaking: i == 0})
	}
	r.tick(300*time.Millisecond, func() {
		for _, p := range pubs {
			p.frame(0, true, 200)
			p.speak()
		}
	})
	r.wire.take()
}

func TestNothingWaitsOnAWidePath(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ann := r.publisher("ann")
		r.watch(r.wire.videoOut, ann)
		for range 200 {
			ann.frame(0, false, 1200)
		}
		if n := len(bySSRC(r.wire.take(), 2)); n != 200 {
			t.Errorf("%d of 200 packets went at once", n)
		}
		r.tick(time.Second, func() { ann.frame(0, false, 1200) })
		w := r.s.cfg.Wheel
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.timer != nil {
			t.Error("the wheel was started")
		}
	})
}

func TestANarrowPathSpreadsVideoAndLetsAudioPass(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ann := r.publisher("ann")
		r.watch(r.wire.videoOut, ann)
		r.limit(800_000) // 2 Mbit/s: a packet each 5 ms
		for range 40 {
			ann.frame(0, false, 1200)
		}
		got := bySSRC(r.wire.take(), 2)
		if len(got) == 0 || len(got) > 10 {
			t.Errorf("%d packets went at once, the burst is 10", len(got))
		}
		start := time.Now()
		for len(got) < 40 && time.Since(start) < time.Second {
			ann.speak()
			r.pass(5 * time.Millisecond)
			now := r.wire.take()
			if n := len(bySSRC(now, 1)); n != 1 {
				t.Errorf("%d packets of audio went while video waits", n)
			}
			video := bySSRC(now, 2)
			if len(video) > 3 {
				t.Errorf("%d packets went in 5 ms", len(video))
			}
			got = append(got, video...)
		}
		if d := time.Since(start); len(got) != 40 || d < 120*time.Millisecond || d > 260*time.Millisecond {
			t.Errorf("%d of 40 packets went in %v", len(got), d)
		}
		for i := 1; i < len(got); i++ {
			if got[i].SequenceNumber != got[i-1].SequenceNumber+1 {
				t.Errorf("sequence number %d follows %d", got[i].SequenceNumber, got[i-1].SequenceNumber)
			}
		}
		r.pass(20 * time.Millisecond)
		if r.onWheel() {
			t.Error("the wheel turns for nobody")
		}
	})
}

// TestOverflowShedsTheLeastValuable: when more waits than the path can carry in time,
// the face that does not speak stops, until the queue is short and a keyframe comes.
func TestOverflowShedsTheLeastValuable(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ann, bob := r.publisher("ann"), r.publisher("bob")
		r.watch(r.wire.videoOut, ann, bob)
		r.limit(300_000) // there is room for 64 KiB
		for i := range 40 {
			ann.frame(0, false, 1000)
			bob.frame(0, false, 1000)
			ann.speak()
			if i%10 == 0 {
				r.pass(0)
			}
		}
		r.pass(0)
		if bytes, room := r.waits(); bytes > room {
			t.Errorf("%d bytes wait, there is room for %d", bytes, room)
		}
		asked := bob.plis(bob.base())
		r.pass(2 * time.Second)
		got := r.wire.take()
		if a, v := len(bySSRC(got, 1)), len(bySSRC(got, 2)); a != 40 || v != 40 {
			t.Errorf("%d of 40 packets of audio and %d of 40 of the speaker's video came", a, v)
		}
		if n := len(bySSRC(got, 102)); n == 0 || n >= 40 {
			t.Errorf("%d of 40 packets of the other's video came", n)
		}
		if d := r.s.Snapshot().Drops; d.Paced == 0 || d.VideoOverflow != 0 || d.AudioOverflow != 0 {
			t.Errorf("drops %+v", d)
		}
		bob.frame(0, false, 1000)
		r.pass(100 * time.Millisecond)
		if n := len(bySSRC(r.wire.take(), 102)); n != 0 {
			t.Errorf("%d packets came that cannot be decoded", n)
		}
		if bob.plis(bob.base()) == asked {
			t.Error("no keyframe was asked for")
		}
		bob.frame(0, true, 1000)
		bob.frame(0, false, 1000)
		r.pass(100 * time.Millisecond)
		if n := len(bySSRC(r.wire.take(), 102)); n != 2 {
			t.Errorf("%d packets came after the keyframe", n)
		}
	})
}

// TestUpperTemporalLayersGoFirst: what nobody refers to is left out before a stream
// must stop, and the receiver sees no gap.
func TestUpperTemporalLayersGoFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ann := r.publisher("ann")
		r.watch(r.wire.videoOut, ann)
		picture := func(tid byte) {
			ssrc := ann.base()
			b := ann.picture(ssrc, false, 0, 0, 1000)
			b[5] = tid << 6
			if tid == 1 {
				b[5] |= 1 << 5 // it refers to the base only
			}
			ann.send(ssrc, ptVP8, "1", "q", 3000, b)
		}
		r.limit(300_000)
		for range 30 {
			for _, tid := range []byte{0, 2, 1, 2} {
				picture(tid)
			}
			r.pass(5 * time.Millisecond)
		}
		r.pass(3 * time.Second)
		got := bySSRC(r.wire.take(), 2)
		if len(got) < 30 || len(got) > 110 {
			t.Errorf("%d of 120 pictures came, of which 30 are the base", len(got))
		}
		base := 0
		for i, p := range got {
			if p.Payload[5]>>6 == 0 {
				base++
			}
			if i > 0 && (p.SequenceNumber != got[i-1].SequenceNumber+1 || pictureID(p) != pictureID(got[i-1])+1) {
				t.Errorf("packet %d: sequence number or picture id not the next", i)
			}
		}
		if base != 30 {
			t.Errorf("%d of 30 pictures of the base came", base)
		}
		if d := r.s.Snapshot().Drops; d.Paced != 0 {
			t.Errorf("%d packets were shed", d.Paced)
		}
	})
}

func pictureID(p rtp.Packet) uint16 { return (uint16(p.Payload[2])<<8 | uint16(p.Payload[3])) & 0x7FFF }

// TestABlockedWriterKeepsMemoryBounded: while nothing can be written, what waits has
// its bounds, audio's own among them.
func TestABlockedWriterKeepsMemoryBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ann := r.publisher("ann")
		r.watch(r.wire.videoOut, ann)
		r.limit(300_000)
		r.fill(func() { ann.frame(0, false, 100) }, func() {
			for range 5000 {
				ann.frame(0, false, 1000)
				ann.speak()
				r.s.Tick(clock())
				r.s.TransportFeedback(twcc(1, 1, []uint16{1}))
			}
			in := &r.s.in
			in.mu.Lock()
			defer in.mu.Unlock()
			if v, a, f := len(in.video.slots), len(in.audio.slots), len(in.twcc); v != videoRoom || a != audioRoom || f > twccRoom {
				t.Errorf("%d packets of video, %d of audio and %d bytes of feedback wait", v, a, f)
			}
		})
		r.wire.take()
		if bytes, room := r.waits(); bytes > room {
			t.Errorf("%d bytes wait in the pacer, there is room for %d", bytes, room)
		}
		if d := r.s.Snapshot().Drops; d.AudioOverflow != 5000-audioRoom || d.Feedback == 0 {
			t.Errorf("drops %+v", d)
		}
	})
}
