package forward

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/rtp"

	"mayfly/roomtask/ingest"
	"mayfly/roomtask/rtpx"
)

// oneFrame feeds a picture that is a single packet.
func oneFrame(t *testing.T, s *feed, layer int, ssrc uint32, ext uint64, ts uint32, at int64, c pic) {
	t.Helper()
	c.first = true
	s.giveVP8(t, layer, pkt{ssrc: ssrc, ext: ext, ts: ts, at: at, marker: true, key: c.isKey, payload: c.payload(uint32(ext))})
}

func TestVideoStartsAtAKeyframe(t *testing.T) {
	s, d := newFeed(1), newDirect(t, videoLine(), 9)
	f := d.f
	f.Select(s, 0, d.now)
	if f.State() != WaitKey || s.layers[0].asked != 1 {
		t.Fatalf("state %v, %d keyframes asked for", f.State(), s.layers[0].asked)
	}
	oneFrame(t, s, 0, 1, 100, 0, d.now, pic{id: 5})
	if f.Tick(d.now + keyframeEvery - 1); s.layers[0].asked != 1 {
		t.Error("asked again too soon")
	}
	if f.Tick(d.now + keyframeEvery); s.layers[0].asked != 2 {
		t.Error("did not ask again")
	}
	// A keyframe whose packets come out of order does not start the stream: what
	// followed its first packet is gone.
	s.giveVP8(t, 0, pkt{ssrc: 1, ext: 102, ts: 9, key: true, payload: pic{id: 6}.payload(0)})
	s.giveVP8(t, 0, pkt{ssrc: 1, ext: 101, ts: 9, key: true, payload: pic{id: 6, first: true, isKey: true}.payload(0)})
	if len(d.out) != 0 || f.State() != WaitKey {
		t.Fatalf("sent %d packets before the keyframe, state %v", len(d.out), f.State())
	}
	oneFrame(t, s, 0, 1, 103, 3000, d.now, pic{id: 7, isKey: true})
	oneFrame(t, s, 0, 1, 104, 6000, d.now, pic{id: 8})
	got := d.take()
	if diff := cmp.Diff([]uint16{10, 11}, seqs(got)); diff != "" || f.State() != Live {
		t.Fatalf("state %v, sequence (-want +got):\n%s", f.State(), diff)
	}
	h := got[0].h
	if h.SSRC != 0x1111 || h.PayloadType != 96 || h.Timestamp != 5000 || !h.Marker || h.Padding {
		t.Errorf("header %+v", h)
	}
	if got[1].h.Timestamp != 8000 {
		t.Errorf("second timestamp %d, want 8000", got[1].h.Timestamp)
	}
	if f.Tick(d.now + second); s.layers[0].asked != 2 {
		t.Error("asked for a keyframe while live")
	}
}

func TestAudioStartsAnywhere(t *testing.T) {
	s, d := newFeed(1), newDirect(t, audioLine(), 0)
	d.f.Select(s, 0, d.now)
	if s.layers[0].asked != 0 {
		t.Error("audio asked for a keyframe")
	}
	give := func(ext uint64, level int) {
		s.give(t, 0, pkt{ssrc: 7, ext: ext, ts: uint32(ext) * 960, level: level, start: true, key: true, payload: []byte{byte(ext)}, at: d.now})
	}
	give(70000, 30)
	give(70001, -1)
	give(70001, -1) // twice
	give(70003, 127)
	give(70002, 5) // late: goes to its own place
	give(69999, 5) // from before the start
	got := d.take()
	if diff := cmp.Diff([]uint16{1, 2, 4, 3}, seqs(got)); diff != "" {
		t.Fatalf("sequence (-want +got):\n%s", diff)
	}
	if st := d.f.Stats(); st.Duplicate != 1 || st.Stale != 1 {
		t.Errorf("stats %+v", st)
	}
	if got[0].h.GetExtension(2)[0] != 0x80|30 {
		t.Errorf("audio level %x", got[0].h.GetExtension(2))
	}
	if got[1].h.GetExtension(2) != nil {
		t.Error("a level was sent that is not known")
	}
	for _, o := range got {
		if string(o.h.GetExtension(1)) != "4" || len(o.h.GetExtension(3)) != 2 {
			t.Errorf("extensions %v", o.h.GetExtensionIDs())
		}
	}
	d.f.MidLearnt()
	if give(70004, 5); d.take()[0].h.GetExtension(1) != nil {
		t.Error("the mid is still sent")
	}
}

// TestPausesOfTheEncoderPass: with DTX a packet of a byte comes each 400 ms, and then
// speech. Numbers go on without a hole, timestamps have the pause, payloads are as they were.
func TestPausesOfTheEncoderPass(t *testing.T) {
	s, d := newFeed(1), newDirect(t, audioLine(), 0)
	d.f.Select(s, 0, d.now)
	ts, want := uint32(1<<32-30_000), []uint32{}
	var payloads [][]byte
	for i := range 60 {
		payload, step := []byte{0x78, 1, 2, 3, byte(i)}, uint32(960)
		if i%20 >= 10 {
			payload, step = []byte{0x78}, 19_200
		}
		ts += step
		d.now += int64(step) * second / 48000
		s.give(t, 0, pkt{ssrc: 7, ext: 70_000 + uint64(i), ts: ts, start: true, key: true, payload: payload, at: d.now})
		want, payloads = append(want, step), append(payloads, payload)
	}
	got := d.take()
	if len(got) != len(want) {
		t.Fatalf("%d of %d packets passed", len(got), len(want))
	}
	for i := range got {
		if string(got[i].payload) != string(payloads[i]) {
			t.Errorf("packet %d is %x, was %x", i, got[i].payload, payloads[i])
		}
		if i > 0 && (got[i].h.SequenceNumber != got[i-1].h.SequenceNumber+1 || got[i].h.Timestamp-got[i-1].h.Timestamp != want[i]) {
			t.Errorf("packet %d is %d ticks and %d numbers after the one before, want %d and 1", i,
				got[i].h.Timestamp-got[i-1].h.Timestamp, got[i].h.SequenceNumber-got[i-1].h.SequenceNumber, want[i])
		}
	}
}

func TestAudioChangesOccupantAtOnce(t *testing.T) {
	a, b, d := newFeed(1), newFeed(1), newDirect(t, audioLine(), 0)
	give := func(s *feed, ssrc uint32, ext uint64, ts uint32) {
		s.give(t, 0, pkt{ssrc: ssrc, ext: ext, ts: ts, start: true, key: true, payload: []byte{1}, at: d.now})
	}
	d.f.Select(a, 0, d.now)
	give(a, 1, 1000, 10)
	d.f.Select(b, 0, d.now)
	if len(a.layers[0].taps) != 0 {
		t.Error("the former occupant is still tapped")
	}
	d.now += 40 * second / 1000
	give(b, 2, 77, 999999)
	give(b, 2, 78, 999999+960)
	got := d.take()
	if diff := cmp.Diff([]uint16{1, 2, 3}, seqs(got)); diff != "" {
		t.Fatalf("sequence (-want +got):\n%s", diff)
	}
	if ts := got[1].h.Timestamp - got[0].h.Timestamp; ts != 1920 {
		t.Errorf("40 ms later the timestamp is %d higher, want 1920", ts)
	}
}

func TestPaddingLeavesNoHole(t *testing.T) {
	s, d := newFeed(1), newDirect(t, videoLine(), 0)
	d.f.Select(s, 0, d.now)
	empty := func(ext uint64) { s.giveVP8(t, 0, pkt{ssrc: 1, ext: ext, ts: 0}) }
	oneFrame(t, s, 0, 1, 10, 0, 0, pic{id: 5, isKey: true})
	empty(11)
	empty(12)
	oneFrame(t, s, 0, 1, 13, 3000, 0, pic{id: 6})
	empty(15) // 14 is missing
	oneFrame(t, s, 0, 1, 16, 6000, 0, pic{id: 8})
	oneFrame(t, s, 0, 1, 19, 9000, 0, pic{id: 9}) // 17 and 18 are missing
	empty(18)                                     // late: its number was kept, and must be used
	oneFrame(t, s, 0, 1, 14, 4500, 0, pic{id: 7})
	empty(12) // late, and its number was not kept
	got := d.take()
	if diff := cmp.Diff([]uint16{1, 2, 4, 7, 6, 3}, seqs(got)); diff != "" {
		t.Fatalf("sequence (-want +got):\n%s", diff)
	}
	if len(got[4].payload) != 0 || got[4].h.Marker || got[4].h.Padding {
		t.Errorf("the filler is %+v with %d bytes", got[4].h, len(got[4].payload))
	}
}

func TestDroppedTemporalLayersLeaveNoHole(t *testing.T) {
	s, d := newFeed(1), newDirect(t, videoLine(), 0)
	d.f.SetMaxTID(0)
	d.f.Select(s, 0, d.now)
	part := func(ext uint64, c pic, marker bool) {
		s.giveVP8(t, 0, pkt{ssrc: 1, ext: ext, ts: uint32(c.id) * 3000, marker: marker, key: c.isKey, payload: c.payload(uint32(ext))})
	}
	part(10, pic{id: 1, first: true, isKey: true}, true)
	part(11, pic{id: 2, tid: 2, first: true}, false)
	part(13, pic{id: 2, tid: 2}, true) // 12, between the two, goes with them
	part(14, pic{id: 3, first: true}, true)
	part(12, pic{id: 2, tid: 2}, false)
	part(16, pic{id: 4, tid: 2}, true) // its first packet, 15, is missing: it may be the previous picture's
	part(17, pic{id: 5, first: true}, true)
	part(15, pic{id: 4, tid: 2, first: true}, false) // comes late: filled with nothing
	got := d.take()
	if diff := cmp.Diff([]uint16{1, 2, 4, 3}, seqs(got)); diff != "" {
		t.Fatalf("sequence (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]uint16{1, 2, 3, 0}, []uint16{got[0].vp8.PictureID, got[1].vp8.PictureID, got[2].vp8.PictureID, got[3].vp8.PictureID}); diff != "" {
		t.Errorf("picture ids (-want +got):\n%s", diff)
	}
	if len(got[3].payload) != 0 {
		t.Errorf("a packet of a dropped picture was sent: %x", got[3].payload)
	}
}

func TestLayerSwitchWaitsForItsKeyframe(t *testing.T) {
	s, d := newFeed(2), newDirect(t, videoLine(), 0)
	f := d.f
	s.layers[0].sr = &ingest.SR{NTP: NTP(start), RTP: 90_000, At: start}
	s.layers[1].sr = &ingest.SR{NTP: NTP(start + second), RTP: 7_000_000, At: start + second}
	f.Select(s, 0, d.now)
	oneFrame(t, s, 0, 1, 10, 90_000, start, pic{id: 100, tl0: 5, key: 1, isKey: true})
	f.Select(s, 1, d.now)
	if f.State() != Switch || s.layers[1].asked != 1 {
		t.Fatalf("state %v, asked %d", f.State(), s.layers[1].asked)
	}
	oneFrame(t, s, 1, 2, 900, 0, start, pic{id: 7})
	oneFrame(t, s, 0, 1, 11, 93_000, start+second/30, pic{id: 101, tl0: 6, key: 1})
	// The other layer's picture 2/30 s after the first: its report puts it at
	// RTP 7_000_000 − 28/30 s.
	oneFrame(t, s, 1, 2, 901, 7_000_000-84_000, start+second/15+5e6, pic{id: 8, tl0: 90, key: 9, isKey: true})
	oneFrame(t, s, 0, 1, 12, 99_000, start+second/10, pic{id: 102, tl0: 7, key: 1})
	oneFrame(t, s, 1, 2, 902, 7_000_000-81_000, start+second/10, pic{id: 9, tl0: 91, key: 9})
	got := d.take()
	if diff := cmp.Diff([]uint16{1, 2, 3, 4}, seqs(got)); diff != "" {
		t.Fatalf("sequence (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]uint16{1, 2, 3, 4}, pids(got)); diff != "" {
		t.Errorf("picture ids (-want +got):\n%s", diff)
	}
	for i, want := range []uint32{5000, 8000, 11000, 14000} {
		if ts := got[i].h.Timestamp; ts < want-2 || ts > want+2 {
			t.Errorf("timestamp %d is %d, want %d: the reports tell it exactly", i, ts, want)
		}
	}
	if got[2].vp8.TL0PicIdx != got[1].vp8.TL0PicIdx+1 || got[2].vp8.KeyIdx != got[1].vp8.KeyIdx+1 {
		t.Errorf("TL0PICIDX %d → %d, KEYIDX %d → %d", got[1].vp8.TL0PicIdx, got[2].vp8.TL0PicIdx, got[1].vp8.KeyIdx, got[2].vp8.KeyIdx)
	}
	if len(s.layers[0].taps) != 0 || len(s.layers[1].taps) != 1 {
		t.Errorf("taps: %d and %d", len(s.layers[0].taps), len(s.layers[1].taps))
	}
}

func TestSwitchCanBeTakenBack(t *testing.T) {
	s, d := newFeed(3), newDirect(t, videoLine(), 0)
	d.f.Select(s, 0, d.now)
	oneFrame(t, s, 0, 1, 10, 0, start, pic{id: 1, isKey: true})
	d.f.Select(s, 2, d.now)
	d.f.Select(s, 1, d.now)
	d.f.Select(s, 0, d.now)
	for i, want := range []int{1, 0, 0} {
		if n := len(s.layers[i].taps); n != want {
			t.Errorf("layer %d has %d taps, want %d", i, n, want)
		}
	}
	if l, _ := d.f.Waiting(); d.f.State() != Live || l != -1 {
		t.Errorf("state %v, waiting for %d", d.f.State(), l)
	}
	d.f.Select(nil, 0, d.now)
	if d.f.State() != Off || len(s.layers[0].taps) != 0 {
		t.Errorf("state %v with %d taps after it was turned off", d.f.State(), len(s.layers[0].taps))
	}
}

func TestOccupantChangeSilencesTheFormerOne(t *testing.T) {
	a, b, d := newFeed(1), newFeed(1), newDirect(t, videoLine(), 0)
	d.f.Select(a, 0, d.now)
	oneFrame(t, a, 0, 1, 10, 0, start, pic{id: 1, isKey: true})
	d.f.Select(b, 0, d.now)
	oneFrame(t, a, 0, 1, 11, 3000, start, pic{id: 2})
	if len(d.out) != 1 || d.f.State() != WaitKey || d.f.Layer() != -1 {
		t.Errorf("%d packets, state %v", len(d.out), d.f.State())
	}
	if d.f.Keyframe(); b.layers[0].asked != 2 || a.layers[0].asked != 1 {
		t.Errorf("a subscriber's PLI went to the wrong one: %d, %d", a.layers[0].asked, b.layers[0].asked)
	}
}

func TestCutFrameLeavesOneNumber(t *testing.T) {
	a, b, d := newFeed(1), newFeed(1), newDirect(t, videoLine(), 0)
	d.f.Select(a, 0, d.now)
	a.giveVP8(t, 0, pkt{ssrc: 1, ext: 10, key: true, at: start, payload: pic{id: 1, first: true, isKey: true}.payload(0)})
	d.f.Select(b, 0, d.now)
	oneFrame(t, b, 0, 1, 700, 0, start, pic{id: 50, isKey: true})
	if diff := cmp.Diff([]uint16{1, 3}, seqs(d.take())); diff != "" {
		t.Errorf("sequence (-want +got):\n%s", diff)
	}
}

func TestPublisherRestart(t *testing.T) {
	for _, ext := range []uint64{1<<17 + 5, 12} { // the numbers go on far above, or at once
		publisherRestart(t, ext)
	}
}

func publisherRestart(t *testing.T, ext uint64) {
	s, d := newFeed(1), newDirect(t, videoLine(), 0)
	d.f.Select(s, 0, d.now)
	oneFrame(t, s, 0, 1, 10, 100, start, pic{id: 1, isKey: true})
	asked := s.layers[0].asked
	oneFrame(t, s, 0, 2, ext, 70, start, pic{id: 900}) // another SSRC, not a keyframe
	if d.f.State() != WaitKey || s.layers[0].asked != asked+1 {
		t.Fatalf("state %v, asked %d", d.f.State(), s.layers[0].asked)
	}
	oneFrame(t, s, 0, 1, 11, 3100, start, pic{id: 2}) // the old stream's last packet
	oneFrame(t, s, 0, 2, ext+1, 3070, start+second/30, pic{id: 901, isKey: true})
	oneFrame(t, s, 0, 1, 9, 1, start, pic{id: 3})
	oneFrame(t, s, 0, 2, ext+2, 6070, start+second/15, pic{id: 902})
	got := d.take()
	if diff := cmp.Diff([]uint16{1, 2, 3}, seqs(got)); diff != "" {
		t.Fatalf("sequence (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]uint16{1, 2, 3}, pids(got)); diff != "" {
		t.Errorf("picture ids (-want +got):\n%s", diff)
	}
	if len(s.layers[0].taps) != 1 {
		t.Errorf("%d taps", len(s.layers[0].taps))
	}
}

func TestAnEncoderThatBeginsAnewUnderItsSSRC(t *testing.T) {
	s, d := newFeed(1), newDirect(t, videoLine(), 0)
	d.f.Select(s, 0, d.now)
	oneFrame(t, s, 0, 1, 10, 0, start, pic{id: 500, isKey: true})
	oneFrame(t, s, 0, 1, 11, 3000, start, pic{id: 20, tl0: 99, isKey: true})
	oneFrame(t, s, 0, 1, 12, 6000, start, pic{id: 21, tl0: 100})
	if diff := cmp.Diff([]uint16{1, 2, 3}, pids(d.take())); diff != "" {
		t.Errorf("picture ids (-want +got):\n%s", diff)
	}
}

func TestAHugeHoleIsARestart(t *testing.T) {
	v, d := newFeed(1), newDirect(t, videoLine(), 0)
	d.f.Select(v, 0, d.now)
	oneFrame(t, v, 0, 1, 10, 0, start, pic{id: 1, isKey: true})
	oneFrame(t, v, 0, 1, 10+maxGap, 0, start, pic{id: 2})
	oneFrame(t, v, 0, 1, 11+2*maxGap, 0, start, pic{id: 3})
	if d.f.State() != WaitKey {
		t.Fatalf("state %v", d.f.State())
	}
	oneFrame(t, v, 0, 1, 12+2*maxGap, 9000, start+second, pic{id: 4, isKey: true})
	if diff := cmp.Diff([]uint16{1, 1 + maxGap, 2 + maxGap}, seqs(d.take())); diff != "" {
		t.Errorf("sequence (-want +got):\n%s", diff)
	}
	a, d := newFeed(1), newDirect(t, audioLine(), 0)
	d.f.Select(a, 0, d.now)
	for _, ext := range []uint64{10, 5000, 5001} {
		a.give(t, 0, pkt{ssrc: 1, ext: ext, start: true, key: true, payload: []byte{1}})
	}
	if diff := cmp.Diff([]uint16{1, 2, 3}, seqs(d.take())); diff != "" {
		t.Errorf("audio sequence (-want +got):\n%s", diff)
	}
}

func TestOverflowMakesVideoWaitForAKeyframe(t *testing.T) {
	s, d := newFeed(1), newDirect(t, videoLine(), 0)
	d.f.Select(s, 0, d.now)
	oneFrame(t, s, 0, 1, 10, 0, start, pic{id: 1, isKey: true})
	d.f.cur.tap.Lost.Store(true)
	oneFrame(t, s, 0, 1, 12, 0, start, pic{id: 3})
	oneFrame(t, s, 0, 1, 13, 0, start, pic{id: 4, isKey: true})
	if diff := cmp.Diff([]uint16{1, 2}, seqs(d.take())); diff != "" {
		t.Errorf("sequence (-want +got):\n%s", diff)
	}
}

func TestTimestampBounds(t *testing.T) {
	for _, c := range []struct {
		name    string
		elapsed int64
		mapped  int64 // where the reports put the new frame, ns after the last; 0 = no reports
		want    uint32
	}{
		{"no reports: the time that passed", second, 0, 90_000},
		{"no time passed", 0, 0, 1},
		{"reports agree", second, second + 10e6, 90_900},
		{"reports put it before the last frame", second / 30, -second / 10, 1},
		{"reports put it far ahead", second, second + 200e6, 90_000 + 6750},
		{"reports are out of date", second, 8 * second, 90_000},
		{"ten hours", 36_000 * second, 0, 3_240_000_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, d := newFeed(2), newDirect(t, videoLine(), 0)
			if c.mapped != 0 {
				s.layers[0].sr = &ingest.SR{NTP: NTP(start), RTP: 1000, At: start}
				s.layers[1].sr = &ingest.SR{NTP: NTP(start + c.mapped), RTP: 555, At: start}
			}
			d.f.Select(s, 0, d.now)
			oneFrame(t, s, 0, 1, 10, 1000, start, pic{id: 1, isKey: true})
			d.f.Select(s, 1, d.now)
			oneFrame(t, s, 1, 2, 10, 555, start+c.elapsed, pic{id: 1, isKey: true})
			got := d.take()
			if diff := got[1].h.Timestamp - got[0].h.Timestamp; diff+2 < c.want || diff > c.want+2 {
				t.Errorf("timestamp advanced by %d, want %d", diff, c.want)
			}
		})
	}
}

func TestRebindKeepsTheStream(t *testing.T) {
	s, d := newFeed(1), newDirect(t, videoLine(), 0)
	d.f.Select(s, 0, d.now)
	oneFrame(t, s, 0, 1, 10, 0, start, pic{id: 1, isKey: true})
	l := videoLine()
	l.PT, l.TWCCExt = 120, 9
	d.f.Rebind(l)
	oneFrame(t, s, 0, 1, 11, 3000, start, pic{id: 2})
	got := d.take()
	if h := got[1].h; h.SequenceNumber != 2 || h.PayloadType != 120 || len(h.GetExtension(9)) != 2 || h.GetExtension(3) != nil {
		t.Errorf("after rebinding: %+v", h)
	}
}

func TestStampTWCC(t *testing.T) {
	s, d := newFeed(1), newDirect(t, videoLine(), 0)
	d.f.Select(s, 0, d.now)
	p := s.make(t, 0, pkt{ssrc: 1, ext: 10, key: true, start: true, payload: pic{first: true, isKey: true}.payload(0), level: -1})
	p.VP8, _ = rtpx.ParseVP8(p.Payload())
	defer p.Release()
	h, _, ok := d.f.Rewrite(d.f.next, p, start)
	if !ok || !d.f.StampTWCC(0xABCD) {
		t.Fatal("not sent or not stamped")
	}
	raw, err := h.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var back rtp.Header
	if _, err := back.Unmarshal(raw); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]byte{0xAB, 0xCD}, back.GetExtension(3)); diff != "" {
		t.Errorf("on the wire (-want +got):\n%s", diff)
	}
	l := videoLine()
	l.TWCCExt = 0
	if New(l, d, 0, 0).StampTWCC(1) {
		t.Error("stamped without the extension")
	}
}
