package room

import (
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
	health  Health
	codec   string // of its videos
	faulty  bool   // it has a bug: asking for the codec panics
	counts  Counts
	primed  []Placement
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
func (m *fakeMedia) Prime(kind string, width, height int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.primed = append(m.primed, Placement{Video: kind, Width: width, Height: height})
}
func (m *fakeMedia) Layers(kind string) []Layer {
	switch kind {
	case signal.KindCamera:
		return []Layer{{RID: "q", Width: 320, Height: 180}, {RID: "h", Width: 640, Height: 360}, {RID: "f", Width: 1280, Height: 720}}
	case signal.KindScreen:
		return []Layer{{Width: 1920, Height: 1080}}
	}
	return nil
}
func (m *fakeMedia) Codec(string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.faulty {
		panic("a bug")
	}
	return m.codec
}
func (m *fakeMedia) Paused(int) string       { return "" }
func (m *fakeMedia) Counts() Counts          { m.mu.Lock(); defer m.mu.Unlock(); return m.counts }
func (m *fakeMedia) Health() Health          { m.mu.Lock(); defer m.mu.Unlock(); return m.health }
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

func newWorld(t *testing.T, change ...func(*Config)) *world {
	w := &world{t: t, media: map[string]*fakeMedia{}, exit: make(chan Exit, 1)}
	cfg := Config{
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
	}
	for _, c := range change {
		c(&cfg)
	}
	w.room = New(cfg)
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
