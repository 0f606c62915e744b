package life

import (
	"fmt"
	"testing"
)

// TestCrashAtEveryEffect lets the control plane crash once, at each of its effects
// in turn (commit, RunTask, StopTask, post), before or after the effect took place,
// in a life from create to bill. Whatever happens: one task serves the room, the
// room comes to its end, the ledger closes once, no event is missing.
func TestCrashAtEveryEffect(t *testing.T) {
	calm := newSim(t, 0, false)
	calm.run("k1")
	calm.check()
	effects := calm.proc.Effects()
	if rooms := calm.rooms(); len(rooms) != 1 || rooms[0].Reason != "empty" || effects < 20 {
		t.Fatalf("the calm life is not one: %d rooms, %d effects", len(rooms), effects)
	}
	t.Logf("%d effects in a calm life", effects)
	for k := 1; k <= effects; k++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d/after=%v", k, after), func(t *testing.T) {
				s := newSim(t, 0, false)
				s.proc.CrashAt(k, after)
				s.run("k1")
				s.check()
				if s.proc.Effects() < k {
					t.Fatal("the planned crash never came")
				}
				if n := len(s.rooms()); n != 1 {
					t.Errorf("%d rooms", n)
				}
			})
		}
	}
}

// TestCrashAtEveryEffectOfADelete is the same for a room that is deleted while live.
func TestCrashAtEveryEffectOfADelete(t *testing.T) {
	for k := 1; k <= 6; k++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d/after=%v", k, after), func(t *testing.T) {
				s := newSim(t, 0, false)
				s.deleteAt, s.deleteCrash, s.deleteAfter = 6, k, after
				s.run("k1")
				s.check()
				if r := s.rooms()[0]; r.Reason != "deleted" && k > 1 {
					t.Errorf("room ended because %s", r.Reason)
				}
			})
		}
	}
}

// TestChaos lets everything go wrong at once, for a while: crashes, events lost,
// doubled and late, tasks killed. Then the world comes to rest, and the books are
// right.
func TestChaos(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 15
	}
	kills := 0
	for seed := range seeds {
		s := newSim(t, seed, true)
		s.run("k1", "k2", "k3")
		s.check()
		kills += s.kills
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if kills == 0 {
		t.Error("no task was ever killed: the test proves less than it says")
	}
}
