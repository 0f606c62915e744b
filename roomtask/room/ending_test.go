package room

import (
	"testing"
	"time"

	"mayfly/shared/signal"
)

func TestVerdict(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	limits := signal.RoomLimits{UnusedTimeoutS: 300, EmptyTimeoutS: 20, MaxDurationS: 3600, EndsAtMS: start.Add(time.Hour).UnixMilli()}
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	for _, c := range []struct {
		name   string
		s      situation
		reason string
		final  bool
		end    bool
	}{
		{"never joined, waiting", situation{now: at(299)}, signal.ReasonUnused, false, false},
		{"never joined, too long", situation{now: at(300)}, signal.ReasonUnused, false, true},
		{"somebody is here", situation{now: at(3000), present: 1}, "", false, false},
		{"emptied, waiting", situation{now: at(119), emptySince: at(100)}, signal.ReasonEmpty, false, false},
		{"emptied, too long", situation{now: at(120), emptySince: at(100)}, signal.ReasonEmpty, false, true},
		{"came back", situation{now: at(500), emptySince: at(100), present: 1}, "", false, false},
		{"later epoch waits for those before", situation{now: at(29), joinedBefore: true}, signal.ReasonEmpty, false, false},
		{"later epoch, nobody came back", situation{now: at(30), joinedBefore: true}, signal.ReasonEmpty, false, true},
		{"at the end of its time, occupied", situation{now: at(3600), present: 3}, signal.ReasonMaxDuration, true, true},
		{"told to", situation{now: at(1), present: 3, told: signal.ReasonDeleted}, signal.ReasonDeleted, true, true},
		{"must go now", situation{now: at(1), present: 3, terminated: true}, signal.ReasonTerminated, true, true},
		{"hands over", situation{now: at(85), present: 3, handing: at(1)}, "", false, false},
		{"hands over, all have moved", situation{now: at(2), handing: at(1)}, signal.ReasonTerminated, true, true},
		{"hands over, too long", situation{now: at(86), present: 3, handing: at(1)}, signal.ReasonTerminated, true, true},
		{"told to, then SIGTERM", situation{now: at(1), told: signal.ReasonDeleted, terminated: true}, signal.ReasonDeleted, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.s.registeredAt, c.s.limits = start, limits
			reason, final, end := c.s.verdict()
			if end != c.end || final != c.final || reason != c.reason {
				t.Errorf("got %q final=%v end=%v, want %q final=%v end=%v", reason, final, end, c.reason, c.final, c.end)
			}
		})
	}
}
