package ingest

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"mayfly/roomtask/rtpx"
	"mayfly/shared/signal"
)

// say is a packet of 20 ms number n, with the packets that are back[i] before it as
// redundancy, oldest first.
func say(n uint16, back ...uint16) packet {
	text := func(n uint16) []byte { return fmt.Appendf(nil, "p%d", n) }
	var blocks []rtpx.REDBlock
	for _, b := range back {
		blocks = append(blocks, rtpx.REDBlock{PT: ptOpus, TSOffset: 960 * b, Data: text(n - b)})
	}
	return red(n, 960*uint32(n), append(blocks, rtpx.REDBlock{PT: ptOpus, Data: text(n)})...)
}

func red(seq uint16, ts uint32, blocks ...rtpx.REDBlock) packet {
	b := make([]byte, 1400)
	return packet{ssrc: 20, pt: ptRED, seq: seq, ts: ts, ext: ids("1", "", ""), payload: b[:rtpx.WriteRED(b, blocks)]}
}

func opus(n uint16) packet {
	return packet{ssrc: 20, pt: ptOpus, seq: n, ts: 960 * uint32(n), ext: ids("1", "", ""), payload: fmt.Appendf(nil, "p%d", n)}
}

// hearer is a tap that notes number, timestamp, payload type and payload.
type hearer struct{ got []string }

func (h *hearer) Deliver(p *rtpx.Packet) {
	h.got = append(h.got, fmt.Sprintf("%d@%d/%d %s", p.Seq, p.TS/960, p.PT, p.Payload()))
}

func heard(nums ...uint16) (out []string) {
	for _, n := range nums {
		out = append(out, fmt.Sprintf("%d@%d/%d p%d", n, n, ptOpus, n))
	}
	return out
}

func TestRedundancyRestoresWhatWasLost(t *testing.T) {
	const pause = 16000 // ticks, within what the format can tell
	for _, c := range []struct {
		name     string
		send     []packet
		want     []string
		restored uint64
	}{
		{"nothing lost: each once", []packet{say(1), say(2, 1), say(3, 2, 1), say(4, 2, 1)}, heard(1, 2, 3, 4), 0},
		{"one lost", []packet{say(1), say(3, 1)}, heard(1, 2, 3), 1},
		{"two lost, two carried", []packet{say(1), say(4, 2, 1)}, heard(1, 2, 3, 4), 2},
		{"three lost, two carried", []packet{say(1), say(5, 2, 1)}, heard(1, 3, 4, 5), 2},
		{"two lost, one carried", []packet{say(1), say(4, 1)}, heard(1, 3, 4), 1},
		{"only the older one is carried", []packet{say(1), say(2), say(5, 2)}, heard(1, 2, 3, 5), 1},
		{"every second packet lost", []packet{say(1), say(3, 1), say(5, 1), say(7, 1)}, heard(1, 2, 3, 4, 5, 6, 7), 3},
		{"the original comes late", []packet{say(1), say(3, 1), say(2)}, heard(1, 2, 3), 1},
		{"the packet comes twice", []packet{say(1), say(3, 1), say(3, 1)}, heard(1, 2, 3), 1},
		{"an original that was restored before restores too", []packet{say(1), say(5, 1), say(4, 1)}, heard(1, 4, 5, 3), 2},
		{"a late packet restores too", []packet{say(1), opus(4), say(3, 1)}, heard(1, 4, 2, 3), 1},
		{"plain and redundant mixed", []packet{opus(1), say(3, 1), opus(4), say(6, 1)}, heard(1, 2, 3, 4, 5, 6), 2},
		{"nothing from before the first", []packet{say(5, 2, 1), say(6, 2, 1)}, heard(5, 6), 0},
		{"numbers and timestamps wrap", []packet{say(65534), say(65535)}, heard(65534, 65535), 0},
		{"after a pause the order tells", []packet{opus(1), red(3, 960+pause+960,
			rtpx.REDBlock{PT: ptOpus, TSOffset: 960, Data: []byte("p2")}, rtpx.REDBlock{PT: ptOpus, Data: []byte("p3")})},
			[]string{heard(1)[0], fmt.Sprintf("2@%d/%d p2", (960+pause)/960, ptOpus), fmt.Sprintf("3@%d/%d p3", (1920+pause)/960, ptOpus)}, 1},
		{"older than the packet before the gap: not believed", []packet{opus(1), red(3, 1920+960,
			rtpx.REDBlock{PT: ptOpus, TSOffset: 2900, Data: []byte("x")}, rtpx.REDBlock{PT: ptOpus, Data: []byte("p3")})},
			heard(1, 3), 0},
		{"a block of another codec is left", []packet{say(1), red(3, 960*3,
			rtpx.REDBlock{PT: 9, TSOffset: 960, Data: []byte("p2")}, rtpx.REDBlock{PT: ptOpus, Data: []byte("p3")})},
			heard(1, 3), 0},
		{"an empty block is left", []packet{say(1), red(3, 960*3,
			rtpx.REDBlock{PT: ptOpus, TSOffset: 960}, rtpx.REDBlock{PT: ptOpus, Data: []byte("p3")})},
			heard(1, 3), 0},
		{"a primary that is no audio drops all", []packet{say(1), red(3, 960*3,
			rtpx.REDBlock{PT: ptOpus, TSOffset: 960, Data: []byte("p2")}, rtpx.REDBlock{PT: ptVP8, Data: []byte("p3")})},
			heard(1), 0},
		{"a jump begins anew", []packet{say(1), say(30000, 2, 1)}, heard(1, 30000), 0},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			r := newRig(t, micLine)
			tap := &hearer{}
			r.p.Source(signal.KindMic).AddTap(0, tap)
			for _, k := range c.send {
				r.send(k)
			}
			if diff := cmp.Diff(c.want, tap.got); diff != "" {
				t.Errorf("heard (-want +got):\n%s", diff)
			}
			if st := r.p.Stats(); st.Restored != c.restored {
				t.Errorf("%d restored, want %d", st.Restored, c.restored)
			}
		})
	}
}

// TestRestoredNeedsNoNACK: what the redundancy brought is not asked for, and the
// report still tells the publisher of the loss, for it is about its path.
func TestRestoredNeedsNoNACK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := micLine
		line.Codecs = append([]Codec{{PT: ptRTX, Name: "rtx", ClockRate: 48000, RTXOf: ptOpus}}, audioCodecs...)
		r := newRig(t, line)
		r.send(say(1))
		r.send(say(5, 2, 1))
		r.send(say(6, 2, 1))
		if diff := cmp.Diff([]uint16{2}, r.nacked(20)); diff != "" {
			t.Errorf("asked for (-want +got):\n%s", diff)
		}
		r.send(say(3)) // was only late
		r.p.mu.Lock()
		b := r.p.sources[0].all()[0].recv.block(20, SR{}, false, r.now())
		dup := r.p.stats.Duplicate
		r.p.mu.Unlock()
		if b.TotalLost != 2 || dup != 0 {
			t.Errorf("%d reported lost, want 2 and 4; %d duplicates", b.TotalLost, dup)
		}
	})
}

// TestRedundancyAtRandom loses, repeats and reorders, and compares with what could be
// known: everything that came or was carried, once, in its place.
func TestRedundancyAtRandom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(40) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			r := newRig(t, micLine)
			tap := &hearer{}
			r.p.Source(signal.KindMic).AddTap(0, tap)
			sent := []packet{say(1)}
			for n := uint16(2); n < 300; n++ {
				switch distance := rnd.IntN(3); {
				case rnd.IntN(100) < 30 && n < 298:
				case distance == 2 && n > 2:
					sent = append(sent, say(n, 2, 1))
				case distance >= 1:
					sent = append(sent, say(n, 1))
				default:
					sent = append(sent, opus(n))
				}
			}
			for i := range sent { // neighbours change places
				if j := i + 1; i > 0 && j < len(sent) && rnd.IntN(10) == 0 {
					sent[i], sent[j] = sent[j], sent[i]
				}
			}
			want := map[string]bool{}
			for _, k := range sent {
				r.send(k)
				want[heard(k.seq)[0]] = true
				if k.pt != ptRED {
					continue
				}
				var blocks [rtpx.MaxREDBlocks]rtpx.REDBlock
				n, err := rtpx.ParseRED(k.payload, &blocks)
				if err != nil {
					t.Fatal(err)
				}
				for _, b := range blocks[:n] {
					want[heard(k.seq - b.TSOffset/960)[0]] = true
				}
			}
			got := map[string]bool{}
			for _, g := range tap.got {
				if got[g] {
					t.Errorf("seed %d: %s was heard twice", seed, g)
				}
				got[g] = true
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("seed %d (-want +got):\n%s", seed, diff)
			}
			r.p.Close()
		}
	})
}

// TestRedundancyDoesNotAllocate: neither while nothing is lost nor while it restores.
func TestRedundancyDoesNotAllocate(t *testing.T) {
	p := NewPublisher(Config{Participant: "a", Pool: rtpx.NewPool(16 << 20), Limits: Unlimited, Now: func() int64 { return 1e18 }})
	defer p.Close()
	p.Bind([]Line{micLine})
	n := uint16(1)
	raw := say(100, 2, 1).bytes(t)
	one := func() {
		if n++; n%3 == 0 {
			n++ // lost
		}
		raw[2], raw[3] = byte(n>>8), byte(n)
		ts := uint32(n) * 960
		raw[4], raw[5], raw[6], raw[7] = byte(ts>>24), byte(ts>>16), byte(ts>>8), byte(ts)
		p.Deliver(raw)
	}
	for range 2000 {
		one()
	}
	before := p.Stats().Restored
	if got := testing.AllocsPerRun(1000, one); got != 0 {
		t.Errorf("%v allocations per packet", got)
	}
	if p.Stats().Restored == before {
		t.Error("nothing was restored")
	}
}

func FuzzRedundancy(f *testing.F) {
	f.Add(say(3, 2, 1).payload, say(6, 2, 1).payload, uint16(3))
	f.Add(say(3, 1).payload, []byte{ptOpus, 1}, uint16(1))
	f.Add([]byte{0x80 | ptOpus, 0xFF, 0xFF, 0xFF, ptOpus}, []byte{0x80 | ptOpus, 0, 0, 1, ptOpus, 7}, uint16(65535))
	f.Fuzz(func(t *testing.T, a, b []byte, gap uint16) {
		if len(a) > 1400 || len(b) > 1400 {
			return
		}
		p := NewPublisher(Config{Participant: "a", Pool: rtpx.NewPool(1 << 20), Now: func() int64 { return 1e18 }})
		defer p.Close()
		p.Bind([]Line{micLine})
		tap := &catcher{}
		p.Source(signal.KindMic).AddTap(0, tap)
		for i, payload := range [][]byte{{ptOpus, 1}, a, b, a, b} {
			n := uint16(i) * gap
			if i == 0 {
				n = 60000
			} else {
				n += 60000
			}
			k := packet{ssrc: 20, pt: ptRED, seq: n, ts: uint32(n) * 960, ext: ids("1", "", ""), payload: payload}
			p.Deliver(k.bytes(t))
		}
		seen := map[uint64]bool{}
		for _, g := range tap.got {
			if seen[g.ExtSeq] {
				t.Errorf("%d was delivered twice", g.ExtSeq)
			}
			seen[g.ExtSeq] = true
		}
	})
}
