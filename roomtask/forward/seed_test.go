package forward

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"mayfly/roomtask/ingest"
	"mayfly/roomtask/rtpx"
)

// late is a Sink whose packets wait, as those of a sender do, until flush.
type late struct {
	direct
	queue []queued
}

type queued struct {
	t *Tap
	p *rtpx.Packet
}

func (l *late) Push(t *Tap, p *rtpx.Packet) {
	p.Retain()
	l.queue = append(l.queue, queued{t, p})
}

func (l *late) flush() {
	for _, q := range l.queue {
		l.direct.Push(q.t, q.p)
		q.p.Release()
	}
	l.queue = nil
}

// film feeds pictures of one packet from ext on, 33 ms apart, and returns when the
// last one came. The first is a keyframe.
func film(t *testing.T, s *feed, ssrc uint32, ext uint64, count int, at int64) int64 {
	t.Helper()
	for i := range count {
		n := ext + uint64(i)
		oneFrame(t, s, 0, ssrc, n, 700_000+3000*uint32(i), at, pic{id: uint16(n), tl0: uint8(n), isKey: i == 0})
		at += second / 30
	}
	return at - second/30
}

// TestSeedBeginsAtOnce: the pictures of the past come first, in order, close together
// right before the present, and the stream goes on behind them without a seam.
func TestSeedBeginsAtOnce(t *testing.T) {
	s := newFeed(1)
	d := &late{direct: direct{t: t, now: start}}
	d.f = New(videoLine(), d, 9, 5000)
	d.now = film(t, s, 1, 100, 10, start)
	s.layers[0].seed = [2]uint64{100, 109}
	d.f.Select(s, 0, d.now)
	if s.layers[0].asked != 0 {
		t.Error("a keyframe was asked for although one is there")
	}
	oneFrame(t, s, 0, 1, 109, 727_000, d.now, pic{id: 109, tl0: 109}) // was under way to the taps
	d.now += second / 30
	oneFrame(t, s, 0, 1, 110, 730_000, d.now, pic{id: 110, tl0: 110})
	d.flush()
	got := d.take()
	if diff := cmp.Diff([]uint16{10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20}, seqs(got)); diff != "" {
		t.Fatalf("sequence (-want +got):\n%s", diff)
	}
	for i := 1; i < len(got); i++ {
		if gap := got[i].vp8.PictureID - got[i-1].vp8.PictureID; gap != 1 {
			t.Errorf("picture %d is %d after the one before", i, gap)
		}
		want := uint32(11) // 33 ms in 1/256 of the time, but for rounding
		if i == 10 {
			want = 3000
		}
		if step := got[i].h.Timestamp - got[i-1].h.Timestamp; step < want || step > want+1 {
			t.Errorf("picture %d is %d ticks after the one before, want %d", i, step, want)
		}
	}
	if ts := got[9].h.Timestamp; ts != 5000 {
		t.Errorf("the present is %d, want 5000", ts)
	}
	if d.f.State() != Live || s.layers[0].asked != 0 {
		t.Errorf("state %v, asked %d times", d.f.State(), s.layers[0].asked)
	}
	if st := d.f.Stats(); st.Duplicate != 1 {
		t.Errorf("stats %+v", st)
	}
}

// TestSeedReportsThePresent: the report that goes out in the middle of a seed tells
// the time of the newest picture, not that of the old one that was just written.
func TestSeedReportsThePresent(t *testing.T) {
	s := newFeed(1)
	d := &late{direct: direct{t: t, now: start}}
	d.f = New(videoLine(), d, 9, 5000)
	d.now = film(t, s, 1, 100, 10, start)
	s.layers[0].seed = [2]uint64{100, 109}
	d.f.Select(s, 0, d.now)
	rest := d.queue[3:]
	d.queue = d.queue[:3]
	d.flush()
	if ts, _ := d.f.rtpAt(d.now); ts < 5000-90 || ts > 5000+90 {
		t.Errorf("after three packets of the seed it is %d, want 5000 ± 1 ms", ts)
	}
	d.queue = rest
	d.flush()
}

// TestSeedAfterAnotherOccupant: timestamps go on above those that were sent before,
// also when the keyframe is older than they are.
func TestSeedAfterAnotherOccupant(t *testing.T) {
	for _, c := range []struct {
		name string
		gap  int64 // from the last picture of the one to the newest of the other
		want uint32
	}{
		{"a second apart", second, 90_000},
		{"at the same time", 0, 106 + 1}, // 9 pictures of 11.6 ticks lie before it
		{"the newest is older than what was sent", -second / 10, 106 + 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := newFeed(1), newFeed(1)
			d := &late{direct: direct{t: t, now: start}}
			d.f = New(videoLine(), d, 9, 5000)
			d.f.Select(a, 0, d.now)
			last := film(t, a, 1, 500, 3, start)
			d.flush()
			before := d.take()
			d.now = film(t, b, 2, 100, 10, last+c.gap-9*(second/30))
			b.layers[0].seed = [2]uint64{100, 109}
			d.f.Select(b, 0, d.now)
			d.flush()
			got := d.take()
			if len(got) != 10 {
				t.Fatalf("%d packets", len(got))
			}
			ts := before[2].h.Timestamp
			if newest := got[9].h.Timestamp - ts; newest+2 < c.want || newest > c.want+2 {
				t.Errorf("the newest picture is %d ticks after the former occupant's last, want %d", newest, c.want)
			}
			for i, o := range got {
				if int32(o.h.Timestamp-ts) <= 0 {
					t.Errorf("picture %d goes back by %d ticks", i, ts-o.h.Timestamp)
				}
				ts = o.h.Timestamp
			}
		})
	}
}

// TestSeedIsRepairedLikeAnyPacket: what is sent again has the timestamp under which it
// was sent, also if it never passed here.
func TestSeedIsRepairedLikeAnyPacket(t *testing.T) {
	s := newFeed(1)
	d := &late{direct: direct{t: t, now: start}}
	d.f = New(videoLine(), d, 9, 5000)
	d.now = film(t, s, 1, 100, 10, start)
	s.layers[0].seed = [2]uint64{100, 109}
	d.f.Select(s, 0, d.now)
	d.queue[4].p.Release() // fell out of the inbox
	d.queue = append(d.queue[:4], d.queue[5:]...)
	d.flush()
	got := d.take()
	for _, seq := range []uint16{12, 14} {
		out, ok := d.f.CanResend(seq, d.now, 0)
		if !ok {
			t.Fatalf("packet %d cannot be sent again", seq)
		}
		h, _, ok := d.f.Resend(out)
		if !ok {
			t.Fatalf("packet %d cannot be sent again", seq)
		}
		want := got[2].h.Timestamp
		if seq == 14 {
			want = (got[3].h.Timestamp + got[4].h.Timestamp) / 2
		}
		if off := int32(h.Timestamp - want); off < -1 || off > 1 {
			t.Errorf("packet %d has timestamp %d, want %d", seq, h.Timestamp, want)
		}
	}
}

// TestOnlyANewcomerIsSeeded: a layer switch waits for its keyframe while the present
// layer is sent, and audio needs none.
func TestOnlyANewcomerIsSeeded(t *testing.T) {
	s := newFeed(2)
	d := newDirect(t, videoLine(), 9)
	d.f.Select(s, 0, d.now)
	d.now = film(t, s, 1, 100, 3, start)
	s.layers[1].seed = [2]uint64{1, 1}
	d.f.Select(s, 1, d.now) // would find no packet 1 and fail
	if s.layers[1].asked != 1 || len(s.layers[1].taps) != 1 {
		t.Errorf("asked %d times, %d taps", s.layers[1].asked, len(s.layers[1].taps))
	}
	a := newFeed(1)
	a.layers[0].seed = [2]uint64{1, 1}
	d = newDirect(t, audioLine(), 9)
	d.f.Select(a, 0, d.now)
	if len(a.layers[0].taps) != 1 {
		t.Error("no tap")
	}
}

var _ Source = (*ingest.Source)(nil)
