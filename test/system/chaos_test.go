package system_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"mayfly/shared/signal"
	"mayfly/test/robot"
	"mayfly/test/system"
)

// chaosRooms is how many rooms live at once while messages and events are lost.
const chaosRooms = 12

// settleLimit is the most that a room may need from its last leave to its closed
// ledger when events are lost: the empty timeout, the task's patience (20 s) with a
// control plane that does not answer, and a pass of the sweep; or, for an order to end
// that was lost, the next heartbeat (10 s).
const settleLimit = 30 * time.Second

// visit is one robot's stay, as the robot saw it.
type visit struct {
	asked, joined, left time.Time
}

// party lets a room's participants join, meet, and leave one after the other.
func party(t *testing.T, s *system.System, room system.Room) []visit {
	visits := make([]visit, len(room.Participants))
	var here, gone sync.WaitGroup
	here.Add(len(visits))
	for i, p := range room.Participants {
		gone.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
			defer cancel()
			visits[i].asked = time.Now()
			r, err := robot.Join(ctx, robot.Config{WS: s.WS, Ticket: p.Ticket, Mute: true, Seats: 1, Repeat: time.Second})
			visits[i].joined = time.Now()
			here.Done()
			if err != nil {
				t.Errorf("room %s: %v", room.ID, err)
				return
			}
			here.Wait()
			<-time.After(time.Duration(1+i) * time.Second) // the stay that the ledger must show
			if err := r.Leave(); err != nil {
				t.Errorf("room %s: %v", room.ID, err)
			}
			visits[i].left = time.Now()
		})
	}
	gone.Wait()
	return visits
}

// settled waits for the room's end and closed ledger, with no process left.
func settled(t *testing.T, s *system.System, room string, limit time.Duration) system.Usage {
	var u system.Usage
	var state string
	end := time.Now().Add(limit)
	for {
		if state = s.State(room); state == "ended" {
			if u = s.Usage(room); u.Status == "closed" && len(s.TaskPIDs(room)) == 0 {
				return u
			}
		}
		if time.Now().After(end) {
			t.Errorf("room %s is %q after %v, ledger %q, tasks %v", room, state, limit, u.Status, s.TaskPIDs(room))
			return u
		}
		<-time.After(200 * time.Millisecond)
	}
}

func TestRoomsSettleWhateverIsLost(t *testing.T) {
	needWhole(t)
	for seed := 1; seed <= 2; seed++ {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			t.Parallel()
			s := system.Start(t, "-chaos", "0.2", "-seed", fmt.Sprint(seed))
			var wg sync.WaitGroup
			for i := range chaosRooms {
				wg.Go(func() {
					if i%4 == 3 {
						deleted(t, s)
						return
					}
					room := s.Create([]string{"ann", "bob"}, nil)
					began := time.Now()
					visits := party(t, s, room)
					left := time.Now()
					u := settled(t, s, room.ID, settleLimit)
					t.Logf("%s: joined %v, %v, settled %v after", room.ID, visits[0].joined.Sub(began), visits[1].joined.Sub(began), time.Since(left))
					plausible(t, room.ID, u, visits)
				})
			}
			wg.Wait()
			if pids := s.TaskPIDs(""); len(pids) != 0 {
				t.Errorf("processes left: %v", pids)
			}
		})
	}
}

// deleted ends a room with one participant from outside. The order to end may be lost.
func deleted(t *testing.T, s *system.System) {
	room := s.Create([]string{"ann"}, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
	defer cancel()
	r, err := robot.Join(ctx, robot.Config{WS: s.WS, Ticket: room.Participants[0].Ticket, Mute: true, Seats: 1, Repeat: time.Second})
	if err != nil {
		t.Errorf("room %s: %v", room.ID, err)
		return
	}
	if status, err := s.Call("DELETE", "/v1/rooms/"+room.ID, nil, nil); err != nil || status >= 300 {
		t.Errorf("delete %s: %d %v", room.ID, status, err)
	}
	began := time.Now()
	u := settled(t, s, room.ID, settleLimit)
	t.Logf("%s: deleted, settled %v after", room.ID, time.Since(began))
	_ = r.Vanish() // the room has closed its path
	if len(u.Participants) != 1 || u.Participants[0].LeaveReason != signal.ReasonDeleted || u.Participants[0].Bounded {
		t.Errorf("room %s: %+v", room.ID, u)
	}
}

// plausible holds a closed ledger to what the robots saw. A session begins between the
// robot's first join and the answer that reached it.
func plausible(t *testing.T, room string, u system.Usage, visits []visit) {
	// Leaving is over when the room has closed the channel.
	slack := 300*time.Millisecond + time.Duration(len(visits))*200*time.Millisecond
	var least, most time.Duration
	for _, v := range visits {
		least += v.left.Sub(v.joined)
		most += v.left.Sub(v.asked)
	}
	got := time.Duration(u.Totals.ParticipantMS) * time.Millisecond
	if len(u.Participants) != len(visits) || got < least-slack || got > most+slack {
		t.Errorf("room %s: %d sessions of %v in all, want %d of %v to %v: %+v", room, len(u.Participants), got, len(visits), least, most, u)
	}
}
