package ledger

import (
	"testing"

	"mayfly/functions/control"
	"mayfly/shared/signal"
	"mayfly/shared/usage"
)

// TestJoinThatTheTaskDidNotTake: two functions, whose clocks are apart, noted the join
// and the task's final report. What the report does not name was not there, if the task
// ended by itself.
func TestJoinThatTheTaskDidNotTake(t *testing.T) {
	for _, tt := range []struct {
		name     string
		exit     int
		admitted int64 // after the final report, in ms
		join     uint64
		taken    bool
	}{
		{"before", signal.ExitEnded, -1, 0, false},
		{"before, by another clock", signal.ExitEnded, 30_000, 4, false},
		{"handed over, by another clock", signal.ExitTerminated, 30_000, 4, false},
		{"after", signal.ExitEnded, 60_000, 4, true},
		{"the task was killed", 137, 5_000, 0, true},
		{"the task was killed, and the join came before", 137, -1, 0, false},
		{"the room was kept for the join, and its task killed", 137, -1_500, 4, true},
		{"the task knew of the join, and was killed", 137, 20_000, 3, false},
	} {
		const at = 1_000_000
		e := &control.Epoch{Final: true, ReportSeq: 9, ReportMS: at, ReportedMS: at, Stopped: true, FinalJoins: 3}
		e.Task.ExitCode, e.Task.StoppedMS = &tt.exit, at+70_000
		s := &control.Session{AdmittedMS: at + tt.admitted, JoinSeq: tt.join}
		infer(e, s)
		if s.NotTaken == tt.taken || s.Bounded != tt.taken {
			t.Errorf("%s: not taken %v, bounded %v", tt.name, s.NotTaken, s.Bounded)
		}
	}
}

// TestInferredEndIsNotAfterTheTask: the function that took the last report had a clock
// that was behind, which is no reason to bill beyond the task's end.
func TestInferredEndIsNotAfterTheTask(t *testing.T) {
	const at = 1_000_000
	for _, tt := range []struct{ reported, stopped, left int64 }{
		{at - 20_000, at + 4_000, at + 4_000},
		{at, at + 4_000, at + 4_000},
		{at + 3_000, at + 4_000, at + 1_000},
		{at + 20_000, at + 4_000, at},
		{at, at + 60_000, at + 10_000},
	} {
		e := &control.Epoch{ReportSeq: 3, ReportMS: at, ReportedMS: tt.reported, Stopped: true}
		e.Task.StoppedMS = tt.stopped
		s := &control.Session{Seq: 3}
		s.JoinedMS, s.ParticipantMS = at-7_000, 7_000
		infer(e, s)
		if s.LeftMS != tt.left || s.ParticipantMS != 7_000+tt.left-at {
			t.Errorf("reported at %d, stopped at %d: left at %d after %d ms", tt.reported-at, tt.stopped-at, s.LeftMS-at, s.ParticipantMS)
		}
	}
}

// TestFinalReportAfterTheProof: the task's last report was overtaken by ECS's word. A
// join that it does not name was taken for one that nobody had heard of yet, and is not
// billed once it has come.
func TestFinalReportAfterTheProof(t *testing.T) {
	b := newBooks(t)
	b.put(&control.Session{Room: roomID, Epoch: 1, Session: usage.Session{ID: "s1", Participant: "p1"}, AdmittedMS: b.clock.MS()})
	b.clock.Advance(2e9)
	e, err := control.Load[control.Epoch](b.ctx, b.store, control.EpochKey(roomID, 1))
	if err != nil {
		t.Fatal(err)
	}
	code := signal.ExitEnded
	e.Stopped, e.StoppedFrom, e.Task.StoppedMS, e.Task.ExitCode = true, control.FromEvent, b.clock.MS(), &code
	b.put(e)
	if err := b.Bound(b.ctx, roomID, 1); err != nil {
		t.Fatal(err)
	}
	session := func() *control.Session {
		s, err := control.Load[control.Session](b.ctx, b.store, control.SessionKey(roomID, 1, "s1"))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := session(); !s.Bounded || s.ParticipantMS != 2000 {
		t.Fatalf("inferred %+v", s)
	}
	if err := b.Report(b.ctx, roomID, 1, taskID, 0, usage.Report{Seq: 4, AtMS: b.clock.MS(), Final: true}); err != nil {
		t.Fatal(err)
	}
	if s := session(); !s.NotTaken || s.ParticipantMS != 0 || s.ExtraMS != 0 {
		t.Errorf("after the last report %+v", s)
	}
}

// TestFinalReportIsOvertaken: a task that waits for the answer to its last report sends
// heartbeats as well. In whatever order they come, the report is the last one as long as
// no session began after it, and the join that it does not name was not taken.
func TestFinalReportIsOvertaken(t *testing.T) {
	report := func(seq uint64, sessions int64, final bool) usage.Report {
		return usage.Report{Seq: seq, AtMS: int64(seq), Final: final, Totals: usage.Totals{Sessions: sessions}}
	}
	for _, tt := range []struct {
		name    string
		reports []usage.Report
		final   bool
	}{
		{"in order", []usage.Report{report(16, 2, true), report(18, 2, false)}, true},
		{"overtaken", []usage.Report{report(18, 2, false), report(16, 2, true)}, true},
		{"overtaken, and come twice", []usage.Report{report(18, 2, false), report(16, 2, true), report(16, 2, true)}, true},
		{"a session began after it", []usage.Report{report(16, 2, true), report(18, 3, false)}, false},
		{"a session began after it, overtaken", []usage.Report{report(18, 3, false), report(16, 2, true)}, false},
		{"a heartbeat overtaken by another", []usage.Report{report(18, 2, false), report(16, 2, false)}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBooks(t)
			b.put(&control.Session{Room: roomID, Epoch: 1, Session: usage.Session{ID: "s9", Participant: "p9"}, AdmittedMS: b.clock.MS()})
			for _, rep := range tt.reports {
				if err := b.Report(b.ctx, roomID, 1, taskID, 0, rep); err != nil {
					t.Fatal(err)
				}
			}
			e, err := control.Load[control.Epoch](b.ctx, b.store, control.EpochKey(roomID, 1))
			if err != nil {
				t.Fatal(err)
			}
			if e.Final != tt.final || e.ReportSeq != 18 || e.ReportMS != 18 {
				t.Fatalf("final %v, report %d of %d; want %v, 18 of 18", e.Final, e.ReportSeq, e.ReportMS, tt.final)
			}
			code := signal.ExitEnded
			e.Stopped, e.StoppedFrom, e.Task.ExitCode, e.Task.StoppedMS = true, control.FromEvent, &code, b.clock.MS()+3000
			b.put(e)
			if err := b.Bound(b.ctx, roomID, 1); err != nil {
				t.Fatal(err)
			}
			s, err := control.Load[control.Session](b.ctx, b.store, control.SessionKey(roomID, 1, "s9"))
			if err != nil {
				t.Fatal(err)
			}
			if s.NotTaken != tt.final || (s.ExtraMS == 0) != tt.final {
				t.Errorf("not taken %v, %d ms inferred", s.NotTaken, s.ExtraMS)
			}
		})
	}
}

// TestFinalReportAfterTheClose: a record was closed without the task's last report. A
// join that it does not name was billed up to the task's end, and is taken off.
func TestFinalReportAfterTheClose(t *testing.T) {
	for _, tt := range []struct {
		name  string
		rep   usage.Report
		bills int64 // participant ms in the end
	}{
		{"it does not name the join", usage.Report{Seq: 4, Final: true}, 0},
		{"it is not the last one", usage.Report{Seq: 4}, 2000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBooks(t)
			b.admit("s1")
			b.clock.Advance(2e9)
			code := signal.ExitEnded
			e, err := control.Load[control.Epoch](b.ctx, b.store, control.EpochKey(roomID, 1))
			b.must(err)
			e.Stopped, e.StoppedFrom, e.Task.StoppedMS, e.Task.ExitCode = true, control.FromEvent, b.clock.MS(), &code
			b.put(e)
			b.endRoom()
			closed, err := b.Settle(b.ctx, roomID)
			b.must(err)
			equal(t, "closed", closed, true)
			equal(t, "billed at first", b.view().Totals.ParticipantMS, int64(2000))
			tt.rep.AtMS = b.clock.MS() - 500
			for range 2 { // it may come twice
				b.must(b.Report(b.ctx, roomID, 1, taskID, 0, tt.rep))
			}
			corrections, err := control.LoadAll[control.Correction](b.ctx, b.store, control.RoomPK(roomID), control.CorrectionPrefix)
			b.must(err)
			ms := b.view().Totals.ParticipantMS
			for _, c := range corrections {
				ms += c.Totals.ParticipantMS
			}
			equal(t, "billed in the end", ms, tt.bills)
			equal(t, "corrections", len(corrections), map[bool]int{true: 1, false: 0}[tt.bills == 0])
		})
	}
}
