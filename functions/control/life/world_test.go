package life

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"mayfly/functions/control"
	"mayfly/functions/control/controltest"
	"mayfly/functions/control/ledger"
	"mayfly/functions/store"
	"mayfly/infra/local/boltstore"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
	"mayfly/shared/usage"
)

// world is a control plane over the embedded store, with the rest of AWS faked.
type world struct {
	t     *testing.T
	ctx   context.Context
	clock *controltest.Clock
	store *boltstore.Store
	fleet *controltest.Fleet
	post  *controltest.Post
	life  *Life
	seq   map[string]uint64      // report seq by connection
	words int64                  // of standby tasks so far
	asked []control.StartRequest // that refuse saw
}

func newWorld(t *testing.T) *world {
	t.Helper()
	clock := controltest.NewClock()
	s, err := boltstore.OpenWith(filepath.Join(t.TempDir(), "db"), boltstore.Options{Now: clock.Now, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{
		t: t, ctx: context.Background(), clock: clock, store: s, fleet: controltest.NewFleet(clock), post: controltest.NewPost(),
		seq: map[string]uint64{},
	}
	w.life = &Life{Store: s, Fleet: w.fleet, Post: w.post, Now: clock.Now, Log: slog.New(slog.DiscardHandler)}
	return w
}

func request(key string) CreateRequest {
	return CreateRequest{
		Tenant: "acme", IdempotencyKey: key, BodyHash: "h1", Region: "local",
		Limits: signal.RoomLimits{MaxParticipants: 10, UnusedTimeoutS: 300, EmptyTimeoutS: 20, MaxDurationS: 3600},
	}
}

func (w *world) create() Room {
	w.t.Helper()
	made, err := w.life.Create(w.ctx, request(""))
	if err != nil {
		w.t.Fatal(err)
	}
	return made.Room
}

func (w *world) get(room string) Room {
	w.t.Helper()
	r, err := w.life.Get(w.ctx, room)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// want checks the room's state and epoch.
func (w *world) want(room string, state lifecycle.State, epoch int) Room {
	w.t.Helper()
	r := w.get(room)
	if r.State != state || r.Epoch != epoch {
		w.t.Fatalf("room is %s epoch %d (%s), want %s epoch %d", r.State, r.Epoch, r.Reason, state, epoch)
	}
	return r
}

// liveRoom is a created room whose task has registered on conn "link1".
func (w *world) liveRoom() Room {
	w.t.Helper()
	r := w.create()
	w.register(r.ID, 1, "link1", signal.LinkRegistered)
	return w.want(r.ID, lifecycle.Live, 1)
}

// task is the room's task of that epoch.
func (w *world) task(room string, epoch int) control.Task {
	w.t.Helper()
	for _, t := range w.fleet.Tasks() {
		if t.StartedBy == startedBy(room, epoch) {
			return t
		}
	}
	w.t.Fatalf("no task for epoch %d", epoch)
	return control.Task{}
}

func identity(arn string) TaskIdentity {
	return TaskIdentity{TaskID: arn[strings.LastIndex(arn, "/")+1:], SourceIP: "203.0.113.7"}
}

func (w *world) register(room string, epoch int, conn, want string) *Reply {
	w.t.Helper()
	arn := w.task(room, epoch).ARN
	reply, err := w.life.Register(w.ctx, control.Conn{ID: conn, Task: true}, identity(arn),
		signal.Register{Room: room, Epoch: epoch, TaskARN: arn})
	if err != nil {
		w.t.Fatal(err)
	}
	w.replied(reply, want)
	return reply
}

// replied checks a reply's type, "" for none, and a Refused's code after a space.
func (w *world) replied(r *Reply, want string) {
	w.t.Helper()
	got := ""
	if r != nil {
		got = r.Type
		if ref, ok := r.Body.(signal.Refused); ok {
			got += " " + ref.Code
		}
	}
	if got != want {
		w.t.Fatalf("reply %q, want %q", got, want)
	}
}

func (w *world) report(conn string, present int, sessions ...usage.Session) usage.Report {
	w.seq[conn]++
	rep := usage.Report{Seq: w.seq[conn], AtMS: w.clock.MS(), Sessions: sessions}
	rep.Totals.Present = present
	for _, s := range sessions {
		rep.Totals.ParticipantMS += s.ParticipantMS
		rep.Totals.Sessions++
	}
	return rep
}

func (w *world) heartbeat(conn string, rep usage.Report) *Reply {
	w.t.Helper()
	reply, err := w.life.Heartbeat(w.ctx, control.Conn{ID: conn, Task: true}, signal.Heartbeat{Usage: rep})
	if err != nil {
		w.t.Fatal(err)
	}
	return reply
}

func (w *world) ending(conn string, e signal.Ending) *Reply {
	w.t.Helper()
	e.Usage = w.report(conn, 0)
	e.Usage.Final = true
	reply, err := w.life.Ending(w.ctx, control.Conn{ID: conn, Task: true}, e)
	if err != nil {
		w.t.Fatal(err)
	}
	return reply
}

// changed delivers ECS's events.
func (w *world) changed(tasks ...control.Task) {
	w.t.Helper()
	for _, t := range tasks {
		if err := w.life.TaskChanged(w.ctx, t); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) sweep() {
	w.t.Helper()
	if err := w.life.Sweep(w.ctx); err != nil {
		w.t.Fatal(err)
	}
}

// watch adds a client connection that watches the room.
func (w *world) watch(room, conn string) control.Conn {
	w.t.Helper()
	w.put(
		&control.Connection{ID: conn, Kind: control.ConnClient, Room: room, CreatedMS: w.clock.MS()},
		&control.RoomConn{Room: room, Conn: conn, Kind: control.ConnClient, CreatedMS: w.clock.MS()},
	)
	return control.Conn{ID: conn}
}

// told lists the states that a connection was told since the last call.
func (w *world) told(c control.Conn) string {
	w.t.Helper()
	var states []string
	for _, f := range w.post.Take(c) {
		var m signal.Room
		if err := json.Unmarshal(f.Body, &m); err != nil || f.Type != signal.TypeRoom {
			w.t.Fatalf("frame %s: %v", f.Type, err)
		}
		states = append(states, fmt.Sprintf("%s/%s %d", m.State, m.Phase, m.Epoch))
	}
	return strings.Join(states, ", ")
}

// events lists the room's events, and checks that there is no gap.
func (w *world) events(room string) []string {
	w.t.Helper()
	all, err := control.LoadAll[control.Event](w.ctx, w.store, control.RoomPK(room), control.EventPrefix)
	if err != nil {
		w.t.Fatal(err)
	}
	var types []string
	for i, e := range all {
		if e.Seq != uint64(i+1) || e.ID != fmt.Sprintf("evt_%s_%d", room, e.Seq) {
			w.t.Fatalf("event %d has seq %d, id %s", i+1, e.Seq, e.ID)
		}
		types = append(types, e.Type)
	}
	if got := w.get(room).EventSeq; got != uint64(len(all)) {
		w.t.Fatalf("room counts %d events, there are %d", got, len(all))
	}
	return types
}

func (w *world) usage(room string) ledger.View {
	w.t.Helper()
	v, err := w.life.ledger().View(w.ctx, room, ledger.Include{Participants: true, Costs: true})
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

func (w *world) quota() (rooms int) {
	w.t.Helper()
	all, err := control.LoadAll[control.Quota](w.ctx, w.store, control.TenantPK("acme"), control.QuotaPrefix)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, q := range all {
		rooms += q.Rooms
	}
	return rooms
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Errorf("%s: got %s, want %s", what, g, w)
	}
}

// put stores documents that are not there yet.
func (w *world) put(docs ...control.Doc) {
	w.t.Helper()
	var writes []store.Write
	for _, d := range docs {
		wr, err := control.Put(d)
		if err != nil {
			w.t.Fatal(err)
		}
		writes = append(writes, wr)
	}
	if err := w.store.Commit(w.ctx, writes...); err != nil {
		w.t.Fatal(err)
	}
}

// Faults, shorter.
const (
	none       = controltest.NoFault
	fails      = controltest.Fails
	tookEffect = controltest.TookEffect
)

// onCall is a fault at the nth call of a method.
func onCall(name string, nth int, f controltest.Fault) func(string) controltest.Fault {
	n := 0
	return func(call string) controltest.Fault {
		if call != name {
			return none
		}
		if n++; n == nth {
			return f
		}
		return none
	}
}
