package system_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"mayfly/test/robot"
	"mayfly/test/system"
)

// atOnce is how many rooms live at the same time.
const atOnce = 6

// lives is how many rooms TestLivesOfTheRealPrograms lives through: MAYFLY_CHAOS, or a few.
func lives(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("MAYFLY_CHAOS"))
	if err != nil || n <= 0 {
		return atOnce
	}
	return n
}

// TestLivesOfTheRealPrograms lives through rooms while signalling messages and ECS's
// events are lost, doubled and overtaken, room tasks are killed, and mayfly local itself
// is killed and started again on its file. Then the table and the fleet's journal are
// compared, to the millisecond.
func TestLivesOfTheRealPrograms(t *testing.T) {
	needWhole(t)
	n := lives(t)
	s := system.Start(t, "-chaos", "0.1", "-seed", fmt.Sprint(time.Now().UnixNano()%1000), "-max-rooms", "500")
	began := time.Now()
	next := make(chan int)
	var wg sync.WaitGroup
	var host sync.RWMutex // held by whoever needs the host's process to be one and the same
	for range atOnce {
		wg.Go(func() {
			for i := range next {
				life(t, s, i, &host)
			}
		})
	}
	kills := 0
	for i := range n {
		next <- i
		if i%20 == atOnce-2 {
			host.Lock()
			s.Restart(syscall.SIGKILL)
			host.Unlock()
			kills++
		}
	}
	close(next)
	wg.Wait()
	t.Logf("%d lives, mayfly local killed %d times: %v", n, kills, time.Since(began).Round(time.Second))
	system.Until(t, time.Minute, "no task is left", func() bool { return len(s.TaskPIDs("")) == 0 })
	system.Until(t, 2*time.Minute, "every room is final", func() bool { return open(s) == 0 })
	system.Until(t, time.Minute, "every ledger is closed", func() bool { return closed(s) == n })
	s.Stop()
	sum := s.Audit()
	t.Logf("at rest %v after the start: %+v", time.Since(began).Round(time.Second), sum)
	if sum.Rooms != n || sum.Tasks < n {
		t.Errorf("%d rooms and %d tasks, want %d", sum.Rooms, sum.Tasks, n)
	}
}

// open counts the rooms that are not final; a host that does not answer has some.
func open(s *system.System) int {
	left := 0
	for _, state := range []string{"requested", "starting", "live", "draining"} {
		var list struct{ Rooms []system.Room }
		if status, err := s.Call("GET", "/v1/rooms?limit=100&state="+state, nil, &list); err != nil || status != http.StatusOK {
			return 1
		}
		left += len(list.Rooms)
	}
	return left
}

// closed counts today's bills.
func closed(s *system.System) int {
	var report struct {
		Rows []struct {
			Rooms int `json:"rooms"`
		} `json:"rows"`
	}
	now := time.Now().UTC()
	path := fmt.Sprintf("/v1/usage?from=%s&to=%s&group_by=tenant", now.AddDate(0, 0, -1).Format(time.DateOnly), now.AddDate(0, 0, 1).Format(time.DateOnly))
	if status, err := s.Call("GET", path, nil, &report); err != nil || status != http.StatusOK {
		return -1
	}
	n := 0
	for _, r := range report.Rows {
		n += r.Rooms
	}
	return n
}

// life is one room: it is created, somebody comes, its task may be killed or the room
// deleted, and everybody goes.
func life(t *testing.T, s *system.System, i int, host *sync.RWMutex) {
	rng := rand.New(rand.NewPCG(uint64(i), 42)) //nolint:gosec // counts
	var room system.Room
	body := map[string]any{
		"empty_timeout_s": 1, "unused_timeout_s": 5, "max_duration_s": 90,
		"participants": []map[string]any{{"identity": "ann"}, {"identity": "bob"}},
	}
	again(t, "create", func() bool {
		status, err := s.Call("POST", "/v1/rooms", body, &room, "Idempotency-Key", fmt.Sprintf("life-%s-%d", t.Name(), i))
		return err == nil && status == http.StatusCreated
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1500+rng.IntN(3000))*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	for _, who := range room.Participants[:1+rng.IntN(2)] {
		wg.Go(func() { stay(ctx, s, who.Ticket) })
	}
	<-time.After(time.Duration(300+rng.IntN(1500)) * time.Millisecond)
	switch rng.IntN(4) {
	case 0:
		host.RLock()
		for _, pid := range s.TaskPIDs(room.ID) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
		host.RUnlock()
	case 1:
		again(t, "delete", func() bool {
			status, err := s.Call("DELETE", "/v1/rooms/"+room.ID, nil, nil)
			return err == nil && status < 300
		})
	}
	wg.Wait()
}

// again repeats a request until it is answered well: the host may be down.
func again(t *testing.T, what string, ok func() bool) {
	for end := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(end) {
			t.Errorf("%s is not answered", what)
			return
		}
		<-time.After(200 * time.Millisecond)
	}
}

// stay is in the room until ctx ends, and comes back when its place is lost.
func stay(ctx context.Context, s *system.System, ticket string) {
	cfg := robot.Config{WS: s.WS, Ticket: ticket, SoundOnly: true, Seats: 1, Repeat: time.Second}
	for ctx.Err() == nil {
		r, err := robot.Join(ctx, cfg)
		if err != nil {
			<-time.After(200 * time.Millisecond)
			continue
		}
		cfg.Ticket, cfg.Resume = "", r.Joined.Resume
		select {
		case <-ctx.Done():
			_ = r.Leave() // its task may be gone
			return
		case <-r.Gone():
			_ = r.Vanish() // what it had is gone
		}
	}
}
