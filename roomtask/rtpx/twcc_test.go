package rtpx

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/rtcp"
)

type status struct {
	Seq      uint16
	Received bool
	At       int64
}

// readTWCC reads b with the parser, false if it is refused.
func readTWCC(b []byte) (all []status, ok bool) {
	t, err := ParseTWCC(b)
	if err != nil {
		return nil, false
	}
	for {
		seq, received, at, more := t.Next()
		if !more {
			return all, true
		}
		all = append(all, status{seq, received, at})
	}
}

// reference reads b with Pion's parser.
func reference(b []byte) (all []status, ok bool) {
	var p rtcp.TransportLayerCC
	if p.Unmarshal(b) != nil {
		return nil, false
	}
	seq, at, deltas := p.BaseSequenceNumber, int64(p.ReferenceTime)*64e6, p.RecvDeltas
	add := func(symbol uint16) {
		if len(all) == int(p.PacketStatusCount) {
			return
		}
		s := status{Seq: seq}
		seq++
		if symbol == rtcp.TypeTCCPacketReceivedSmallDelta || symbol == rtcp.TypeTCCPacketReceivedLargeDelta {
			at += deltas[0].Delta * 1000
			deltas = deltas[1:]
			s.Received, s.At = true, at
		}
		all = append(all, s)
	}
	for _, c := range p.PacketChunks {
		switch c := c.(type) {
		case *rtcp.RunLengthChunk:
			for range c.RunLength {
				add(c.PacketStatusSymbol)
			}
		case *rtcp.StatusVectorChunk:
			for _, s := range c.SymbolList {
				add(s)
			}
		}
	}
	return all, true
}

// twcc builds a feedback packet of the given chunks and deltas.
func twcc(base, count uint16, chunks []uint16, deltas []byte) []byte {
	b := []byte{0x8F, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, byte(base >> 8), byte(base), byte(count >> 8), byte(count), 0, 0, 5, 9}
	for _, c := range chunks {
		b = append(b, byte(c>>8), byte(c))
	}
	b = append(b, deltas...)
	if pad := (4 - len(b)%4) % 4; pad > 0 {
		b[0] |= 0x20
		b = append(b, make([]byte, pad)...)
		b[len(b)-1] = byte(pad)
	}
	b[3] = byte(len(b)/4 - 1)
	return b
}

func TestTWCC(t *testing.T) {
	const ref = 5 * 64e6
	for _, c := range []struct {
		name string
		b    []byte
		want []status
		ok   bool
	}{
		{"run of small deltas", twcc(65534, 3, []uint16{1<<13 | 3}, []byte{4, 0, 255}),
			[]status{{65534, true, ref + 1e6}, {65535, true, ref + 1e6}, {0, true, ref + 64_750_000}}, true},
		{"lost, large and backward", twcc(7, 4, []uint16{0xC000 | 2<<12 | 0<<10 | 2<<8 | 1<<6}, []byte{1, 0, 0xFF, 0xFF, 1}),
			[]status{{7, true, ref + 64e6}, {8, false, 0}, {9, true, ref + 64e6 - 250e3}, {10, true, ref + 64e6}}, true},
		{"one-bit vector", twcc(1, 3, []uint16{0x8000 | 1<<13 | 1<<11}, []byte{1, 1}),
			[]status{{1, true, ref + 250e3}, {2, false, 0}, {3, true, ref + 500e3}}, true},
		{"an empty run between", twcc(1, 2, []uint16{1<<13 | 1, 0, 1}, []byte{1}),
			[]status{{1, true, ref + 250e3}, {2, false, 0}}, true},
		{"deltas cut short", twcc(1, 9, []uint16{1<<13 | 9}, []byte{1, 1, 1, 1}),
			[]status{{1, true, ref + 250e3}, {2, true, ref + 500e3}, {3, true, ref + 750e3}, {4, true, ref + 1e6}}, true},
		{"a run longer than the count", twcc(1, 1, []uint16{8191}, nil), []status{{1, false, 0}}, true},
		{"chunks cut short", twcc(1, 9, []uint16{3}, nil), nil, false},
		{"nothing told", twcc(1, 0, nil, nil), nil, true},
		{"too short", make([]byte, 19), nil, false},
		{"another format", append([]byte{0x81}, twcc(1, 0, nil, nil)[1:]...), nil, false},
		{"length beyond the end", twcc(1, 1, []uint16{1}, nil)[:20], nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := readTWCC(c.b)
			if diff := cmp.Diff(c.want, got); diff != "" || ok != c.ok {
				t.Errorf("accepted %v; statuses (-want +got):\n%s", ok, diff)
			}
		})
	}
}

// FuzzTWCC compares with Pion's parser on whatever that accepts whole, and looks for
// a crash, an endless loop, and more statuses than were told of.
func FuzzTWCC(f *testing.F) {
	f.Add(twcc(65534, 3, []uint16{1<<13 | 3}, []byte{4, 0, 255}))
	f.Add(twcc(7, 4, []uint16{0xC000 | 2<<12 | 2<<8 | 1<<6}, []byte{1, 0, 0xFF, 0xFF, 1}))
	f.Add(twcc(1, 16, []uint16{0x8000 | 0x3FFF, 2}, []byte{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}))
	r := rand.New(rand.NewPCG(1, 2))
	for range 8 {
		b := twcc(uint16(r.Uint32()), 40, []uint16{uint16(r.Uint32()), uint16(r.Uint32()), uint16(r.Uint32())}, make([]byte, 40))
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := readTWCC(b)
		if p, err := ParseTWCC(b); err == nil && len(got) > int(p.Count) {
			t.Fatalf("%d statuses of %d", len(got), p.Count)
		}
		want, refOK := reference(b)
		if !ok || !refOK || len(want) != len(got) {
			return
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("statuses (-Pion's +ours):\n%s", diff)
		}
	})
}

func TestTWCCDoesNotAllocate(t *testing.T) {
	b := twcc(1, 16, []uint16{0x8000 | 0x3FFF, 2}, make([]byte, 14))
	if n := testing.AllocsPerRun(100, func() {
		p, _ := ParseTWCC(b)
		for {
			if _, _, _, ok := p.Next(); !ok {
				return
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTWCC(b *testing.B) {
	raw := twcc(1, 16, []uint16{0x8000 | 0x3FFF, 1<<13 | 2}, make([]byte, 16))
	b.Run("own", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			p, _ := ParseTWCC(raw)
			for ok := true; ok; {
				_, _, _, ok = p.Next()
			}
		}
	})
	b.Run("pion", func(b *testing.B) {
		b.ReportAllocs()
		var p rtcp.TransportLayerCC
		for range b.N {
			_ = p.Unmarshal(raw)
		}
	})
}
