package system_test

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"mayfly/shared/signal"
	"mayfly/test/robot"
	"mayfly/test/system"
)

func needWhole(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts the real programs: not in the short run")
	}
}

func join(t *testing.T, s *system.System, ticket string) *robot.Robot {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := robot.Join(ctx, robot.Config{WS: s.WS, Ticket: ticket})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// watch asks a robot's room for a participant's camera in some seat.
func watch(t *testing.T, r *robot.Robot, rev uint64, source string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	v := signal.View{Rev: rev, Wants: []signal.Want{{Source: source, Width: 640, Height: 360}}}
	if err := r.Send(ctx, signal.TypeView, v); err != nil {
		t.Fatal(err)
	}
}

// received sums up what a robot got over all seats.
func received(r *robot.Robot) (audio, video int64) {
	return r.Received()
}

func TestRoomFromPostToBill(t *testing.T) {
	needWhole(t)
	s := system.Start(t)
	room := s.Create([]string{"ann", "bob", "cat"}, nil)
	began := time.Now()
	ann := join(t, s, room.Participants[0].Ticket)
	annSince := time.Now()
	bob := join(t, s, room.Participants[1].Ticket)
	bobSince := time.Now()
	t.Logf("first join %v after the create", annSince.Sub(began))
	watch(t, bob, 2, ann.Joined.Participant+"/camera")
	watch(t, ann, 2, bob.Joined.Participant+"/camera")
	system.Until(t, 10*time.Second, "both hear and see", func() bool {
		aa, av := received(ann)
		ba, bv := received(bob)
		return aa > 50 && av > 100 && ba > 50 && bv > 100
	})
	cat := join(t, s, room.Participants[2].Ticket) // late
	catSince := time.Now()
	watch(t, cat, 2, ann.Joined.Participant+"/camera")
	system.Until(t, 10*time.Second, "a late joiner hears and sees", func() bool { a, v := received(cat); return a > 100 && v > 100 })

	var want time.Duration
	for _, p := range []struct {
		r     *robot.Robot
		since time.Time
	}{{ann, annSince}, {bob, bobSince}, {cat, catSince}} {
		if err := p.r.Leave(); err != nil {
			t.Errorf("leave: %v", err)
		}
		want += time.Since(p.since)
	}
	left := time.Now()
	system.Until(t, 7*time.Second, "the room has ended by itself", func() bool { return s.State(room.ID) == "ended" && len(s.TaskPIDs(room.ID)) == 0 })
	t.Logf("ended %v after the last leave", time.Since(left))
	var u system.Usage
	system.Until(t, 5*time.Second, "the ledger is closed", func() bool { u = s.Usage(room.ID); return u.Status == "closed" })
	if got := time.Duration(u.Totals.ParticipantMS) * time.Millisecond; (got - want).Abs() > time.Second {
		t.Errorf("%v of participant time, the script counted %v", got, want)
	}
	if len(u.Participants) != 3 || len(u.Epochs) != 1 || u.Epochs[0].ExitCode == nil || *u.Epochs[0].ExitCode != 0 {
		t.Errorf("usage %+v", u)
	}
	for _, p := range u.Participants {
		if p.LeaveReason != signal.ReasonLeft || p.Transport != "udp" {
			t.Errorf("session %+v", p)
		}
	}
}

func TestKilledTaskIsReplacedAndBothEpochsAreBilled(t *testing.T) {
	needWhole(t)
	s := system.Start(t)
	room := s.Create([]string{"ann"}, nil)
	ann := join(t, s, room.Participants[0].Ticket)
	system.Until(t, 10*time.Second, "a room task runs", func() bool { return len(s.TaskPIDs(room.ID)) == 1 })
	pid := s.TaskPIDs(room.ID)[0]
	killed := time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	resume := ann.Joined.Resume
	_ = ann.Vanish()
	var back *robot.Robot
	system.Until(t, 5*time.Second, "the participant is back", func() bool {
		// A join that was sent to the task in its last breath is never answered: try again, as client.js does.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		r, err := robot.Join(ctx, robot.Config{WS: s.WS, Resume: resume})
		if err == nil && r.Joined.Epoch == 2 {
			back = r
			return true
		}
		if err == nil { // the old epoch's last breath: the secret has rotated
			resume = r.Joined.Resume
			_ = r.Vanish()
		}
		return false
	})
	t.Logf("back %v after the kill", time.Since(killed))
	if back.Joined.Participant != ann.Joined.Participant {
		t.Errorf("came back as %s, was %s", back.Joined.Participant, ann.Joined.Participant)
	}
	if err := back.Leave(); err != nil {
		t.Error(err)
	}
	var u system.Usage
	system.Until(t, 10*time.Second, "the ledger is closed", func() bool { u = s.Usage(room.ID); return u.Status == "closed" })
	if len(u.Epochs) != 2 || *u.Epochs[0].ExitCode != 137 || *u.Epochs[1].ExitCode != 0 {
		t.Errorf("usage %+v", u)
	}
	sessions := map[int]int{}
	for _, p := range u.Participants {
		sessions[p.Epoch]++
		if p.Bounded != (p.Epoch == 1) {
			t.Errorf("only the killed epoch's session is bounded: %+v", p)
		}
	}
	// A second join in the old task's last breath is a session of its own.
	if sessions[1] < 1 || sessions[2] != 1 {
		t.Errorf("sessions of each epoch: %v, in %+v", sessions, u)
	}
}

func TestHundredCreatesWithOneKeyMakeOneRoom(t *testing.T) {
	needWhole(t)
	s := system.Start(t)
	var wg sync.WaitGroup
	ids := make(chan string, 100)
	body := map[string]any{"external_id": "lesson-7", "participants": []map[string]any{{"identity": "ann"}}}
	for range 100 {
		wg.Go(func() {
			for try := 0; ; try++ {
				var room system.Room
				status, err := s.Call("POST", "/v1/rooms", body, &room, "Idempotency-Key", "one")
				switch {
				case err == nil && (status == 200 || status == 201):
					ids <- room.ID
					return
				case err == nil && (status == 409 || status == 429) && try < 50: // in flight: as a client would
					<-time.After(50 * time.Millisecond)
				default:
					ids <- fmt.Sprintf("%d %v", status, err)
					return
				}
			}
		})
	}
	wg.Wait()
	close(ids)
	seen := map[string]int{}
	for id := range ids {
		seen[id]++
	}
	if len(seen) != 1 {
		t.Fatalf("rooms %v", seen)
	}
	system.Until(t, 10*time.Second, "one task", func() bool { return len(s.TaskPIDs("")) == 1 })
	body["external_id"] = "lesson-8"
	var problem system.Room
	if status, err := s.Call("POST", "/v1/rooms", body, &problem, "Idempotency-Key", "one"); err != nil || status != 422 {
		t.Errorf("same key, other body: %d %v", status, err)
	}
	var list struct {
		Rooms []system.Room `json:"rooms"`
	}
	if status, err := s.Call("GET", "/v1/rooms", nil, &list); err != nil || status != 200 || len(list.Rooms) != 1 {
		t.Errorf("list: %d %v %+v", status, err, list)
	}
}

func TestThousandAnonymousCallsStartNothing(t *testing.T) {
	needWhole(t)
	s := system.Start(t)
	var wg sync.WaitGroup
	wrong := make(chan int, 1000)
	for i := range 20 {
		wg.Go(func() {
			for range 50 {
				auth := []string{"", "Bearer rk_test_wrong", "Basic YTpi", "Bearer "}[i%4]
				status, err := s.Call("POST", "/v1/rooms", map[string]any{}, nil, "Authorization", auth)
				if err != nil || status != 401 && status != 429 {
					wrong <- status
				}
			}
		})
	}
	wg.Wait()
	close(wrong)
	for status := range wrong {
		t.Errorf("an anonymous create was answered %d", status)
	}
	if pids := s.TaskPIDs(""); len(pids) != 0 {
		t.Errorf("tasks run: %v", pids)
	}
}
