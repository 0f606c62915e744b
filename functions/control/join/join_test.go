package join

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/control/controltest"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
	"mayfly/shared/ticket"
)

func TestOpenClient(t *testing.T) {
	w := newWorld(t)
	for _, tc := range []struct {
		name, origin, offered string
		status                int
	}{
		{"allowed page", "https://app.example", "mayfly.v1", 0},
		{"no browser", "", "mayfly.v1", 0},
		{"among others", "", "chat, mayfly.v1", 0},
		{"foreign page", "https://evil.example", "mayfly.v1", 403},
		{"page on another port", "https://app.example:444", "mayfly.v1", 403},
		{"opaque origin", "null", "mayfly.v1", 403},
		{"no subprotocol", "", "", 400},
		{"another version", "", "mayfly.v2", 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			protocol, err := w.join.OpenClient(tc.origin, tc.offered)
			var no *Refusal
			switch {
			case tc.status == 0 && (err != nil || protocol != signal.Version):
				t.Errorf("protocol %q, error %v", protocol, err)
			case tc.status != 0 && (!errors.As(err, &no) || no.Status != tc.status):
				t.Errorf("error %v, want status %d", err, tc.status)
			}
		})
	}
}

func TestWatchThenJoinThenAnswer(t *testing.T) {
	w := newWorld(t)
	r := w.room()
	token, try := w.ticket(r.ID), attempt()
	w.send("c1", signal.TypeWatch, 1, signal.Watch{Ticket: token})
	if m := body[signal.Room](t, w.oneFrame(control.Conn{ID: "c1"}, signal.TypeRoom)); m.ID != r.ID || m.State != string(lifecycle.Starting) {
		t.Errorf("told %+v", m)
	}
	w.register(r.ID, 1, "link1")
	if m := body[signal.Room](t, w.oneFrame(control.Conn{ID: "c1"}, signal.TypeRoom)); m.State != string(lifecycle.Live) {
		t.Errorf("told %+v", m)
	}
	w.send("c1", signal.TypeJoin, 2, joinBy(token, try))
	got := w.joined("link1")
	if got.Conn != "c1" || got.Frame.Seq != 2 || got.Frame.Type != signal.TypeJoin ||
		body[signal.Join](t, got.Frame).Offer.SDP != sdp {
		t.Errorf("handed over %+v", got)
	}
	s := got.Session
	if s.Identity != "alice" || s.Name != "Alice" || s.JoinSeq != 1 || s.Resumed || len(s.Grants.Publish) != 1 ||
		!strings.HasPrefix(s.Resume, "r1."+r.ID+"."+got.Participant+".") {
		t.Errorf("session %+v", s)
	}
	answer := signal.Frame{Type: signal.TypeJoined, Seq: 1, Body: []byte(`{"room":"x"}`)}
	w.fromTask("link1", signal.LinkToClient, signal.ToClient{Conn: "c1", Frame: answer})
	if f := w.oneFrame(control.Conn{ID: "c1"}, signal.TypeJoined); f.Seq != 1 || string(f.Body) != `{"room":"x"}` {
		t.Errorf("the client was sent %+v", f)
	}
	w.send("c1", signal.TypePing, 0, struct{}{})
	w.oneFrame(control.Conn{ID: "c1"}, signal.TypePong)
	w.send("c1", signal.TypeLeave, 3, signal.Leave{Reason: "bye"})
	leave := body[signal.Client](t, w.oneFrame(control.Conn{ID: "link1", Task: true}, signal.LinkClient))
	if leave.Session != nil || leave.Participant != got.Participant || leave.Frame.Type != signal.TypeLeave || leave.Frame.Seq != 3 {
		t.Errorf("handed over %+v", leave)
	}
}

func TestRepeatedAttemptIsOneJoin(t *testing.T) {
	w := newWorld(t)
	r := w.live("link1")
	token, try := w.ticket(r.ID), attempt()
	w.send("c1", signal.TypeJoin, 1, joinBy(token, try))
	first := w.joined("link1")
	w.send("c2", signal.TypeJoin, 1, joinBy(token, try)) // the answer was lost with c1
	second := w.joined("link1")
	if first.Session.ID != second.Session.ID || first.Session.Resume != second.Session.Resume || second.Conn != "c2" {
		t.Errorf("the repeat gave session %+v, the first %+v", second.Session, first.Session)
	}
	w.send("c3", signal.TypeJoin, 1, joinBy(token, attempt()))
	w.refusedWith("c3", signal.CodeTicketUsed, 1)
	w.nothing(control.Conn{ID: "link1", Task: true})
	// Its holder resumes: from then on the old attempt is a replay too.
	w.send("c2", signal.TypeJoin, 2, joinAgain(second.Session.Resume, attempt()))
	w.joined("link1")
	w.send("c4", signal.TypeJoin, 1, joinBy(token, try))
	w.refusedWith("c4", signal.CodeTicketUsed, 1)
}

func TestConcurrentJoinsWithOneTicket(t *testing.T) {
	w := newWorld(t)
	r := w.live("link1")
	token := w.ticket(r.ID)
	same := attempt()
	const n = 20
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { w.send(fmt.Sprintf("same%d", i), signal.TypeJoin, 1, joinBy(token, same)) })
		wg.Go(func() { w.send(fmt.Sprintf("other%d", i), signal.TypeJoin, 1, joinBy(token, attempt())) })
	}
	wg.Wait()
	sessions := map[string]int{}
	for _, f := range w.post.Take(control.Conn{ID: "link1", Task: true}) {
		sessions[body[signal.Client](t, f).Session.ID]++
	}
	if len(sessions) != 1 {
		t.Errorf("one ticket made sessions %v", sessions)
	}
	admitted := 0
	for _, count := range sessions {
		admitted = count
	}
	if admitted+len(w.post.Closed()) != 2*n || admitted != 1 && admitted != n {
		t.Errorf("%d joins admitted and %d refused, of %d", admitted, len(w.post.Closed()), 2*n)
	}
}

func TestTicketFaults(t *testing.T) {
	foreign, err := ticket.KeyFromSecret("another secret of the same length")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		token func(w *world, room string) string
		code  string
	}{
		"garbage":     {func(*world, string) string { return "garbage" }, signal.CodeTicketInvalid},
		"foreign key": {func(w *world, room string) string { w.key = foreign; return w.ticket(room) }, signal.CodeTicketInvalid},
		"changed":     {func(w *world, room string) string { return w.ticket(room) + "A" }, signal.CodeTicketInvalid},
		"other tenant": {func(w *world, room string) string {
			return w.ticket(room, func(c *ticket.Claims) { c.Tenant = "evil" })
		}, signal.CodeTicketInvalid},
		"future": {func(w *world, room string) string {
			return w.ticket(room, func(c *ticket.Claims) { c.NotBefore += 300 })
		}, signal.CodeTicketInvalid},
		"expired": {func(w *world, room string) string {
			token := w.ticket(room)
			w.clock.Advance(11 * time.Minute)
			return token
		}, signal.CodeTicketExpired},
		"no such room": {func(w *world, _ string) string { return w.ticket("room_00000000000000000000000000") }, signal.CodeRoomNotFound},
	} {
		for _, typ := range []string{signal.TypeWatch, signal.TypeJoin} {
			t.Run(name+" "+typ, func(t *testing.T) {
				w := newWorld(t)
				r := w.live("link1")
				token := tc.token(w, r.ID)
				if typ == signal.TypeWatch {
					w.send("c1", typ, 7, signal.Watch{Ticket: token})
				} else {
					w.send("c1", typ, 7, joinBy(token, attempt()))
				}
				w.refusedWith("c1", tc.code, 7)
				w.nothing(control.Conn{ID: "link1", Task: true})
				if n := w.conns(r.ID); n != 0 {
					t.Errorf("%d connection rows are left", n)
				}
			})
		}
	}
}

func TestWrongRoom(t *testing.T) {
	w := newWorld(t)
	a, b := w.live("linkA"), w.live("linkB")
	w.send("c1", signal.TypeWatch, 1, signal.Watch{Ticket: w.ticket(a.ID)})
	w.frames("c1")
	w.send("c1", signal.TypeJoin, 2, joinBy(w.ticket(b.ID), attempt()))
	w.refusedWith("c1", signal.CodeTicketWrongRoom, 2)
	w.nothing(control.Conn{ID: "linkB", Task: true})
	if n := w.conns(a.ID); n != 0 {
		t.Errorf("%d connection rows are left", n)
	}
	// A resume secret of another room is no better.
	w.send("c2", signal.TypeJoin, 1, joinBy(w.ticket(b.ID), attempt()))
	resume := w.joined("linkB").Session.Resume
	w.send("c3", signal.TypeWatch, 1, signal.Watch{Ticket: w.ticket(a.ID)})
	w.frames("c3")
	w.send("c3", signal.TypeJoin, 2, joinAgain(resume, attempt()))
	w.refusedWith("c3", signal.CodeResumeInvalid, 2)
}

func TestOneConnectionIsOneParticipant(t *testing.T) {
	w := newWorld(t)
	r := w.live("link1")
	w.send("c1", signal.TypeJoin, 1, joinBy(w.ticket(r.ID), attempt()))
	w.joined("link1")
	w.send("c1", signal.TypeJoin, 2, joinBy(w.ticket(r.ID), attempt()))
	w.refusedWith("c1", signal.CodeNotPermitted, 2)
}

func TestNotLiveUsesUpNothing(t *testing.T) {
	w := newWorld(t)
	r := w.room()
	token := w.ticket(r.ID)
	w.send("c1", signal.TypeJoin, 1, joinBy(token, attempt()))
	w.refusedWith("c1", signal.CodeRoomNotLive, 1)
	w.register(r.ID, 1, "link1")
	if m := body[signal.Room](t, w.oneFrame(control.Conn{ID: "c1"}, signal.TypeRoom)); m.State != string(lifecycle.Live) {
		t.Errorf("the client that must wait is told %+v", m)
	}
	w.send("c1", signal.TypeJoin, 2, joinBy(token, attempt()))
	w.joined("link1")
}

func TestRoomOver(t *testing.T) {
	w := newWorld(t)
	r := w.live("link1")
	token := w.ticket(r.ID)
	w.send("c1", signal.TypeJoin, 1, joinBy(token, attempt()))
	resume := w.joined("link1").Session.Resume
	if err := w.life.Delete(w.ctx, r.ID); err != nil {
		t.Fatal(err)
	}
	w.send("c2", signal.TypeJoin, 1, joinBy(w.ticket(r.ID), attempt()))
	w.refusedWith("c2", signal.CodeRoomEnded, 1)
	w.fleet.Run(r.Task)
	if err := w.life.TaskChanged(w.ctx, w.fleet.Exit(r.Task, 0)); err != nil {
		t.Fatal(err)
	}
	w.send("c3", signal.TypeWatch, 1, signal.Watch{Resume: resume})
	frames := w.post.Sent(control.Conn{ID: "c3"})
	w.refusedWith("c3", signal.CodeRoomEnded, 1)
	if m := body[signal.Room](t, frames[0]); m.State != string(lifecycle.Ended) || m.Reason != "deleted" {
		t.Errorf("told %+v before the error", m)
	}
	if n := w.conns(r.ID); n != 1 { // c1, whose WebSocket is still open
		t.Errorf("%d connection rows are left", n)
	}
}

func TestRoomFull(t *testing.T) {
	w := newWorld(t)
	r := w.live("link1")
	w.send("c1", signal.TypeJoin, 1, joinBy(w.ticket(r.ID), attempt()))
	resume := w.joined("link1").Session.Resume
	row, err := control.Load[control.Room](w.ctx, w.store, control.RoomKey(r.ID))
	if err != nil {
		t.Fatal(err)
	}
	row.Present = 3
	put, err := control.Put(row)
	if err == nil {
		err = w.store.Commit(w.ctx, put)
	}
	if err != nil {
		t.Fatal(err)
	}
	token := w.ticket(r.ID)
	w.send("c2", signal.TypeJoin, 1, joinBy(token, attempt()))
	w.refusedWith("c2", signal.CodeRoomFull, 1)
	w.send("c1", signal.TypeJoin, 2, joinAgain(resume, attempt())) // who is in may come back
	w.joined("link1")
}

// The table follows the rule: each accepted join gives a new secret, and the one
// before stays valid until the new one is used.
func TestResumeRotation(t *testing.T) {
	w := newWorld(t)
	r := w.live("link1")
	w.send("c1", signal.TypeJoin, 1, joinBy(w.ticket(r.ID), attempt()))
	r1 := w.joined("link1").Session.Resume
	use := func(conn, secret, try string) *signal.Session {
		t.Helper()
		w.send(conn, signal.TypeJoin, 1, joinAgain(secret, try))
		return w.joined("link1").Session
	}
	try := attempt()
	s2 := use("c2", r1, try)
	if !s2.Resumed || s2.Resume == r1 {
		t.Fatalf("session %+v", s2)
	}
	if again := use("c3", r1, try); again.Resume != s2.Resume || again.ID != s2.ID { // the answer was lost
		t.Errorf("the repeat gave %+v, want %+v", again, s2)
	}
	s3 := use("c4", r1, attempt()) // lost for good: another attempt with the old secret
	if s3.Resume == s2.Resume || s3.ID == s2.ID {
		t.Errorf("a new attempt gave the old session %+v", s3)
	}
	w.send("c5", signal.TypeJoin, 9, joinAgain(s2.Resume, attempt())) // replaced before it was used
	w.refusedWith("c5", signal.CodeResumeInvalid, 9)
	s4 := use("c6", s3.Resume, attempt())
	w.send("c7", signal.TypeWatch, 1, signal.Watch{Resume: r1}) // its successor was used
	w.refusedWith("c7", signal.CodeResumeInvalid, 1)
	w.send("c8", signal.TypeWatch, 1, signal.Watch{Resume: s3.Resume}) // still the one before
	w.oneFrame(control.Conn{ID: "c8"}, signal.TypeRoom)
	use("c9", s4.Resume, attempt())
	p := w.participant(r.ID, strings.Split(r1, ".")[2])
	for _, secret := range []string{r1, s2.Resume, s3.Resume, s4.Resume} {
		if strings.Contains(fmt.Sprintf("%+v", p), strings.Split(secret, ".")[3]) {
			t.Error("the table holds a resume secret")
		}
	}
}

func TestBadResumeSecrets(t *testing.T) {
	w := newWorld(t)
	r := w.live("link1")
	w.send("c1", signal.TypeJoin, 1, joinBy(w.ticket(r.ID), attempt()))
	good := w.joined("link1").Session.Resume
	part := strings.Split(good, ".")
	for i, bad := range []string{
		"x", "r1", good + ".x", "r2" + good[2:], good[:len(good)-1] + "!", good[:len(good)-1],
		strings.Join([]string{"r1", "room_00000000000000000000000000", part[2], part[3]}, "."),
		strings.Join([]string{"r1", part[1], "p_00000000000000000000000000", part[3]}, "."),
		strings.Join([]string{"r1", part[1], "../PART#x", part[3]}, "."),
		strings.Join([]string{"r1", part[1], part[2], strings.Repeat("A", 43)}, "."),
	} {
		conn := fmt.Sprintf("bad%d", i)
		w.send(conn, signal.TypeJoin, 1, joinAgain(bad, attempt()))
		w.refusedWith(conn, signal.CodeResumeInvalid, 1)
	}
	w.nothing(control.Conn{ID: "link1", Task: true})
}

func TestNewEpochGivesANewSession(t *testing.T) {
	w := newWorld(t)
	r := w.live("link1")
	token, try := w.ticket(r.ID), attempt()
	w.send("c1", signal.TypeJoin, 1, joinBy(token, try))
	first := w.joined("link1").Session
	w.kill(r.ID, "link2")
	w.frames("c1")
	w.fromTask("link1", signal.LinkToClient, signal.ToClient{Conn: "c1", Frame: signal.Frame{Type: signal.TypeJoined}})
	w.oneFrame(control.Conn{ID: "c1"}, signal.TypeJoined) // c1 joined epoch 1, and nothing else yet
	w.send("c1", signal.TypeJoin, 2, joinBy(token, try))
	second := w.joined("link2").Session
	if second.ID == first.ID || second.Resume != first.Resume {
		t.Errorf("session %+v after %+v", second, first)
	}
	w.fromTask("link1", signal.LinkToClient, signal.ToClient{Conn: "c1", Frame: signal.Frame{Type: signal.TypeEnded}})
	w.nothing(control.Conn{ID: "c1"})
	w.fromTask("link2", signal.LinkToClient, signal.ToClient{Conn: "c1", Frame: signal.Frame{Type: signal.TypeJoined}})
	w.oneFrame(control.Conn{ID: "c1"}, signal.TypeJoined)
}

// Every effect of a join may be the last of its process, before or after it took
// effect. The client repeats its join, and is joined once.
func TestCrashesOfAJoin(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			w := newWorld(t)
			r := w.live("link1")
			p := controltest.NewProcess(w.store, w.fleet, w.post)
			w.use(p.Store(), p.Fleet(), p.Post())
			token, try := w.ticket(r.ID), attempt()
			p.CrashAt(n, after)
			_ = w.join.ClientFrame(w.ctx, "c1", encode(t, signal.TypeJoin, 1, joinBy(token, try))) // a crash answers nobody
			crashed := p.Revive()
			p.CrashAt(1<<30, false) // never again
			w.send("c1", signal.TypeJoin, 2, joinBy(token, try))
			sessions := map[string]bool{}
			for _, f := range w.post.Take(control.Conn{ID: "link1", Task: true}) {
				sessions[body[signal.Client](t, f).Session.ID] = true
			}
			if len(sessions) != 1 {
				t.Errorf("crash at effect %d (after: %v): sessions %v, client was sent %v", n, after, sessions, describe(w.frames("c1")))
			}
			if !crashed {
				if n < 3 {
					t.Errorf("a join has only %d effects", n-1)
				}
				break
			}
		}
	}
}

// onGone runs a function when a connection is found gone.
type onGone struct {
	control.Post
	gone func()
}

func (p onGone) Send(ctx context.Context, c control.Conn, data []byte) error {
	err := p.Post.Send(ctx, c, data)
	if errors.Is(err, control.ErrGone) {
		p.gone()
	}
	return err
}

// away is a store that cannot be read.
type away struct{ control.Store }

func (away) Get(context.Context, store.Key) (store.Item, error) {
	return store.Item{}, store.ErrThrottled
}

func TestJoinWhileTheLinkRotates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.live("link1")
		w.post.Drop("link1")
		rotated := false
		w.use(w.store, w.fleet, onGone{w.post, func() {
			if !rotated {
				rotated = true
				w.register(r.ID, 1, "link2")
			}
		}})
		w.send("c1", signal.TypeJoin, 1, joinBy(w.ticket(r.ID), attempt()))
		w.joined("link2")
	})
}

func TestLinkGoneForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.live("link1")
		w.post.Drop("link1")
		token, try := w.ticket(r.ID), attempt()
		w.send("c1", signal.TypeJoin, 1, joinBy(token, try))
		w.refusedWith("c1", signal.CodeInternal, 1)
		w.register(r.ID, 1, "link2")
		w.send("c1", signal.TypeJoin, 2, joinBy(token, try)) // the ticket is not lost
		w.joined("link2")
	})
}

func TestSecretsStayOutOfTheLog(t *testing.T) {
	w := newWorld(t)
	r := w.live("link1")
	token, try := w.ticket(r.ID), attempt()
	w.send("c1", signal.TypeJoin, 1, joinBy(token, try))
	s := w.joined("link1").Session
	w.send("c2", signal.TypeJoin, 1, joinBy(token, attempt()))
	w.send("c3", signal.TypeJoin, 1, joinAgain(s.Resume+"x", attempt()))
	w.raw("c4", []byte(token))
	w.fromTask("link1", signal.LinkToClient, signal.ToClient{Conn: "c9", Frame: signal.Frame{Type: signal.TypeJoined}})
	logged := w.logs.text.String()
	if !strings.Contains(logged, r.ID) {
		t.Fatal("nothing is logged of the room: this test looks in the wrong place")
	}
	for _, secret := range []string{token, try, s.Resume, strings.Split(s.Resume, ".")[3], "the-sdp", "Alice", "203.0.113.7"} {
		if strings.Contains(logged, secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

func TestKeyLookupFailureIsNotTheClients(t *testing.T) {
	w := newWorld(t)
	r := w.live("link1")
	token := w.ticket(r.ID)
	w.join.Store = away{w.store}
	w.send("c1", signal.TypeWatch, 1, signal.Watch{Ticket: token})
	w.refusedWith("c1", signal.CodeInternal, 1)
	w.join.Store = w.store
	w.send("c1", signal.TypeWatch, 2, signal.Watch{Ticket: token})
	w.oneFrame(control.Conn{ID: "c1"}, signal.TypeRoom)
	w.join.Store = away{w.store} // the key is known by now, but connections are not
	w.send("c2", signal.TypePing, 0, struct{}{})
	w.refusedWith("c2", signal.CodeInternal, 0)
}
