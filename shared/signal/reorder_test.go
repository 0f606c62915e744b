package signal

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func seqs(frames []Frame) []uint64 {
	var out []uint64
	for _, f := range frames {
		out = append(out, f.Seq)
	}
	return out
}

func TestReorder(t *testing.T) {
	type step struct {
		at   time.Duration
		seq  uint64 // pushed; expire stands for a call of Expire
		want []uint64
	}
	const expire = 1<<64 - 1
	tests := []struct {
		name    string
		first   uint64
		steps   []step
		doubled uint64
		skipped uint64
	}{
		{name: "in order", steps: []step{{0, 1, []uint64{1}}, {0, 2, []uint64{2}}}},
		{name: "overtaken", steps: []step{{0, 2, nil}, {0, 3, nil}, {time.Second, 1, []uint64{1, 2, 3}}}},
		{name: "twice at once", steps: []step{{0, 1, []uint64{1}}, {0, 1, nil}}, doubled: 1},
		{name: "twice while held", steps: []step{{0, 2, nil}, {0, 2, nil}, {0, 1, []uint64{1, 2}}}, doubled: 1},
		{name: "unordered passes a gap", steps: []step{{0, 2, nil}, {0, 0, []uint64{0}}, {0, 1, []uint64{1, 2}}}},
		{name: "gap given up", steps: []step{{0, 2, nil}, {ReorderGap - 1, expire, nil}, {ReorderGap, expire, []uint64{2}}, {ReorderGap, 1, nil}},
			doubled: 1, skipped: 1},
		{name: "gap given up by a push", steps: []step{{0, 2, nil}, {ReorderGap, 4, []uint64{2}}, {ReorderGap, 3, []uint64{3, 4}}}, skipped: 1},
		{name: "second gap has its own time", steps: []step{{0, 2, nil}, {time.Second, 5, nil}, {ReorderGap, expire, []uint64{2}},
			{ReorderGap + time.Second, expire, []uint64{5}}}, skipped: 3},
		{name: "opens later", first: 7, steps: []step{{0, 6, nil}, {0, 8, nil}, {0, 7, []uint64{7, 8}}}, doubled: 1},
		{name: "too high to count", steps: []step{{0, MaxSeq + 1, nil}, {0, 1, []uint64{1}}}},
		{name: "highest", steps: []step{{0, MaxSeq, nil}, {ReorderGap, expire, []uint64{MaxSeq}}, {ReorderGap, MaxSeq, nil}}, doubled: 1, skipped: MaxSeq - 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Unix(1000, 0)
			r := NewReorder(tt.first)
			for i, s := range tt.steps {
				var got []Frame
				if s.seq == expire {
					got = r.Expire(start.Add(s.at))
				} else {
					got = r.Push(start.Add(s.at), Frame{Type: "x", Seq: s.seq})
				}
				if diff := cmp.Diff(s.want, seqs(got)); diff != "" {
					t.Errorf("step %d: %s", i, diff)
				}
			}
			if r.Doubled != tt.doubled || r.Skipped != tt.skipped {
				t.Errorf("doubled %d, skipped %d, want %d, %d", r.Doubled, r.Skipped, tt.doubled, tt.skipped)
			}
		})
	}
}

func TestReorderHoldsNoMoreThanItsBound(t *testing.T) {
	var r Reorder
	now := time.Unix(0, 0)
	for seq := uint64(2); seq < 2+ReorderHeld; seq++ {
		if got := r.Push(now, Frame{Seq: seq}); len(got) != 0 {
			t.Fatalf("seq %d: got %v before the window was full", seq, seqs(got))
		}
	}
	got := r.Push(now, Frame{Seq: 1000})
	if len(got) != ReorderHeld || got[0].Seq != 2 {
		t.Errorf("full window: got %v", seqs(got))
	}
	if at, ok := r.Deadline(); !ok || at != now.Add(ReorderGap) {
		t.Errorf("deadline %v %v", at, ok)
	}
}

// FuzzReorder feeds any mixture of sequence numbers and pauses. Whatever comes,
// order and uniqueness hold, and nothing waits longer or in greater number than allowed.
func FuzzReorder(f *testing.F) {
	f.Add([]byte{1, 0, 3, 0, 2, 0, 2, 255})
	f.Add([]byte{200, 10, 100, 10, 1, 90, 0, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		var r Reorder
		now := time.Unix(0, 0)
		last := uint64(0)
		for len(in) >= 2 {
			now = now.Add(time.Duration(in[1]) * 20 * time.Millisecond)
			for _, d := range r.Push(now, Frame{Seq: uint64(in[0])}) {
				if d.Seq == 0 {
					continue
				}
				if d.Seq <= last {
					t.Fatalf("%d after %d", d.Seq, last)
				}
				last = d.Seq
			}
			if len(r.held) > ReorderHeld {
				t.Fatalf("%d held", len(r.held))
			}
			for seq, h := range r.held {
				if seq <= last || now.Sub(h.since) >= ReorderGap {
					t.Fatalf("%d held since %v at %v, after %d", seq, h.since, now, last)
				}
			}
			in = in[2:]
		}
	})
}
