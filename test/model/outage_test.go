package model

import (
	"testing"
	"testing/cryptotest"

	"mayfly/functions/control"
)

// TestFiveMinutesWithout lives through MAYFLY_OUTAGES worlds (12) for each service in which
// nothing goes wrong but that the service is out for five minutes. Whatever holds in every
// world holds; and besides, a room that was being served stays with its task, whose figures
// are its own to the last: nothing about it is inferred.
func TestFiveMinutesWithout(t *testing.T) {
	most := number(t, "MAYFLY_OUTAGES", 12)
	for s := range services {
		t.Run(s.String(), func(t *testing.T) {
			served, sessions, ended := 0, 0, 0
			for seed := range most {
				a, b, c := withoutService(t, seed, s)
				served, sessions, ended = served+a, sessions+b, ended+c
			}
			t.Logf("%d rooms were served when it began, %d of their tasks ended before it was over; %d sessions", served, ended, sessions)
			if served == 0 || sessions == 0 {
				t.Error("nobody was there to be spared")
			}
		})
	}
}

// withoutService lives through one world, and counts the rooms that were served when the
// outage began, the sessions at their tasks, and the tasks that ended before it was over.
func withoutService(t *testing.T, seed uint64, s service) (served, sessions, ended int) {
	t.Helper()
	cryptotest.SetGlobalRandom(t, seed)
	w, err := New(Scene(seed), nil)
	if err != nil {
		t.Fatal(err)
	}
	w.Trace()
	from := w.now + 10_000 + int64(seed%24)*5_000 //nolint:gosec // a handful
	w.takeAway(s, from)
	at := map[*roomFacts]*roomTask{} // who served when the outage began
	w.in(from-w.now, func() {
		for _, r := range w.order {
			if r.serving != nil {
				at[r] = r.serving
			}
		}
	})
	if err := w.Run(); err != nil {
		t.Errorf("seed %d: %v", seed, err)
		for _, line := range w.History() {
			t.Log(line)
		}
		return 0, 0, 0
	}
	for r, p := range at {
		b := w.books(r)
		served++
		if b.room.Epoch != p.t.epoch || p.t.task.ExitCode == nil || *p.t.task.ExitCode != 0 {
			t.Errorf("seed %d: room %d was served by task %s, and is in epoch %d", seed, r.n, p.t.label, b.room.Epoch)
		}
		if b.ledger.Quality != control.QualityExact || len(b.corrections) != 0 {
			t.Errorf("seed %d: room %d: the bill is %s, with %d corrections", seed, r.n, b.ledger.Quality, len(b.corrections))
		}
		for _, u := range b.sessions {
			if u.Bounded {
				t.Errorf("seed %d: room %d: session %+v", seed, r.n, u)
			}
			sessions += b2i(!u.NotTaken)
		}
		if p.t.task.StoppedMS < from+300_000 {
			ended++
		}
	}
	return served, sessions, ended
}
