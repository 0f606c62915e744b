package sendq

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"

	"mayfly/roomtask/bwe"
	"mayfly/roomtask/forward"
)

func (r *rig) seat(num int) SeatState {
	r.t.Helper()
	for _, st := range r.s.Snapshot().Seats {
		if st.Seat == num {
			if why := r.s.Paused(num); why != st.Paused {
				r.t.Errorf("seat %d is paused %q by itself, %q in the snapshot", num, why, st.Paused)
			}
			return st
		}
	}
	r.t.Fatalf("no seat %d", num)
	return SeatState{}
}

// assign is Assign, carried out when it returns.
func (r *rig) assign(num int, a Assignment) {
	r.s.Assign(num, a)
	synctest.Wait()
}

func TestLayerFollowsTheView(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ann := r.publisher("ann")
		r.s.SetSeat(0, r.wire.audioOut(0), r.wire.videoOut(0))
		frames := func() {
			for l := range 3 {
				ann.frame(l, true, 200)
			}
		}
		frames()
		show := func(w, h, layer int, paused string) {
			t.Helper()
			r.assign(0, Assignment{Video: ann.camera(), Audio: ann.mic(), Width: w, Height: h})
			r.tick(400*time.Millisecond, frames)
			if st := r.seat(0); st.Layer != layer || st.Paused != paused {
				t.Errorf("%d×%d: layer %d, paused %q; want %d, %q", w, h, st.Layer, st.Paused, layer, paused)
			}
			if n := len(r.wire.take()); (n == 0) != (layer < 0) {
				t.Errorf("%d×%d: %d packets", w, h, n)
			}
		}
		show(160, 90, 0, "")
		show(1280, 720, 2, "")
		show(640, 360, 1, "")
		show(0, 0, -1, "hidden")
		r.wire.take()
		show(4000, 2000, 2, "")
	})
}

func TestFallsBackToALayerThatIsThere(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ann := r.publisher("ann")
		r.s.SetSeat(0, nil, r.wire.videoOut(0))
		r.assign(0, Assignment{Video: ann.camera(), Width: 1280, Height: 720})
		r.tick(300 * time.Millisecond)
		if st := r.seat(0); st.Paused != "muted" {
			t.Errorf("paused %q before anything is sent", st.Paused)
		}
		r.tick(400*time.Millisecond, func() { ann.frame(0, true, 200) })
		if st := r.seat(0); st.Layer != 0 || st.Paused != "" {
			t.Errorf("only the lowest is sent: layer %d, paused %q", st.Layer, st.Paused)
		}
		r.tick(400*time.Millisecond, func() { ann.frame(0, false, 200); ann.frame(2, true, 200) })
		if st := r.seat(0); st.Layer != 2 {
			t.Errorf("the wanted one came: layer %d", st.Layer)
		}
		r.tick(2*time.Second, func() { ann.frame(0, true, 200) })
		if st := r.seat(0); st.Layer != 0 {
			t.Errorf("the wanted one went dry: layer %d", st.Layer)
		}
	})
}

func TestALayerWithoutKeyframeIsLeftAside(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ann := r.publisher("ann")
		r.s.SetSeat(0, nil, r.wire.videoOut(0))
		r.assign(0, Assignment{Video: ann.camera(), Width: 1280, Height: 720})
		deaf := func() { ann.frame(0, true, 200); ann.frame(2, false, 200) }
		deaf()
		r.assign(0, Assignment{Video: ann.camera(), Width: 1281, Height: 720})
		r.tick(time.Second, deaf)
		if n := ann.plis(ann.base() + 2); n < 2 {
			t.Errorf("asked %d times in a second", n)
		}
		r.tick(3*time.Second, deaf)
		if st := r.seat(0); st.Layer != 0 || st.Paused != "" {
			t.Errorf("layer %d, paused %q", st.Layer, st.Paused)
		}
	})
}

func TestNoKeyframeIsSaid(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ann := r.publisher("ann")
		r.s.SetSeat(0, nil, r.wire.videoOut(0))
		r.assign(0, Assignment{Video: ann.screen(), Width: 1280, Height: 720})
		r.tick(3*time.Second, func() { ann.screenFrame(false) })
		if st := r.seat(0); st.Paused != ReasonNoKeyframe || st.State != forward.WaitKey {
			t.Errorf("paused %q, state %v", st.Paused, st.State)
		}
		r.tick(400*time.Millisecond, func() { ann.screenFrame(true) })
		if st := r.seat(0); st.Paused != "" || st.Layer != 0 {
			t.Errorf("paused %q, layer %d after the keyframe", st.Paused, st.Layer)
		}
		if snap := r.s.Snapshot(); snap.ScreenBytes == 0 || snap.ScreenBytes != snap.VideoBytes {
			t.Errorf("%d of %d bytes are a screen's", snap.ScreenBytes, snap.VideoBytes)
		}
	})
}

// TestTheOnlyLayerIsNotLeftAside: a source of one layer, whose keyframe does not come, is
// wanted all the time. Nobody is told, not even for a moment, that it is muted.
func TestTheOnlyLayerIsNotLeftAside(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ann := r.publisher("ann")
		r.s.SetSeat(0, nil, r.wire.videoOut(0))
		r.assign(0, Assignment{Video: ann.screen(), Width: 1280, Height: 720})
		r.tick(time.Second, func() { ann.screenFrame(false) })
		looks, said := 0, 0
		r.tick(8*time.Second, func() {
			ann.screenFrame(false)
			looks++
			switch st := r.seat(0); st.Paused {
			case ReasonNoKeyframe:
				said++
			case "":
			default:
				t.Errorf("paused %q", st.Paused)
			}
		})
		if said < looks/2 {
			t.Errorf("told %d of %d times what is missing", said, looks)
		}
	})
}

// fill holds the sender in its first write while more packets come, and then lets all go.
func (r *rig) fill(first, rest func()) {
	w := r.wire
	w.mu.Lock()
	w.hold, w.entered = make(chan struct{}), make(chan struct{})
	hold := w.hold
	w.mu.Unlock()
	first()
	<-w.entered
	rest()
	w.mu.Lock()
	w.hold = nil
	w.mu.Unlock()
	close(hold)
}

func TestAudioGoesFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ann := r.publisher("ann")
		video := r.wire.numberedOut(0)
		video.RTXSSRC = 0 // no probes: nothing is held back
		r.s.SetSeat(0, r.wire.audioOut(0), video)
		r.assign(0, Assignment{Audio: ann.mic(), Video: ann.camera(), Width: 320, Height: 180})
		ann.frame(0, true, 200)
		ann.speak()
		r.tick(400 * time.Millisecond)
		r.wire.take()
		ann.frame(0, true, 200)
		r.wire.take()
		r.fill(func() { ann.frame(0, false, 200) }, func() {
			for range 100 {
				ann.frame(0, false, 200)
			}
			for range 5 {
				ann.speak()
			}
		})
		got := r.wire.take()
		if len(got) != 106 {
			t.Fatalf("%d packets", len(got))
		}
		for i, p := range got {
			if isAudio := p.SSRC == 1; isAudio != (i >= 1 && i <= 5) {
				t.Errorf("packet %d of 106 has SSRC %d", i, p.SSRC)
			}
			if i > 0 {
				a, b := got[i-1].GetExtension(4), p.GetExtension(4)
				if uint16(b[0])<<8|uint16(b[1]) != uint16(a[0])<<8|uint16(a[1])+1 {
					t.Errorf("transport-wide numbers %x, %x at %d: not in the order of the wire", a, b, i)
				}
			}
		}
	})
}

func TestOverflowDropsVideoAndSparesAudio(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ann := r.publisher("ann")
		r.s.SetSeat(0, r.wire.audioOut(0), r.wire.videoOut(0))
		r.assign(0, Assignment{Audio: ann.mic(), Video: ann.camera(), Width: 320, Height: 180})
		ann.frame(0, true, 100)
		r.tick(400 * time.Millisecond)
		ann.frame(0, true, 100)
		r.wire.take()
		asked := ann.plis(ann.base())
		r.fill(func() { ann.frame(0, false, 100) }, func() {
			for range videoRoom + 300 {
				ann.frame(0, false, 100)
			}
			for range 100 {
				ann.speak()
			}
		})
		got := r.wire.take()
		if n := len(bySSRC(got, 1)); n != 100 {
			t.Errorf("%d of 100 audio packets went out", n)
		}
		if n := len(bySSRC(got, 2)); n != 1 {
			t.Errorf("%d packets of video went out behind the hole, before a keyframe", n-1)
		}
		if d := r.s.Snapshot().Drops; d.VideoOverflow != 300 || d.AudioOverflow != 0 {
			t.Errorf("drops %+v", d)
		}
		r.tick(time.Second)
		if n := ann.plis(ann.base()); n <= asked {
			t.Error("no keyframe was asked for after the overflow")
		}
		ann.frame(0, true, 100)
		if n := len(r.wire.take()); n != 1 {
			t.Errorf("%d packets after the next keyframe", n)
		}
	})
}

func TestVideoStartsOverWhenTheTransportIsUp(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ann := r.publisher("ann")
		r.wire.setOff(true)
		r.s.SetSeat(0, nil, r.wire.videoOut(0))
		r.assign(0, Assignment{Video: ann.camera(), Width: 320, Height: 180})
		ann.frame(0, true, 100)
		r.tick(300*time.Millisecond, func() { ann.frame(0, true, 100) })
		if d := r.s.Snapshot(); d.Drops.NotConnected == 0 || d.VideoBytes != 0 {
			t.Errorf("before the connection: %+v", d)
		}
		r.wire.setOff(false)
		ann.frame(0, false, 100)
		if n := len(r.wire.take()); n != 0 {
			t.Errorf("%d packets went out without a keyframe", n)
		}
		ann.frame(0, true, 100)
		ann.frame(0, false, 100)
		if n := len(r.wire.take()); n != 2 {
			t.Errorf("%d packets after the keyframe", n)
		}
	})
}

func TestCongestionPausesVideoAndSparesAudio(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ann, bob := r.publisher("ann"), r.publisher("bob")
		for i := range 2 {
			r.s.SetSeat(i, r.wire.audioOut(i), r.wire.videoOut(i))
		}
		traffic := func() {
			ann.speak()
			ann.screenFrame(true)
			bob.frame(0, true, 1200) // 60 kB/s
		}
		traffic()
		r.assign(0, Assignment{Audio: ann.mic(), Video: ann.screen(), Width: 1280, Height: 720})
		r.assign(1, Assignment{Video: bob.camera(), Width: 320, Height: 180})
		r.tick(3*time.Second, traffic)
		if a, b := r.seat(0), r.seat(1); a.Layer != 0 || b.Layer != 0 {
			t.Fatalf("layers %d and %d before the congestion", a.Layer, b.Layer)
		}
		for range 6 {
			r.s.Feedback(102, &rtcp.ReceiverReport{Reports: []rtcp.ReceptionReport{{SSRC: 102, FractionLost: 200}}})
			r.tick(time.Second, traffic)
		}
		snap := r.s.Snapshot()
		if snap.Path.State != bwe.Congested {
			t.Fatalf("path %+v", snap.Path)
		}
		if b := r.seat(1); b.Layer != -1 || b.Paused != "bandwidth" {
			t.Errorf("the camera has layer %d, paused %q", b.Layer, b.Paused)
		}
		r.wire.take()
		r.tick(time.Second, traffic)
		got := r.wire.take()
		if n := len(bySSRC(got, 1)); n != 50 {
			t.Errorf("%d of 50 audio packets went out", n)
		}
		if n := len(bySSRC(got, 102)); n != 0 {
			t.Errorf("%d packets of the paused camera", n)
		}
	})
}

func TestRebinding(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ann := r.publisher("ann")
		r.assign(0, Assignment{Video: ann.camera(), Width: 320, Height: 180}) // before its seat
		r.s.SetSeat(0, nil, r.wire.videoOut(0))
		ann.frame(0, true, 100)
		r.tick(300*time.Millisecond, func() { ann.frame(0, true, 100) })
		before := r.wire.take()
		if len(before) == 0 {
			t.Fatal("nothing was sent")
		}
		o := r.wire.videoOut(0)
		o.PT = 120
		r.s.SetSeat(0, nil, o) // the same stream, negotiated again
		ann.frame(0, false, 100)
		got := r.wire.take()
		if len(got) != 1 || got[0].PayloadType != 120 || got[0].SequenceNumber != before[len(before)-1].SequenceNumber+1 {
			t.Errorf("after negotiating again: %v", got)
		}
		r.s.SetSeat(0, nil, nil)
		ann.frame(0, true, 100)
		if got := r.wire.take(); len(got) != 0 {
			t.Errorf("%d packets to a seat that is gone", len(got))
		}
		r.s.SetSeat(0, nil, r.wire.videoOut(5))
		r.tick(300*time.Millisecond, func() { ann.frame(0, true, 100) })
		if got := r.wire.take(); len(got) == 0 || got[0].SSRC != 502 {
			t.Errorf("the new stream sent %d packets", len(got))
		}
	})
}

func TestUnplayableCodecIsSaid(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ann := r.publisher("ann")
		ann.bindScreen("H264")
		r.s.SetSeat(0, nil, r.wire.videoOut(0))
		r.assign(0, Assignment{Video: ann.screen(), Width: 320, Height: 180})
		r.tick(300 * time.Millisecond)
		if st := r.seat(0); st.Paused != ReasonCodec || st.State != forward.Off {
			t.Errorf("paused %q, state %v", st.Paused, st.State)
		}
	})
}

func TestCloseGivesEverythingBack(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ann := r.publisher("ann")
		r.s.SetSeat(0, r.wire.audioOut(0), r.wire.videoOut(0))
		r.assign(0, Assignment{Audio: ann.mic(), Video: ann.camera(), Width: 320, Height: 180})
		ann.frame(0, true, 100)
		r.tick(300 * time.Millisecond)
		r.fill(func() { ann.frame(0, true, 100) }, func() {
			for range 200 {
				ann.frame(0, false, 100)
				ann.speak()
			}
			r.s.in.close()
		})
		r.s.Close()
		r.s.Close()
		ann.frame(0, true, 100)
		r.assign(0, Assignment{})
		r.s.Feedback(2, &rtcp.PictureLossIndication{MediaSSRC: 2})
		r.s.Tick(clock())
		if snap := r.s.Snapshot(); snap.VideoBytes == 0 {
			t.Error("the counts are gone with the goroutine")
		}
	})
}
