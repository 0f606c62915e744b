package system_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"mayfly/shared/signal"
	"mayfly/test/robot"
	"mayfly/test/system"
)

// resident joins a room and comes back whenever its task is lost, until it is told to
// leave.
type resident struct {
	stop chan struct{}

	mu     sync.Mutex
	here   *robot.Robot // guarded by mu: nil while on its way
	epochs int          // guarded by mu: the last one joined
}

// live joins with a ticket, then with resume secrets.
func (p *resident) live(t *testing.T, s *system.System, ticket string) {
	cfg := robot.Config{WS: s.WS, Ticket: ticket, Mute: true, Seats: 1, Repeat: time.Second}
	for try := 0; try < 200; try++ {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		r, err := robot.Join(ctx, cfg)
		cancel()
		if err != nil {
			select {
			case <-p.stop:
				t.Errorf("not back: %v", err)
				return
			case <-time.After(200 * time.Millisecond): // the host may be down
			}
			continue
		}
		cfg.Ticket, cfg.Resume = "", r.Joined.Resume
		p.set(r)
		select {
		case <-p.stop:
			if err := r.Leave(); err != nil {
				t.Errorf("leave: %v", err)
			}
			return
		case <-r.Gone():
			p.set(nil)
			_ = r.Vanish() // what it had is gone
		}
	}
	t.Error("200 joins, and never at rest")
}

func (p *resident) set(r *robot.Robot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.here = r; r != nil {
		p.epochs = r.Joined.Epoch
	}
}

// epoch is the epoch that the resident is in, 0 while it is on its way.
func (p *resident) epoch() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.here == nil {
		return 0
	}
	return p.epochs
}

// TestRoomsOutliveTheirTasksAndTheirHost kills tasks, the host, and stops the host
// while messages are lost; every time all come back, and everything is billed once.
func TestRoomsOutliveTheirTasksAndTheirHost(t *testing.T) {
	needWhole(t)
	s := system.Start(t, "-chaos", "0.1")
	const rooms = 4
	var people []*resident
	var ids []string
	var wg sync.WaitGroup
	for range rooms {
		room := s.Create([]string{"ann", "bob"}, nil)
		ids = append(ids, room.ID)
		for _, who := range room.Participants {
			p := &resident{stop: make(chan struct{})}
			people = append(people, p)
			wg.Go(func() { p.live(t, s, who.Ticket) })
		}
	}
	back := func(limit time.Duration, least func(room int) int, what string) {
		began := time.Now()
		system.Until(t, limit, what, func() bool {
			for i, p := range people {
				if p.epoch() < least(i/2) {
					return false
				}
			}
			return true
		})
		t.Logf("%s: %v", what, time.Since(began))
	}
	epochs := make([]int, rooms)
	at := func(more int) func(int) int {
		return func(room int) int { return epochs[room] + more }
	}
	settle := func() {
		for i := range epochs {
			epochs[i] = max(people[2*i].epoch(), people[2*i+1].epoch())
		}
	}
	back(30*time.Second, at(1), "all joined")
	settle()

	victims := rand.Perm(rooms)[:2]
	for _, v := range victims {
		for _, pid := range s.TaskPIDs(ids[v]) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}
	}
	back(30*time.Second, func(room int) int {
		if room == victims[0] || room == victims[1] {
			return epochs[room] + 1
		}
		return epochs[room]
	}, "back after two tasks were killed")
	settle()

	s.Restart(syscall.SIGKILL)
	back(30*time.Second, at(1), "back after the host was killed")
	settle()

	s.Restart(syscall.SIGTERM)
	back(30*time.Second, at(1), "back after the host was stopped")
	settle()

	for _, p := range people {
		close(p.stop)
	}
	wg.Wait()
	for i, id := range ids {
		u := settled(t, s, id, settleLimit)
		if len(u.Epochs) != epochs[i] {
			t.Errorf("room %s: %d epochs, want %d", id, len(u.Epochs), epochs[i])
		}
		for _, e := range u.Epochs {
			if !e.Stopped || e.ExitCode == nil {
				t.Errorf("room %s: epoch %d: %+v", id, e.Epoch, e)
			}
		}
		for _, p := range u.Participants {
			if p.MS < 0 || p.LeaveReason == "" || p.MS > int64(2*time.Minute/time.Millisecond) {
				t.Errorf("room %s: session %+v", id, p)
			}
		}
		if last := u.Epochs; len(last) > 0 && *last[len(last)-1].ExitCode != signal.ExitEnded {
			t.Errorf("room %s: ended with code %d", id, *last[len(last)-1].ExitCode)
		}
	}
	if pids := s.TaskPIDs(""); len(pids) != 0 {
		t.Errorf("processes left: %v", pids)
	}
}
