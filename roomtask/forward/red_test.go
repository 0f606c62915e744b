package forward

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mayfly/roomtask/rtpx"
)

func redLine() Line {
	l := audioLine()
	l.REDPT = 63
	return l
}

// redFeed gives packets of 20 ms whose payload tells their number.
type redFeed struct {
	*feed
	t    testing.TB
	ssrc uint32
	now  *int64
}

func (r *redFeed) give(ext uint64, size int) {
	r.giveAt(ext, uint32(ext)*960, size)
}

func (r *redFeed) giveAt(ext uint64, ts uint32, size int) {
	r.feed.give(r.t, 0, pkt{ssrc: r.ssrc, ext: ext, ts: ts, level: -1, start: true, key: true, at: *r.now,
		payload: bytes.Repeat([]byte{byte(ext)}, size)})
}

// carried tells a sent packet's blocks as (number, age in ticks), and checks that it
// is of the payload type that fits.
type carried struct {
	Num  byte
	Age  uint16
	Size int
}

func blocksOf(t *testing.T, o sentOut) (out []carried) {
	t.Helper()
	if o.h.PayloadType == 111 {
		return []carried{{Num: o.payload[0], Size: len(o.payload)}}
	}
	if o.h.PayloadType != 63 {
		t.Fatalf("payload type %d", o.h.PayloadType)
	}
	var blocks [rtpx.MaxREDBlocks]rtpx.REDBlock
	n, err := rtpx.ParseRED(o.payload, &blocks)
	if err != nil || n < 2 {
		t.Fatalf("%d blocks, %v", n, err)
	}
	for _, b := range blocks[:n] {
		if b.PT != 111 || !bytes.Equal(b.Data, bytes.Repeat(b.Data[:1], len(b.Data))) {
			t.Fatalf("block %+v", b)
		}
		out = append(out, carried{b.Data[0], b.TSOffset, len(b.Data)})
	}
	return out
}

func newRED(t testing.TB, l Line, distance int) (*redFeed, *direct) {
	d := newDirect(t, l, 0)
	r := &redFeed{feed: newFeed(1), t: t, ssrc: 7, now: &d.now}
	d.f.Select(r, 0, d.now)
	d.f.SetRED(distance)
	return r, d
}

func TestREDCarriesThePast(t *testing.T) {
	for _, c := range []struct {
		name     string
		distance int
		feed     func(r *redFeed)
		want     [][]carried
		seqs     []uint16
	}{
		{"off", 0, func(r *redFeed) { r.give(100, 9); r.give(101, 9) },
			[][]carried{{{100, 0, 9}}, {{101, 0, 9}}}, []uint16{1, 2}},
		{"one", 1, func(r *redFeed) { r.give(100, 9); r.give(101, 8); r.give(102, 7) },
			[][]carried{{{100, 0, 9}}, {{100, 960, 9}, {101, 0, 8}}, {{101, 960, 8}, {102, 0, 7}}}, []uint16{1, 2, 3}},
		{"two", 2, func(r *redFeed) { r.give(100, 9); r.give(101, 8); r.give(102, 7) },
			[][]carried{{{100, 0, 9}}, {{100, 960, 9}, {101, 0, 8}}, {{100, 1920, 9}, {101, 960, 8}, {102, 0, 7}}}, []uint16{1, 2, 3}},
		{"more than the most is the most", 9, func(r *redFeed) { r.give(100, 1); r.give(101, 1); r.give(102, 1); r.give(103, 1) },
			[][]carried{{{100, 0, 1}}, {{100, 960, 1}, {101, 0, 1}}, {{100, 1920, 1}, {101, 960, 1}, {102, 0, 1}},
				{{101, 1920, 1}, {102, 960, 1}, {103, 0, 1}}}, []uint16{1, 2, 3, 4}},
		{"one lost before us is left out", 2, func(r *redFeed) { r.give(100, 5); r.give(102, 5); r.give(103, 5) },
			[][]carried{{{100, 0, 5}}, {{100, 1920, 5}, {102, 0, 5}}, {{102, 960, 5}, {103, 0, 5}}}, []uint16{1, 3, 4}},
		{"a jump leaves nothing to repeat", 2, func(r *redFeed) { r.give(100, 5); r.give(110, 5); r.give(111, 5) },
			[][]carried{{{100, 0, 5}}, {{110, 0, 5}}, {{110, 960, 5}, {111, 0, 5}}}, []uint16{1, 11, 12}},
		{"what comes late goes alone, and once", 2, func(r *redFeed) { r.give(100, 5); r.give(102, 5); r.give(101, 5); r.give(101, 5); r.give(103, 5) },
			[][]carried{{{100, 0, 5}}, {{100, 1920, 5}, {102, 0, 5}}, {{101, 0, 5}}, {{101, 1920, 5}, {102, 960, 5}, {103, 0, 5}}},
			[]uint16{1, 3, 2, 4}},
		{"1023 bytes fit a block", 1, func(r *redFeed) { r.give(100, 1023); r.give(101, 5) },
			[][]carried{{{100, 0, 1023}}, {{100, 960, 1023}, {101, 0, 5}}}, []uint16{1, 2}},
		{"1024 bytes do not, the one before does", 2, func(r *redFeed) { r.give(100, 5); r.give(101, 1024); r.give(102, 5) },
			[][]carried{{{100, 0, 5}}, {{100, 960, 5}, {101, 0, 1024}}, {{100, 1920, 5}, {102, 0, 5}}}, []uint16{1, 2, 3}},
		{"a full packet takes no more", 2, func(r *redFeed) { r.give(100, 600); r.give(101, 600); r.give(102, 570) },
			[][]carried{{{100, 0, 600}}, {{101, 0, 600}}, {{101, 960, 600}, {102, 0, 570}}}, []uint16{1, 2, 3}},
		{"16383 ticks fit a block", 1, func(r *redFeed) { r.giveAt(100, 0, 5); r.giveAt(101, 16383, 5) },
			[][]carried{{{100, 0, 5}}, {{100, 16383, 5}, {101, 0, 5}}}, []uint16{1, 2}},
		{"16384 do not (DTX)", 1, func(r *redFeed) { r.giveAt(100, 0, 5); r.giveAt(101, 16384, 5); r.giveAt(102, 17344, 5) },
			[][]carried{{{100, 0, 5}}, {{101, 0, 5}}, {{101, 960, 5}, {102, 0, 5}}}, []uint16{1, 2, 3}},
		{"timestamps wrap", 1, func(r *redFeed) { r.giveAt(100, 0xFFFFFFFF, 5); r.giveAt(101, 959, 5) },
			[][]carried{{{100, 0, 5}}, {{100, 960, 5}, {101, 0, 5}}}, []uint16{1, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, d := newRED(t, redLine(), c.distance)
			c.feed(r)
			var got [][]carried
			for _, o := range d.out {
				got = append(got, blocksOf(t, o))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("blocks (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.seqs, seqs(d.out)); diff != "" {
				t.Errorf("sequence (-want +got):\n%s", diff)
			}
		})
	}
}

func TestREDNeedsToBeNegotiated(t *testing.T) {
	r, d := newRED(t, audioLine(), 2)
	r.give(100, 5)
	r.give(101, 5)
	if d.f.RED() != 0 || d.out[1].h.PayloadType != 111 {
		t.Errorf("distance %d, payload type %d", d.f.RED(), d.out[1].h.PayloadType)
	}
	l := redLine()
	d.f.Rebind(l)
	if d.f.SetRED(2); d.f.RED() != 2 {
		t.Error("a later negotiation added it")
	}
	l.REDPT = 0
	if d.f.Rebind(l); d.f.RED() != 0 {
		t.Error("a later negotiation took it away")
	}
}

// TestREDSwitchesInTheStream changes the distance on the way: the stream goes on by
// sequence, timestamp and marker, only the payload type tells.
func TestREDSwitchesInTheStream(t *testing.T) {
	r, d := newRED(t, redLine(), 0)
	var types []uint8
	for i, distance := range []int{0, 1, 2, 0, 0, 2} {
		d.f.SetRED(distance)
		r.give(100+uint64(i), 5)
		o := d.out[i]
		types = append(types, o.h.PayloadType)
		if o.h.SequenceNumber != uint16(1+i) || o.h.Timestamp != 5000+960*uint32(i) || o.h.SSRC != 0x3333 {
			t.Errorf("packet %d: sequence %d, timestamp %d, SSRC %x", i, o.h.SequenceNumber, o.h.Timestamp, o.h.SSRC)
		}
	}
	if diff := cmp.Diff([]uint8{111, 63, 63, 111, 111, 63}, types); diff != "" {
		t.Errorf("payload types (-want +got):\n%s", diff)
	}
}

// TestREDStaysWithinTheOccupant must not play a piece of the former occupant.
func TestREDStaysWithinTheOccupant(t *testing.T) {
	r, d := newRED(t, redLine(), 2)
	r.give(100, 5)
	r.give(101, 5)
	other := &redFeed{feed: newFeed(1), t: t, ssrc: 8, now: &d.now}
	for ext := uint64(50); ext < 60; ext++ { // before anybody looks
		other.give(ext, 5)
	}
	d.f.Select(other, 0, d.now)
	d.take()
	other.give(60, 5)
	other.give(61, 5)
	got := d.take()
	if diff := cmp.Diff([]carried{{60, 0, 5}}, blocksOf(t, got[0])); diff != "" {
		t.Errorf("first (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]carried{{60, 960, 5}, {61, 0, 5}}, blocksOf(t, got[1])); diff != "" {
		t.Errorf("second (-want +got):\n%s", diff)
	}
}

// TestREDIsSentAgainPlain: the retransmission's payload type stands for Opus (apt), so
// it carries the primary alone, which is all that can be missing.
func TestREDIsSentAgainPlain(t *testing.T) {
	l := redLine()
	l.RTXSSRC, l.RTXPT = 0x4444, 112
	r, d := newRED(t, l, 2)
	r.give(100, 5)
	r.give(101, 5)
	r.give(102, 5)
	out, ok := d.f.CanResend(d.out[2].h.SequenceNumber, d.now, 0)
	if !ok {
		t.Fatal("refused")
	}
	h, payload, ok := d.f.Resend(out)
	if want := append([]byte{0, byte(d.out[2].h.SequenceNumber)}, bytes.Repeat([]byte{102}, 5)...); !ok ||
		h.PayloadType != 112 || h.SSRC != 0x4444 || h.Timestamp != d.out[2].h.Timestamp || !bytes.Equal(payload, want) {
		t.Errorf("%v: header %+v, payload %v, want %v", ok, h, payload, want)
	}
}

// TestREDGivesPacketsBack counts the references and the allocations.
func TestREDGivesPacketsBack(t *testing.T) {
	f := newFeed(1)
	fwd := New(redLine(), sinkFunc(func(*Tap, *rtpx.Packet) {}), 0, 0)
	fwd.Select(f, 0, start)
	fwd.SetRED(2)
	tap := fwd.next
	ext := uint64(1000)
	one := func() {
		p := f.make(t, 0, pkt{ssrc: 1, ext: ext, ts: uint32(ext) * 960, level: -1, start: true, key: true, payload: make([]byte, 80)})
		f.layers[0].ring.Put(p)
		if h, _, ok := fwd.Rewrite(tap, p, start); !ok || ext > 1000 && h.PayloadType != 63 {
			t.Fatal("not sent with redundancy")
		}
		p.Release()
		ext++
	}
	for range 2000 { // fills the ring and the pool's spare packets
		one()
	}
	if n := testing.AllocsPerRun(1000, one); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
	if f.layers[0].ring.Clear(); f.pool.Out() != 0 {
		t.Errorf("%d bytes are still held", f.pool.Out())
	}
}

type sinkFunc func(*Tap, *rtpx.Packet)

func (s sinkFunc) Push(t *Tap, p *rtpx.Packet) { s(t, p) }

func TestREDPolicy(t *testing.T) {
	type step struct {
		at   int64 // s
		loss float64
		want int
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"nothing lost, nothing added", []step{{0, 0, 0}, {1, 0.01, 0}, {2, 0.024, 0}}},
		{"up at once", []step{{0, 0.025, 1}, {1, 0.079, 1}, {2, 0.08, 2}, {3, 0.9, 2}}},
		{"from nothing to two", []step{{0, 0.3, 2}}},
		{"between the thresholds it stays", []step{{0, 0.03, 1}, {9, 0.011, 1}, {30, 0.011, 1}, {60, 0.07, 1}, {61, 0.1, 2}, {90, 0.05, 2}, {120, 0.041, 2}}},
		{"down a step at a time, each after the hold", []step{{0, 0.3, 2}, {1, 0, 2}, {8, 0, 2}, {9, 0, 1}, {16, 0, 1}, {17, 0, 0}, {30, 0, 0}}},
		{"two to one when one is enough", []step{{0, 0.3, 2}, {1, 0.03, 2}, {9, 0.03, 1}, {30, 0.03, 1}}},
		{"a relapse begins the hold anew", []step{{0, 0.03, 1}, {1, 0, 1}, {8, 0.02, 1}, {9, 0, 1}, {16, 0, 1}, {17, 0, 0}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p REDPolicy
			for _, s := range c.steps {
				if got := p.Next(s.loss, start+s.at*second); got != s.want || p.Distance() != got {
					t.Fatalf("at %d s with %.3f lost: %d, want %d", s.at, s.loss, got, s.want)
				}
			}
		})
	}
}
