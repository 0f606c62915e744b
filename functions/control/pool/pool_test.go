package pool

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

const now = int64(100_000_000)

// slot makes a slot of size m and revision 7, so old that it could stand by, in seconds.
func slot(id, state string, ageS int64) Slot {
	at := now - ageS*1000
	return Slot{ID: id, Size: "m", Revision: "7", State: state, Known: true, CreatedMS: at, AskedMS: at, SeenMS: now - 5000}
}

func with(s Slot, change func(*Slot)) Slot { change(&s); return s }

func TestDecide(t *testing.T) {
	large := func(s *Slot) { s.Size = "l" }
	for _, tt := range []struct {
		name, targets string
		slots         []Slot
		want          string
	}{
		{"none wanted, none there", "", nil, ""},
		{"empty", "m=2,l=1", nil, "start m; start m; start l"},
		{"full", "m=2", []Slot{slot("a", Standby, 60), slot("b", Asked, 20)}, ""},
		{"one was claimed", "m=2", []Slot{slot("a", Standby, 60), slot("b", Claimed, 60)}, "start m"},
		{"one is leaving", "m=2", []Slot{slot("a", Standby, 60), slot("b", Leaving, 60)}, "start m"},
		{"another size does not help", "m=1", []Slot{with(slot("a", Standby, 60), large)}, "start m; retire a: surplus"},
		{"surplus, oldest first", "m=1", []Slot{slot("a", Standby, 60), slot("b", Standby, 600), slot("c", Standby, 300)}, "retire b: surplus; retire c: surplus"},
		{"none wanted any more", "", []Slot{slot("a", Standby, 60)}, "retire a: surplus"},
		{"too old, alone", "m=1", []Slot{slot("a", Standby, 6*3600)}, "start m"},
		{"too old, successor on its way", "m=1", []Slot{slot("a", Standby, 6*3600), slot("b", Asked, 20)}, ""},
		{"too old, successor stands by", "m=1", []Slot{slot("a", Standby, 6*3600), slot("b", Standby, 20)}, "retire a: too old"},
		{"another revision", "m=1", []Slot{with(slot("a", Standby, 60), func(s *Slot) { s.Revision = "6" })}, "start m; retire a: other revision"},
		{"never stood by", "m=1", []Slot{slot("a", Asked, 180)}, "start m; retire a: never stood by"},
		{"silent", "m=1", []Slot{with(slot("a", Standby, 600), func(s *Slot) { s.SeenMS = now - 120_000 })}, "start m; retire a: silent"},
		{"no answer", "m=1", []Slot{with(slot("a", Asked, 10), func(s *Slot) { s.Known = false })}, "again a"},
		{"no answer, and not wanted any more", "s=1", []Slot{with(slot("a", Asked, 10), func(s *Slot) { s.Known = false })}, "start s; retire a: surplus"},
		{"no answer, just asked", "m=1", []Slot{with(slot("a", Asked, 9), func(s *Slot) { s.Known = false })}, ""},
		{"refused thrice", "m=1", []Slot{with(slot("a", Asked, 79), func(s *Slot) { s.Known, s.Refusals = false, 3 })}, ""},
		{"refused thrice, later", "m=1", []Slot{with(slot("a", Asked, 80), func(s *Slot) { s.Known, s.Refusals = false, 3 })}, "again a"},
		{"refused for hours", "m=1", []Slot{with(slot("a", Asked, 300), func(s *Slot) { s.Known, s.Refusals = false, 40 })}, "again a"},
		{"so many at once", "m=50", nil, strings.TrimSuffix(strings.Repeat("start m; ", 10), "; ")},
	} {
		targets, err := Parse(tt.targets)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range (Rules{}).Decide(now, targets, "7", tt.slots) {
			switch a.Kind {
			case Start:
				got = append(got, "start "+a.Size)
			case Again:
				got = append(got, "again "+a.Slot)
			case Retire:
				got = append(got, "retire "+a.Slot+": "+a.Reason)
			}
		}
		if text := strings.Join(got, "; "); text != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, text, tt.want)
		}
	}
}

// From any set of slots the pool comes to its targets and stays there.
func TestDecideComesToRest(t *testing.T) {
	targets := []Target{{"s", 2}, {"m", 3}}
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 3))
		var slots []Slot
		for i := range rng.IntN(12) {
			slots = append(slots, Slot{
				ID: fmt.Sprint("s", i), Size: []string{"s", "m", "l"}[rng.IntN(3)], Revision: []string{"6", "7"}[rng.IntN(2)],
				State: []string{Asked, Standby, Claimed, Leaving}[rng.IntN(4)], Known: rng.IntN(2) == 0,
				CreatedMS: now - rng.Int64N(30_000_000), AskedMS: now - rng.Int64N(400_000), SeenMS: now - rng.Int64N(300_000),
			})
		}
		at, quiet := now, 0
		for pass := range 200 {
			at += 12_000
			actions := Rules{}.Decide(at, targets, "7", slots)
			if quiet++; len(actions) > 0 {
				quiet = 0
			}
			if quiet == 5 {
				break
			}
			for _, a := range actions {
				switch a.Kind {
				case Start:
					slots = append(slots, Slot{ID: fmt.Sprint("n", pass, len(slots)), Size: a.Size, Revision: "7", State: Asked, CreatedMS: at, AskedMS: at})
				case Retire:
					for i := range slots {
						if slots[i].ID == a.Slot {
							slots[i].State = Leaving
						}
					}
				}
			}
			for i := range slots { // every task comes up, and says that it is there
				if slots[i].State == Asked {
					slots[i].State, slots[i].Known = Standby, true
				}
				slots[i].SeenMS = at
			}
		}
		have := map[string]int{}
		for _, s := range slots {
			if s.State == Standby {
				have[s.Size]++
			}
		}
		if quiet != 5 || have["s"] != 2 || have["m"] != 3 || have["l"] != 0 {
			t.Fatalf("seed %d: %v, quiet %d", seed, have, quiet)
		}
	}
}

func TestParse(t *testing.T) {
	got, err := Parse(" m=2, l=1,xl=0")
	if err != nil || fmt.Sprint(got) != "[{m 2} {l 1}]" {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"m", "m=-1", "m=x", "auto=1", "huge=1", "m=1,m=2", "m=201", "=1"} {
		if got, err := Parse(bad); err == nil {
			t.Errorf("%q is %v", bad, got)
		}
	}
}
