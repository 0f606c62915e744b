package system_test

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"mayfly/shared/signal"
	"mayfly/test/robot"
	"mayfly/test/system"
)

// traveller is a robot that moves with its room: it joins the next task while it still
// plays at the old one.
type traveller struct {
	name, id string
	cfg      robot.Config
	here     *robot.Robot
	heard    [][]robot.Arrival // over all its connections
	overlap  time.Duration     // it was connected to both tasks
}

// move goes over to the next task, once the room says that there is one.
func (p *traveller) move(t *testing.T, everyone []string) {
	select {
	case <-p.here.Gone():
	case <-time.After(20 * time.Second):
		t.Errorf("%s was not told of the next task", p.name)
		return
	}
	old := p.here
	cfg := p.cfg
	cfg.Ticket, cfg.Resume = "", old.Joined.Resume
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	next, err := robot.Join(ctx, cfg)
	if err != nil {
		t.Errorf("%s: %v", p.name, err)
		return
	}
	next.Speak(true)
	began := time.Now()
	others := slices.DeleteFunc(slices.Clone(everyone), func(id string) bool { return id == p.id })
	for !next.Heard(others) && time.Since(began) < 4*time.Second {
		<-time.After(5 * time.Millisecond)
	}
	p.overlap = time.Since(began)
	if err := old.Send(ctx, signal.TypeLeave, signal.Leave{Reason: signal.ReasonMoved}); err != nil {
		t.Errorf("%s: %v", p.name, err)
	}
	p.here = next
	select { // the old task ends when everybody has moved
	case <-old.Closed():
	case <-time.After(5 * time.Second):
	}
	p.heard = append(p.heard, old.Arrivals())
	_ = old.Vanish() // the task has closed it
}

// TestRoomMovesWhileItPlays: a Spot interruption in a call. Nobody's sound has a gap worth
// the name, the room is live at its next task, and there is one bill for both.
func TestRoomMovesWhileItPlays(t *testing.T) {
	needWhole(t)
	s := system.Start(t)
	names := []string{"ann", "bob", "cat"}
	room := s.Create(names, nil)
	var people []*traveller
	var ids []string
	began := time.Now()
	for i, who := range room.Participants {
		p := &traveller{name: names[i], id: who.ParticipantID, cfg: robot.Config{WS: s.WS, Ticket: who.Ticket, Trace: true, SoundOnly: i > 0}}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		r, err := robot.Join(ctx, p.cfg)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		r.Speak(true)
		p.here = r
		people, ids = append(people, p), append(ids, p.id)
	}
	system.Until(t, 10*time.Second, "all hear each other", func() bool {
		return !slices.ContainsFunc(people, func(p *traveller) bool {
			return !p.here.Heard(slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id == p.id }))
		})
	})
	<-time.After(time.Second) // of undisturbed sound, to compare with
	quiet := map[string]time.Duration{}
	for _, p := range people {
		quiet[p.name] = longest(p.id, ids, p.here.Arrivals())
	}
	warned := time.Now()
	if status, err := s.Call(http.MethodPost, "/local/interrupt?room="+room.ID, nil, nil); err != nil || status != http.StatusNoContent {
		t.Fatalf("interrupt: %d %v", status, err)
	}
	var wg sync.WaitGroup
	for _, p := range people {
		wg.Go(func() { p.move(t, ids) })
	}
	wg.Wait()
	t.Logf("all have moved %v after the warning", time.Since(warned))
	<-time.After(500 * time.Millisecond)
	for _, p := range people {
		if p.here.Joined.Epoch != 2 {
			t.Errorf("%s is at epoch %d", p.name, p.here.Joined.Epoch)
		}
		p.heard = append(p.heard, p.here.Arrivals())
		gap := longest(p.id, ids, p.heard...)
		t.Logf("%s: longest gap %v, before the warning %v; at both tasks for %v", p.name, gap, quiet[p.name], p.overlap)
		if gap > max(time.Second, 2*quiet[p.name]) {
			t.Errorf("%s heard nothing for %v", p.name, gap)
		}
	}
	if state := s.State(room.ID); state != "live" {
		t.Errorf("the room is %s", state)
	}
	for _, p := range people {
		if err := p.here.Leave(); err != nil {
			t.Error(err)
		}
	}
	u := settled(t, s, room.ID, settleLimit)
	checkMoved(t, u, people, time.Since(began))
}

// longest is the longest gap in anybody's sound that one listener met.
func longest(self string, ids []string, received ...[]robot.Arrival) (gap time.Duration) {
	for _, from := range ids {
		if from != self {
			d, _ := robot.Gap(from, received...)
			gap = max(gap, d)
		}
	}
	return gap
}

// checkMoved holds the record of a room that moved once.
func checkMoved(t *testing.T, u system.Usage, people []*traveller, passed time.Duration) {
	t.Helper()
	if len(u.Epochs) != 2 || *u.Epochs[0].ExitCode != signal.ExitTerminated || *u.Epochs[1].ExitCode != signal.ExitEnded {
		t.Fatalf("epochs %+v", u.Epochs)
	}
	if u.Quality != "exact" || len(u.Participants) != 2*len(people) {
		t.Errorf("%s record of %d sessions: %+v", u.Quality, len(u.Participants), u.Participants)
	}
	for _, p := range people {
		var first, second *system.Session
		for i := range u.Participants {
			if s := &u.Participants[i]; s.Participant == p.id && s.Epoch == 1 {
				first = s
			} else if s.Participant == p.id {
				second = s
			}
		}
		if first == nil || second == nil || first.LeaveReason != signal.ReasonMoved || second.LeaveReason != signal.ReasonLeft {
			t.Errorf("%s: %+v, %+v", p.name, first, second)
			continue
		}
		twice := time.Duration(first.LeftMS-second.JoinedMS) * time.Millisecond
		t.Logf("%s: counted twice for %v", p.name, twice)
		if twice > p.overlap+500*time.Millisecond || twice < -time.Second {
			t.Errorf("%s: counted at both tasks for %v, was connected to both for %v", p.name, twice, p.overlap)
		}
	}
	if sum := time.Duration(u.Totals.ParticipantMS) * time.Millisecond; sum > time.Duration(len(people))*(passed+4*time.Second) {
		t.Errorf("%v of %d participants in %v", sum, len(people), passed)
	}
}
