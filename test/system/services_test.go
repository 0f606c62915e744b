package system_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"mayfly/shared/signal"
	"mayfly/test/robot"
	"mayfly/test/system"
)

// TestCallsOutliveTheTable, …TheEvents and …TheGateway take one service away, for
// MAYFLY_OUTAGE (five minutes) or some seconds, while two people talk. Their media must
// not notice; a room that empties meanwhile, and one that others try to make and to join,
// must come to the same as without; and every millisecond and byte must be in the bill.
func TestCallsOutliveTheTable(t *testing.T)   { t.Parallel(); outlive(t, "table") }
func TestCallsOutliveTheEvents(t *testing.T)  { t.Parallel(); outlive(t, "events") }
func TestCallsOutliveTheGateway(t *testing.T) { t.Parallel(); outlive(t, "gateway") }

// guest is somebody in a call, with its time: its session began between asked and joined,
// and ended between bye and left.
type guest struct {
	*robot.Robot
	visit
	bye time.Time
}

// without is a system that loses a service.
type without struct {
	t       *testing.T
	s       *system.System
	service string
	long    time.Duration
	product *product
	people  map[string]*guest

	talk, brief, late, made system.Room
	from, back              time.Time // the outage
	wg                      sync.WaitGroup
	eve                     chan *guest // who comes into late while the service is out
}

func outlive(t *testing.T, service string) {
	needWhole(t)
	w := &without{t: t, s: system.Start(t), service: service, long: outageLength(t, 4*time.Second), product: newProduct(t), people: map[string]*guest{}, eve: make(chan *guest, 1)}
	w.product.register(w.s)
	w.talk = w.s.Create([]string{"ann", "bob"}, nil)
	w.brief = w.s.Create([]string{"cat", "dan"}, nil)
	w.late = w.s.Create([]string{"eve"}, map[string]any{"unused_timeout_s": 1200})
	for i, name := range []string{"ann", "bob", "cat", "dan"} {
		room := []system.Room{w.talk, w.brief}[i/2]
		w.people[name] = w.enter(t.Context(), robot.Config{WS: w.s.WS, Ticket: room.Participants[i%2].Ticket, SoundOnly: true, Seats: 1, Trace: true})
		if w.people[name] == nil {
			t.Fatalf("%s does not get in", name)
		}
	}
	system.Until(t, 20*time.Second, "everybody hears", func() bool {
		for _, g := range w.people {
			if n, _ := g.Received(); n < 50 {
				return false
			}
		}
		return w.s.State(w.late.ID) == "live"
	})
	talking := w.s.TaskPIDs(w.talk.ID)

	w.s.Outage(service, true)
	w.from = time.Now()
	w.during()
	if now := w.s.TaskPIDs(w.talk.ID); len(talking) != 1 || !slices.Equal(talking, now) {
		t.Errorf("tasks %v became %v", talking, now)
	}
	w.s.Outage(service, false)
	w.back = time.Now()
	w.after()
}

// enter joins; nil if that is refused.
func (w *without) enter(ctx context.Context, cfg robot.Config) *guest {
	ctx, cancel := context.WithTimeout(ctx, w.long+time.Minute)
	defer cancel()
	g := &guest{visit: visit{asked: time.Now()}}
	var err error
	if g.Robot, err = robot.Join(ctx, cfg); err != nil {
		return nil
	}
	g.joined = time.Now()
	return g
}

// leave lets people go.
func (w *without) leave(names ...string) {
	w.t.Helper()
	for _, name := range names {
		g := w.people[name]
		g.bye = time.Now()
		if err := g.Leave(); err != nil {
			w.t.Errorf("%s: %v", name, err)
		}
		g.left = time.Now()
	}
}

// during is what people do while the service is out.
func (w *without) during() {
	t := w.t
	if w.service == "gateway" {
		for _, name := range []string{"ann", "bob"} {
			w.wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), w.long+time.Minute)
				defer cancel()
				if err := w.people[name].Reconnect(ctx, w.s.WS, rand.Float64); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
	}
	w.wg.Go(func() {
		for g := (*guest)(nil); g == nil && t.Context().Err() == nil; <-time.After(500 * time.Millisecond) {
			if g = w.enter(t.Context(), robot.Config{WS: w.s.WS, Ticket: w.late.Participants[0].Ticket, SoundOnly: true, Seats: 1}); g != nil {
				w.eve <- g
			}
		}
	})
	<-time.After(time.Second)
	w.leave("cat", "dan")
	w.ask()
	<-time.After(time.Until(w.from.Add(w.long)))
	w.heard()
	select {
	case g := <-w.eve:
		w.people["eve"] = g
	default:
	}
	if in := w.people["eve"] != nil; in != (w.service == "events") {
		t.Errorf("eve is in: %v", in)
	}
	for _, name := range []string{"ann", "bob"} {
		select {
		case <-w.people[name].Gone():
			if w.service != "gateway" {
				t.Errorf("%s has lost its place", name)
			}
		case <-w.people[name].Closed():
			t.Errorf("%s was put out", name)
		default:
		}
	}
	switch w.service {
	case "events":
		if u := w.s.Usage(w.brief.ID); u.Status != "open" {
			t.Errorf("the bill of a task whose end nobody has told of is %q", u.Status)
		}
	default:
		if pids := w.s.TaskPIDs(w.brief.ID); len(pids) != 1 {
			t.Errorf("tasks %v hold the last figures of the room that emptied, want one", pids)
		}
	}
}

// ask makes a room and looks at one: what is refused must be so in a way that can be
// understood.
func (w *without) ask() {
	t := w.t
	status, err := w.create()
	switch w.service {
	case "table":
		if err != nil || status != http.StatusServiceUnavailable || w.made.Code != "unavailable" {
			t.Errorf("create: %d %q %v, want 503 unavailable", status, w.made.Code, err)
		}
		if fault := w.watch(); fault.Code != signal.CodeInternal || !fault.Retryable {
			t.Errorf("watch: %+v, want internal, to be repeated", fault)
		}
	case "events":
		if err != nil || status != http.StatusCreated {
			t.Errorf("create: %d %v", status, err)
		}
	case "gateway":
		if err == nil {
			t.Errorf("create: %d without a gateway", status)
		}
	}
}

// create makes a room that nobody comes to, and may be repeated.
func (w *without) create() (status int, err error) {
	w.made = system.Room{}
	return w.s.Call("POST", "/v1/rooms", map[string]any{"unused_timeout_s": 5}, &w.made, "Idempotency-Key", "made-"+w.t.Name())
}

// watch says what a client is told that wants to know of a room.
func (w *without) watch() (fault signal.Error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, w.s.WS, &websocket.DialOptions{Subprotocols: []string{signal.Version}})
	if err != nil {
		w.t.Error(err)
		return fault
	}
	defer func() { _ = ws.CloseNow() }()
	data, err := signal.Encode(signal.TypeWatch, 1, signal.Watch{Ticket: w.late.Participants[0].Ticket})
	if err == nil {
		err = ws.Write(ctx, websocket.MessageText, data)
	}
	if err == nil {
		_, data, err = ws.Read(ctx)
	}
	f, ferr := signal.ParseFrame(data, signal.MaxMessageBytes)
	if err != nil || ferr != nil || f.Type != signal.TypeError || json.Unmarshal(f.Body, &fault) != nil {
		w.t.Errorf("watch is answered by %q: %v %v", data, err, ferr)
	}
	return fault
}

// heard looks at the sound that ann and bob had during the outage.
func (w *without) heard() {
	until := time.Now()
	for _, name := range []string{"ann", "bob"} {
		var there []robot.Arrival
		for _, a := range w.people[name].Arrivals() {
			if a.At >= w.from.UnixNano() && a.At < until.UnixNano() {
				there = append(there, a)
			}
		}
		if len(there) == 0 {
			w.t.Errorf("%s heard nothing", name)
			continue
		}
		gap, _ := robot.Gap(there[0].From, there)
		rate := float64(len(there)) / until.Sub(w.from).Seconds()
		w.t.Logf("without the %s for %v %s heard %d packets, %.1f a second, longest gap %v", w.service, until.Sub(w.from).Round(time.Millisecond), name, len(there), rate, gap)
		// Sound is 50 packets a second; the machine may be busy.
		if rate < 40 || gap > 4*time.Second {
			w.t.Errorf("the outage reached what %s hears", name)
		}
	}
}

// after is what must be so when the service is back.
func (w *without) after() {
	t := w.t
	system.Until(t, time.Minute, "the room is made after all", func() bool {
		status, err := w.create()
		return err == nil && status == http.StatusCreated
	})
	w.wg.Wait()
	if w.people["eve"] == nil {
		w.people["eve"] = <-w.eve
	}
	t.Logf("eve is in %v after the service came back, having asked for %v", w.people["eve"].joined.Sub(w.back).Round(time.Millisecond), w.people["eve"].joined.Sub(w.from).Round(time.Millisecond))
	w.bill(w.brief, "cat", "dan")
	if now := time.Now(); w.s.State(w.talk.ID) != "live" || len(w.s.TaskPIDs(w.talk.ID)) != 1 {
		t.Errorf("%v after the outage the room is %s with tasks %v", now.Sub(w.back), w.s.State(w.talk.ID), w.s.TaskPIDs(w.talk.ID))
	}
	w.leave("ann", "bob", "eve")
	w.bill(w.talk, "ann", "bob")
	w.bill(w.late, "eve")
	w.bill(w.made)
	w.told(w.talk, w.brief, w.late, w.made)
	w.s.Stop()
	t.Logf("%+v", w.s.Audit())
}

// bill holds a room's bill to what its people saw.
func (w *without) bill(room system.Room, names ...string) {
	t := w.t
	u := settled(t, w.s, room.ID, time.Minute)
	if u.Quality != "exact" || len(u.Epochs) != 1 || len(u.Participants) != len(names) {
		t.Errorf("room %s: %s, %d epochs, %d sessions", room.ID, u.Quality, len(u.Epochs), len(u.Participants))
	}
	var sum int64
	for _, p := range u.Participants {
		sum += p.MS
	}
	if sum != u.Totals.ParticipantMS {
		t.Errorf("room %s: sessions of %d ms, in all %d", room.ID, sum, u.Totals.ParticipantMS)
	}
	for _, name := range names {
		g := w.people[name]
		var packets, bytes int64
		seats, _, _ := g.Report()
		for _, seat := range seats {
			packets, bytes = packets+seat.Audio.Packets, bytes+seat.Audio.Bytes
		}
		i := slices.IndexFunc(u.Participants, func(p system.Session) bool { return p.Participant == g.Joined.Participant })
		if i < 0 || u.Participants[i].Bounded {
			t.Errorf("%s: %+v", name, u.Participants)
			continue
		}
		// What was received was sent, with at most 16 bytes of SRTP's more a packet; a few
		// packets were on their way when it left.
		got, ms := u.Participants[i].BytesOut.Audio, u.Participants[i].MS
		most := bytes + 16*packets + 25*200
		stay, longest := g.bye.Sub(g.joined).Milliseconds(), g.left.Sub(g.asked).Milliseconds()
		t.Logf("%s: %d ms of %d to %d, %d bytes of sound of %d in %d packets", name, ms, stay, longest, got, bytes, packets)
		if ms < stay-2 || ms > longest+2 { // two clocks are read, each to the millisecond
			t.Errorf("%s: %d ms are billed, want %d to %d", name, ms, stay, longest)
		}
		if got < bytes || got > most {
			t.Errorf("%s: %d bytes of sound are billed, want %d to %d", name, got, bytes, most)
		}
	}
}

// told holds what the product heard of the rooms to the log, and the log to itself.
func (w *without) told(rooms ...system.Room) {
	for _, room := range rooms {
		var log struct{ Events []productRead }
		system.Until(w.t, 90*time.Second, fmt.Sprintf("the product hears all of %s", room.ID), func() bool {
			log.Events = nil
			if status, err := w.s.Call("GET", "/v1/events?limit=100&room="+room.ID, nil, &log); err != nil || status != http.StatusOK {
				return false
			}
			heard := map[uint64]bool{}
			for _, e := range w.product.of(room.ID) {
				heard[e.Seq] = true
			}
			return w.product.has(room.ID, "com.mayfly.usage.closed") && len(heard) == len(log.Events)
		})
		for i, e := range log.Events {
			if e.Seq != uint64(i)+1 { //nolint:gosec // i counts
				w.t.Errorf("room %s: event %d of the log is %+v", room.ID, i+1, e)
			}
		}
	}
}
