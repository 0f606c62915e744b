package robot

import (
	"testing"
	"time"
)

// picture is one packet of a frame: a descriptor with a 15-bit picture id, and at the
// start of a keyframe its size.
func picture(pid uint16, start, key bool) []byte {
	b := []byte{0x80, 0x80, 0x80 | byte(pid>>8), byte(pid)}
	if start {
		b[0] |= 0x10
	}
	if key && start {
		return append(b, 0x10, 0, 0, 0x9d, 1, 0x2a, 64, 1, 180, 0)
	}
	return append(b, 0x11, 0, 0, 0)
}

// reel is a stream of frames of two packets, the first a keyframe.
type reel struct {
	f   frames
	seq uint64
	pid uint16
}

// frame sends one; drop says which of its packets are lost.
func (r *reel) frame(key bool, drop ...int) {
	r.pid++
	for i := range 2 {
		r.seq++
		lost := false
		for _, d := range drop {
			lost = lost || d == i
		}
		if !lost {
			r.f.take(r.seq, i == 1, picture(r.pid, i == 0, key))
		}
	}
}

func TestFramesNeedTheirReferences(t *testing.T) {
	r := &reel{seq: 100}
	r.frame(true)
	r.frame(false)
	if r.f.Shown != 2 || r.f.Keys != 1 || r.f.Broken != 0 || r.f.Width != 320 || r.f.Height != 180 {
		t.Fatalf("%+v", r.f)
	}
	r.frame(false, 1) // its end is lost
	for range 150 {
		r.frame(false)
	}
	if !r.f.hurt || r.f.Shown != 2 {
		t.Errorf("without its reference a frame was shown: %d, hurt %v", r.f.Shown, r.f.hurt)
	}
	shown := r.f.Shown
	r.frame(true)
	r.frame(false)
	if r.f.Shown != shown+2 || r.f.hurt || r.f.Broken < 1 {
		t.Errorf("after a keyframe %d shown, %d broken, hurt %v", r.f.Shown-shown, r.f.Broken, r.f.hurt)
	}
}

func TestFramesTakeLatePackets(t *testing.T) {
	r := &reel{seq: 100}
	r.frame(true)
	r.frame(false, 0) // comes later
	first := r.seq - 1
	r.frame(false)
	if r.f.Shown != 1 {
		t.Fatalf("%d shown", r.f.Shown)
	}
	r.f.take(first, false, picture(r.pid-1, true, false))
	if r.f.Shown != 3 || r.f.Broken != 0 {
		t.Errorf("%d shown, %d broken", r.f.Shown, r.f.Broken)
	}
}

func TestFramesOfAHoleInPictureIDs(t *testing.T) {
	r := &reel{seq: 100}
	r.frame(true)
	r.pid++ // a frame that the sequence knows nothing of
	r.frame(false)
	if r.f.Shown != 1 || r.f.Broken != 1 {
		t.Errorf("%d shown, %d broken", r.f.Shown, r.f.Broken)
	}
}

func TestGaps(t *testing.T) {
	var g gaps
	late := map[uint64]bool{70_100: true, 70_200: true}
	for seq := uint64(70_000); seq < 72_000; seq++ {
		if seq == 71_000 || late[seq] {
			continue
		}
		if !g.take(seq) {
			t.Fatalf("%d is new", seq)
		}
		if seq == 70_150 && (!g.take(70_100) || g.take(70_100)) {
			t.Error("a late packet counts once")
		}
	}
	if g.take(70_200) {
		t.Error("a packet 1800 later matters")
	}
	if g.Lost != 2 || g.Got != 1998 {
		t.Errorf("%d lost, %d got", g.Lost, g.Got)
	}
	g.take(72_003)
	if m := g.missing(50, nil); len(m) != 3 || m[0] != 72_000 {
		t.Errorf("missing %v", m)
	}
}

func TestUnwrapper(t *testing.T) {
	var u unwrapper
	want := uint64(1<<16 + 65_530)
	for _, seq := range []uint16{65_530, 65_535, 3, 65_534, 10} {
		got := u.next(seq)
		if uint16(got) != seq || got < want-6 || got > want+20 {
			t.Errorf("%d became %d", seq, got)
		}
	}
}

func TestRecoverFromRED(t *testing.T) {
	in := &incoming{}
	in.firstExt = 1000
	in.seqs.take(1000)
	in.seqs.take(1003)
	block := func(back, n int) []byte {
		v := back*audioStep<<10 | n
		return []byte{0x80 | ptOpus, byte(v >> 16), byte(v >> 8), byte(v)}
	}
	payload := append(append(block(2, 1), block(1, 1)...), ptOpus, 0xaa, 0xbb, 0xcc)
	in.recover(1003, payload)
	in.recover(1003, payload)
	if in.stat.Repaired != 2 || len(in.seqs.missing(100, nil)) != 0 {
		t.Errorf("%d repaired, missing %v", in.stat.Repaired, in.seqs.missing(100, nil))
	}
}

func TestHistogram(t *testing.T) {
	var h, o Histogram
	for i := range int64(1000) {
		h.Add((i + 1) * int64(time.Millisecond))
	}
	o.Add(int64(time.Hour))
	h.Merge(&o)
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.99: 991 * time.Millisecond, 0.01: 11 * time.Millisecond} {
		got := time.Duration(h.Quantile(q))
		if got < want*98/100 || got > want*107/100 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if h.Count() != 1001 || h.Max() != int64(time.Hour) || (&Histogram{}).Quantile(0.5) != 0 {
		t.Errorf("%d, %d", h.Count(), h.Max())
	}
}
