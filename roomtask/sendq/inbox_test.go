package sendq

import (
	"testing"

	"mayfly/roomtask/rtpx"
)

// TestFifoOverflow fills a queue several times over: the newest stay, oldest first, and
// no turn of one that keeps overflowing allocates.
func TestFifoOverflow(t *testing.T) {
	const room = 100
	packets := make([]rtpx.Packet, 5*room)
	var q fifo
	for extra := range 3 * room {
		q.slots = q.slots[:0]
		q.head = 0
		dropped := 0
		for i := range room + extra {
			if old, full := q.put(entry{p: &packets[i]}, room); full {
				if old.p != &packets[dropped] {
					t.Fatalf("%d too many: packet %d was not the one to go", extra, dropped)
				}
				dropped++
			}
		}
		q.straighten()
		if dropped != extra || len(q.slots) != room || q.head != 0 {
			t.Fatalf("%d too many: %d went, %d are left", extra, dropped, len(q.slots))
		}
		for i, e := range q.slots {
			if e.p != &packets[extra+i] {
				t.Fatalf("%d too many: another packet is at place %d", extra, i)
			}
		}
	}
	if n := testing.AllocsPerRun(100, func() { q.put(entry{p: &packets[0]}, room); q.straighten() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
