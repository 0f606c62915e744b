package room

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"mayfly/shared/signal"
)

// waiter is a standby task turned by hand, and what it sends.
type waiter struct {
	*Room
	t    *testing.T
	now  time.Time
	sent []string
	in   int64 // messages of the gateway so far
}

func newWaiter(t *testing.T) *waiter {
	w := &waiter{t: t, now: time.Unix(1_780_000_000, 0)}
	w.Room = New(Config{
		Slot: "pool_1", Self: Self{TaskARN: "arn:task/1", Version: "v", Started: w.now},
		Send: func(typ string, body any) {
			if m, ok := body.(signal.Register); ok {
				typ += " " + m.Room
			}
			if m, ok := body.(signal.Standby); ok {
				typ += " " + m.Slot
			}
			w.sent = append(w.sent, typ)
		},
		Messages: func() (in, out int64) { return w.in, 0 },
		Opened:   func(signal.Registered) error { return nil },
		Now:      func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler),
	})
	return w
}

// get hands over a frame and turns the loop.
func (w *waiter) get(typ string, body any) {
	w.t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	w.Frame(signal.Frame{Type: typ, Body: raw})
	w.turn(0)
}

// turn turns the loop after a while, and says how the task exits, if it does.
func (w *waiter) turn(after time.Duration) (Exit, bool) {
	w.now = w.now.Add(after)
	return w.Turn()
}

// take is what was sent since the last call.
func (w *waiter) take() []string {
	s := w.sent
	w.sent = nil
	return s
}

func (w *waiter) want(what string, got any, want string) {
	w.t.Helper()
	raw, err := json.Marshal(got)
	if err != nil || string(raw) != want {
		w.t.Errorf("%s: %s, want %s (%v)", what, raw, want, err)
	}
}

func TestStandbyGetsARoom(t *testing.T) {
	w := newWaiter(t)
	self := w.cfg.Self
	w.in = 3
	typ, body := w.Opening(self)
	w.want("first frame", typ, `"standby"`)
	if m, ok := body.(signal.Standby); !ok || m.MessagesIn != 3 {
		t.Errorf("first frame: %+v", body)
	}
	w.turn(0)
	w.want("before an answer", w.take(), "null") // the link itself repeats the first frame
	w.get(signal.LinkStanding, struct{}{})
	w.turn(10 * time.Second)
	w.turn(5 * time.Second)
	w.turn(5 * time.Second)
	w.want("each 10 s", w.take(), `["standby pool_1","standby pool_1"]`)

	w.in = 40
	w.get(signal.LinkAssign, signal.Assign{Room: "room_1", Epoch: 3})
	w.want("at once", w.take(), `["register room_1"]`)
	typ, body = w.Opening(self)
	if m, ok := body.(signal.Register); typ != signal.LinkRegister || !ok || m.Room != "room_1" || m.Epoch != 3 || m.TaskARN != "arn:task/1" || m.StoodIn != 40 || m.StoodOut != 0 {
		t.Errorf("first frame of the next connection: %s %+v", typ, body)
	}
	w.turn(time.Second)
	w.want("not yet again", w.take(), "null")
	w.turn(time.Second)
	w.want("unanswered", w.take(), `["register room_1"]`)
	w.get(signal.LinkAssign, signal.Assign{Room: "room_2", Epoch: 1}) // it has its room
	w.get(signal.LinkRegistered, signal.Registered{Room: "room_1", Epoch: 3, Limits: signal.RoomLimits{UnusedTimeoutS: 60}})
	w.turn(4 * time.Second)
	w.want("registered", w.take(), "null")
	w.in = 47
	w.turn(10 * time.Second)
	w.want("then", w.take(), `["heartbeat"]`)
	if in, _ := w.book.Messages(); in != 7 || w.phase != open {
		t.Errorf("%d messages are the room's, want the 7 since it was assigned; phase %d", in, w.phase)
	}
}

func TestStandbyEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		play func(w *waiter)
		wait time.Duration
		code int
	}{
		"never answered":        {func(*waiter) {}, registerLimit, signal.ExitLost},
		"not answered any more": {func(w *waiter) { w.get(signal.LinkStanding, struct{}{}) }, standbyLimit, signal.ExitLost},
		"refused":               {func(w *waiter) { w.get(signal.LinkRefused, signal.Refused{Code: "ended"}) }, 0, signal.ExitFenced},
		"told to stop":          {func(w *waiter) { w.get(signal.LinkStanding, struct{}{}); w.Terminate() }, 0, signal.ExitTerminated},
		"assigned, not registered": {func(w *waiter) {
			w.get(signal.LinkStanding, struct{}{})
			w.turn(time.Hour / 6)
			w.get(signal.LinkAssign, signal.Assign{Room: "room_1", Epoch: 1})
		}, registerLimit, signal.ExitLost},
	} {
		w := newWaiter(t)
		w.turn(0)
		tt.play(w)
		if tt.wait > 0 {
			if exit, over := w.turn(tt.wait - time.Second); over {
				t.Errorf("%s: ended early with %+v", name, exit)
				continue
			}
		}
		if exit, over := w.turn(time.Second); !over || exit.Code != tt.code {
			t.Errorf("%s: over %v with %+v, want code %d", name, over, exit, tt.code)
		}
	}
}

// Nobody is let in before there is a room.
func TestStandbyTakesNoJoin(t *testing.T) {
	w := newWaiter(t)
	w.turn(0)
	w.get(signal.LinkClient, signal.Client{Conn: "c1", Participant: "p1", Session: &signal.Session{ID: "s1", JoinSeq: 1},
		Frame: signal.Frame{Type: signal.TypeJoin, Seq: 1, Body: json.RawMessage(`{}`)}})
	if len(w.people) != 0 {
		t.Error("a standby task took a participant")
	}
	w.want("sent", w.take(), `["to_client"]`)
}
