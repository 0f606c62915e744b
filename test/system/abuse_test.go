package system_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"mayfly/shared/signal"
	"mayfly/test/robot"
	"mayfly/test/system"
)

// TestOneAbusiveParticipantHarmsNobody has one of three participants send 50 times what
// it may, storm with feedback and flood the data channel, and at last make 1,000
// streams. The other two go on, and the task's memory stays bounded. MAYFLY_ABUSE says
// for how long ("60s").
func TestOneAbusiveParticipantHarmsNobody(t *testing.T) {
	needWhole(t)
	long := 4 * time.Second
	if d, err := time.ParseDuration(os.Getenv("MAYFLY_ABUSE")); err == nil {
		long = d
	}
	s := system.Start(t)
	room := s.Create([]string{"ann", "bob", "mal"}, nil)
	ann, bob, mal := join(t, s, room.Participants[0].Ticket), join(t, s, room.Participants[1].Ticket), join(t, s, room.Participants[2].Ticket)
	both(t, ann, bob.Joined.Participant, mal.Joined.Participant)
	both(t, bob, ann.Joined.Participant, mal.Joined.Participant)
	both(t, mal, ann.Joined.Participant, bob.Joined.Participant)
	system.Until(t, 15*time.Second, "everybody hears and sees", func() bool {
		for _, r := range []*robot.Robot{ann, bob, mal} {
			if a, v := r.Received(); a < 100 || v < 100 {
				return false
			}
		}
		return true
	})
	task := s.TaskPIDs(room.ID)[0]
	annBefore, bobBefore := seatOf(t, ann, bob), seatOf(t, bob, ann)
	rss, dropped, begin := memory(t, task), socketDrops(t), time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	sent := mal.Abuse(ctx, robot.Abuse{Media: 5000, Feedback: 500, Messages: 2000})
	took := time.Since(begin)
	grown := memory(t, task) - rss
	annAfter, bobAfter := seatOf(t, ann, bob), seatOf(t, bob, ann)
	dropped = socketDrops(t) - dropped
	t.Logf("%d abusive packets and messages in %v; the task grew by %.1f MB; full sockets dropped %d datagrams", sent, took.Round(time.Millisecond), float64(grown)/1e6, dropped)
	if grown > 64<<20 {
		t.Errorf("the task grew by %.1f MB", float64(grown)/1e6)
	}
	for name, r := range map[string][2]robot.SeatReport{"ann": {annBefore, annAfter}, "bob": {bobBefore, bobAfter}} {
		for kind, d := range map[string]robot.Stream{"sound": since(r[0].Audio, r[1].Audio), "picture": since(r[0].Video, r[1].Video)} {
			loss := float64(d.Lost) / float64(max(1, d.Packets+d.Lost))
			t.Logf("%s, %s: %d packets, %.2f %% lost, %d keyframes", name, kind, d.Packets, 100*loss, d.Keyframes)
			// What a starved process's socket dropped, no room can keep.
			if loss > 0.01 && d.Lost > dropped {
				t.Errorf("%s lost %.1f %% of the other's %s", name, 100*loss, kind)
			}
			if want := int64(took.Seconds() * 40); d.Packets < want/2 {
				t.Errorf("%s received %d packets of %s, want about %d", name, d.Packets, kind, want)
			}
			if most := 2*int64(took.Seconds()) + 4; d.Keyframes > most {
				t.Errorf("%s was sent %d keyframes: requests were not held back", name, d.Keyframes)
			}
		}
	}

	streams, stop := context.WithTimeout(t.Context(), 5*time.Second)
	defer stop()
	go func() { <-mal.Gone(); stop() }()
	mal.Abuse(streams, robot.Abuse{Streams: 1000})
	system.Until(t, 5*time.Second, "who makes 1,000 streams is out", func() bool {
		var m signal.Participants
		return ann.Last(signal.TypeParticipants, &m) && len(m.Remove) == 1 && m.Remove[0] == mal.Joined.Participant
	})
	_, before := ann.Received()
	system.Until(t, 10*time.Second, "the others go on", func() bool { _, v := ann.Received(); return v > before+60 })
	if pids := s.TaskPIDs(room.ID); len(pids) != 1 || pids[0] != task {
		t.Errorf("tasks %v, was %d", pids, task)
	}
	_ = mal.Vanish()
	_, _ = ann.Leave(), bob.Leave()
}

// both asks to see two cameras.
func both(t *testing.T, r *robot.Robot, a, b string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	v := signal.View{Rev: 2, Wants: []signal.Want{{Source: a + "/camera", Width: 640, Height: 360}, {Source: b + "/camera", Width: 320, Height: 180}}}
	if err := r.Send(ctx, signal.TypeView, v); err != nil {
		t.Fatal(err)
	}
}

// seatOf is what a robot received of another's.
func seatOf(t *testing.T, r, of *robot.Robot) robot.SeatReport {
	t.Helper()
	var m signal.Seating
	if !r.Last(signal.TypeSeating, &m) {
		t.Fatal("no seating")
	}
	seats, _, _ := r.Report()
	for _, s := range m.Seats {
		if s.Video == of.Joined.Participant+"/camera" {
			return seats[s.Seat]
		}
	}
	t.Fatalf("%s sits nowhere: %+v", of.Joined.Participant, m)
	return robot.SeatReport{}
}

func since(a, b robot.Stream) robot.Stream {
	return robot.Stream{Packets: b.Packets - a.Packets, Lost: b.Lost - a.Lost, Keyframes: b.Keyframes - a.Keyframes}
}

// memory is a process's resident set (proc(5), statm), in bytes.
func memory(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// socketDrops counts the datagrams that full sockets of this machine have dropped.
func socketDrops(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/net/snmp")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range bytes.Lines(text) {
		f := strings.Fields(string(line))
		if len(f) == 0 || f[0] != "Udp:" {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		for i, name := range names {
			if name == "RcvbufErrors" {
				n, _ := strconv.ParseInt(f[i], 10, 64) // the kernel writes numbers
				return n
			}
		}
	}
	t.Fatal("no RcvbufErrors")
	return 0
}
