package room

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/shared/signal"
	"mayfly/shared/usage"
)

// fakeMedia is a participant's media that answers every offer and keeps what it is
// told. It stands for a PeerConnection, whose own tests use real ones.
type fakeMedia struct {
	post   func(Event)
	closed chan struct{}

	mu      sync.Mutex
	refuse  string
	seats   []int
	sent    []signal.Frame
	placed  map[int]Placement
	from    map[int]Media
	in, out usage.Bytes
	level   uint8
	pulses  int
}

func (m *fakeMedia) Offer(o signal.Offer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse != "" {
		m.post(Event{Kind: EventRefused, Generation: o.Generation, Code: m.refuse, Text: "refused"})
		return
	}
	m.seats = m.seats[:0]
	for _, s := range o.Seats {
		m.seats = append(m.seats, s.Seat)
	}
	m.post(Event{Kind: EventAnswered, Generation: o.Generation, Text: "answer"})
}
func (m *fakeMedia) Seats() []int { m.mu.Lock(); defer m.mu.Unlock(); return m.seats }
func (m *fakeMedia) Assign(seat int, from Media, p Placement) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if from == nil {
		delete(m.placed, seat)
		delete(m.from, seat)
		return
	}
	m.placed[seat], m.from[seat] = p, from
}
func (m *fakeMedia) SendData(frame []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	var f signal.Frame
	if err := json.Unmarshal(frame, &f); err != nil {
		panic(err)
	}
	m.sent = append(m.sent, f)
	return true
}
func (m *fakeMedia) Usage() (in, out usage.Bytes, transport string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.in, m.out, "udp"
}
func (m *fakeMedia) Level() (uint8, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.level, m.level < 60
}
func (m *fakeMedia) Paused(int) string       { return "" }
func (m *fakeMedia) Quality() signal.Quality { return signal.Quality{Score: 100} }
func (m *fakeMedia) Pulse(int64)             { m.mu.Lock(); defer m.mu.Unlock(); m.pulses++ }
func (m *fakeMedia) Close()                  { close(m.closed) }
func (m *fakeMedia) Closed() <-chan struct{} { return m.closed }

// seatsNow copies what sits where.
func (m *fakeMedia) seatsNow() map[int]Placement {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.placed)
}

// last is the body of the newest frame of a type that was sent over the data channel.
func last[T any](t *testing.T, m *fakeMedia, typ string) (body T) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := len(m.sent) - 1; i >= 0; i-- {
		if m.sent[i].Type == typ {
			if err := json.Unmarshal(m.sent[i].Body, &body); err != nil {
				t.Fatal(err)
			}
			return body
		}
	}
	t.Fatalf("no %s was sent", typ)
	return body
}

// world runs one room in a bubble, with the test as its control plane.
type world struct {
	acks   bool // guarded by mu: heartbeats are acknowledged
	t      *testing.T
	room   *Room
	mu     sync.Mutex
	frames []signal.Frame // sent to the control plane, not yet taken
	media  map[string]*fakeMedia
	exit   chan Exit
	joins  uint64
	refuse string
}

var testLimits = signal.RoomLimits{MaxParticipants: 3, UnusedTimeoutS: 60, EmptyTimeoutS: 20, MaxDurationS: 3600}

func newWorld(t *testing.T) *world {
	w := &world{t: t, media: map[string]*fakeMedia{}, exit: make(chan Exit, 1)}
	w.room = New(Config{
		ID: "room_1", Epoch: 1, Log: slogDiscard,
		Send: func(typ string, body any) {
			raw, err := json.Marshal(body)
			if err != nil {
				t.Error(err)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.frames = append(w.frames, signal.Frame{Type: typ, Body: raw})
			if h, ok := body.(signal.Heartbeat); ok && w.acks {
				ack, _ := json.Marshal(signal.Ack{Seq: h.Usage.Seq}) // cannot fail
				w.room.Frame(signal.Frame{Type: signal.LinkAck, Body: ack})
			}
		},
		Opened: func(signal.Registered) error { return nil },
		NewMedia: func(id string, post func(Event)) (Media, error) {
			m := &fakeMedia{post: post, closed: make(chan struct{}), placed: map[int]Placement{}, from: map[int]Media{}, level: 127, refuse: w.refuse}
			w.media[id] = m
			return m, nil
		},
	})
	go func() { w.exit <- w.room.Run(context.Background()) }()
	return w
}

func (w *world) frame(typ string, body any) {
	raw, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	w.room.Frame(signal.Frame{Type: typ, Body: raw})
	synctest.Wait()
}

// sleep lets time pass, and then everything happen that is due.
func (w *world) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) register() {
	l := testLimits
	l.EndsAtMS = time.Now().Add(time.Hour).UnixMilli()
	w.frame(signal.LinkRegistered, signal.Registered{Room: "room_1", Epoch: 1, Limits: l})
}

// take returns the frames of a type that the room has sent, and forgets all of them.
func (w *world) take(typ string) (out []signal.Frame) {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.frames {
		if f.Type == typ {
			out = append(out, f)
		}
	}
	w.frames = nil
	return out
}

func (w *world) toClient() (out []signal.ToClient) {
	for _, f := range w.take(signal.LinkToClient) {
		var m signal.ToClient
		if err := json.Unmarshal(f.Body, &m); err != nil {
			w.t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

func offerOf(kinds ...string) signal.Offer {
	o := signal.Offer{Generation: 1, SDP: "v=0", Seats: []signal.SeatLine{{Seat: 0, Audio: "10", Video: "11"}, {Seat: 1, Audio: "12", Video: "13"}}}
	for i, k := range kinds {
		o.Sources = append(o.Sources, signal.SourceLine{Mid: fmt.Sprint(i), Kind: k})
	}
	return o
}

func (w *world) join(id string, seq uint64, view ...signal.Want) {
	w.joins++
	w.frame(signal.LinkClient, w.client(id, seq, view))
}

func (w *world) client(id string, seq uint64, view []signal.Want) signal.Client {
	if view == nil {
		view = []signal.Want{}
	}
	j := signal.Join{Ticket: "t", Attempt: "0123456789012345678901", Offer: offerOf(signal.KindMic, signal.KindCamera), View: signal.View{Rev: 1, Wants: view}}
	raw, err := json.Marshal(j)
	if err != nil {
		w.t.Fatal(err)
	}
	return signal.Client{
		Conn: "conn-" + id, Participant: id, Frame: signal.Frame{Type: signal.TypeJoin, Seq: seq, Body: raw},
		Session: &signal.Session{ID: fmt.Sprint("ses-", id, w.joins), Identity: id, Name: strings.ToUpper(id), JoinSeq: w.joins, Resume: "resume-" + id,
			Grants: signal.Grants{Publish: []string{signal.KindMic, signal.KindCamera}, Subscribe: true, Chat: true}},
	}
}

// data sends a frame over id's data channel.
func (w *world) data(id, typ string, body any) {
	raw, err := signal.Encode(typ, 0, body)
	if err != nil {
		w.t.Fatal(err)
	}
	w.media[id].post(Event{Kind: EventData, Data: raw})
	synctest.Wait()
}

func (w *world) open(id string) {
	w.media[id].post(Event{Kind: EventConnected})
	w.media[id].post(Event{Kind: EventDataOpen})
	synctest.Wait()
}

func (w *world) ended(code int, reason string) {
	w.t.Helper()
	synctest.Wait()
	select {
	case e := <-w.exit:
		if e.Code != code || e.Reason != reason {
			w.t.Errorf("exit %+v, want %d %s", e, code, reason)
		}
	default:
		w.t.Errorf("the room has not ended")
	}
}

// finish lets the room end, so that the bubble's goroutines do.
func (w *world) finish() {
	w.frame(signal.LinkEnd, signal.End{Reason: signal.ReasonDeleted})
	w.sleep(time.Second)
	w.frame(signal.LinkEndingOK, struct{}{})
	w.ended(signal.ExitEnded, signal.ReasonDeleted)
}

func TestJoinIsAnsweredOnceWithEveryoneAndSeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.join("ann", 7)
		w.join("bob", 2, want("ann/camera", 640, 360))
		got := w.toClient()
		if len(got) != 2 || got[1].Conn != "conn-bob" || got[1].Frame.Type != signal.TypeJoined || got[1].Frame.Seq != 1 {
			t.Fatalf("to clients: %+v", got)
		}
		var joined signal.Joined
		if err := json.Unmarshal(got[1].Frame.Body, &joined); err != nil {
			t.Fatal(err)
		}
		if len(joined.Participants) != 1 || joined.Participants[0].Name != "ANN" || joined.Resume != "resume-bob" || joined.Answer.SDP != "answer" {
			t.Errorf("joined %+v", joined)
		}
		wantSeat := signal.Seat{Seat: 0, Participant: "ann", Video: "ann/camera", Audio: "ann/mic"}
		if len(joined.Seating.Seats) != 1 || joined.Seating.Seats[0] != wantSeat {
			t.Errorf("seating %+v", joined.Seating)
		}
		if p := w.media["bob"].seatsNow()[0]; p.Width != 640 || w.media["bob"].from[0] != w.media["ann"] {
			t.Errorf("bob's seat 0 carries %+v", p)
		}
		if p := w.media["ann"].seatsNow()[0]; p.Audio != signal.KindMic || p.Video != "" {
			t.Errorf("ann hears bob by an audio-only seat: %+v", p)
		}
		c := w.client("bob", 1, nil) // the answer was lost: bob asks again, over a new connection
		c.Conn = "conn-bob-2"
		w.frame(signal.LinkClient, c)
		again := w.toClient()
		if len(again) != 1 || again[0].Conn != "conn-bob-2" || !bytes.Equal(again[0].Frame.Body, got[1].Frame.Body) {
			t.Errorf("a repeated join was answered: %+v", again)
		}
		if r, _ := w.room.book.Report(time.Now().UnixMilli(), false); r.Totals.Sessions != 2 {
			t.Errorf("a repeated join was counted: %+v", r.Totals)
		}
		w.finish()
	})
}

func TestRoomEndsWhenEmptyAndTheControlPlaneAgrees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.join("ann", 1)
		w.open("ann")
		w.sleep(5 * time.Second)
		w.data("ann", signal.TypeLeave, signal.Leave{})
		w.take("")
		w.sleep(19 * time.Second)
		if asked := w.take(signal.LinkEnding); len(asked) != 0 {
			t.Fatalf("asked to end before the empty timeout: %s", asked[0].Body)
		}
		w.sleep(1200 * time.Millisecond)
		asked := w.take(signal.LinkEnding)
		var ending signal.Ending
		if len(asked) == 0 || json.Unmarshal(asked[0].Body, &ending) != nil || ending.Reason != signal.ReasonEmpty || ending.Final || ending.JoinSeq != 1 {
			t.Fatalf("ending: %+v", ending)
		}
		if u := ending.Usage; !u.Final || u.Totals.ParticipantMS != 5000 || len(u.Sessions) != 1 || u.Sessions[0].LeaveReason != signal.ReasonLeft {
			t.Errorf("final usage %+v", u)
		}
		w.frame(signal.LinkEndingOK, struct{}{})
		w.ended(signal.ExitEnded, signal.ReasonEmpty)
	})
}

func TestJoinWinsAgainstEnding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.sleep(61 * time.Second)
		if len(w.take(signal.LinkEnding)) == 0 {
			t.Fatal("an unused room asks to end")
		}
		w.frame(signal.LinkKeep, signal.Keep{JoinSeq: 1})
		w.join("ann", 1)
		if got := w.toClient(); len(got) != 1 || got[0].Frame.Type != signal.TypeJoined {
			t.Fatalf("join after keep: %+v", got)
		}
		w.sleep(5 * time.Minute)
		if len(w.take(signal.LinkEnding)) != 0 {
			t.Error("an occupied room asks to end")
		}
		w.finish()
	})
}

func TestSIGTERMTellsParticipantsToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.join("ann", 1)
		w.open("ann")
		w.room.Terminate()
		w.sleep(time.Second)
		if e := last[signal.Ended](t, w.media["ann"], signal.TypeEnded); !e.Rejoin || e.Reason != signal.ReasonTerminated {
			t.Errorf("ended %+v", e)
		}
		asked := w.take(signal.LinkEnding)
		var ending signal.Ending
		if len(asked) == 0 || json.Unmarshal(asked[len(asked)-1].Body, &ending) != nil || !ending.Final || ending.Usage.Totals.Present != 0 {
			t.Fatalf("ending %+v of %d", ending, len(asked))
		}
		w.frame(signal.LinkEndingOK, struct{}{})
		w.ended(signal.ExitTerminated, signal.ReasonTerminated)
	})
}

func TestEndsWithoutAnAnswerAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.sleep(time.Hour + 30*time.Second) // unused: asks at 60 s, goes 20 s later
		w.ended(signal.ExitEnded, signal.ReasonUnused)
	})
}

func TestRefusedTaskStopsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.join("ann", 1)
		w.frame(signal.LinkRefused, signal.Refused{Code: "other_task"})
		w.ended(signal.ExitFenced, "refused: other_task")
		select {
		case <-w.media["ann"].closed:
		default:
			t.Error("its media goes on")
		}
	})
}

func TestNeverRegistered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.sleep(registerLimit + time.Second)
		w.ended(signal.ExitLost, "never registered")
	})
}

func TestLeaverFreesTheSeatAndOthersAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.join("ann", 1)
		w.join("bob", 1, want("ann/camera", 100, 100))
		w.open("bob")
		w.media["ann"].post(Event{Kind: EventDisconnected})
		w.sleep(lostGrace - time.Second)
		if len(w.media["bob"].seatsNow()) != 1 {
			t.Fatal("a lost path is not a leave")
		}
		w.sleep(2 * time.Second)
		if p := w.media["bob"].seatsNow(); len(p) != 0 {
			t.Errorf("bob's seats still carry %+v", p)
		}
		if m := last[signal.Participants](t, w.media["bob"], signal.TypeParticipants); len(m.Remove) != 1 || m.Remove[0] != "ann" {
			t.Errorf("participants %+v", m)
		}
		if m := last[signal.Seating](t, w.media["bob"], signal.TypeSeating); len(m.Seats) != 0 {
			t.Errorf("seating %+v", m)
		}
		w.finish()
	})
}

func TestRejoinReplaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.join("ann", 1)
		w.open("ann")
		first := w.media["ann"]
		w.sleep(time.Second)
		w.join("ann", 5)
		select {
		case <-first.closed:
		default:
			t.Error("the replaced media goes on")
		}
		if e := last[signal.Ended](t, first, signal.TypeEnded); e.Reason != signal.ReasonReplaced {
			t.Errorf("ended %+v", e)
		}
		r, _ := w.room.book.Report(time.Now().UnixMilli(), false)
		if r.Totals.Sessions != 2 || r.Totals.Present != 1 || r.Totals.PeakParticipants != 1 {
			t.Errorf("usage %+v", r.Totals)
		}
		w.finish()
	})
}

func TestBadInputHarmsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		for i, c := range []struct {
			name string
			edit func(*signal.Client)
			code string
		}{
			{"unknown field", func(c *signal.Client) { c.Frame.Body = json.RawMessage(`{"x":1}`) }, signal.CodeBadMessage},
			{"not an object", func(c *signal.Client) { c.Frame.Body = json.RawMessage(`[]`) }, signal.CodeBadMessage},
			{"may not publish", func(c *signal.Client) { c.Session.Grants.Publish = nil }, signal.CodeNotPermitted},
		} {
			w.joins++
			m := w.client(fmt.Sprint("p", i), 1, nil)
			c.edit(&m)
			w.frame(signal.LinkClient, m)
			got := w.toClient()
			var e signal.Error
			if len(got) != 1 || json.Unmarshal(got[0].Frame.Body, &e) != nil || e.Code != c.code {
				t.Errorf("%s: %+v %+v", c.name, got, e)
			}
		}
		w.refuse = signal.CodeBadOffer
		w.join("bad", 1)
		w.refuse = ""
		for _, id := range []string{"a", "b", "c", "d"} {
			w.join(id, 1)
		}
		var codes []string
		for _, m := range w.toClient() {
			var e signal.Error
			if m.Frame.Type == signal.TypeError && json.Unmarshal(m.Frame.Body, &e) == nil {
				codes = append(codes, e.Code)
			}
		}
		if fmt.Sprint(codes) != fmt.Sprint([]string{signal.CodeBadOffer, signal.CodeRoomFull}) {
			t.Errorf("codes %v", codes)
		}
		w.open("a")
		w.media["a"].post(Event{Kind: EventData, Data: []byte("{")})
		synctest.Wait()
		if e := last[signal.Error](t, w.media["a"], signal.TypeError); e.Code != signal.CodeBadMessage {
			t.Errorf("bad JSON: %+v", e)
		}
		for range 2 * dataBurst {
			w.data("a", signal.TypePing, struct{}{})
		}
		if e := last[signal.Error](t, w.media["a"], signal.TypeError); e.Code != signal.CodeRateLimited {
			t.Errorf("flood: %+v", e)
		}
		w.finish()
	})
}

func TestChatMuteViewAndSpeakers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.join("ann", 1)
		w.join("bob", 1)
		w.open("ann")
		w.open("bob")
		w.data("ann", signal.TypeChat, signal.Chat{Text: "hello", From: "mallory"})
		if c := last[signal.Chat](t, w.media["bob"], signal.TypeChat); c.From != "ann" || c.Name != "ANN" || c.Text != "hello" {
			t.Errorf("chat %+v", c)
		}
		w.data("bob", signal.TypeView, signal.View{Rev: 2, Wants: []signal.Want{want("ann/camera", 320, 180)}})
		if p := w.media["bob"].seatsNow()[0]; p.Video != signal.KindCamera || p.Width != 320 {
			t.Errorf("after the view: %+v", p)
		}
		w.data("bob", signal.TypeView, signal.View{Rev: 1, Wants: []signal.Want{}}) // late
		if p := w.media["bob"].seatsNow()[0]; p.Video != signal.KindCamera {
			t.Errorf("an older view won: %+v", p)
		}
		w.data("ann", signal.TypeMute, signal.Mute{Kind: signal.KindCamera, Muted: true})
		if m := last[signal.Seating](t, w.media["bob"], signal.TypeSeating); m.Seats[0].Paused != "muted" {
			t.Errorf("seating %+v", m)
		}
		w.media["ann"].mu.Lock()
		w.media["ann"].level = 20
		w.media["ann"].mu.Unlock()
		w.sleep(3 * time.Second)
		if s := last[signal.Speakers](t, w.media["bob"], signal.TypeSpeakers); s.Active != "ann" {
			t.Errorf("speakers %+v", s)
		}
		w.media["ann"].mu.Lock()
		pulses := w.media["ann"].pulses
		w.media["ann"].mu.Unlock()
		if pulses < 100 {
			t.Errorf("%d pulses in 3 s", pulses)
		}
		w.finish()
	})
}

func TestHeartbeatsCarryCumulativeUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.mu.Lock()
		w.acks = true
		w.mu.Unlock()
		w.register()
		w.join("ann", 1)
		w.take("")
		w.media["ann"].mu.Lock()
		w.media["ann"].in = usage.Bytes{Total: 1000}
		w.media["ann"].mu.Unlock()
		w.sleep(35 * time.Second)
		beats := w.take(signal.LinkHeartbeat)
		if len(beats) != 3 {
			t.Fatalf("%d heartbeats in 35 s", len(beats))
		}
		var seq uint64
		for _, f := range beats {
			var h signal.Heartbeat
			if err := json.Unmarshal(f.Body, &h); err != nil || h.Usage.Seq <= seq || h.Usage.Totals.BytesIn.Total != 1000 {
				t.Errorf("heartbeat %+v %v", h, err)
			}
			seq = h.Usage.Seq
		}
		w.finish()
	})
}
