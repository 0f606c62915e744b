// Package ledger is a room's usage record: what its tasks and participants used,
// counted once, whatever crashes.
//
// ECS owns time: an epoch's task is billed by ECS's own times, which Merge takes
// over by version. The task owns counts: Report stores its cumulative counters,
// the highest seq wins, so lost, doubled and late reports do no harm. The record
// is open from the commit that creates the room, and Settle closes it once, when
// the room is final and every epoch's task is proved stopped, in one commit with
// the event usage.closed. A closed record never changes. What a killed task could
// not report is inferred and marked as bounded. Integers only: milliseconds,
// seconds, bytes.
//
// life calls it for every report and every word of ECS; api reads View. It never
// changes a room's state. Read report.go, then close.go.
package ledger

import (
	"errors"
	"log/slog"

	"mayfly/functions/control"
)

// Errors of this package.
var (
	ErrClosed    = errors.New("ledger: closed")
	ErrOtherTask = errors.New("ledger: report of a task that is not this epoch's")
)

// Ledger stores usage. All fields are set once, before use.
type Ledger struct {
	Store control.Store
	Now   control.Clock
	Log   *slog.Logger
	Retry control.Retry
}

// batch is how many sessions one commit takes: each may need itself and two
// events, and the store takes store.MaxWrites in all.
const batch = 30

// afterHeartbeatMS is the most that a session may have lasted beyond its task's
// last heartbeat, in milliseconds: the time to the next one.
const afterHeartbeatMS = 10_000

// minBillableS is Fargate's minimum charge per task, in seconds.
const minBillableS = 60

// Open is the record of a new room.
func Open(r *control.Room) *control.Ledger {
	return &control.Ledger{Room: r.ID, Tenant: r.Tenant, OpenedMS: r.CreatedMS}
}

// OpenEpoch is the record of a task that is about to be asked for.
func OpenEpoch(room string, epoch int, nowMS int64) *control.Epoch {
	return &control.Epoch{Room: room, Epoch: epoch, AskedMS: nowMS}
}

// Stopped is ECS's status of a task that is over.
const Stopped = "STOPPED"

// Merge takes over ECS's word on the epoch's task and says whether that changed
// anything. Words about another task, and overtaken ones, change nothing.
func Merge(e *control.Epoch, t control.Task, from string) bool {
	if e.Task.ARN != "" && t.ARN != e.Task.ARN {
		return false
	}
	if e.Stopped || e.Task.ARN != "" && t.Version != 0 && t.Version <= e.Task.Version {
		return false
	}
	before := *e
	e.Task = mergeTask(e.Task, t)
	if t.LastStatus == Stopped {
		e.Stopped, e.StoppedFrom = true, from
	}
	return !sameEpoch(before, *e)
}

// mergeTask overwrites what is known, and keeps what the newer word leaves out.
func mergeTask(old, t control.Task) control.Task {
	keep := func(n *int64, o int64) {
		if *n == 0 {
			*n = o
		}
	}
	keep(&t.Version, old.Version)
	keep(&t.CreatedMS, old.CreatedMS)
	keep(&t.PullStartedMS, old.PullStartedMS)
	keep(&t.PullStoppedMS, old.PullStoppedMS)
	keep(&t.StartedMS, old.StartedMS)
	keep(&t.StoppingMS, old.StoppingMS)
	keep(&t.StoppedMS, old.StoppedMS)
	text := func(n *string, o string) {
		if *n == "" {
			*n = o
		}
	}
	text(&t.ARN, old.ARN)
	text(&t.StartedBy, old.StartedBy)
	text(&t.LastStatus, old.LastStatus)
	text(&t.StopCode, old.StopCode)
	text(&t.StoppedReason, old.StoppedReason)
	text(&t.CPU, old.CPU)
	text(&t.Memory, old.Memory)
	text(&t.ImageDigest, old.ImageDigest)
	text(&t.AZ, old.AZ)
	if t.ExitCode == nil {
		t.ExitCode = old.ExitCode
	}
	return t
}

func sameEpoch(a, b control.Epoch) bool {
	sameExit := a.Task.ExitCode == b.Task.ExitCode ||
		a.Task.ExitCode != nil && b.Task.ExitCode != nil && *a.Task.ExitCode == *b.Task.ExitCode
	a.Task.ExitCode, b.Task.ExitCode = nil, nil
	return sameExit && a == b
}

// MergeGone records that ECS knows no such task any more, or never had one for
// this epoch. The end is inferred from the last report, at most.
func MergeGone(e *control.Epoch) bool {
	if e.Stopped {
		return false
	}
	e.Stopped, e.StoppedFrom = true, control.FromSweep
	if e.ReportedMS > 0 && e.Task.StoppedMS == 0 {
		e.Task.StoppedMS = e.ReportedMS + afterHeartbeatMS
	}
	if e.Task.ARN != "" {
		e.Task.LastStatus = Stopped
	}
	return true
}

// taskMS is the billed interval of an epoch's task: from the start of its image
// pull to its end. 0 while it runs, or if it never got so far.
func taskMS(e *control.Epoch) int64 {
	from := e.Task.PullStartedMS
	if from == 0 && e.StoppedFrom == control.FromSweep && e.ReportedMS > 0 {
		from = max(e.Task.CreatedMS, e.AskedMS) // it ran, and ECS's own times are lost
	}
	if from == 0 || e.Task.StoppedMS == 0 || !e.Stopped {
		return 0
	}
	return max(0, e.Task.StoppedMS-from)
}

// billableS is what Fargate charges for a task of that long: whole seconds, at
// least a minute.
func billableS(ms int64) int64 {
	if ms == 0 {
		return 0
	}
	return max(minBillableS, (ms+999)/1000)
}

// quality of an epoch: bounded if anything had to be inferred, or if the task died
// without a last report.
func quality(e *control.Epoch) string {
	clean := e.Final || e.Task.ExitCode != nil && *e.Task.ExitCode == 0
	died := e.Stopped && e.ReportSeq > 0 && !clean
	if e.Bounded || died || e.StoppedFrom == control.FromSweep && e.Task.ARN != "" {
		return control.QualityBounded
	}
	return control.QualityExact
}

// sum adds up a room's epochs.
func sum(epochs []*control.Epoch) (t control.LedgerTotals, q string) {
	q = control.QualityExact
	for _, e := range epochs {
		ms := taskMS(e)
		t.ParticipantMS += e.Totals.ParticipantMS + e.ExtraMS
		t.Sessions += e.Totals.Sessions
		t.PeakParticipants = max(t.PeakParticipants, e.Totals.PeakParticipants)
		t.BytesIn = t.BytesIn.Add(e.Totals.BytesIn)
		t.BytesOut = t.BytesOut.Add(e.Totals.BytesOut)
		t.TaskMSRaw += ms
		t.TaskSBillable += billableS(ms)
		if quality(e) == control.QualityBounded {
			q = control.QualityBounded
		}
	}
	return t, q
}
