package system_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"mayfly/test/robot"
	"mayfly/test/system"
)

// stormSize is how many robots lose their WebSocket at once; MAYFLY_STORM changes it.
func stormSize(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("MAYFLY_STORM"))
	if os.Getenv("MAYFLY_STORM") == "" {
		return 50
	}
	if err != nil || n < 2 || n > 2000 {
		t.Fatal("MAYFLY_STORM is a number from 2 to 2000")
	}
	return n
}

// TestAThousandLoseTheirWebSocket: everybody's signalling ends in one instant. Nobody's
// media notices, all are back soon, and the rooms' tasks are what they were.
func TestAThousandLoseTheirWebSocket(t *testing.T) {
	needWhole(t)
	const perRoom = 25 // 1,000 are 40 rooms; a tenant has 50 at most
	n := stormSize(t)
	s := system.Start(t)
	var robots []*robot.Robot
	var rooms []string
	for left := n; left > 0; left -= perRoom {
		names := make([]string, min(perRoom, left))
		for i := range names {
			names[i] = fmt.Sprint("p", i)
		}
		room := s.Create(names, map[string]any{"max_participants": perRoom})
		rooms = append(rooms, room.ID)
		for i, who := range room.Participants {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			r, err := robot.Join(ctx, robot.Config{WS: s.WS, Ticket: who.Ticket, SoundOnly: true, Mute: i > 0, Seats: 1, Trace: i > 0})
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			r.Speak(true)
			robots = append(robots, r)
		}
	}
	tasks := s.TaskPIDs("")
	<-time.After(2 * time.Second)
	if status, err := s.Call(http.MethodPost, "/local/cut", nil, nil); err != nil || status != http.StatusNoContent {
		t.Fatalf("cut: %d %v", status, err)
	}
	cut := time.Now()
	back := make([]time.Duration, n)
	var wg sync.WaitGroup
	for i, r := range robots {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := r.Reconnect(ctx, s.WS, rand.Float64); err != nil {
				t.Errorf("robot %d: %v", i, err)
			}
			back[i] = time.Since(cut)
		})
	}
	slowest := probe(s, &wg)
	slices.Sort(back)
	t.Logf("%d robots in %d rooms: half are back after %v, all after %v; the API answered within %v", n, len(rooms), back[n/2], back[n-1], slowest)
	if back[n-1] > 30*time.Second {
		t.Errorf("the last one is back after %v", back[n-1])
	}
	<-time.After(time.Second)
	untouched(t, robots, cut)
	if now := s.TaskPIDs(""); !slices.Equal(tasks, now) {
		t.Errorf("tasks %v became %v", tasks, now)
	}
	for _, r := range robots {
		_ = r.Vanish()
	}
}

// probe asks the API while the others are on their way, and tells the longest answer.
func probe(s *system.System, busy *sync.WaitGroup) (slowest time.Duration) {
	done := make(chan struct{})
	go func() { busy.Wait(); close(done) }()
	for {
		began := time.Now()
		_ = s.State("room_none")
		slowest = max(slowest, time.Since(began))
		select {
		case <-done:
			return slowest
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// untouched holds the sound around the cut to the sound before it: the longest gap is not
// longer than the machine's own.
func untouched(t *testing.T, robots []*robot.Robot, cut time.Time) {
	t.Helper()
	var before, after time.Duration
	silent := 0
	for _, r := range robots {
		var early, late []robot.Arrival
		for _, a := range r.Arrivals() {
			if a.At < cut.UnixNano() {
				early = append(early, a)
			} else {
				late = append(late, a)
			}
		}
		if len(early) == 0 {
			continue // it speaks, and hears nobody
		}
		if len(late) == 0 {
			silent++
			continue
		}
		g, _ := robot.Gap(early[0].From, early)
		before = max(before, g)
		g, _ = robot.Gap(early[0].From, append(early[len(early)-1:], late...))
		after = max(after, g)
	}
	t.Logf("longest gap in anybody's sound: %v before the cut, %v after", before, after)
	if silent > 0 || after > max(500*time.Millisecond, 3*before) {
		t.Errorf("the cut reached media: %d hear nothing, longest gap %v", silent, after)
	}
}
