package sendq

import "testing"

// TestBatchesAreShared has two senders of one worker take turns with its batch, and one
// keep its own while something is left; what a bad moment took is not kept.
func TestBatchesAreShared(t *testing.T) {
	k := &worker{}
	one, two := &Sender{worker: k}, &Sender{worker: k}
	one.borrow()
	one.work.audio.slots = make([]entry, keptRoom)
	one.work.video.slots = make([]entry, keptRoom+1)
	one.work.twcc = make([]byte, keptTWCC+1)
	one.work.nudges, one.work.closed = nudgeTick, true
	one.borrow() // it still holds it
	if len(one.work.audio.slots) != keptRoom {
		t.Fatal("what was left is gone")
	}
	one.giveBack()
	if one.work.audio.slots != nil || one.holds || len(k.batches) != 1 {
		t.Fatalf("after its turn a sender holds %+v", one.work)
	}
	two.borrow()
	b := two.work
	if len(b.audio.slots) != 0 || cap(b.audio.slots) != keptRoom || b.video.slots != nil || b.twcc != nil || b.nudges != 0 || b.closed {
		t.Errorf("the next one gets %+v", b)
	}
	if one.borrow(); len(k.batches) != 0 || one.work.audio.slots != nil {
		t.Error("two senders have one batch")
	}
	two.giveBack()
	one.giveBack()
	if n := testing.AllocsPerRun(100, func() { one.borrow(); one.giveBack() }); n != 0 {
		t.Errorf("%v allocations a turn", n)
	}
}

// TestQueueKeepsLittle empties a queue after a burst.
func TestQueueKeepsLittle(t *testing.T) {
	var q packetQueue[int]
	for _, n := range []int{keptWaiting, keptWaiting + 1} {
		for range n {
			q.put(waiting[int]{size: 1})
		}
		for q.len() > 0 {
			q.take()
		}
		if cap(q.slots) > keptWaiting || q.bytes != 0 {
			t.Errorf("room for %d after %d", cap(q.slots), n)
		}
	}
}
