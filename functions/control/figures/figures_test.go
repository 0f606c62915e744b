package figures

import (
	"context"
	"regexp"
	"slices"
	"testing"

	"mayfly/shared/lifecycle"
)

// TestFigures holds the list to what those who keep figures take: names once, in the form
// of both, a label whose values are few and known, buckets that ascend.
func TestFigures(t *testing.T) {
	form := regexp.MustCompile(`^[a-z][a-z_]*[a-z]$`)
	names, series := map[string]bool{}, 0
	for _, f := range All {
		if !form.MatchString(f.Name) || names[f.Name] {
			t.Errorf("name %q", f.Name)
		}
		names[f.Name] = true
		if f.Help == "" || (f.Unit != Seconds && f.Unit != Count) {
			t.Errorf("%s: %q in %q", f.Name, f.Help, f.Unit)
		}
		if (f.Label == "") != (len(f.Labels) == 0) || slices.Contains(f.Labels, Other) {
			t.Errorf("%s: label %q of %v", f.Name, f.Label, f.Labels)
		}
		if (f.Kind == Distribution) != (len(f.Limits) > 0) || !slices.IsSorted(f.Limits) {
			t.Errorf("%s is a %s with buckets %v", f.Name, f.Kind, f.Limits)
		}
		series += max(1, len(f.Labels)+1)
	}
	if series > 40 {
		t.Errorf("%d series, each of which is paid for", series)
	}
}

// TestLabelsAreThoseOfTheRooms: a phase or a reason that is new is to be in the list.
func TestLabelsAreThoseOfTheRooms(t *testing.T) {
	for _, phase := range []string{lifecycle.PhaseRequested, lifecycle.PhaseQueued, lifecycle.PhaseProvisioning, lifecycle.PhasePulling, lifecycle.PhaseBooting} {
		if got := RoomStart.Is(1, phase).Label; got != phase {
			t.Errorf("phase %q is told as %q", phase, got)
		}
	}
	for _, reason := range []string{lifecycle.ReasonNoCapacity, lifecycle.ReasonStartRefused, lifecycle.ReasonStartTimeout, lifecycle.ReasonStartFailed, lifecycle.ReasonTaskCrashes} {
		if got := RoomFailures.Is(1, reason).Label; got != reason {
			t.Errorf("reason %q is told as %q", reason, got)
		}
	}
	for _, label := range [][]string{nil, {""}, {"room_01ABC"}} {
		if got := RoomStart.Is(1, label...).Label; got != Other {
			t.Errorf("label %q is told as %q", label, got)
		}
	}
	if got := RoomsActive.Is(1, "room_01ABC").Label; got != "" {
		t.Errorf("a figure without a label has %q", got)
	}
}

func TestNobodyCounts(*testing.T) { Record(context.Background(), nil, RoomsActive.Is(1)) }

func TestSince(t *testing.T) {
	for _, c := range []struct {
		from, to int64
		want     float64
	}{{1000, 3500, 2.5}, {3500, 1000, 0}, {7, 7, 0}} {
		if got := Since(c.from, c.to); got != c.want {
			t.Errorf("from %d to %d: %v, want %v", c.from, c.to, got, c.want)
		}
	}
}
