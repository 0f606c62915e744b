package ledger

import (
	"testing"

	"mayfly/functions/control"
	"mayfly/shared/signal"
)

// TestJoinThatTheTaskDidNotTake: two functions, whose clocks are apart, noted the join
// and the task's final report. What the report does not name was not there, if the task
// ended by itself.
func TestJoinThatTheTaskDidNotTake(t *testing.T) {
	for _, tt := range []struct {
		name     string
		exit     int
		admitted int64 // after the final report, in ms
		taken    bool
	}{
		{"before", signal.ExitEnded, -1, false},
		{"before, by another clock", signal.ExitEnded, 30_000, false},
		{"handed over, by another clock", signal.ExitTerminated, 30_000, false},
		{"after", signal.ExitEnded, 60_000, true},
		{"the task was killed", 137, 5_000, true},
		{"the task was killed, and the join came before", 137, -1, false},
	} {
		const at = 1_000_000
		e := &control.Epoch{Final: true, ReportSeq: 9, ReportMS: at, ReportedMS: at, Stopped: true}
		e.Task.ExitCode, e.Task.StoppedMS = &tt.exit, at+70_000
		s := &control.Session{AdmittedMS: at + tt.admitted}
		infer(e, s)
		if s.NotTaken == tt.taken || s.Bounded != tt.taken {
			t.Errorf("%s: not taken %v, bounded %v", tt.name, s.NotTaken, s.Bounded)
		}
	}
}
