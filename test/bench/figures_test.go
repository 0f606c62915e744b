package bench

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"mayfly/test/robot"
	"mayfly/test/system"
)

const (
	rooms = 100 // created one after the other
	joins = 50  // into one room, one after the other
)

// TestFigures prints the figures and asserts nothing but that they exist.
func TestFigures(t *testing.T) {
	if os.Getenv("MAYFLY_BENCH") == "" {
		t.Skip("prints figures of an idle machine: make bench (MAYFLY_BENCH=1)")
	}
	s := system.Start(t, "-task-log", "info")
	show("POST /v1/rooms", posts(t, s), "p95 ≤ 20 ms")
	show("process start to registered", ready(s), "p95 ≤ 150 ms")
	answered, media := joined(t, s)
	show("join to joined", answered, "")
	show("join to first video packet", media, "p95 ≤ 60 ms")
}

// posts creates rooms one after the other, and ends each, as a busy product would.
func posts(t *testing.T, s *system.System) (ms []float64) {
	for range rooms {
		begin := time.Now()
		room := s.Create([]string{"ann"}, nil)
		ms = append(ms, millis(begin))
		system.Until(t, 10*time.Second, "the room is live", func() bool { return s.State(room.ID) == "live" })
		if status, err := s.Call("DELETE", "/v1/rooms/"+room.ID, nil, nil); err != nil || status >= 300 {
			t.Fatalf("delete: %d %v", status, err)
		}
	}
	return ms
}

// ready reads the tasks' own word on how long they took.
func ready(s *system.System) (ms []float64) {
	for _, m := range regexp.MustCompile(`"msg":"room open".*"ready_ms":(\d+)`).FindAllStringSubmatch(s.Output(), -1) {
		if v, err := strconv.ParseFloat(m[1], 64); err == nil {
			ms = append(ms, v)
		}
	}
	return ms
}

// joined has one robot publish, and others join, look at it, and leave, one right after the
// other: most come within half a second of another newcomer, in which no keyframe can be
// asked for, and begin with what came since the last one.
func joined(t *testing.T, s *system.System) (answered, media []float64) {
	names := make([]string, joins+1)
	for i := range names {
		names[i] = fmt.Sprint("robot-", i)
	}
	room := s.Create(names, map[string]any{"max_participants": 100})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	host, err := robot.Join(ctx, robot.Config{WS: s.WS, Ticket: room.Participants[0].Ticket})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range room.Participants[1:] {
		begin := time.Now()
		r, err := robot.Join(ctx, robot.Config{WS: s.WS, Ticket: p.Ticket, Mute: true, Watch: host.Joined.Participant + "/camera"})
		if err != nil {
			t.Fatal(err)
		}
		answered = append(answered, millis(begin))
		for ctx.Err() == nil {
			if _, video := r.Received(); video > 0 {
				break
			}
			<-time.After(time.Millisecond)
		}
		media = append(media, millis(begin))
		if err := r.Leave(); err != nil {
			t.Fatal(err)
		}
	}
	if err := host.Leave(); err != nil {
		t.Error(err)
	}
	return answered, media
}

func millis(since time.Time) float64 { return float64(time.Since(since).Microseconds()) / 1000 }

// show prints one line, with what it aims at.
func show(what string, ms []float64, aim string) {
	if len(ms) == 0 {
		fmt.Printf("%-32s no figure\n", what)
		return
	}
	slices.Sort(ms)
	at := func(q float64) float64 { return ms[min(len(ms)-1, int(q*float64(len(ms))))] }
	line := fmt.Sprintf("%-32s n=%-4d p50 %7.1f ms   p95 %7.1f ms   max %7.1f ms", what, len(ms), at(0.5), at(0.95), ms[len(ms)-1])
	if aim != "" {
		line += "   aim " + aim
	}
	fmt.Println(line)
}
