package system_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
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

// perStormRoom is how many robots a room has: 1,000 are 40 rooms, of the 50 that a tenant
// may have at once.
const perStormRoom = 25

// member is a robot of the storm. One of those rooms that no witness speaks in speaks.
type member struct {
	*robot.Robot
	speaks bool
}

// TestAThousandLoseTheirWebSocket: everybody's signalling ends in one instant. Nobody's
// media notices, all are back soon, and the rooms' tasks are what they were. In every
// eighth room a witness speaks all the time, whose sound is dense enough to find a short
// gap in it; the others' is sparse, since robots that decrypt and judge 50,000 packets a
// second leave no CPU to a storm.
func TestAThousandLoseTheirWebSocket(t *testing.T) {
	needWhole(t)
	n := stormSize(t)
	s := system.Start(t)
	rooms := (n + perStormRoom - 1) / perStormRoom
	watched := (rooms + 7) / 8
	var created []system.Room
	what := scene{WS: s.WS}
	for range watched {
		room := s.Create(stormNames(perStormRoom+2), map[string]any{"max_participants": perStormRoom + 2})
		what.Speakers = append(what.Speakers, room.Participants[perStormRoom].Ticket)
		what.Listeners = append(what.Listeners, room.Participants[perStormRoom+1].Ticket)
		created = append(created, room)
	}
	tell := callWitness(t, what)
	var members []member
	for i := range rooms {
		if i >= watched {
			created = append(created, s.Create(stormNames(perStormRoom), map[string]any{"max_participants": perStormRoom}))
		}
		members = append(members, stormRoom(t, s, created[i], min(perStormRoom, n-len(members)), i >= watched)...)
	}
	<-time.After(3 * time.Second) // of sound before the cut
	tasks := s.TaskPIDs("")
	if status, err := s.Call(http.MethodPost, "/local/cut", nil, nil); err != nil || status != http.StatusNoContent {
		t.Fatalf("cut: %d %v", status, err)
	}
	cut, before := time.Now(), lost(members)
	comeBack(t, s, members)
	<-time.After(3 * time.Second) // of sound after it
	untouched(t, members, cut, before)
	said := tell(cut)
	t.Logf("a witness in another process, in %d rooms: the longest gap in anybody's sound is %v in the 3 s before the cut, %v after", watched, said.Before, said.After)
	limit := 500 * time.Millisecond
	if n < 1000 { // the suite's own run, beside others
		limit = 2 * time.Second
	}
	if said.Deaf > 0 || said.After > max(limit, 3*said.Before) {
		t.Errorf("the cut reached media: %+v", said)
	}
	if now := s.TaskPIDs(""); len(tasks) != rooms || !slices.Equal(tasks, now) {
		t.Errorf("tasks %v became %v", tasks, now)
	}
	for _, m := range members {
		_ = m.Vanish()
	}
}

// comeBack has everybody open another WebSocket, as the client's schedule has it, and the
// API asked meanwhile.
func comeBack(t *testing.T, s *system.System, members []member) {
	t.Helper()
	n, cut := len(members), time.Now()
	back := make([]time.Duration, n)
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := m.Reconnect(ctx, s.WS, rand.Float64); err != nil {
				t.Errorf("robot %d: %v", i, err)
			}
			back[i] = time.Since(cut)
		})
	}
	answers := probe(s, &wg)
	slices.Sort(back)
	slices.Sort(answers)
	t.Logf("%d robots: half are back after %v, all after %v; of %d calls of the API meanwhile, half were answered within %v, 95 %% within %v, all within %v",
		n, back[n/2], back[n-1], len(answers), answers[len(answers)/2], answers[len(answers)*95/100], answers[len(answers)-1])
	if back[n-1] > 30*time.Second {
		t.Errorf("the last one is back after %v", back[n-1])
	}
	if p95 := answers[len(answers)*95/100]; p95 > 3*time.Second {
		t.Errorf("the API answered within %v at the 95th percentile", p95)
	}
}

// stormNames are those of a room's participants.
func stormNames(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprint("p", i))
	}
	return names
}

// stormRoom fills a room, one robot after the other.
func stormRoom(t *testing.T, s *system.System, room system.Room, n int, speak bool) (members []member) {
	t.Helper()
	for i, who := range room.Participants[:n] {
		speaks := speak && i == 0
		r := stormRobot(t, robot.Config{WS: s.WS, Ticket: who.Ticket, SoundOnly: true, Mute: !speaks, Seats: 1, DTX: true, Trace: !speaks})
		r.Speak(true) // whoever never spoke has no seat
		members = append(members, member{r, speaks})
	}
	last := members[n-1]
	system.Until(t, 30*time.Second, "the last one hears the speaker", func() bool { return last.speaks || len(last.Arrivals()) > 0 })
	members[0].Speak(false)
	return members
}

// stormRobot joins. A machine that is busy may cut a handshake short, which says nothing
// about the storm.
func stormRobot(t *testing.T, cfg robot.Config) *robot.Robot {
	t.Helper()
	for try := 1; ; try++ {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		r, err := robot.Join(ctx, cfg)
		cancel()
		if err == nil {
			return r
		}
		if try == 3 || !strings.Contains(err.Error(), "dial") {
			t.Fatal(err)
		}
		t.Logf("again: %v", err)
	}
}

// probe asks the API while the others are on their way, and tells how long each answer
// took.
func probe(s *system.System, busy *sync.WaitGroup) (took []time.Duration) {
	done := make(chan struct{})
	go func() { busy.Wait(); close(done) }()
	for {
		began := time.Now()
		_ = s.State("room_none")
		took = append(took, time.Since(began))
		select {
		case <-done:
			return took
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// lost is how many packets of sound each has lost for good, and how many came.
func lost(members []member) (of [][2]int64) {
	for _, m := range members {
		var both [2]int64
		seats, _, _ := m.Report()
		for _, seat := range seats {
			both[0] += seat.Audio.Lost
			both[1] += seat.Audio.Packets
		}
		of = append(of, both)
	}
	return of
}

// untouched: whoever heard before the cut hears after it, and of all packets since no
// more than one in a hundred is lost. How late a thousand robots in one process look at
// their packets says nothing about the room: for gaps there is a witness.
func untouched(t *testing.T, members []member, cut time.Time, before [][2]int64) {
	t.Helper()
	var gone, came int64
	for i, now := range lost(members) {
		m := members[i]
		gone, came = gone+now[0]-before[i][0], came+now[1]-before[i][1]
		if early, late := around(m.Arrivals(), cut); !m.speaks && (len(early) == 0 || len(late) == 0) {
			t.Errorf("robot %d heard %d packets before the cut, and %d after", i, len(early), len(late))
		}
	}
	t.Logf("%d packets of sound since the cut, %d lost", came, gone)
	if gone*100 > came {
		t.Errorf("%d of %d packets are lost since the cut", gone, came+gone)
	}
}
