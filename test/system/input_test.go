package system_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"mayfly/shared/signal"
	"mayfly/test/system"
)

// exchange opens a WebSocket, sends raw messages, and returns the codes of the errors
// that come back and the close status (-1 if the connection stays open for a second
// after the last answer).
func exchange(t *testing.T, s *system.System, messages ...string) (codes []string, closed websocket.StatusCode) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, s.WS, &websocket.DialOptions{Subprotocols: []string{signal.Version}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }()
	ws.SetReadLimit(1 << 20)
	for _, m := range messages {
		if m == "wait" { // for the answer to what was sent before
			if _, _, err := ws.Read(ctx); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := ws.Write(ctx, websocket.MessageText, []byte(m)); err != nil {
			return codes, websocket.CloseStatus(err)
		}
	}
	for {
		rctx, stop := context.WithTimeout(ctx, time.Second)
		_, data, err := ws.Read(rctx)
		timedOut := rctx.Err() != nil
		stop()
		if err != nil {
			if timedOut {
				return codes, -1
			}
			return codes, websocket.CloseStatus(err)
		}
		var f signal.Frame
		var e signal.Error
		if json.Unmarshal(data, &f) == nil && f.Type == signal.TypeError && json.Unmarshal(f.Body, &e) == nil {
			codes = append(codes, e.Code)
		}
	}
}

func frame(t *testing.T, typ string, body any) string {
	t.Helper()
	data, err := signal.Encode(typ, 1, body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func joinWith(ticket, sdp string, seats ...signal.SeatLine) signal.Join {
	if seats == nil {
		seats = []signal.SeatLine{}
	}
	return signal.Join{Ticket: ticket, Attempt: "abcdefghijklmnopqrstuvwxyz", Offer: signal.Offer{Generation: 1, SDP: sdp, Seats: seats}, View: signal.View{Rev: 1, Wants: []signal.Want{}}}
}

func TestBadInputIsAnsweredAndHarmsNobody(t *testing.T) {
	needWhole(t)
	s := system.Start(t)
	room := s.Create([]string{"ann", "bob", "eve", "fay", "gil"}, nil)
	other := s.Create([]string{"dan"}, nil)
	ann, bob := join(t, s, room.Participants[0].Ticket), join(t, s, room.Participants[1].Ticket)
	watch(t, ann, 2, bob.Joined.Participant+"/camera")
	eve := room.Participants[2].Ticket
	seat := signal.SeatLine{Seat: 0, Audio: "1", Video: "2"}
	sdp := "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"

	for _, c := range []struct {
		name   string
		send   []string
		code   string
		closes bool
	}{
		{"not JSON", []string{"{"}, signal.CodeBadMessage, false},
		{"an array", []string{"[]"}, signal.CodeBadMessage, false},
		{"unknown type", []string{`{"type":"hack","seq":1}`}, "", false},
		{"unknown field", []string{`{"type":"watch","seq":1,"body":{"ticket":"x","extra":1}}`}, signal.CodeBadMessage, false},
		{"not authenticated", []string{frame(t, signal.TypeLeave, signal.Leave{})}, signal.CodeNotAuthenticated, true},
		{"no ticket", []string{`{"type":"watch","seq":1,"body":{}}`}, signal.CodeBadMessage, false},
		{"junk ticket", []string{frame(t, signal.TypeWatch, signal.Watch{Ticket: "a.b.c"})}, signal.CodeTicketInvalid, true},
		{"tampered ticket", []string{frame(t, signal.TypeWatch, signal.Watch{Ticket: eve[:len(eve)-6] + "AAAAAA"})}, signal.CodeTicketInvalid, true},
		{"used ticket, other attempt", []string{frame(t, signal.TypeJoin, joinWith(room.Participants[0].Ticket, sdp, seat))}, signal.CodeTicketUsed, true},
		{"junk resume", []string{frame(t, signal.TypeWatch, signal.Watch{Resume: "r1." + room.ID + ".p.secret"})}, signal.CodeResumeInvalid, true},
		{"ticket of another room", []string{
			frame(t, signal.TypeWatch, signal.Watch{Ticket: eve}),
			"wait", // frames are invocations of their own: the second must not overtake the first
			frame(t, signal.TypeJoin, joinWith(other.Participants[0].Ticket, sdp, seat)),
		}, signal.CodeTicketWrongRoom, true},
		{"SDP without seats", []string{frame(t, signal.TypeJoin, joinWith(eve, sdp))}, signal.CodeBadOffer, false},
		{"seats that the SDP lacks", []string{frame(t, signal.TypeJoin, joinWith(room.Participants[3].Ticket, sdp, seat))}, signal.CodeBadOffer, false},
		{"10,000 lines", []string{frame(t, signal.TypeJoin, joinWith(room.Participants[4].Ticket, sdp+strings.Repeat("a\n", 10_000), seat))}, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			codes, closed := exchange(t, s, c.send...)
			if len(codes) == 0 || c.code != "" && codes[0] != c.code {
				t.Errorf("codes %v, want %s", codes, c.code)
			}
			if c.closes && closed == -1 {
				t.Error("the connection stays open")
			}
		})
	}
	t.Run("frame over 32 KB", func(t *testing.T) {
		if _, closed := exchange(t, s, `{"type":"watch","body":{"ticket":"`+strings.Repeat("x", 40<<10)+`"}}`); closed != websocket.StatusMessageTooBig {
			t.Errorf("closed with %d, want 1009", closed)
		}
	})

	_, before := received(ann)
	system.Until(t, 5*time.Second, "the room goes on", func() bool { _, v := received(ann); return v > before+60 })
	if n := len(s.TaskPIDs(room.ID)); n != 1 {
		t.Errorf("%d tasks serve the room", n)
	}
	_, _ = ann.Leave(), bob.Leave()
}
