package model

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"mayfly/functions/store"
	"mayfly/functions/store/storetest"
)

func TestTableKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return NewTable(time.Now) })
}

// number reads an environment variable.
func number(t *testing.T, name string, standard uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return standard
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// run lives through one world.
func run(t *testing.T, seed uint64, chance *Chance, breaks *Break, trace bool) (*World, error) {
	cryptotest.SetGlobalRandom(t, seed)
	w, err := New(chance, breaks)
	if err != nil {
		t.Fatal(err)
	}
	if trace {
		w.Trace()
	}
	return w, w.Run()
}

// report shrinks a failure and tells its shortest history.
func report(t *testing.T, seed uint64, fired []Fired, err error, class string, breaks func() *Break) {
	t.Helper()
	small := Shrink(fired, 400, func(part []Fired) bool {
		w, err := run(t, seed, Repeat(seed, part), breaks(), false)
		return err != nil && w.Class == class
	})
	w, again := run(t, seed, Repeat(seed, small), breaks(), true)
	var b strings.Builder
	for _, f := range small {
		fmt.Fprintf(&b, "  %v (%#x, %d): %d\n", f.Move, f.Actor, f.N, f.Value)
	}
	history := w.History()
	cut := max(0, len(history)-250)
	t.Errorf("seed %d: %v\nof %d moves these %d are enough: %v\n%s\nhistory (%d lines before these are left out):\n%s\nrepeat: MAYFLY_SEED=%d go test -run TestLives ./test/model",
		seed, err, len(fired), len(small), again, b.String(), cut, strings.Join(history[cut:], "\n"), seed)
}

// TestLives lives through MAYFLY_SEEDS worlds (100) from MAYFLY_FROM on, or one (MAYFLY_SEED).
func TestLives(t *testing.T) {
	from := number(t, "MAYFLY_FROM", 0)
	to := from + number(t, "MAYFLY_SEEDS", 100)
	if one := os.Getenv("MAYFLY_SEED"); one != "" {
		from = number(t, "MAYFLY_SEED", 0)
		to = from + 1
	}
	var sum World
	struck := map[Move]int{}
	failed := 0
	for seed := from; seed < to; seed++ {
		w, err := run(t, seed, NewChance(seed), nil, false)
		sum.lives, sum.tasks, sum.kills = sum.lives+w.lives, sum.tasks+w.tasks, sum.kills+w.kills
		sum.sessions, sum.bounded, sum.corrections = sum.sessions+w.sessions, sum.bounded+w.bounded, sum.corrections+w.corrections
		sum.invocations, sum.claims = sum.invocations+w.invocations, sum.claims+w.claims
		for _, f := range w.chance.fired {
			struck[f.Move]++
		}
		if err != nil {
			report(t, seed, w.chance.fired, err, w.Class, func() *Break { return nil })
			if failed++; failed == 3 {
				break
			}
		}
	}
	t.Logf("%d lives, %d tasks of which %d were killed, %d sessions of which %d are bounded, %d corrections, %d standby tasks claimed, %d invocations; moves %v",
		sum.lives, sum.tasks, sum.kills, sum.sessions, sum.bounded, sum.corrections, sum.claims, sum.invocations, struck)
}
