package bwe

import (
	"math/rand/v2"
	"testing"
)

// TestCopiesHideNoLoss sends sound of which each packet goes out again with the two after
// it, over a path that loses 15 %: the receiver reports nearly all as received, but the
// loss of the path is what it was, and a copy that came in place of its packet is no
// sign of a queue.
func TestCopiesHideNoLoss(t *testing.T) {
	e := &Estimator{Probes: true}
	rng := rand.New(rand.NewPCG(3, 4))
	arrived := map[uint16]int64{}
	var acks []Ack
	missing, seq := 0, uint16(0)
	for now := second; now < 9*second; now += 20 * ms {
		seq++
		e.OnSent(seq, 120, now, 0)
		for _, n := range []uint16{seq, seq - 1, seq - 2} {
			if n != seq && n < seq {
				e.OnCopied(n, 120, now)
			}
			if _, ok := arrived[n]; !ok && rng.Float64() >= 0.15 {
				arrived[n] = now + 30*ms + int64(seq-n)*ms/2 // it leaves behind the new one
			}
		}
		if seq%5 != 0 {
			continue
		}
		acks = acks[:0]
		for n := seq - 6; n != seq-1; n++ { // those whose copies have left
			at, ok := arrived[n]
			if !ok {
				missing++
			}
			acks = append(acks, Ack{n, ok, at})
		}
		e.OnFeedback(now+30*ms, acks)
		e.Tick(now + 30*ms)
		if s := e.Snapshot(now); now > 2*second && s.Queue > 15*ms {
			t.Fatalf("a queue of %d ms", s.Queue/ms)
		}
	}
	share := float64(e.losses.lost.sum) / float64(e.losses.lost.sum+e.losses.got.sum)
	t.Logf("%d of %d missing in the reports, %.0f %% lost in the last second", missing, seq, 100*share)
	if missing > int(seq)/50 || share < 0.05 || share > 0.3 {
		t.Errorf("%d of %d missing, %.2f lost", missing, seq, share)
	}
}
