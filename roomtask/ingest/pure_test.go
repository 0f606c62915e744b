package ingest

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/rtcp"
)

const ms = int64(time.Millisecond)

func TestSeqWindow(t *testing.T) {
	const base = 1 << 16
	type step struct {
		seq  uint16
		ext  uint64
		prev uint64
		v    verdict
	}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"in order", []step{{5, base + 5, base + 4, vNext}, {6, base + 6, base + 5, vNext}}},
		{"wrap", []step{
			{65534, base + 65534, base + 65533, vNext}, {65535, base + 65535, base + 65534, vNext},
			{0, 2 * base, base + 65535, vNext}, {1, 2*base + 1, 2 * base, vNext},
		}},
		{"gap over the wrap, filled, repeated", []step{
			{65534, base + 65534, base + 65533, vNext}, {1, 2*base + 1, base + 65534, vNext},
			{65535, base + 65535, 2*base + 1, vFill}, {0, 2 * base, 2*base + 1, vFill},
			{65535, base + 65535, 2*base + 1, vDuplicate}, {1, 2*base + 1, 2*base + 1, vDuplicate},
		}},
		{"older than the first", []step{{0, base, base - 1, vNext}, {65535, base - 1, base, vFill}, {65535, base - 1, base, vDuplicate}}},
		{"edge of the window", []step{
			{2000, base + 2000, base + 1999, vNext}, {2000 - windowSize + 1, base + 2000 - windowSize + 1, base + 2000, vFill},
			{2000 - windowSize, base + 2000 - windowSize, base + 2000, vLate},
		}},
		{"a gap of the whole window clears it", []step{
			{10, base + 10, base + 9, vNext}, {10 + windowSize, base + 10 + windowSize, base + 10, vNext},
			{11, base + 11, base + 10 + windowSize, vFill}, {10, base + 10, base + 10 + windowSize, vLate},
		}},
		{"jump", []step{
			{10, base + 10, base + 9, vNext}, {10 + maxDropout, base + 10 + maxDropout, base + 10, vNext},
			{11 + 2*maxDropout, base + 11 + 2*maxDropout, base + 10 + maxDropout, vJump},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var w seqWindow
			for i, s := range tt.steps {
				if ext, prev, v := w.accept(s.seq); ext != s.ext || prev != s.prev || v != s.v {
					t.Errorf("step %d (%d): %d %d %d, want %d %d %d", i, s.seq, ext, prev, v, s.ext, s.prev, s.v)
				}
			}
		})
	}
}

func TestSeqWindowRestart(t *testing.T) {
	var w seqWindow
	w.accept(100)
	w.accept(101)
	ext := w.restart(101)
	if ext <= 2<<16 {
		t.Errorf("restart at %d does not lie above all former numbers", ext)
	}
	if _, _, v := w.accept(101); v != vDuplicate {
		t.Errorf("the first packet again: verdict %d", v)
	}
	if got, _, v := w.accept(100); got != ext-1 || v != vFill {
		t.Errorf("one before: %d verdict %d", got, v)
	}
}

// TestNackSchedule plays arrivals and ticks, and looks at what is asked for when.
func TestNackSchedule(t *testing.T) {
	var n nackList
	at := func(now int64, high uint64, rtt int64) []uint16 {
		seqs, _ := n.due(nil, now*ms, high, rtt*ms)
		return seqs
	}
	const base = 1<<16 + 65534
	n.add(base, base+2, base+3, 0) // 65534, 65535 and 0 of the next cycle
	for _, tt := range []struct {
		now  int64
		high uint64
		rtt  int64
		want []uint16
	}{
		{5, base + 3, 0, nil},                        // one packet behind: perhaps only reordered
		{6, base + 4, 0, []uint16{65534, 65535, 0}},  // a second one came
		{25, base + 9, 0, nil},                       // too soon to repeat
		{26, base + 9, 0, []uint16{65534, 65535, 0}}, // after 20 ms
		{105, base + 20, 80, nil},                    // the round trip is longer now
		{106, base + 20, 80, []uint16{65534, 65535, 0}},
		{185, base + 20, 80, nil},
		{186, base + 20, 80, []uint16{65534, 65535, 0}},
	} {
		if got := at(tt.now, tt.high, tt.rtt); !slices.Equal(got, tt.want) {
			t.Errorf("at %d ms: %v, want %v", tt.now, got, tt.want)
		}
	}
	if m, ok := n.remove(base + 1); !ok || m.tries != 4 || m.sent != 186*ms {
		t.Errorf("removed %+v %v", m, ok)
	}
	if _, ok := n.remove(base + 1); ok {
		t.Error("removed twice")
	}
	for i := range int64(6) {
		if got := at(300+100*i, base+20, 0); !slices.Equal(got, []uint16{65534, 0}) {
			t.Errorf("try %d: %v", 5+i, got)
		}
	}
	if seqs, given := n.due(nil, 2000*ms, base+20, 0); len(seqs) != 0 || given != 2 || len(n.list) != 0 {
		t.Errorf("after ten tries: asked %v, gave up %d, %d left", seqs, given, len(n.list))
	}
}

func TestNackByTime(t *testing.T) {
	var n nackList
	n.add(70000, 70000, 70001, 100*ms)
	if seqs, _ := n.due(nil, 114*ms, 70001, 0); len(seqs) != 0 {
		t.Errorf("asked after 14 ms: %v", seqs)
	}
	if seqs, _ := n.due(nil, 115*ms, 70001, 0); len(seqs) != 1 {
		t.Errorf("not asked after 15 ms: %v", seqs)
	}
}

func TestNackBounds(t *testing.T) {
	var n nackList
	if f := n.add(70000, 70000+nackCap+9, 71000, 0); f != 10 || len(n.list) != nackCap || n.list[0].ext != 70010 {
		t.Errorf("a gap too large: forgot %d, kept %d", f, len(n.list))
	}
	if f := n.add(71001, 71004, 71005, 0); f != 4 || len(n.list) != nackCap || n.list[0].ext != 70014 {
		t.Errorf("a full list: forgot %d, kept %d", f, len(n.list))
	}
	if d := n.dropBelow(71002); d != nackCap-3 || len(n.list) != 3 || n.list[0].ext != 71002 {
		t.Errorf("keyframe: dropped %d, kept %d", d, len(n.list))
	}
}

func TestKeyGate(t *testing.T) {
	type step struct {
		at   int64
		do   string // request, keyframe or nothing
		sent bool
	}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"nothing asked", []step{{0, "", false}, {9000, "", false}}},
		{"at once, then coalesced", []step{{100, "request", true}, {110, "request", false}, {599, "request", false}, {600, "", true}}},
		{"answered: silence", []step{{100, "request", true}, {200, "keyframe", false}, {5000, "", false}}},
		{"asked again too soon", []step{{100, "request", true}, {200, "keyframe", false}, {300, "request", false}, {599, "", false}, {600, "", true}}},
		{"a keyframe that nobody asked for answers", []step{{100, "request", true}, {200, "keyframe", false}, {300, "request", false}, {400, "keyframe", false}, {900, "", false}}},
		{"unanswered: 0.5, 1, 2, 3, 3 s", []step{
			{100, "request", true}, {599, "", false}, {600, "", true}, {1599, "", false}, {1600, "", true}, {3599, "", false},
			{3600, "", true}, {6599, "", false}, {6600, "", true}, {9600, "", true}, {12600, "", true}, {15600, "", true},
			{18600, "", false}, {60000, "", false}, {60001, "request", true}, {60500, "", false}, {60501, "", true},
		}},
		{"an answer restores the gap", []step{{100, "request", true}, {600, "", true}, {1000, "keyframe", false}, {1001, "request", false}, {1100, "", true}, {1600, "", true}}},
		{"who did not answer and begins anew is asked soon", []step{{100, "request", true}, {600, "", true}, {1600, "", true}, {2000, "request", false}, {2050, "restart", false}, {2060, "request", false}, {2100, "", true}}},
		{"a new beginning asks for nothing", []step{{100, "request", true}, {600, "restart", false}, {5000, "", false}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := keyGate{gap: gateGap}
			for _, s := range tt.steps {
				switch s.do {
				case "request":
					g.request()
				case "keyframe":
					g.keyframe()
				case "restart":
					g.restart()
				}
				if got := g.due(s.at * ms); got != s.sent {
					t.Errorf("at %d ms: %v, want %v", s.at, got, s.sent)
				}
			}
		})
	}
}

func TestReception(t *testing.T) {
	const base = 1<<16 + 65530
	var r reception
	r.reset(90000, base, 0)
	for i := range uint64(20) { // 65530 … 13, every fifth lost
		if i%5 != 4 {
			r.packet(base+i, uint32(3000*i), int64(i)*33_333_333)
		}
	}
	b := r.block(7, SR{NTP: 0x1234_5678_9ABC_DEF0, At: 100 * ms}, true, 600*ms)
	want := rtcp.ReceptionReport{
		// The last packet lost, 13, is not known to have been sent.
		SSRC: 7, FractionLost: 3 * 256 / 19, TotalLost: 3, LastSequenceNumber: 1<<16 + 12,
		LastSenderReport: 0x5678_9ABC, Delay: 32768, Jitter: b.Jitter,
	}
	if d := cmp.Diff(want, b); d != "" {
		t.Error(d)
	}
	if b.Jitter > 1 {
		t.Errorf("jitter %d of an even stream", b.Jitter)
	}
	r.packet(base+20, 60000, 667*ms)
	r.packet(base+21, 63000, 700*ms)
	if b := r.block(7, SR{}, false, 700*ms); b.FractionLost != 256/3 || b.TotalLost != 4 || b.LastSenderReport != 0 {
		t.Errorf("second interval: %+v", b)
	}
	if b := r.block(7, SR{}, false, 800*ms); b.FractionLost != 0 {
		t.Errorf("empty interval: %+v", b)
	}
}

func TestReceptionJitter(t *testing.T) {
	var r reception
	r.reset(48000, 70000, 0)
	for i := range int64(200) { // every other packet 5 ms late, that is 240 ticks
		late := i % 2 * 5 * ms
		r.packet(70000+uint64(i), uint32(960*i), i*20*ms+late)
	}
	if j := r.block(1, SR{}, false, 0).Jitter; j < 235 || j > 240 {
		t.Errorf("jitter %d, want about 240", j)
	}
}

// decode reads feedback with Pion's parser and returns the arrival of each number
// told, in ticks of 250 µs, −1 for missing.
func decode(t *testing.T, p rtcp.Packet) (base uint16, arrivals []int64) {
	t.Helper()
	b, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > maxDatagram {
		t.Errorf("feedback of %d bytes", len(b))
	}
	var cc rtcp.TransportLayerCC
	if err := cc.Unmarshal(b); err != nil {
		t.Fatalf("%v: %x", err, b)
	}
	var symbols []uint16
	for _, c := range cc.PacketChunks {
		switch c := c.(type) {
		case *rtcp.RunLengthChunk:
			symbols = append(symbols, slices.Repeat([]uint16{c.PacketStatusSymbol}, int(c.RunLength))...)
		case *rtcp.StatusVectorChunk:
			symbols = append(symbols, c.SymbolList...)
		}
	}
	at, next := int64(cc.ReferenceTime)*256, 0
	for _, s := range symbols[:cc.PacketStatusCount] {
		if s == rtcp.TypeTCCPacketNotReceived {
			arrivals = append(arrivals, -1)
			continue
		}
		at += cc.RecvDeltas[next].Delta / rtcp.TypeTCCDeltaScaleFactor
		next++
		arrivals = append(arrivals, at)
	}
	return cc.BaseSequenceNumber, arrivals
}

// TestTransportFeedback sends numbers with loss, reordering, bursts and pauses over
// the wrap, and checks that every one is told as it was.
func TestTransportFeedback(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range 40 {
		var r recorder
		arrived := map[uint16]int64{}
		now := int64(3600e9)
		first := uint16(65536 - 200 + round)
		var held []uint16
		loss := rnd.IntN(30)
		for i := range 1500 {
			seq := first + uint16(i)
			now += rnd.Int64N(2 * ms)
			if rnd.IntN(200) == 0 {
				now += rnd.Int64N(12_000 * ms)
			}
			if i > 0 && i < 1499 {
				if rnd.IntN(100) < loss {
					continue
				}
				if rnd.IntN(20) == 0 {
					held = append(held, seq)
					continue
				}
			}
			arrived[seq] = now
			r.record(9, seq, now)
			if len(held) > 3 {
				for _, h := range held {
					arrived[h] = now
					r.record(9, h, now)
				}
				held = nil
			}
		}
		told, expect := 0, first
		for _, p := range r.build(nil, 1) {
			base, arrivals := decode(t, p)
			if base != expect {
				t.Fatalf("round %d: feedback begins at %d, want %d", round, base, expect)
			}
			for i, at := range arrivals {
				want, ok := arrived[base+uint16(i)]
				switch {
				case !ok && at != -1:
					t.Fatalf("round %d: %d told as received", round, base+uint16(i))
				case ok && at != want/twccTick:
					t.Fatalf("round %d: %d told at %d, want %d", round, base+uint16(i), at, want/twccTick)
				}
			}
			expect = base + uint16(len(arrivals))
			told += len(arrivals)
		}
		if told != 1500 {
			t.Fatalf("round %d: %d numbers told, want 1500", round, told)
		}
		if got := r.build(nil, 1); len(got) != 0 {
			t.Errorf("round %d: %d feedbacks about nothing", round, len(got))
		}
	}
}

func TestTransportFeedbackEdges(t *testing.T) {
	t.Run("worst case splits below the limit", func(t *testing.T) {
		var r recorder
		for i := range int64(1200) { // 100 ms apart: every delta takes two bytes
			r.record(9, uint16(i), 1e9+i*100*ms)
		}
		pkts := r.build(nil, 1)
		total := 0
		for _, p := range pkts {
			_, arrivals := decode(t, p)
			total += len(arrivals)
		}
		if len(pkts) != 3 || total != 1200 {
			t.Errorf("%d feedbacks about %d packets, want 3 about 1200", len(pkts), total)
		}
	})
	t.Run("late packet is told again", func(t *testing.T) {
		var r recorder
		r.record(9, 10, 1e9)
		r.record(9, 12, 1e9)
		r.build(nil, 1)
		r.record(9, 11, 1e9+5*ms)
		base, arrivals := decode(t, r.build(nil, 1)[0])
		if base != 11 || len(arrivals) != 2 || arrivals[0] != (1e9+5*ms)/twccTick {
			t.Errorf("base %d arrivals %v", base, arrivals)
		}
	})
	t.Run("repeated packet is no news", func(t *testing.T) {
		var r recorder
		r.record(9, 10, 1e9)
		r.record(9, 10, 2e9)
		if _, arrivals := decode(t, r.build(nil, 1)[0]); arrivals[0] != 1e9/twccTick {
			t.Errorf("arrivals %v", arrivals)
		}
		r.record(9, 10, 3e9)
		if got := r.build(nil, 1); len(got) > 0 {
			if _, arrivals := decode(t, got[0]); arrivals[0] != 1e9/twccTick {
				t.Errorf("told anew as %v", arrivals)
			}
		}
	})
	t.Run("grows with what is under way", func(t *testing.T) {
		var r recorder
		for i := range uint16(600) { // more than fits beside what may be told again
			r.record(9, i, 1e9+int64(i)*ms)
		}
		if len(r.arrival) != 2*twccFirst {
			t.Errorf("room for %d, want %d", len(r.arrival), 2*twccFirst)
		}
		told := 0
		for _, p := range r.build(nil, 1) {
			_, arrivals := decode(t, p)
			for _, at := range arrivals {
				if want := (1e9 + int64(told)*ms) / twccTick; at != want {
					t.Fatalf("%d told at %d, want %d", told, at, want)
				}
				told++
			}
		}
		if told != 600 {
			t.Errorf("%d told, want 600", told)
		}
		r.record(9, 600-twccBack, 9e9) // was told, long ago
		for i := range uint16(300) {
			r.record(9, 600+2*i, 2e9) // every other is missing
		}
		told = 0
		for _, p := range r.build(nil, 1) {
			base, arrivals := decode(t, p)
			for i, at := range arrivals {
				if missing := (base+uint16(i))%2 == 1; missing != (at == -1) {
					t.Fatalf("%d told at %d", base+uint16(i), at)
				}
				told++
			}
		}
		if told != 599 {
			t.Errorf("%d told, want the 599 since the last feedback", told)
		}
	})
	t.Run("what is later than is remembered is left out", func(t *testing.T) {
		var r recorder
		for i := range uint16(2000) {
			if i != 1600 && i != 1200 && i != 800 && i != 800+twccFirst {
				r.record(9, i, 1e9)
			}
			if i%100 == 99 {
				r.build(nil, 1)
			}
		}
		for _, late := range []uint16{1600, 1200, 800} { // each is near the one before
			r.record(9, late, 2e9)
		}
		pkts := r.build(nil, 1)
		if base, _ := decode(t, pkts[0]); len(pkts) != 1 || base != 1600 {
			t.Errorf("%d feedbacks, the first begins at %d, want one from 1600", len(pkts), base)
		}
	})
	t.Run("small while feedback is regular", func(t *testing.T) {
		var r recorder
		for i := range uint16(60000) {
			r.record(9, i, 1e9+int64(i)*ms)
			if i%60 == 0 {
				r.build(nil, 1)
			}
		}
		if len(r.arrival) != twccFirst {
			t.Errorf("room for %d, want %d", len(r.arrival), twccFirst)
		}
	})
	t.Run("jump begins anew", func(t *testing.T) {
		var r recorder
		r.record(9, 10, 1e9)
		r.record(9, 30000, 2e9)
		pkts := r.build(nil, 1)
		if base, arrivals := decode(t, pkts[0]); len(pkts) != 1 || base != 30000 || len(arrivals) != 1 {
			t.Errorf("%d feedbacks, base %d, arrivals %v", len(pkts), base, arrivals)
		}
	})
}

func TestLevelMeter(t *testing.T) {
	var m levelMeter
	if lvl, _, _ := m.read(0); lvl != 127 {
		t.Errorf("before the first level: %d", lvl)
	}
	m.add(80, false, 1000*ms)
	m.add(30, true, 1020*ms)
	m.add(90, false, 1040*ms)
	for _, tt := range []struct {
		at    int64
		level uint8
		voice bool
	}{{1050, 30, true}, {1110, 30, true}} {
		if lvl, voice, _ := m.read(tt.at * ms); lvl != tt.level || voice != tt.voice {
			t.Errorf("at %d ms: %d %v, want %d %v", tt.at, lvl, voice, tt.level, tt.voice)
		}
	}
	m.add(85, false, 1120*ms)
	if lvl, voice, _ := m.read(1130 * ms); lvl != 30 || !voice {
		t.Errorf("in the next interval: %d %v, want the loud moment still", lvl, voice)
	}
	m.add(85, false, 1230*ms)
	if lvl, voice, _ := m.read(1230 * ms); lvl != 85 || voice {
		t.Errorf("two intervals later: %d %v, want 85", lvl, voice)
	}
	if lvl, _, at := m.read(1800 * ms); lvl != 127 || at != 1230*ms {
		t.Errorf("stale: %d at %d", lvl, at)
	}
}
