package join

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"mayfly/functions/control"
	"mayfly/functions/control/life"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
)

func TestDisconnect(t *testing.T) {
	w := newWorld(t)
	r := w.live("link1")
	w.send("c1", signal.TypeJoin, 1, joinBy(w.ticket(r.ID), attempt()))
	w.joined("link1")
	w.send("c2", signal.TypeWatch, 1, signal.Watch{Ticket: w.ticket(r.ID)})
	for range 2 { // the second is a repeat, or of a connection that never said who it is
		for _, conn := range []string{"c1", "c2"} {
			if err := w.join.CloseClient(w.ctx, conn); err != nil {
				t.Fatal(err)
			}
		}
	}
	gone := body[signal.ClientGone](t, w.oneFrame(control.Conn{ID: "link1", Task: true}, signal.LinkClientGone))
	if gone.Conn != "c1" || w.conns(r.ID) != 0 {
		t.Errorf("told of %q, %d rows left", gone.Conn, w.conns(r.ID))
	}
	for range 2 {
		if err := w.join.CloseTask(w.ctx, "link1"); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range []store.Key{control.ConnKey("link1"), control.LinkIDKey("link1")} {
		if _, err := w.store.Get(w.ctx, k); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%v is left (%v)", k, err)
		}
	}
	if got := w.get(r.ID); got.State != lifecycle.Live {
		t.Errorf("a room whose link closed is %s", got.State)
	}
}

func TestBadClientFrames(t *testing.T) {
	lines := func(n int) signal.Offer {
		o := offer()
		o.SDP = strings.Repeat("a=x\n", n)
		return o
	}
	big := offer()
	big.SDP = strings.Repeat("a", signal.MaxMessageBytes-600)
	r0 := "room_00000000000000000000000000"
	for name, tc := range map[string]struct {
		data []byte
		code string
	}{
		"empty":                  {nil, signal.CodeBadMessage},
		"not JSON":               {[]byte("hello"), signal.CodeBadMessage},
		"a list":                 {[]byte(`[{"type":"ping"}]`), signal.CodeBadMessage},
		"NUL":                    {[]byte("\x00"), signal.CodeBadMessage},
		"deep":                   {bytes.Repeat([]byte("["), 30_000), signal.CodeBadMessage},
		"no type":                {[]byte(`{"seq":1}`), signal.CodeBadMessage},
		"unknown type":           {[]byte(`{"type":"launch"}`), signal.CodeBadMessage},
		"a task's type":          {[]byte(`{"type":"register","body":{}}`), signal.CodeBadMessage},
		"a room's type":          {[]byte(`{"type":"joined","body":{}}`), signal.CodeBadMessage},
		"unknown envelope field": {[]byte(`{"type":"ping","admin":true}`), signal.CodeBadMessage},
		"unknown field":          {[]byte(`{"type":"watch","body":{"ticket":"x","admin":true}}`), signal.CodeBadMessage},
		"wrong type of field":    {[]byte(`{"type":"watch","body":{"ticket":7}}`), signal.CodeBadMessage},
		"watch without secret":   {[]byte(`{"type":"watch"}`), signal.CodeBadMessage},
		"ticket and resume":      {[]byte(`{"type":"watch","body":{"ticket":"x","resume":"y"}}`), signal.CodeBadMessage},
		"short attempt":          {encode(t, "join", 0, joinBy("x", "short")), signal.CodeBadMessage},
		"control in the name":    {encode(t, "join", 0, signal.Join{Ticket: "x", Attempt: attempt(), Offer: offer(), Name: "a\x07b"}), signal.CodeBadMessage},
		"over 128 KB":            {bytes.Repeat([]byte("x"), signal.MaxMessageBytes+1), signal.CodeTooLarge},
		"ping of 33 KB":          {encode(t, "ping", 0, map[string]string{"x": strings.Repeat("x", 33<<10)}), signal.CodeTooLarge},
		"watch of 33 KB":         {encode(t, "watch", 0, signal.Watch{Ticket: strings.Repeat("x", 33<<10)}), signal.CodeTooLarge},
		"ticket of 5 KB":         {encode(t, "watch", 0, signal.Watch{Ticket: strings.Repeat("x", 5<<10)}), signal.CodeTooLarge},
		"join of almost 128 KB":  {encode(t, "join", 0, signal.Join{Ticket: "x", Attempt: attempt(), Offer: big}), signal.CodeTooLarge},
		"offer of 10,000 lines":  {encode(t, "join", 0, signal.Join{Ticket: "x", Attempt: attempt(), Offer: lines(10_000)}), signal.CodeBadOffer},
		"no seats":               {encode(t, "join", 0, signal.Join{Ticket: "x", Attempt: attempt(), Offer: signal.Offer{Generation: 1, SDP: sdp}}), signal.CodeBadOffer},
		"ping before watch":      {encode(t, "ping", 0, struct{}{}), signal.CodeNotAuthenticated},
		"offer before watch":     {encode(t, "offer", 0, offer()), signal.CodeNotAuthenticated},
		"chat before watch":      {encode(t, "chat", 0, signal.Chat{Text: "hi"}), signal.CodeNotAuthenticated},
		"resume of no room":      {encode(t, "watch", 0, signal.Watch{Resume: "r1." + r0 + ".p_00000000000000000000000000." + strings.Repeat("A", 43)}), signal.CodeResumeInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			r := w.live("link1")
			w.raw("c1", tc.data)
			w.refusedWith("c1", tc.code, 0)
			w.nothing(control.Conn{ID: "link1", Task: true})
			if got := w.get(r.ID); got.Ver != r.Ver {
				t.Error("the room was changed")
			}
		})
	}
}

func TestFramesThatNeedAJoin(t *testing.T) {
	w := newWorld(t)
	r := w.live("link1")
	w.send("c1", signal.TypeWatch, 1, signal.Watch{Ticket: w.ticket(r.ID)})
	w.frames("c1")
	w.send("c1", signal.TypeOffer, 2, offer())
	w.refusedWith("c1", signal.CodeNotJoined, 2)
	w.send("c1", signal.TypeLeave, 3, signal.Leave{})
	w.refusedWith("c1", signal.CodeNotJoined, 3)
	w.send("c1", signal.TypeView, 4, signal.View{})
	w.refusedWith("c1", signal.CodeBadMessage, 4)
	w.send("c1", signal.TypeJoin, 5, joinBy(w.ticket(r.ID), attempt()))
	w.joined("link1")
	bad := offer()
	bad.Seats = nil
	w.send("c1", signal.TypeOffer, 6, bad)
	w.refusedWith("c1", signal.CodeBadOffer, 6)
	w.send("c1", signal.TypeLeave, 7, signal.Leave{Reason: strings.Repeat("x", 300)})
	w.refusedWith("c1", signal.CodeTooLarge, 7)
	w.send("c1", signal.TypeOffer, 8, offer())
	f := body[signal.Client](t, w.oneFrame(control.Conn{ID: "link1", Task: true}, signal.LinkClient))
	if f.Frame.Type != signal.TypeOffer || f.Session != nil {
		t.Errorf("handed over %+v", f)
	}
}

func TestTaskSpeaksToItsOwnClientsOnly(t *testing.T) {
	w := newWorld(t)
	a, b := w.live("linkA"), w.live("linkB")
	w.send("c1", signal.TypeJoin, 1, joinBy(w.ticket(a.ID), attempt()))
	w.joined("linkA")
	w.send("c2", signal.TypeWatch, 1, signal.Watch{Ticket: w.ticket(b.ID)})
	w.frames("c2")
	say := func(link, conn string, end bool) {
		w.fromTask(link, signal.LinkToClient, signal.ToClient{Conn: conn, Frame: signal.Frame{Type: signal.TypeEnded, Seq: 1}, Close: end})
	}
	say("linkB", "c1", true)    // another room's client
	say("linkB", "c2", true)    // a watcher, who has not joined
	say("linkB", "linkA", true) // another task
	say("nobody", "c1", true)   // a link that has not registered
	say("c1", "c1", true)       // a client that poses as a link
	for _, c := range []control.Conn{{ID: "c1"}, {ID: "c2"}, {ID: "linkA"}, {ID: "linkA", Task: true}} {
		w.nothing(c)
	}
	if closed := w.post.Closed(); len(closed) > 0 {
		t.Errorf("closed %v", closed)
	}
	say("linkA", "c1", true)
	w.oneFrame(control.Conn{ID: "c1"}, signal.TypeEnded)
	if !slices.Equal(w.post.Closed(), []string{"c1"}) || w.conns(a.ID) != 0 {
		t.Errorf("closed %v, %d rows left", w.post.Closed(), w.conns(a.ID))
	}
	say("linkA", "c1", false) // whom the control plane has forgotten by now
	if g := body[signal.ClientGone](t, w.oneFrame(control.Conn{ID: "linkA", Task: true}, signal.LinkClientGone)); g.Conn != "c1" {
		t.Errorf("told of %+v", g)
	}
}

func TestToClientThatIsGone(t *testing.T) {
	w := newWorld(t)
	r := w.live("link1")
	w.send("c1", signal.TypeJoin, 1, joinBy(w.ticket(r.ID), attempt()))
	w.joined("link1")
	w.post.Drop("c1")
	w.fromTask("link1", signal.LinkToClient, signal.ToClient{Conn: "c1", Frame: signal.Frame{Type: signal.TypeJoined}})
	w.oneFrame(control.Conn{ID: "link1", Task: true}, signal.LinkClientGone)
	if n := w.conns(r.ID); n != 0 {
		t.Errorf("%d rows left", n)
	}
}

func TestRegisterIdentity(t *testing.T) {
	w := newWorld(t)
	a, b := w.room(), w.room()
	reg := func(room life.Room) signal.Register {
		return signal.Register{Room: room.ID, Epoch: 1, TaskARN: room.Task}
	}
	w.fromTask("l0", signal.LinkRegister, reg(a)) // overtook its $connect
	w.nothing(control.Conn{ID: "l0", Task: true})
	w.openTask("l1", b.Task)
	w.fromTask("l1", signal.LinkRegister, reg(a)) // claims to be another task
	if c := body[signal.Refused](t, w.oneFrame(control.Conn{ID: "l1", Task: true}, signal.LinkRefused)); c.Code != "bad_identity" {
		t.Errorf("refused with %q", c.Code)
	}
	if err := w.join.OpenTask(w.ctx, "l2", life.TaskIdentity{}); err == nil {
		t.Error("a link without identity was opened")
	}
	for _, data := range []string{"", "x", `{"type":"register","body":7}`, `{"type":"watch","body":{}}`, `{"type":"to_client","body":{}}`} {
		if err := w.join.TaskFrame(w.ctx, "l1", []byte(data)); err != nil {
			t.Errorf("%q: %v", data, err)
		}
	}
	if r := w.get(a.ID); r.State != lifecycle.Starting {
		t.Errorf("room is %s", r.State)
	}
}

// TestALinksPingIsNoFault: a task keeps its idle link open every few minutes.
func TestALinksPingIsNoFault(t *testing.T) {
	w := newWorld(t)
	var said bytes.Buffer
	w.join.Log = slog.New(slog.NewTextHandler(&said, nil))
	w.fromTask("link1", signal.TypePing, struct{}{})
	if said.Len() > 0 {
		t.Errorf("it is logged: %s", said.String())
	}
	w.fromTask("link1", signal.TypeChat, struct{}{})
	if !strings.Contains(said.String(), "unknown type") {
		t.Error("a frame that no task sends is not logged")
	}
}
