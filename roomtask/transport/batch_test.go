package transport

import (
	"bytes"
	"math"
	"net/netip"
	"slices"
	"testing"
)

func TestSealedRTP(t *testing.T) {
	header := func(first, second byte) []byte { return append([]byte{first, second}, make([]byte, 10)...) }
	cases := map[string]struct {
		b    []byte
		want bool
	}{
		"RTP":                     {header(0x80, 96), true},
		"RTP, marker, extension":  {header(0x90, 0x80|111), true},
		"RTP, last first byte":    {header(191, 0), true},
		"RTP, marker and PT 63":   {header(128, 191), true},
		"RTP, marker and PT 96":   {header(128, 224), true},
		"RTCP, first":             {header(0x80, 192), false},
		"RTCP, sender report":     {header(0x80, 200), false},
		"RTCP, last":              {header(0x81, 223), false},
		"STUN":                    {header(0, 1), false},
		"DTLS":                    {header(22, 254), false},
		"TURN channel":            {header(64, 0), false},
		"below":                   {header(127, 96), false},
		"above":                   {header(192, 96), false},
		"shorter than its header": {header(128, 96)[:11], false},
		"empty":                   {nil, false},
	}
	for name, c := range cases {
		if got := sealedRTP(c.b); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestCut(t *testing.T) {
	many := func(n, size int) []int { return slices.Repeat([]int{size}, n) }
	cases := map[string]struct {
		sizes []int
		limit int
		want  []int // packets of each run
	}{
		"one":                      {[]int{100}, runSegments, []int{1}},
		"equal":                    {many(6, 1100), runSegments, []int{6}},
		"a shorter one ends a run": {[]int{1100, 1100, 90, 1100}, runSegments, []int{3, 1}},
		"and only one":             {[]int{1100, 90, 80, 70}, runSegments, []int{2, 2}},
		"a longer one begins one":  {[]int{1100, 1101, 1101}, runSegments, []int{1, 2}},
		"audio before video":       {[]int{120, 1100, 1100}, runSegments, []int{1, 2}},
		"64 segments":              {many(130, 500), runSegments, []int{64, 64, 2}},
		"65000 bytes":              {many(60, 1400), runSegments, []int{46, 14}},
		"the shorter one too":      {append(many(46, 1400), 601), runSegments, []int{46, 1}},
		"and just fits":            {append(many(46, 1400), 600), runSegments, []int{47}},
		"no segmentation":          {many(3, 100), 1, []int{1, 1, 1}},
		"huge":                     {[]int{65000, 65000}, runSegments, []int{1, 1}},
	}
	to := netip.MustParseAddrPort("127.0.0.1:9")
	for name, c := range cases {
		b := newBatch()
		b.bytes = make([]byte, 0, 1<<20)
		for _, size := range c.sizes {
			b.packets = append(b.packets, packet{size: int32(size), next: int32(len(b.packets) + 1)})
		}
		b.packets[len(b.packets)-1].next = -1
		b.routes = append(b.routes, route{to: to})
		var got []int
		for next := int32(0); next >= 0; {
			var r run
			first := next
			r, next = b.cut(0, first, c.limit)
			total := 0
			for _, p := range b.packets[first : first+r.count] {
				total += int(p.size)
			}
			if r.first != first || int(r.bytes) != total || total > runBytes {
				t.Errorf("%s: run %+v from %d of %d bytes", name, r, first, total)
			}
			got = append(got, int(r.count))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: runs of %v, want %v", name, got, c.want)
		}
	}
}

// TestBatch fills batches in many rounds, over the wrap of the round too, and reads
// each route back.
func TestBatch(t *testing.T) {
	b := newBatch()
	b.round = math.MaxUint32 - 2
	for round := range 6 {
		routes := []int{1, 3, batchPackets, 50, 1000, 7}[round]
		want := make([][]byte, routes)
		n := 0
		for ; ; n++ {
			i := n * 7 % routes
			p := bytes.Repeat([]byte{byte(n)}, n%50)
			addr := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
			if !b.add(p, netip.AddrPortFrom(addr, uint16(1+i%3))) {
				break
			}
			want[i] = append(want[i], p...)
		}
		if n != batchPackets {
			t.Fatalf("round %d: took %d packets, want %d", round, n, batchPackets)
		}
		seen := 0
		for _, r := range b.routes {
			addr := r.to.Addr().As4()
			i := int(addr[2])<<8 | int(addr[3])
			var got []byte
			for next := r.first; next >= 0; next = b.packets[next].next {
				got = append(got, b.data(next)...)
				seen++
			}
			if !bytes.Equal(got, want[i]) || r.to.Port() != uint16(1+i%3) {
				t.Fatalf("round %d: route %s holds other bytes than written", round, r.to)
			}
		}
		if seen != n {
			t.Fatalf("round %d: %d packets in routes, %d written", round, seen, n)
		}
		b.reset()
		if !b.empty() || len(b.routes) != 0 {
			t.Fatal("not empty after reset")
		}
	}
	big := make([]byte, runBytes)
	n := 0
	for b.add(big, netip.MustParseAddrPort("127.0.0.1:9")) {
		n++
	}
	if n != batchBytes/runBytes || cap(b.bytes) != batchBytes {
		t.Errorf("took %d packets of %d bytes, capacity now %d", n, runBytes, cap(b.bytes))
	}
}
