package system_test

import (
	"os"
	"testing"
	"time"

	"mayfly/test/system"
)

// outageLength is MAYFLY_OUTAGE, or a moment.
func outageLength(t *testing.T, moment time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv("MAYFLY_OUTAGE")
	if text == "" {
		return moment
	}
	long, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return long
}

// TestCallsOutliveAnOutage stops the process of everything but the room tasks, for
// MAYFLY_OUTAGE (five minutes) or a moment: no table, no gateway, no events, nobody who
// answers. Whoever talks goes on talking, and not a second of it is missing from the bill.
func TestCallsOutliveAnOutage(t *testing.T) {
	needWhole(t)
	long := outageLength(t, 3*time.Second)
	s := system.Start(t)
	room := s.Create([]string{"ann", "bob"}, nil)
	began := time.Now()
	ann, bob := join(t, s, room.Participants[0].Ticket), join(t, s, room.Participants[1].Ticket)
	both := time.Now()
	system.Until(t, 10*time.Second, "both hear", func() bool {
		a, _ := received(ann)
		b, _ := received(bob)
		return a > 50 && b > 50
	})
	s.Freeze(true)
	a0, _ := received(ann)
	b0, _ := received(bob)
	<-time.After(long)
	a1, _ := received(ann)
	b1, _ := received(bob)
	s.Freeze(false)
	// Sound is 50 packets a second; the machine may be busy.
	if least := int64(long.Seconds() * 45); a1-a0 < least || b1-b0 < least {
		t.Errorf("during the outage ann heard %d packets and bob %d, want %d", a1-a0, b1-b0, least)
	}
	if len(s.TaskPIDs(room.ID)) != 1 {
		t.Errorf("tasks %v, want the one", s.TaskPIDs(room.ID))
	}
	for _, r := range []interface{ Leave() error }{ann, bob} {
		if err := r.Leave(); err != nil {
			t.Error(err)
		}
	}
	least, most := 2*time.Since(both), 2*time.Since(began)
	u := settled(t, s, room.ID, settleLimit)
	got := time.Duration(u.Totals.ParticipantMS) * time.Millisecond
	if got < least-time.Second || got > most || len(u.Epochs) != 1 {
		t.Errorf("%v of participant time in %d epochs, want %v to %v", got, len(u.Epochs), least, most)
	}
	for _, p := range u.Participants {
		if p.Bounded {
			t.Errorf("session %+v", p)
		}
	}
	t.Logf("outage of %v: ann heard %d packets, bob %d; %v billed of %v", long, a1-a0, b1-b0, got, least)
	s.Stop()
	s.Audit()
}
