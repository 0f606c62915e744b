package entry

import (
	"context"
	"testing"
	"time"

	"mayfly/functions/control/controltest"
	"mayfly/shared/lifecycle"
)

const scheduled = `{"version":"0","detail-type":"Scheduled Event","source":"aws.events","detail":{}}`

// One scheduled invocation repeats a start that failed, at 12 and 24 s, and ends
// before the next invocation begins.
func TestOneInvocationSweepsUntilTheNext(t *testing.T) {
	w := newWorld(t)
	failing := true
	w.fleet.Faults = func(call string) controltest.Fault {
		if call == "start" && failing {
			return controltest.Fails
		}
		return controltest.NoFault
	}
	room := w.create()
	w.waited = func() { failing = len(w.waits) < 2 }
	began := w.clock.Now()
	w.invoke(w.lifecycle, scheduled, nil)
	if r := w.room(room.ID); r.State != lifecycle.Starting || r.Task == "" || len(w.fleet.Tasks()) != 1 {
		t.Errorf("room %s with task %q, %d tasks", r.State, r.Task, len(w.fleet.Tasks()))
	}
	if took := w.clock.Now().Sub(began); len(w.waits) != 4 || took >= time.Minute {
		t.Errorf("%d waits in %v, want 4 within the minute", len(w.waits), took)
	}
}

func TestSweepWithoutRoomsEndsAtOnce(t *testing.T) {
	w := newWorld(t)
	w.invoke(w.lifecycle, scheduled, nil)
	if len(w.waits) != 0 {
		t.Errorf("%d waits for nothing", len(w.waits))
	}
}

// timedOut is the context of an invocation that has a limit on the test's clock.
type timedOut struct {
	context.Context
	limit time.Time
}

func (c timedOut) Deadline() (time.Time, bool) { return c.limit, true }

func TestSweepLeavesTimeToItsLastPass(t *testing.T) {
	w := newWorld(t)
	w.create()
	for _, tc := range []struct {
		limit time.Duration
		waits int
	}{{16 * time.Second, 0}, {17 * time.Second, 1}, {30 * time.Second, 2}, {55 * time.Second, 4}, {time.Hour, 4}} {
		w.waits = nil
		s := w.deps.sweeper()
		if err := s.run(timedOut{t.Context(), w.clock.Now().Add(tc.limit)}); err != nil {
			t.Fatal(err)
		}
		if len(w.waits) != tc.waits {
			t.Errorf("%v: %d waits, want %d", tc.limit, len(w.waits), tc.waits)
		}
	}
}

// A pass that failed is made good by the next; a failure of the last is the
// invocation's, as is its end while it waits.
func TestSweepTellsItsLastError(t *testing.T) {
	w := newWorld(t)
	w.create()
	fails := 1
	w.fleet.Faults = func(call string) controltest.Fault {
		if call == "find" && fails > 0 {
			fails--
			return controltest.Fails
		}
		return controltest.NoFault
	}
	if err := w.deps.sweeper().run(t.Context()); err != nil || fails != 0 {
		t.Errorf("one failed pass: %v", err)
	}
	fails = 1000
	if err := w.deps.sweeper().run(t.Context()); err == nil {
		t.Error("nothing but failed passes is no error")
	}
	ended := w.deps.sweeper()
	ended.wait = pause
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	fails = 0
	if err := ended.run(ctx); err == nil {
		t.Error("a sweep that could not read is no error")
	}
}
