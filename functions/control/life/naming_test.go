package life

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"mayfly/functions/control"
	"mayfly/shared/signal"
	"mayfly/shared/usage"
)

// zone is a DNS zone: records that take half a minute to be told to all its servers.
type zone struct {
	now func() time.Time

	mu      sync.Mutex
	records map[string]string    // guarded by mu
	changes map[string]time.Time // guarded by mu
	calls   map[string]int       // guarded by mu
	fail    error                // guarded by mu: of every call
	late    func()               // guarded by mu: in Point, before it takes effect
}

func (z *zone) Name(task string) (string, bool) { return task + ".relay.example", false }

func (z *zone) Certificate(_ context.Context, name string) (*signal.RelayTLS, error) {
	return &signal.RelayTLS{Name: name, Chain: "chain", Key: "key"}, nil
}

func (z *zone) Point(_ context.Context, name, address string) (string, error) {
	z.mu.Lock()
	late, fail := z.late, z.fail
	z.calls["point"]++
	z.mu.Unlock()
	if late != nil {
		late()
	}
	if fail != nil {
		return "", fail
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records[name], z.changes[name] = address, z.now()
	return name, nil
}

func (z *zone) Spread(_ context.Context, change string) (bool, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.calls["spread"]++
	return z.now().Sub(z.changes[change]) >= 30*time.Second, z.fail
}

func (z *zone) Remove(_ context.Context, name, address string) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.calls["remove"]++
	if z.fail != nil {
		return z.fail
	}
	if at, there := z.records[name]; there && at != address {
		return errors.New("another value")
	}
	delete(z.records, name)
	return nil
}

// namedWorld is a world whose relays have names.
func namedWorld(t *testing.T) (*world, *zone) {
	w := newWorld(t)
	z := &zone{now: w.clock.Now, records: map[string]string{}, changes: map[string]time.Time{}, calls: map[string]int{}}
	w.life.Naming = z
	return w, z
}

// nameless is a heartbeat of a task whose relay has no name, and the name it is told.
func (w *world) nameless(conn string) *signal.RelayTLS {
	w.t.Helper()
	w.seq[conn]++
	reply, err := w.life.Heartbeat(w.ctx, control.Conn{ID: conn, Task: true}, signal.Heartbeat{
		Nameless: true, Usage: usage.Report{Seq: w.seq[conn], AtMS: w.clock.MS()},
	})
	if err != nil || reply == nil || reply.Type != signal.LinkAck {
		w.t.Fatalf("heartbeat: %+v %v", reply, err)
	}
	return reply.Body.(signal.Ack).RelayTLS
}

// after does what a reply leaves to be done once it is sent.
func (w *world) after(r *Reply) {
	if r != nil && r.After != nil {
		r.After(w.ctx)
	}
}

// A task is told its relay's name when the name leads there, and not a moment before.
func TestNameIsToldWhenItLeadsThere(t *testing.T) {
	w, z := namedWorld(t)
	r := w.create()
	reply := w.register(r.ID, 1, "link1", signal.LinkRegistered)
	if reply.Body.(signal.Registered).RelayTLS != nil || len(z.records) != 0 {
		t.Fatal("the registration waits for a name, or brings one that leads nowhere")
	}
	w.after(reply)
	want := control.TaskID(w.task(r.ID, 1).ARN) + ".relay.example"
	if z.records[want] != "203.0.113.7" {
		t.Fatalf("records %v", z.records)
	}
	var told *signal.RelayTLS
	waited := 0
	for ; told == nil && waited < 100; waited += 10 {
		w.clock.Advance(10 * time.Second)
		told = w.nameless("link1")
	}
	if told == nil || told.Name != want || told.Key != "key" || waited != 30 {
		t.Errorf("told %+v after %d s, want %s after 30", told, waited, want)
	}
	if z.calls["point"] != 1 || z.calls["spread"] != 2 {
		t.Errorf("calls %v, want one change and two questions", z.calls)
	}
	again := w.register(r.ID, 1, "link1", signal.LinkRegistered)
	if tls := again.Body.(signal.Registered).RelayTLS; tls == nil || tls.Name != want || again.After != nil {
		t.Errorf("the next registration brings %+v", tls)
	}
}

// A zone that refuses holds up no room, and is asked again by the heartbeats.
func TestBusyZoneIsAskedAgain(t *testing.T) {
	w, z := namedWorld(t)
	r := w.create()
	z.fail = control.ErrNamingBusy
	w.after(w.register(r.ID, 1, "link1", signal.LinkRegistered))
	w.clock.Advance(10 * time.Second)
	if w.nameless("link1") != nil || len(z.records) != 0 {
		t.Fatal("named by a zone that refuses")
	}
	z.fail = nil
	for range 5 {
		w.clock.Advance(10 * time.Second)
		if w.nameless("link1") != nil {
			return
		}
	}
	t.Errorf("never named; calls %v", z.calls)
}

// The record goes with its task, by ECS's event.
func TestNameGoesWithItsTask(t *testing.T) {
	w, z := namedWorld(t)
	r := w.create()
	w.after(w.register(r.ID, 1, "link1", signal.LinkRegistered))
	w.fleet.Kill(w.task(r.ID, 1).ARN)
	if err := w.life.TaskChanged(w.ctx, w.task(r.ID, 1)); err != nil {
		t.Fatal(err)
	}
	if len(z.records) != 0 || w.names() != 0 {
		t.Errorf("records %v, %d items", z.records, w.names())
	}
}

// names counts the items.
func (w *world) names() int {
	w.t.Helper()
	all, err := control.LoadAll[control.RelayName](w.ctx, w.store, control.NamesPK, control.NamePrefix)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(all)
}

// Whatever is lost on the way, no record stays: the event, the removal, or a call that
// takes effect when its task has stopped already.
func TestNoRecordIsLeft(t *testing.T) {
	for name, tc := range map[string]func(w *world, z *zone, r Room){
		"the event is lost": func(w *world, _ *zone, r Room) {
			w.after(w.register(r.ID, 1, "link1", signal.LinkRegistered))
			w.fleet.Kill(w.task(r.ID, 1).ARN)
		},
		"the zone refuses to remove": func(w *world, z *zone, r Room) {
			w.after(w.register(r.ID, 1, "link1", signal.LinkRegistered))
			z.fail = control.ErrNamingBusy
			w.fleet.Kill(w.task(r.ID, 1).ARN)
			if err := w.life.TaskChanged(w.ctx, w.task(r.ID, 1)); err != nil {
				w.t.Error(err)
			}
			z.fail = nil
		},
		"the record is made after its removal": func(w *world, z *zone, r Room) {
			z.late = func() {
				w.fleet.Kill(w.task(r.ID, 1).ARN)
				for range 2 { // the event comes twice
					if err := w.life.TaskChanged(w.ctx, w.task(r.ID, 1)); err != nil {
						w.t.Error(err)
					}
				}
			}
			w.after(w.register(r.ID, 1, "link1", signal.LinkRegistered))
			if len(z.records) != 1 {
				w.t.Errorf("records %v: this test makes no orphan", z.records)
			}
			z.late = nil
		},
		"the process ends within the call": func(w *world, z *zone, r Room) {
			z.fail = errors.New("killed")
			w.after(w.register(r.ID, 1, "link1", signal.LinkRegistered))
			z.fail = nil
			arn := w.task(r.ID, 1).ARN
			z.records[control.TaskID(arn)+".relay.example"] = "203.0.113.7"
			w.fleet.Kill(arn)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, z := namedWorld(t)
			w.t = t
			tc(w, z, w.create())
			for range 6 {
				w.clock.Advance(time.Minute)
				if err := w.life.Sweep(w.ctx); err != nil {
					t.Error(err)
				}
			}
			if len(z.records) != 0 || w.names() != 0 {
				t.Errorf("records %v and %d items are left", z.records, w.names())
			}
		})
	}
}

// A running task keeps its name, however often and however late the sweep looks.
func TestSweepLeavesNamesOfTheLiving(t *testing.T) {
	w, z := namedWorld(t)
	r := w.create()
	w.after(w.register(r.ID, 1, "link1", signal.LinkRegistered))
	for range 5 {
		w.clock.Advance(time.Minute)
		w.nameless("link1")
		if err := w.life.sweepNames(w.ctx, nil); err != nil { // as if ECS's list were behind
			t.Error(err)
		}
	}
	if len(z.records) != 1 || w.names() != 1 {
		t.Errorf("records %v, %d items", z.records, w.names())
	}
}

// Without a zone nothing of this happens.
func TestNoZoneNoNames(t *testing.T) {
	w := newWorld(t)
	r := w.create()
	if reply := w.register(r.ID, 1, "link1", signal.LinkRegistered); reply.After != nil || w.nameless("link1") != nil {
		t.Error("a name without a zone")
	}
	if err := w.life.Sweep(w.ctx); err != nil || w.names() != 0 {
		t.Errorf("%v, %d items", err, w.names())
	}
	if strings.Contains(control.TaskID("arn:aws:ecs:eu:1:task/mayfly/0a1b"), "/") {
		t.Error("a task's id is the last part of its ARN")
	}
}
