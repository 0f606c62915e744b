// Package ledger is a room's usage record: what its tasks and participants used,
// counted once, whatever crashes.
//
// ECS owns time: an epoch's task is billed by ECS's own times, which Merge takes
// over by version. The task owns counts: Report stores its cumulative counters,
// the highest seq wins, so lost, doubled and late reports do no harm. A session
// opens with the commit that admits its join, so that one whose task dies before
// its first report is known all the same. The record is open from the commit that
// creates the room, and Settle closes it once, when the room is final and every
// epoch's task is proved stopped, in one commit with the event usage.closed and
// the tenant's copy. A closed record never changes: what becomes known later is
// appended as a correction. What a killed task could not report is inferred and
// marked as bounded. Integers only: milliseconds, seconds, bytes, nano-USD.
//
// life calls it for every report and every word of ECS; api reads View and Bills.
// It never changes a room's state. Read report.go, then totals.go (what the sums
// are), close.go and correct.go.
package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"

	"mayfly/functions/control"
	"mayfly/functions/control/figures"
	"mayfly/functions/store"
	"mayfly/shared/signal"
	"mayfly/shared/usage"
)

// Errors of this package.
var (
	ErrOtherTask = errors.New("ledger: report of a task that is not this epoch's")
)

// Ledger stores usage. All fields are set once, before use.
type Ledger struct {
	Store control.Store
	Now   control.Clock
	Log   *slog.Logger
	Retry control.Retry
	Books *Books        // price books; nil knows those that are part of the program
	Meter figures.Meter // nil: nobody counts
}

// batch is how many sessions one commit takes: each may need itself and six events,
// who came, four tracks and who left, and the store takes store.MaxWrites in all.
const batch = 13

// afterHeartbeatMS is the most that a session may have lasted beyond its task's
// last heartbeat, in milliseconds: the time to the next one.
const afterHeartbeatMS = 10_000

// clocksApartMS is the most that the clocks of two functions are expected to differ.
const clocksApartMS = 40_000

// minBillableS is Fargate's minimum charge per task, in seconds.
const minBillableS = 60

// Open is the record of a new room.
func Open(r *control.Room) *control.Ledger {
	return &control.Ledger{
		Room: r.ID, Tenant: r.Tenant, ExternalID: r.ExternalID, Region: r.Region, Tags: r.Tags,
		PriceBook: r.PriceBook, OpenedMS: r.CreatedMS,
	}
}

// OpenEpoch is the record of a task that is about to be asked for.
func OpenEpoch(room string, epoch int, nowMS int64) *control.Epoch {
	return &control.Epoch{Room: room, Epoch: epoch, AskedMS: nowMS}
}

// OpenSession is the record of a join that is about to be admitted. The commit that
// admits the join writes it, so no participant can be there without one.
func OpenSession(r *control.Room, p *control.Participant, joinSeq uint64, nowMS int64) *control.Session {
	return &control.Session{
		Room: r.ID, Epoch: p.Epoch, Session: usage.Session{ID: p.Session, Participant: p.ID},
		AdmittedMS: nowMS, JoinSeq: joinSeq, IdentityHash: identityHash(r.Tenant, p.Identity), Role: roleOf(p.Grants),
	}
}

// identityHash is how a record names a person: the same for one tenant's identity
// in all of its rooms, and of no use to another tenant.
func identityHash(tenant, identity string) string {
	sum := sha256.Sum256([]byte("mayfly identity\x00" + tenant + "\x00" + identity))
	return hex.EncodeToString(sum[:])
}

// roleOf says in one word what grants amount to.
func roleOf(g signal.Grants) string {
	switch {
	case g.Moderate:
		return "host"
	case len(g.Publish) == 0:
		return "viewer"
	}
	return "participant"
}

// Touch is the write that makes a commit a change of the room's open record, so that
// its close cannot have overlooked it. A closed record is not touched.
func (g *Ledger) Touch(ctx context.Context, room string) (w store.Write, closed bool, err error) {
	l, err := control.Load[control.Ledger](ctx, g.Store, control.LedgerKey(room))
	if err != nil || l.ClosedMS != 0 {
		return store.Write{}, err == nil, err
	}
	w, err = control.Put(l)
	return w, false, err
}

// Stopped is ECS's status of a task that is over.
const Stopped = "STOPPED"

// Merge takes over ECS's word on the epoch's task and says whether that changed
// anything. Words about another task, and overtaken ones, change nothing.
func Merge(e *control.Epoch, t control.Task, from string) bool {
	if e.Task.ARN != "" && t.ARN != e.Task.ARN {
		return false
	}
	// An end that was inferred, since ECS did not know the task, gives way to ECS's own.
	inferred := e.StoppedFrom == control.FromSweep && e.Task.ARN != "" && t.LastStatus == Stopped && t.StoppedMS != 0
	if e.Stopped && !inferred || e.Task.ARN != "" && t.Version != 0 && t.Version <= e.Task.Version {
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
	keep(&t.ConnectedMS, old.ConnectedMS)
	keep(&t.ExecStoppedMS, old.ExecStoppedMS)
	keep(&t.StorageGiB, old.StorageGiB)
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
	text(&t.Arch, old.Arch)
	text(&t.Capacity, old.Capacity)
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

// wholeMS is the billed interval of an epoch's task: from the start of its image pull
// to its end. 0 while it runs, or if it never got so far.
func wholeMS(e *control.Epoch) int64 {
	from := beganMS(e)
	if from == 0 || e.Task.StoppedMS == 0 || !e.Stopped {
		return 0
	}
	return max(0, e.Task.StoppedMS-from)
}

// beganMS is when the bill of an epoch's task began, 0 if that is not known.
func beganMS(e *control.Epoch) int64 {
	if e.Task.PullStartedMS == 0 && e.StoppedFrom == control.FromSweep && e.ReportedMS > 0 {
		return max(e.Task.CreatedMS, e.AskedMS) // it ran, and ECS's own times are lost
	}
	return e.Task.PullStartedMS
}

// standbyMS is the part of it before a room claimed the task, which is the pool's.
func standbyMS(e *control.Epoch) int64 {
	if e.ClaimedMS == 0 {
		return 0
	}
	return min(max(0, e.ClaimedMS-beganMS(e)), wholeMS(e))
}

// taskMS is the part that is the room's, and taskS what it is charged for of what
// Fargate charges: all but the whole seconds that are the pool's. So the two shares of
// a task add up to its bill, to the second.
func taskMS(e *control.Epoch) int64 { return wholeMS(e) - standbyMS(e) }

func taskS(e *control.Epoch) int64 { return billableS(wholeMS(e)) - standbyMS(e)/1000 }

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
