package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mayfly/functions/control"
	"mayfly/functions/control/controltest"
	"mayfly/functions/control/outbox"
	"mayfly/functions/store"
	"mayfly/infra/local/boltstore"
	"mayfly/shared/lifecycle"
	"mayfly/shared/usage"
)

const (
	roomID = "room_1"
	taskID = "arn/t1"
)

// books is a ledger over the embedded store, with one live room of one epoch.
type books struct {
	t     *testing.T
	ctx   context.Context
	clock *controltest.Clock
	store *boltstore.Store
	*Ledger
}

func newBooks(t *testing.T) *books {
	t.Helper()
	clock := controltest.NewClock()
	s, err := boltstore.OpenWith(filepath.Join(t.TempDir(), "db"), boltstore.Options{Now: clock.Now, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &books{t: t, ctx: context.Background(), clock: clock, store: s}
	b.Ledger = &Ledger{Store: s, Now: clock.Now, Log: slog.New(slog.DiscardHandler)}
	room := &control.Room{ID: roomID, Tenant: "acme", ExternalID: "x-1"}
	room.Room = lifecycle.New(clock.MS(), clock.MS()+3_600_000)
	room.State, room.Epoch = lifecycle.Live, 1
	epoch := OpenEpoch(roomID, 1, clock.MS())
	epoch.Task = control.Task{ARN: taskID, Version: 1, PullStartedMS: clock.MS()}
	b.put(room, epoch, Open(room))
	return b
}

func (b *books) put(docs ...control.Doc) {
	b.t.Helper()
	for _, d := range docs {
		w, err := control.Put(d)
		if err == nil {
			err = b.store.Commit(b.ctx, w)
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

// report stores a report and gives its error.
func (b *books) report(seq uint64, sessions ...usage.Session) error {
	r := usage.Report{Seq: seq, AtMS: b.clock.MS(), Sessions: sessions}
	for _, s := range sessions {
		r.Totals.ParticipantMS += s.ParticipantMS
		r.Totals.Sessions++
		r.Totals.BytesIn = r.Totals.BytesIn.Add(s.BytesIn)
		if s.LeftMS == 0 {
			r.Totals.Present++
		}
	}
	r.Totals.PeakParticipants = r.Totals.Present
	return b.Report(b.ctx, roomID, 1, taskID, 0, r)
}

func (b *books) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// stopTask records ECS's proof, now.
func (b *books) stopTask() {
	b.t.Helper()
	e, err := control.Load[control.Epoch](b.ctx, b.store, control.EpochKey(roomID, 1))
	b.must(err)
	code := 137
	if !Merge(e, control.Task{ARN: taskID, Version: 9, LastStatus: Stopped, StoppedMS: b.clock.MS(), ExitCode: &code}, control.FromEvent) {
		b.t.Fatal("the proof changed nothing")
	}
	b.put(e)
}

func (b *books) endRoom() {
	b.t.Helper()
	r, err := control.Load[control.Room](b.ctx, b.store, control.RoomKey(roomID))
	b.must(err)
	r.State = lifecycle.Ended
	b.put(r)
}

func (b *books) view() View {
	b.t.Helper()
	v, err := b.View(b.ctx, roomID, Include{Participants: true, Costs: true})
	b.must(err)
	return v
}

func (b *books) events() []*control.Event {
	b.t.Helper()
	all, err := control.LoadAll[control.Event](b.ctx, b.store, control.RoomPK(roomID), control.EventPrefix)
	b.must(err)
	for i, e := range all {
		if e.Seq != uint64(i+1) {
			b.t.Fatalf("event %d has seq %d", i+1, e.Seq)
		}
	}
	return all
}

func (b *books) count(typ string) (n int) {
	for _, e := range b.events() {
		if e.Type == typ {
			n++
		}
	}
	return n
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestMerge(t *testing.T) {
	zero, one := 0, 1
	run := control.Task{ARN: taskID, LastStatus: "RUNNING", Version: 4, PullStartedMS: 10, StartedMS: 20, AZ: "a"}
	stop := control.Task{ARN: taskID, LastStatus: Stopped, Version: 6, StoppedMS: 90, ExitCode: &zero}
	merged := control.Task{ARN: taskID, LastStatus: Stopped, Version: 6, PullStartedMS: 10, StartedMS: 20, StoppedMS: 90, AZ: "a", ExitCode: &zero}
	for _, c := range []struct {
		name    string
		words   []control.Task
		changes []bool
		want    control.Task
		stopped bool
	}{
		{"in order", []control.Task{run, stop}, []bool{true, true}, merged, true},
		{"twice", []control.Task{run, run, stop, stop}, []bool{true, false, true, false}, merged, true},
		{"overtaken", []control.Task{stop, run}, []bool{true, false}, stop, true},
		{"another task", []control.Task{run, {ARN: "arn/t2", LastStatus: Stopped, Version: 9}}, []bool{true, false}, run, false},
		{"no version", []control.Task{run, {ARN: taskID, LastStatus: "RUNNING", StartedMS: 21}}, []bool{true, true},
			control.Task{ARN: taskID, LastStatus: "RUNNING", Version: 4, PullStartedMS: 10, StartedMS: 21, AZ: "a"}, false},
		{"after the end", []control.Task{stop, {ARN: taskID, LastStatus: Stopped, Version: 8, ExitCode: &one}}, []bool{true, false}, stop, true},
	} {
		e := OpenEpoch(roomID, 1, 5)
		for i, w := range c.words {
			if got := Merge(e, w, control.FromEvent); got != c.changes[i] {
				t.Errorf("%s: word %d changed: %v", c.name, i, got)
			}
		}
		equal(t, c.name, e.Task, c.want)
		equal(t, c.name+": stopped", e.Stopped, c.stopped)
	}
}

func TestTaskTime(t *testing.T) {
	for _, c := range []struct {
		name     string
		e        control.Epoch
		ms, bill int64
	}{
		{"running", control.Epoch{Task: control.Task{PullStartedMS: 1000}}, 0, 0},
		{"short", control.Epoch{Stopped: true, Task: control.Task{PullStartedMS: 1000, StoppedMS: 2500}}, 1500, 60},
		{"a minute", control.Epoch{Stopped: true, Task: control.Task{PullStartedMS: 1, StoppedMS: 60_001}}, 60_000, 60},
		{"a minute and a bit", control.Epoch{Stopped: true, Task: control.Task{PullStartedMS: 1, StoppedMS: 60_002}}, 60_001, 61},
		{"never pulled", control.Epoch{Stopped: true, Task: control.Task{CreatedMS: 1, StoppedMS: 9000}}, 0, 0},
		{"never existed", control.Epoch{Stopped: true, StoppedFrom: control.FromSweep, AskedMS: 1}, 0, 0},
		{"ECS forgot it", control.Epoch{Stopped: true, StoppedFrom: control.FromSweep, AskedMS: 1000, ReportedMS: 70_000,
			Task: control.Task{ARN: taskID, StoppedMS: 80_000}}, 79_000, 79},
	} {
		ms := taskMS(&c.e)
		equal(t, c.name, [2]int64{ms, billableS(ms)}, [2]int64{c.ms, c.bill})
	}
}

func TestMergeGone(t *testing.T) {
	e := &control.Epoch{Task: control.Task{ARN: taskID}, ReportedMS: 5000, ReportSeq: 3}
	equal(t, "first and second", [2]bool{MergeGone(e), MergeGone(e)}, [2]bool{true, false})
	equal(t, "end", e.Task.StoppedMS, int64(15_000))
	equal(t, "quality", quality(e), control.QualityBounded)
	never := &control.Epoch{}
	MergeGone(never)
	equal(t, "an epoch without a task", [2]any{never.Task.StoppedMS, quality(never)}, [2]any{int64(0), control.QualityExact})
}

func TestReportHighestSeqWins(t *testing.T) {
	b := newBooks(t)
	at := b.clock.MS()
	s := func(ms, in int64) usage.Session {
		return usage.Session{ID: "s1", Participant: "p1", JoinedMS: at, ParticipantMS: ms, BytesIn: usage.Bytes{Total: in}}
	}
	other := usage.Session{ID: "s2", Participant: "p2", JoinedMS: at, ParticipantMS: 7}
	b.must(b.report(3, s(3000, 300)))
	b.must(b.report(2, s(2000, 200), other)) // overtaken, but s2 is news
	b.must(b.report(3, s(9999, 9999)))       // a duplicate with another content is no report of this task
	v := b.view()
	equal(t, "sessions", [2]int64{v.Participants[0].MS, v.Participants[1].MS}, [2]int64{3000, 7})
	equal(t, "totals", [2]int64{v.Totals.ParticipantMS, v.Totals.BytesIn.Total}, [2]int64{3007, 300})
	equal(t, "joined", b.count(outbox.ParticipantJoined), 2)

	gone := s(5000, 500)
	gone.LeftMS, gone.LeaveReason = at+5000, "left"
	b.must(b.report(5, gone))
	b.must(b.report(4, s(4000, 400)))
	v = b.view()
	equal(t, "left", v.Participants[0].LeftMS, at+5000)
	equal(t, "left once", b.count(outbox.ParticipantLeft), 1)

	if err := b.Report(b.ctx, roomID, 1, "arn/other", 0, usage.Report{Seq: 9}); !errors.Is(err, ErrOtherTask) {
		t.Errorf("another task's report: %v", err)
	}
	if err := b.Report(b.ctx, roomID, 7, taskID, 0, usage.Report{Seq: 9}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an epoch that is not: %v", err)
	}
}

// TestManySessions: more than one commit holds, each joined and left at once.
func TestManySessions(t *testing.T) {
	b := newBooks(t)
	var all []usage.Session
	for i := range 95 {
		all = append(all, usage.Session{ID: fmt.Sprint("s", i), JoinedMS: b.clock.MS(), ParticipantMS: 100, LeftMS: b.clock.MS() + 100})
	}
	b.must(b.report(1, all...))
	b.must(b.report(1, all...))
	v := b.view()
	equal(t, "sessions", len(v.Participants), 95)
	equal(t, "sum", v.Totals.ParticipantMS, int64(9500))
	equal(t, "events", [2]int{b.count(outbox.ParticipantJoined), b.count(outbox.ParticipantLeft)}, [2]int{95, 95})
}

func TestBound(t *testing.T) {
	for _, c := range []struct {
		name      string
		stopAfter int64 // ms after the last report
		extra     int64
	}{
		{"stopped soon after the heartbeat", 4000, 4000},
		{"stopped at the heartbeat", 0, 0},
		{"ECS says much later", 60_000, 10_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBooks(t)
			at := b.clock.MS()
			var sessions []usage.Session
			for i := range 70 { // more than one commit holds
				sessions = append(sessions, usage.Session{ID: fmt.Sprintf("s%02d", i), JoinedMS: at, ParticipantMS: 20_000})
			}
			sessions = append(sessions, usage.Session{ID: "t", JoinedMS: at, LeftMS: at + 1, ParticipantMS: 1},
				usage.Session{ID: "u", JoinedMS: at}) // never connected
			b.clock.Advance(20e9)
			b.must(b.report(1, sessions...))
			b.must(b.Bound(b.ctx, roomID, 1))
			equal(t, "a running epoch", b.count(outbox.ParticipantLeft), 1)
			b.clock.Advance(time.Duration(c.stopAfter) * time.Millisecond)
			b.stopTask()
			b.must(b.Bound(b.ctx, roomID, 1))
			b.must(b.Bound(b.ctx, roomID, 1))
			v := b.view()
			first, left, idle := v.Participants[0], v.Participants[70], v.Participants[71]
			equal(t, "open session", [2]int64{first.LeftMS - at, first.MS}, [2]int64{20_000 + c.extra, 20_000 + c.extra})
			equal(t, "how it ended", fmt.Sprint(first.Bounded, first.LeaveReason), "truetask_stopped")
			equal(t, "session that had left", fmt.Sprint(left.MS, left.Bounded), "1 false")
			equal(t, "session never connected", [2]int64{idle.LeftMS - at, idle.MS}, [2]int64{20_000 + c.extra, 0})
			equal(t, "total", v.Totals.ParticipantMS, 70*(20_000+c.extra)+1)
			equal(t, "left", b.count(outbox.ParticipantLeft), 72)
			equal(t, "quality", v.Quality, control.QualityBounded)
		})
	}
}

// TestLateReportReplacesInference: the killed task's last frame was under way.
func TestLateReportReplacesInference(t *testing.T) {
	b := newBooks(t)
	at := b.clock.MS()
	open := usage.Session{ID: "s1", JoinedMS: at, ParticipantMS: 10_000}
	b.clock.Advance(10e9)
	b.must(b.report(1, open))
	b.clock.Advance(8e9)
	b.stopTask()
	b.must(b.Bound(b.ctx, roomID, 1))
	equal(t, "inferred", b.view().Totals.ParticipantMS, int64(18_000))

	open.ParticipantMS, open.LeftMS = 17_000, at+17_000
	b.must(b.report(2, open))
	v := b.view()
	equal(t, "told", [3]int64{v.Totals.ParticipantMS, v.Participants[0].MS, v.Participants[0].LeftMS - at}, [3]int64{17_000, 17_000, 17_000})
	equal(t, "left once", b.count(outbox.ParticipantLeft), 1)

	b.endRoom()
	closed, err := b.Settle(b.ctx, roomID)
	b.must(err)
	equal(t, "closed", closed, true)
	b.must(b.report(3, open))
	equal(t, "a report after the close that tells nothing new", b.count(outbox.UsageCorrected), 0)
	equal(t, "closed totals", b.view().Totals.ParticipantMS, int64(17_000))
}

func TestSettleWaitsForProof(t *testing.T) {
	b := newBooks(t)
	b.must(b.report(1, usage.Session{ID: "s1", JoinedMS: b.clock.MS(), ParticipantMS: 10}))
	settle := func(want bool) {
		t.Helper()
		got, err := b.Settle(b.ctx, roomID)
		b.must(err)
		equal(t, "closed", got, want)
	}
	settle(false) // live
	b.endRoom()
	settle(false) // its task may still run
	b.clock.Advance(2e9)
	b.stopTask()
	settle(true)
	settle(true)
	equal(t, "closed once", b.count(outbox.UsageClosed), 1)
	v := b.view()
	equal(t, "totals", v.Totals, control.LedgerTotals{
		ParticipantMS: 2010, Sessions: 1, PeakParticipants: 1, TaskMSRaw: 2000, TaskSBillable: 60,
	})
	equal(t, "view", fmt.Sprint(v.Status, v.ExternalID, v.ClosedMS == b.clock.MS(), v.Epochs[0].CountsFrom), "closedx-1trueheartbeat")
}

// TestSettleAgainstLateReports: the record that closes is the one that was counted,
// whoever comes first; a hundred times.
func TestSettleAgainstLateReports(t *testing.T) {
	late := 0
	for i := range 100 {
		b := newBooks(t)
		at := b.clock.MS()
		open := usage.Session{ID: "s1", JoinedMS: at, ParticipantMS: 10_000}
		b.clock.Advance(10e9)
		b.must(b.report(1, open))
		b.clock.Advance(5e9)
		b.stopTask()
		b.endRoom()
		var wg sync.WaitGroup
		var errs [4]error
		for j := range 3 {
			wg.Go(func() { _, errs[j] = b.Settle(b.ctx, roomID) })
		}
		wg.Go(func() {
			open.ParticipantMS, open.LeftMS = 14_000, at+14_000
			errs[3] = b.report(2, open)
		})
		wg.Wait()
		b.must(errors.Join(errs[:]...))
		v := b.view()
		sum := v.Participants[0].MS
		if v.Status != StatusClosed || v.Totals.ParticipantMS != sum || sum != 15_000 && sum != 14_000 {
			t.Fatalf("round %d: %s with %d ms, its session has %d", i, v.Status, v.Totals.ParticipantMS, sum)
		}
		if sum == 14_000 {
			late++
		}
		corrected := v.Totals.ParticipantMS
		for _, c := range v.Corrections {
			corrected += c.Totals.ParticipantMS
		}
		equal(t, "record and corrections", corrected, int64(14_000))
		equal(t, "closed once", b.count(outbox.UsageClosed), 1)
	}
	t.Logf("the late report came in time %d times of 100", late)
}

// beforeClose is a store in which something happens just before the commit that
// closes a ledger.
type beforeClose struct {
	control.Store
	do func()
}

func (s *beforeClose) Commit(ctx context.Context, writes ...store.Write) error {
	for _, w := range writes {
		if do := s.do; do != nil && w.Op == store.Put && w.Item.Kind == "event" {
			e, err := control.Decode[control.Event](w.Item)
			if err == nil && e.Type == outbox.UsageClosed {
				s.do = nil
				do()
			}
		}
	}
	return s.Store.Commit(ctx, writes...)
}

// TestReportBetweenCountingAndClosing: a report that is stored after the close has
// read the epochs, and before it commits, is in the closed record.
func TestReportBetweenCountingAndClosing(t *testing.T) {
	b := newBooks(t)
	gone := usage.Session{ID: "s1", JoinedMS: b.clock.MS(), LeftMS: b.clock.MS() + 10, ParticipantMS: 10}
	b.must(b.report(1, gone))
	b.stopTask()
	b.endRoom()
	closer := *b.Ledger
	closer.Store = &beforeClose{Store: b.store, do: func() {
		gone.ParticipantMS = 25
		b.must(b.report(2, gone))
	}}
	closed, err := closer.Settle(b.ctx, roomID)
	b.must(err)
	v := b.view()
	equal(t, "closed with the last report", fmt.Sprint(closed, v.Totals.ParticipantMS, v.Participants[0].MS), "true 25 25")
	equal(t, "closed once", b.count(outbox.UsageClosed), 1)
}
