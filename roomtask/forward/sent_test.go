package forward

import (
	"testing"
	"unsafe"
)

// TestSentPacketIsSmall: there are a hundred for each line of each viewer.
func TestSentPacketIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(sentPacket{}); size != 24 {
		t.Errorf("%d bytes, want 24", size)
	}
}

// TestSentAgainOverTheWrap: the time of a retransmission is kept by 16 bits of its
// milliseconds.
func TestSentAgainOverTheWrap(t *testing.T) {
	for _, v := range []struct {
		at, now int64 // ms
		within  bool  // 100 ms
	}{
		{1000, 1000, true},
		{1000, 1099, true},
		{1000, 1101, false},
		{65535, 65536 + 20, true},
		{65536, 65536, true}, // whose low bits are 0
		{65536 + 1, 65536 + 200, false},
		{1 << 40, 1<<40 + 50, true},
		{1<<40 - 1, 1<<40 + 150, false},
	} {
		var p sentPacket
		if p.within(100*millisecond, v.at*millisecond) {
			t.Errorf("%d: sent again before it was", v.at)
		}
		p.resent(v.at * millisecond)
		if got := p.within(100*millisecond, v.now*millisecond); got != v.within {
			t.Errorf("sent again at %d ms, asked at %d ms: within 100 ms: %v", v.at, v.now, got)
		}
	}
}

// TestSentRingFollowsTheRoundTrip: a line remembers what may be asked for again, as much as
// the path asks for, from the first packet on.
func TestSentRingFollowsTheRoundTrip(t *testing.T) {
	for _, v := range []struct {
		name      string
		rtt       int64 // ms
		room, all int   // slots; packets that are known after 2 s of a packet each 4 ms
	}{
		{"not known", 0, 252, 250},
		{"short", 20, 168, 125},
		{"150 ms", 150, 252, 225},
		{"a second", 1000, 252, 250},
	} {
		s, d := newFeed(1), newDirect(t, videoLine(), 0)
		d.f.SetRTT(v.rtt * millisecond)
		d.f.Select(s, 0, d.now)
		const sent = 500
		for i := range uint64(sent) {
			oneFrame(t, s, 0, 1, 100+i, uint32(360*i), start+int64(4*i)*millisecond, pic{id: uint16(i), isKey: i == 0})
		}
		if got := len(d.f.sent.slots); got != v.room {
			t.Errorf("%s: room for %d, want %d", v.name, got, v.room)
		}
		known := 0
		for out := d.f.sent.high; d.f.sent.find(out) != nil; out-- {
			known++
		}
		if known < v.all {
			t.Errorf("%s: %d packets are known, want %d", v.name, known, v.all)
		}
	}
}
