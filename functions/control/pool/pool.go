// Package pool decides how many tasks stand by without a room, and which of them go.
//
// A room takes a standby task in the time of a commit and two frames, where a new one
// takes Fargate's half minute; a standby task costs as much as one that serves. So the
// pool is as large as the operator says, by size, and 0 unless told.
//
// Everything here is pure: life loads the slots, asks Decide, and does what it says, in
// the sweep. Read Decide.
package pool

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"mayfly/functions/control/shape"
)

// Target is how many tasks of a size are to stand by.
type Target struct {
	Size string
	N    int
}

// Most is the largest target of one size: all slots are one partition of the table.
const Most = 200

// Parse reads targets as "m=2,l=1"; "" is none.
func Parse(text string) ([]Target, error) {
	var all []Target
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, count, _ := strings.Cut(part, "=")
		n, err := strconv.Atoi(count)
		if err != nil || n < 0 || n > Most || name == shape.Auto || !shape.Known(name) {
			return nil, fmt.Errorf("%q is not a size and a number up to %d, as in m=2", part, Most)
		}
		if slices.ContainsFunc(all, func(t Target) bool { return t.Size == name }) {
			return nil, fmt.Errorf("size %s is given twice", name)
		}
		if n > 0 {
			all = append(all, Target{name, n})
		}
	}
	return all, nil
}

// States of a slot.
const (
	Asked   = "asked"   // its task was asked for, and has not said that it stands by
	Standby = "standby" // its task waits for a room
	Claimed = "claimed" // its task is a room's
	Leaving = "leaving" // its task is being stopped
)

// Slot is what Decide must know of one place in the pool. Times are Unix ms.
type Slot struct {
	ID, Size, Revision, State string
	Known                     bool  // ECS has answered with a task
	CreatedMS                 int64 // when the slot was made
	AskedMS                   int64 // the last RunTask
	SeenMS                    int64 // the last word of the task
	Refusals                  int   // of RunTask, in a row
}

// Rules are times in milliseconds. A zero field means its default.
type Rules struct {
	MaxAgeMS int64 // from which a standby task is replaced. Default 6 h
	StartMS  int64 // in which a task must stand by. Default 3 min
	SilentMS int64 // a standby task says that it is there every 10 s. Default 2 min
	RetryMS  int64 // before RunTask is repeated, doubled with each refusal up to 5 min. Default 10 s
}

const mostRetryMS = 300_000

// WithDefaults fills in the zero fields.
func (r Rules) WithDefaults() Rules {
	r.MaxAgeMS = cmp.Or(r.MaxAgeMS, 6*3_600_000)
	r.StartMS = cmp.Or(r.StartMS, 180_000)
	r.SilentMS = cmp.Or(r.SilentMS, 120_000)
	r.RetryMS = cmp.Or(r.RetryMS, 10_000)
	return r
}

// Kind names what is to be done.
type Kind string

// Kinds.
const (
	Start  Kind = "start"  // make a slot of Size and ask for its task
	Again  Kind = "again"  // ask for Slot's task again
	Retire Kind = "retire" // stop Slot's task
)

// Reasons of Retire.
const (
	TooOld       = "too old"
	OtherVersion = "other revision"
	Surplus      = "surplus"
	NeverStood   = "never stood by"
	Silent       = "silent"
)

// Action is one thing to be done.
type Action struct {
	Kind   Kind
	Size   string
	Slot   string
	Reason string
}

// mostStarts is how many tasks one pass asks for, of all sizes: ECS takes 20 RunTask
// calls a second, and rooms go first.
const mostStarts = 10

// Decide compares the slots with what is wanted of each size, all of one revision.
//
// A task that is too old, of another revision, silent or late does not count, so its
// successor is started. One that is merely too old goes when enough others stand by;
// until then a room may still have it.
func (r Rules) Decide(nowMS int64, targets []Target, revision string, slots []Slot) []Action {
	r = r.WithDefaults()
	var out []Action
	want := map[string]int{}
	for _, t := range targets {
		want[t.Size] = t.N
	}
	standing := map[string][]Slot{}
	coming := map[string]int{}
	var old []Slot
	for _, s := range slots {
		if s.State != Asked && s.State != Standby {
			continue
		}
		switch why := r.unfit(nowMS, revision, s); {
		case why == TooOld:
			old = append(old, s)
		case why != "":
			out = append(out, Action{Kind: Retire, Size: s.Size, Slot: s.ID, Reason: why})
		case s.State == Standby:
			standing[s.Size] = append(standing[s.Size], s)
		case !s.Known && want[s.Size] == 0: // nobody asks for it again
			out = append(out, Action{Kind: Retire, Size: s.Size, Slot: s.ID, Reason: Surplus})
		default:
			coming[s.Size]++
			if !s.Known && nowMS-s.AskedMS >= r.retry(s.Refusals) {
				out = append(out, Action{Kind: Again, Size: s.Size, Slot: s.ID})
			}
		}
	}
	for _, s := range old {
		if len(standing[s.Size]) >= want[s.Size] {
			out = append(out, Action{Kind: Retire, Size: s.Size, Slot: s.ID, Reason: TooOld})
		}
	}
	for size, all := range standing {
		slices.SortFunc(all, func(a, b Slot) int { return cmp.Or(cmp.Compare(a.CreatedMS, b.CreatedMS), cmp.Compare(a.ID, b.ID)) })
		for _, s := range all[:max(0, len(all)-want[size])] {
			out = append(out, Action{Kind: Retire, Size: size, Slot: s.ID, Reason: Surplus})
		}
	}
	starts := 0
	for _, t := range targets {
		for n := len(standing[t.Size]) + coming[t.Size]; n < t.N && starts < mostStarts; n++ {
			out = append(out, Action{Kind: Start, Size: t.Size})
			starts++
		}
	}
	order := map[Kind]int{Start: 1, Again: 2, Retire: 3}
	slices.SortStableFunc(out, func(a, b Action) int { return cmp.Or(order[a.Kind]-order[b.Kind], cmp.Compare(a.Slot, b.Slot)) })
	return out
}

// unfit says why a slot's task does not count; "" if it does.
func (r Rules) unfit(nowMS int64, revision string, s Slot) string {
	switch {
	case s.Revision != revision:
		return OtherVersion
	case s.State == Asked && s.Known && nowMS-s.AskedMS >= r.StartMS:
		return NeverStood
	case s.State == Standby && nowMS-s.SeenMS >= r.SilentMS:
		return Silent
	case s.State == Standby && nowMS-s.CreatedMS >= r.MaxAgeMS:
		return TooOld
	}
	return ""
}

func (r Rules) retry(refusals int) int64 {
	return min(r.RetryMS<<min(refusals, 10), mostRetryMS)
}
