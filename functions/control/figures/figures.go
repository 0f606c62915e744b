// Package figures names what the control plane measures of itself, and the one interface
// by which it tells: how long starts take, how many rooms there are, what should have
// been over by now.
//
// life, ledger, hooks, join and api record; functions/entry hands them a Meter, which on
// AWS is functions/emf's and on one machine infra/local's. The package must not know what
// becomes of a figure. No label names a room, a tenant or an address: every value that a
// label may have is listed here, because each is a series that somebody keeps, and on AWS
// pays for. A room's id goes beside a value, for whoever reads the log.
//
// Read All, then Meter.
package figures

import (
	"context"
	"slices"
)

// Unit is what a value counts.
type Unit string

// Units.
const (
	Seconds Unit = "seconds"
	Count   Unit = "count"
)

// Kind is how values of a figure go together.
type Kind string

// Kinds.
const (
	Gauge        Kind = "gauge"     // how it is now: the last value counts
	Counter      Kind = "counter"   // values add up
	Distribution Kind = "histogram" // each value is one case
)

// Figure is one thing that is measured.
type Figure struct {
	Name   string
	Unit   Unit
	Kind   Kind
	Help   string    // a sentence without a line break
	Label  string    // "" for none
	Labels []string  // all that the label may be, besides Other
	Limits []float64 // of a distribution: upper ends of the buckets, ascending
}

// Other is what a label says that is not in the list.
const Other = "other"

// startLimits cover a standby task's tenths of a second and a start that waits for capacity.
var startLimits = []float64{0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 20, 25, 30, 45, 60, 90, 120, 300}

// lagLimits cover what takes moments and what was forgotten for a day.
var lagLimits = []float64{0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 3600, 6 * 3600, 24 * 3600}

// The figures.
var (
	// RoomStart is told at each change of phase until a room is live for the first time.
	RoomStart = &Figure{Name: "room_start_seconds", Unit: Seconds, Kind: Distribution, Label: "phase",
		Labels: []string{"requested", "queued", "provisioning", "pulling", "booting", PhaseTotal}, Limits: startLimits,
		Help: "Time that new rooms spent in each phase until they were live, and in all."}
	RoomFailures = &Figure{Name: "room_failures", Unit: Count, Kind: Counter, Label: "reason",
		Labels: []string{"no_capacity", "start_refused", "start_timeout", "start_failed", "task_crashes"},
		Help:   "Rooms that were given up, by why."}
	RoomsActive = &Figure{Name: "rooms_active", Unit: Count, Kind: Gauge,
		Help: "Rooms that are not over, as the last sweep found them."}
	LedgerOpen = &Figure{Name: "ledger_open", Unit: Count, Kind: Gauge,
		Help: "Rooms that are over and whose usage record is not closed, as the last sweep found them."}
	LedgerOpenAge = &Figure{Name: "ledger_open_seconds", Unit: Seconds, Kind: Gauge,
		Help: "For how long the oldest of them has been over; 0 if there is none."}
	LedgerCloseLag = &Figure{Name: "ledger_close_lag_seconds", Unit: Seconds, Kind: Distribution, Limits: lagLimits,
		Help: "Time from the end of a room to the close of its usage record."}
	Orphans = &Figure{Name: "orphans", Unit: Count, Kind: Counter,
		Help: "Tasks that ran without a room and were stopped."}
	WebhookLag = &Figure{Name: "webhook_lag_seconds", Unit: Seconds, Kind: Distribution, Label: "attempt",
		Labels: []string{AttemptFirst, AttemptLater}, Limits: lagLimits,
		Help: "Time from an event to the answer of the endpoint that took it: at once, or after an attempt that failed or was put off."}
	WebhookFailures = &Figure{Name: "webhook_failures", Unit: Count, Kind: Counter,
		Help: "Attempts to send a webhook that failed."}
	AuthFailures = &Figure{Name: "auth_failures", Unit: Count, Kind: Counter, Label: "why",
		Labels: []string{AuthKey, AuthCaller, AuthTicket, AuthResume, AuthTask},
		Help:   "Callers, clients and tasks that were refused for who they are, by what was wrong."}
)

// PhaseTotal is the label of a whole start, from the request to a live room.
const PhaseTotal = "total"

// Whether the first attempt went through, right when it was due.
const (
	AttemptFirst = "first"
	AttemptLater = "later"
)

// What was wrong with a secret or an identity.
const (
	AuthKey    = "key"    // an API key
	AuthCaller = "caller" // an AWS identity that is no tenant's
	AuthTicket = "ticket" // of a client
	AuthResume = "resume" // a client's resume secret
	AuthTask   = "task"   // a task that is not the one it says
)

// All are all figures, in the order of the page that explains them.
var All = []*Figure{
	RoomStart, RoomFailures, RoomsActive, LedgerOpen, LedgerOpenAge, LedgerCloseLag, Orphans, WebhookLag, WebhookFailures, AuthFailures,
}

// Value is one value of a figure.
type Value struct {
	Of    *Figure
	Label string // of Of.Labels, or Other; "" for a figure without a label
	V     float64
	Room  string // whose it is, for the log; "" for none
}

// Is makes a value of a figure, with its label if it has one.
func (f *Figure) Is(v float64, label ...string) Value {
	val := Value{Of: f, V: v}
	if f.Label != "" {
		val.Label = Other
		if len(label) > 0 && slices.Contains(f.Labels, label[0]) {
			val.Label = label[0]
		}
	}
	return val
}

// About says whose a value is.
func (v Value) About(room string) Value {
	v.Room = room
	return v
}

// Meter takes what was measured. It may be called from any goroutine, must not block, and
// cannot fail as far as the caller can tell: no work is left undone for a figure.
type Meter interface {
	Record(ctx context.Context, values ...Value)
}

// Record tells a meter, if there is one.
func Record(ctx context.Context, m Meter, values ...Value) {
	if m != nil && len(values) > 0 {
		m.Record(ctx, values...)
	}
}

// Since is the time from one moment to another, both in Unix ms, in seconds; never negative,
// as the two may be of two clocks.
func Since(fromMS, toMS int64) float64 { return float64(max(0, toMS-fromMS)) / 1000 }
