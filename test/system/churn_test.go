package system_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"mayfly/test/robot"
	"mayfly/test/system"
)

// TestManyComeAndGoAtOnce has forty people join one room side by side, leave, come
// back with their resume secrets and leave again, each in its own time.
func TestManyComeAndGoAtOnce(t *testing.T) {
	needWhole(t)
	const people, stays = 40, 2
	s := system.Start(t)
	names := make([]string, people)
	for i := range names {
		names[i] = fmt.Sprint("robot-", i)
	}
	room := s.Create(names, map[string]any{"max_participants": people, "empty_timeout_s": 5})
	anchor := s.Create([]string{"other"}, nil) // a second room that must not notice
	aside := visit{asked: time.Now()}
	other := join(t, s, anchor.Participants[0].Ticket)
	aside.joined = time.Now()

	visits := make([][stays]visit, people)
	var wg sync.WaitGroup
	began := time.Now()
	for i, p := range room.Participants {
		wg.Go(func() {
			cfg := robot.Config{WS: s.WS, Ticket: p.Ticket, Mute: i%10 != 0, Seats: 1}
			for n := range stays {
				v := &visits[i][n]
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				v.asked = time.Now()
				r, err := robot.Join(ctx, cfg)
				cancel()
				if err != nil {
					t.Errorf("robot %d, stay %d: %v", i, n, err)
					return
				}
				v.joined = time.Now()
				if r.Joined.Participant != p.ParticipantID {
					t.Errorf("robot %d is %s, was promised %s", i, r.Joined.Participant, p.ParticipantID)
				}
				<-time.After(time.Duration(500+50*(i%20)) * time.Millisecond)
				if err := r.Leave(); err != nil {
					t.Errorf("robot %d, stay %d: %v", i, n, err)
				}
				v.left = time.Now()
				cfg.Ticket, cfg.Resume = "", r.Joined.Resume
			}
		})
	}
	wg.Wait()
	t.Logf("%d stays in %v", people*stays, time.Since(began))
	if err := other.Leave(); err != nil {
		t.Errorf("the other room: %v", err)
	}
	aside.left = time.Now()
	u := settled(t, s, room.ID, 15*time.Second)
	t.Logf("settled %v after the last leave", time.Since(aside.left))
	var all []visit
	for _, v := range visits {
		all = append(all, v[:]...)
	}
	plausible(t, room.ID, u, all)
	if len(u.Epochs) != 1 {
		t.Errorf("%d epochs", len(u.Epochs))
	}
	plausible(t, anchor.ID, settled(t, s, anchor.ID, 15*time.Second), []visit{aside})
}
