package room

import (
	"testing"
	"testing/synctest"

	"mayfly/shared/signal"
)

func (m *fakeMedia) count(typ string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.sent {
		if f.Type == typ {
			n++
		}
	}
	return n
}

func TestFit(t *testing.T) {
	for _, c := range [][4]int{
		{0, 0, 0, 0}, {160, 90, 160, 90}, {1280, 720, 320, 180}, {720, 1280, 101, 180}, {5000, 1, 320, 1}, {1, 5000, 1, 180}, {321, 180, 320, 179},
	} {
		if w, h := fit(c[0], c[1]); w != c[2] || h != c[3] {
			t.Errorf("%d×%d becomes %d×%d, want %d×%d", c[0], c[1], w, h, c[2], c[3])
		}
	}
}

// TestNearACap: participants are warned once a level, pictures get small where that
// saves, late words change nothing, and who comes later is told too.
func TestNearACap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.join("a", 1, signal.Want{Source: "b/camera", Width: 1280, Height: 720})
		w.join("b", 1)
		w.open("a")
		size := func() [2]int {
			for _, p := range w.media["a"].seatsNow() {
				if p.Video != "" {
					return [2]int{p.Width, p.Height}
				}
			}
			t.Fatal("no picture")
			return [2]int{}
		}
		ack := func(level string, permil int, reduce bool) {
			w.frame(signal.LinkAck, signal.Ack{Seq: 1, Budget: &signal.Budget{Level: level, Cap: "egress_bytes", UsedPermil: permil, Reduce: reduce}})
		}
		ack("near", 810, false)
		ack("near", 840, false)
		if n := w.media["a"].count(signal.TypeBudget); n != 1 || size() != [2]int{1280, 720} {
			t.Errorf("near: told %d times, pictures of %v", n, size())
		}
		ack("last", 955, true)
		ack("near", 850, false) // overtaken
		w.frame(signal.LinkAck, signal.Ack{Seq: 1})
		if n := w.media["a"].count(signal.TypeBudget); n != 2 || size() != [2]int{320, 180} {
			t.Errorf("last: told %d times, pictures of %v", n, size())
		}
		if b := last[signal.Budget](t, w.media["a"], signal.TypeBudget); b.Level != "last" || !b.Reduce || b.Cap != "egress_bytes" {
			t.Errorf("told %+v", b)
		}
		w.open("b")
		if n := w.media["b"].count(signal.TypeBudget); n != 1 {
			t.Errorf("who came later was told %d times", n)
		}
		w.finish()
	})
}

// TestEndedByACap: the reason of the control plane is what participants are told.
func TestEndedByACap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.join("a", 1)
		w.open("a")
		w.frame(signal.LinkEnd, signal.End{Reason: signal.ReasonMaxEgress})
		if e := last[signal.Ended](t, w.media["a"], signal.TypeEnded); e.Reason != signal.ReasonMaxEgress || e.Rejoin {
			t.Errorf("told %+v", e)
		}
		w.sleep(1e9)
		w.frame(signal.LinkEndingOK, struct{}{})
		w.ended(signal.ExitEnded, signal.ReasonMaxEgress)
	})
}
