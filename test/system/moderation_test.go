package system_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"mayfly/shared/signal"
	"mayfly/test/robot"
	"mayfly/test/system"
)

// order changes a participant and waits until the room's task has said that it is so.
func order(t *testing.T, s *system.System, method, path string, body any) {
	t.Helper()
	var p struct{ Pending bool }
	status, err := s.Call(method, path, body, &p)
	if err != nil || status != http.StatusOK {
		t.Fatalf("%s %s: %d %v", method, path, status, err)
	}
	system.Until(t, 15*time.Second, "the task has carried the order out", func() bool {
		p.Pending = false
		status, err := s.Call("GET", path, nil, &p)
		return err == nil && status == http.StatusOK && !p.Pending
	})
}

// flow counts what a robot gets of sound while n packets of pictures come.
func flow(t *testing.T, r *robot.Robot, n int64) int64 {
	t.Helper()
	audio, video := r.Received()
	system.Until(t, 15*time.Second, "pictures come", func() bool { _, v := r.Received(); return v >= video+n })
	after, _ := r.Received()
	return after - audio
}

// TestMuteAndEjectStopMedia: by the API alone, whatever the client does, what is muted
// does not come any more, and who is ejected is out and stays out.
func TestMuteAndEjectStopMedia(t *testing.T) {
	needWhole(t)
	s := system.Start(t)
	room := s.Create([]string{"ann", "bob"}, nil)
	ann, bob := join(t, s, room.Participants[0].Ticket), join(t, s, room.Participants[1].Ticket)
	watch(t, bob, 2, ann.Joined.Participant+"/camera")
	system.Until(t, 15*time.Second, "bob hears and sees ann", func() bool { a, v := received(bob); return a > 20 && v > 50 })

	path := "/v1/rooms/" + room.ID + "/participants/" + room.Participants[0].ParticipantID
	order(t, s, "PATCH", path, map[string]any{"muted": map[string]bool{"mic": true}})
	flow(t, bob, 20) // what was on its way
	if n := flow(t, bob, 100); n != 0 {
		t.Errorf("%d packets of sound of a muted microphone", n)
	}
	order(t, s, "PATCH", path, map[string]any{"muted": map[string]bool{"mic": false}})
	if n := flow(t, bob, 200); n == 0 {
		t.Error("no sound after the mute was taken back")
	}

	var out struct{ State string }
	if status, err := s.Call("DELETE", path, nil, &out); err != nil || status != http.StatusAccepted || out.State != "ejected" {
		t.Fatalf("eject: %d %+v %v", status, out, err)
	}
	system.Until(t, 10*time.Second, "ann is told", func() bool {
		var ended signal.Ended
		return ann.Last(signal.TypeEnded, &ended) && ended.Reason == signal.ReasonEjected && !ended.Rejoin
	})
	var tickets system.Room
	if status, err := s.Call("POST", "/v1/rooms/"+room.ID+"/tickets", map[string]any{"participants": []map[string]any{{"identity": "ann"}}}, &tickets); err != nil || status != http.StatusCreated {
		t.Fatalf("a new ticket: %d %v", status, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := robot.Join(ctx, robot.Config{WS: s.WS, Ticket: tickets.Participants[0].Ticket}); err == nil || !strings.Contains(err.Error(), signal.CodeEjected) {
		t.Errorf("a new ticket of a banned identity: %v", err)
	}
	system.Until(t, 15*time.Second, "participant.left tells why", func() bool {
		var list struct {
			Events []struct {
				Type string
				Data struct{ Reason string }
			}
		}
		if status, err := s.Call("GET", "/v1/events?limit=100&room="+room.ID, nil, &list); err != nil || status != http.StatusOK {
			t.Fatalf("events: %d %v", status, err)
		}
		for _, e := range list.Events {
			if e.Type == "participant.left" && e.Data.Reason == signal.ReasonEjected {
				return true
			}
		}
		return false
	})
	if err := bob.Leave(); err != nil {
		t.Error(err)
	}
}
