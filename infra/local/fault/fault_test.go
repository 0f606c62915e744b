package fault

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSameSeedSameDecisions(t *testing.T) {
	f := Fault{Drop: 0.3, Duplicate: 0.3, Reorder: 0.3}
	roll := func(seed uint64) (out [][]time.Duration) {
		l := NewLine(f, seed, 1)
		for range 50 {
			out = append(out, l.roll())
		}
		return out
	}
	if diff := cmp.Diff(roll(1), roll(1)); diff != "" {
		t.Error(diff)
	}
	if cmp.Equal(roll(1), roll(2)) {
		t.Error("another seed, the same decisions")
	}
}

func TestPass(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault Fault
		calls int32
		after time.Duration // at most
	}{
		{"none", Fault{}, 1, 0},
		{"drop", Fault{Drop: 1}, 0, 0},
		{"duplicate", Fault{Duplicate: 1}, 2, 0},
		{"reorder", Fault{Reorder: 1, Window: time.Second}, 1, time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := NewLine(tc.fault, 1, 1)
				began, calls := time.Now(), new(atomic.Int32)
				l.Pass(func() { calls.Add(1) })
				if tc.after > 0 && calls.Load() != 0 {
					t.Error("not held back")
				}
				l.Wait()
				if took := time.Since(began); calls.Load() != tc.calls || took > tc.after || tc.after > 0 && took == 0 {
					t.Errorf("%d calls after %v", calls.Load(), took)
				}
			})
		})
	}
}
