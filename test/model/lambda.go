package model

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/entry"
	"mayfly/functions/store"
)

// errCrashed is the error of every call of an invocation that crashed.
var errCrashed = errors.New("model: the function crashed")

// errAWS is an answer that says nothing about whether the call took effect.
var errAWS = errors.New("model: no answer")

// kind is one of the functions.
type kind int

const (
	roomsFn kind = iota
	socketFn
	lifecycleFn
	deliverFn
	functions
)

func (k kind) String() string { return [...]string{"rooms", "socket", "lifecycle", "deliver"}[k] }

// timeoutMS is how long an invocation may take, as in the templates.
var timeoutMS = [functions]int64{29_000, 29_000, 60_000, 60_000}

// function is one Lambda function: its idle sandboxes, and all there are.
type function struct {
	w    *World
	kind kind
	idle []*sandbox
	all  []*sandbox
}

// sandbox is an execution environment. It serves one invocation at a time, and keeps
// what the function keeps in memory, until an invocation crashes in it.
type sandbox struct {
	f   *function
	inv *invocation // nil while idle
	of  int         // the generation of its configuration

	rooms     entry.HTTPHandler
	socket    entry.SocketHandler
	lifecycle entry.LifecycleHandler
	deliver   entry.DeliverHandler
}

// invocation is one call of a function. It is a coroutine: step runs it on.
type invocation struct {
	box      *sandbox
	label    string
	actor    uint64
	calls    uint32 // of the store, the fleet and the gateway so far
	skewMS   int64
	deadline int64
	dead     bool
	yield    func(ms int64) bool
	next     func() (int64, bool)
	stop     func()
	done     func(crashed bool)
}

// deploy makes the functions.
func (w *World) deploy() error {
	for k := range functions {
		w.funcs[k] = &function{w: w, kind: k}
	}
	_, err := w.funcs[roomsFn].sandbox() // a wrong configuration is found here
	return err
}

// invoke calls a function. run is its handler's call; done hears of the end, and
// whether there was no answer. label and actor name the invocation.
func (w *World) invoke(k kind, label string, actor uint64, run func(context.Context, *sandbox), done func(crashed bool)) {
	f := w.funcs[k]
	box, err := f.sandbox()
	if err != nil {
		w.fail("%v", err)
		return
	}
	inv := &invocation{box: box, label: label, actor: actor, deadline: w.now + timeoutMS[k], done: done}
	if v, yes := w.chance.Draw(Skew, actor, 0); yes {
		inv.skewMS = int64(v%40_001) - 20_000
	}
	box.inv = inv
	w.inflight++
	w.invocations++
	inv.next, inv.stop = iter.Pull(func(yield func(int64) bool) {
		inv.yield = yield
		run(context.Background(), box)
	})
	inv.step()
}

// step runs the invocation until it stands still or ends.
func (i *invocation) step() {
	f := i.box.f
	ms, more := i.next()
	if more {
		f.w.in(ms, i.step)
		return
	}
	f.w.inflight--
	i.box.inv = nil
	if !i.dead && i.box.of == f.w.generation {
		f.idle = append(f.idle, i.box)
	}
	i.done(i.dead)
}

// sandbox finds an idle sandbox, or makes one.
func (f *function) sandbox() (*sandbox, error) {
	if n := len(f.idle); n > 0 {
		box := f.idle[n-1]
		f.idle = f.idle[:n-1]
		return box, nil
	}
	box := &sandbox{f: f, of: f.w.generation}
	if err := box.init(); err != nil {
		return nil, err
	}
	f.all = append(f.all, box)
	return box, nil
}

// stop ends the invocations that stand still: every call fails from now on.
func (f *function) stop() {
	for _, box := range f.all {
		if box.inv != nil {
			box.inv.dead = true
			box.inv.stop()
		}
	}
}

// init makes the function's handler.
func (b *sandbox) init() error {
	cfg, err := entry.ConfigFromEnv(func(name string) string { return environment[name] })
	if err != nil {
		return err
	}
	cfg.Life.Retry = control.Retry{Sleep: b.sleep, Random: b.random}
	cfg.Life.Rules, cfg.Life.MaxRooms, cfg.Life.Pool = b.f.w.breaks.rules(), b.f.w.quota, b.f.w.pool
	cfg.Life.Beside = func(_, n int, do func(int)) {
		for i := range n {
			do(i)
		}
	}
	d := entry.Deps{
		Sender: &receiver{b},
		Store:  tableOf{b}, Fleet: fleetOf{b}, Post: postOf{b}, Now: b.now, Wait: b.sleep, Config: cfg, Log: b.f.w.log,
	}
	switch b.f.kind {
	case roomsFn:
		b.rooms, err = entry.Rooms(d)
	case socketFn:
		b.socket = entry.Socket(d)
	case lifecycleFn:
		b.lifecycle = entry.Lifecycle(d)
	case deliverFn:
		d.Log = slog.New(&deliveries{b})
		b.deliver, err = entry.Deliver(d)
	}
	return err
}

// now is the time by the sandbox's clock.
func (b *sandbox) now() time.Time {
	t := b.f.w.time()
	if b.inv != nil {
		t = t.Add(time.Duration(b.inv.skewMS) * time.Millisecond)
	}
	return t
}

// random is a number in [0, 1), by the place where it is asked for. There are few, so
// that those who choose by chance choose the same.
func (b *sandbox) random() float64 {
	return float64(mix(b.inv.actor, uint64(b.inv.calls), 11)%3) / 3
}

// sleep stands still.
func (b *sandbox) sleep(_ context.Context, d time.Duration) error {
	return b.stand(max(1, d.Milliseconds()))
}

// stand lets others run for some time. An invocation that takes too long is ended.
func (b *sandbox) stand(ms int64) error {
	i := b.inv
	if i.dead {
		return errCrashed
	}
	if b.f.w.now+ms > i.deadline {
		ms = max(0, i.deadline-b.f.w.now)
		if i.yield(ms) {
			b.f.w.say("%s timed out", i.label)
		}
		i.dead = true
		return errCrashed
	}
	if !i.yield(ms) {
		i.dead = true
		return errCrashed
	}
	return nil
}

// read is a call without effect.
func (b *sandbox) read() error {
	i, c := b.inv, b.f.w.chance
	if i.dead {
		return errCrashed
	}
	i.calls++
	if ms := b.f.w.takes(i); ms > 0 {
		if err := b.stand(ms); err != nil {
			return err
		}
	}
	if v, yes := c.Draw(Pause, i.actor, i.calls); yes {
		if err := b.pause(v); err != nil {
			return err
		}
	}
	return nil
}

// pause stands still for a moment, or for seconds.
func (b *sandbox) pause(v uint32) error {
	ms := int64(1) << (v % 7) // up to 64 ms, in which others may come by
	if v>>8&3 == 0 {
		ms <<= 7 // or up to 8 s
	}
	b.f.w.say("%s stands still for %d ms before call %d", b.inv.label, ms, b.inv.calls)
	return b.stand(ms)
}

// effect is a call that changes something: the function may crash before it or after.
func (b *sandbox) effect(what string, do func() error) error {
	if err := b.read(); err != nil {
		return err
	}
	i, w := b.inv, b.f.w
	if v, yes := w.chance.Draw(Crash, i.actor, i.calls); yes {
		i.dead = true
		if v&1 == 0 {
			w.say("%s crashes before %s", i.label, what)
			return errCrashed
		}
		err := do()
		w.say("%s crashes after %s (%v)", i.label, what, err)
		return errCrashed
	}
	return do()
}

// tableOf is the table as a sandbox sees it.
type tableOf struct{ b *sandbox }

// refused says whether the table refuses a read.
func (t tableOf) refused() error {
	if err := t.b.read(); err != nil {
		return err
	}
	i, w := t.b.inv, t.b.f.w
	if w.out(dynamo) {
		return store.ErrThrottled
	}
	if _, yes := w.chance.Draw(BadRead, i.actor, i.calls); yes {
		w.say("%s: a read fails", i.label)
		return errAWS
	}
	if _, yes := w.chance.Draw(Throttle, i.actor, i.calls); yes {
		w.say("%s: a read is throttled", i.label)
		return store.ErrThrottled
	}
	return nil
}

func (t tableOf) Get(ctx context.Context, k store.Key) (store.Item, error) {
	if err := t.refused(); err != nil {
		return store.Item{}, err
	}
	return t.b.f.w.table.Get(ctx, k)
}

func (t tableOf) Query(ctx context.Context, pk, prefix string, q store.QueryOptions) (store.Page, error) {
	if err := t.refused(); err != nil {
		return store.Page{}, err
	}
	return t.b.f.w.table.Query(ctx, pk, prefix, q)
}

func (t tableOf) Index(ctx context.Context, pk, upTo string, q store.QueryOptions) (store.Page, error) {
	if err := t.refused(); err != nil {
		return store.Page{}, err
	}
	return t.b.f.w.table.Index(ctx, pk, upTo, q)
}

func (t tableOf) Commit(ctx context.Context, writes ...store.Write) error {
	w, i := t.b.f.w, t.b.inv
	if ms := w.breaks.dawdle(writes); ms > 0 {
		if err := t.b.stand(ms); err != nil {
			return err
		}
	}
	return t.b.effect(kinds(writes), func() error {
		if w.out(dynamo) {
			return store.ErrThrottled
		}
		if _, yes := w.chance.Draw(Throttle, i.actor, i.calls); yes {
			w.say("%s: commit of %s is throttled", i.label, kinds(writes))
			return store.ErrThrottled
		}
		if _, yes := w.chance.Draw(LostRace, i.actor, i.calls); yes {
			w.say("%s: commit of %s is cancelled", i.label, kinds(writes))
			return &store.ConflictError{Key: writes[0].Item.Key, Index: -1}
		}
		err := w.breaks.commit(ctx, w.table, writes)
		if w.trace {
			w.say("%s commits %s: %v", i.label, w.describe(writes), errText(err))
		}
		if _, yes := w.chance.Draw(LostAnswer, i.actor, i.calls); yes {
			w.say("%s: the answer is lost", i.label)
			return errAWS
		}
		return err
	})
}

func errText(err error) string {
	if err == nil {
		return "ok"
	}
	return err.Error()
}

// kinds names what a commit writes.
func kinds(writes []store.Write) string {
	text := ""
	for n, wr := range writes {
		if n > 0 {
			text += "+"
		}
		switch wr.Op {
		case store.Delete:
			text += "-" + wr.Item.SK
		case store.Check:
			text += "?" + wr.Item.SK
		default:
			text += wr.Item.Kind
		}
	}
	return text
}

// fleetOf is ECS as a sandbox sees it.
type fleetOf struct{ b *sandbox }

func (f fleetOf) Start(_ context.Context, r control.StartRequest) (t control.Task, err error) {
	err = f.b.effect("RunTask", func() error {
		t, err = f.b.f.w.ecs.start(f.b.inv, f.b.f.w.breaks.request(r))
		return err
	})
	if err != nil {
		return control.Task{}, err
	}
	return t, nil
}

func (f fleetOf) Stop(_ context.Context, arn, reason string) error {
	return f.b.effect("StopTask", func() error { return f.b.f.w.ecs.stop(f.b.inv, arn, reason) })
}

func (f fleetOf) Describe(_ context.Context, arn string) (control.Task, error) {
	if err := f.b.read(); err != nil {
		return control.Task{}, err
	}
	return f.b.f.w.ecs.describe(f.b.inv, arn)
}

func (f fleetOf) Find(_ context.Context, startedBy string) ([]control.Task, error) {
	if err := f.b.read(); err != nil {
		return nil, err
	}
	return f.b.f.w.ecs.find(f.b.inv, startedBy)
}

// postOf is the gateway as a sandbox sees it.
type postOf struct{ b *sandbox }

func (p postOf) Send(_ context.Context, c control.Conn, data []byte) error {
	return p.b.effect("post", func() error { return p.b.f.w.gate.post(p.b.inv, c, data) })
}

func (p postOf) Close(_ context.Context, c control.Conn) error {
	return p.b.effect("close", func() error { p.b.f.w.gate.close(c.ID); return nil })
}

// environment is the functions', as the templates set it.
var environment = map[string]string{
	"TABLE": "model", "REGION": "eu-central-1", "CLUSTER": "mayfly", "TASK_DEFINITION": "roomtask:1", "SUBNETS": "subnet-a,subnet-b",
	"CLIENT_WS_ENDPOINT": "https://client.example", "TASK_WS_ENDPOINT": "https://task.example", "TASK_API_ID": taskAPI,
	"CLIENT_WS_URL": "wss://ws.example", "PUBLIC_URL": "https://rooms.example", "API_KEYS": apiKeys(),
	"TICKET_SECRET": "a secret of the model, long enough", "WEBHOOK_SECRET": "another secret of the model, long enough", "CREATES_PER_S": "0", "CREATE_BURST": "0",
}

// deliveries is the log of the deliver function, which is told of every event.
type deliveries struct{ b *sandbox }

func (d *deliveries) Enabled(context.Context, slog.Level) bool { return true }
func (d *deliveries) WithAttrs([]slog.Attr) slog.Handler       { return d }
func (d *deliveries) WithGroup(string) slog.Handler            { return d }

func (d *deliveries) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "event" || d.b.inv == nil || d.b.inv.dead {
		return nil
	}
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "id" {
			d.b.f.w.truth.published(a.Value.String())
			return false
		}
		return true
	})
	return nil
}
