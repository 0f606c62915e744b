package model

import (
	"container/heap"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/control/pool"
)

// Times of the world, in milliseconds.
const (
	startMS  = 1_795_000_000_000 // 2026-11-18, a whole second
	stormMS  = 8 * 60_000        // how long things go wrong
	limitMS  = 3 * 3600_000      // by when the world must have come to rest
	restMS   = 1_000             // how often that is looked at
	tickMS   = 60_000            // the schedule
	postMS   = 8                 // from PostToConnection to the other end
	frameMS  = 8                 // from the other end to the function
	eventMS  = 300               // from ECS to the function
	streamMS = 150               // from a commit to deliver
)

// World is one run. It has one goroutine at a time, and no lock.
type World struct {
	chance *Chance
	breaks *Break // what is broken on purpose; nil for nothing
	now    int64  // Unix ms
	queue  agenda
	serial uint64 // of what was put on the agenda

	table    *Table
	ecs      *cluster
	gate     *gateway
	funcs    [functions]*function
	product  *product
	truth    *truth
	clients  []*client
	rooms    map[string]*roomFacts
	order    []*roomFacts
	outages  [services]span
	busy     [2]span // of a burst
	inflight int     // invocations that have not ended
	quota    int     // rooms that the tenant may have at once
	pool     []pool.Target
	slots    map[string]*slotFacts // by id
	other    otherHook
	// generation grows with the functions' configuration; sandboxes of an older one end.
	generation int

	err     error  // the first invariant that does not hold
	Class   string // what kind of error it is; read after Run
	trace   bool
	history []string
	log     *slog.Logger

	// Statistics.
	lives, kills, tasks, sessions, bounded, corrections, invocations, claims int
}

// span is a time in which a service is out.
type span struct{ from, to int64 }

// service is what may be out.
type service int

const (
	dynamo service = iota
	bridge
	gatewayOut
	services
)

func (s service) String() string { return [...]string{"DynamoDB", "EventBridge", "the gateway"}[s] }

func (w *World) out(s service) bool { return w.now >= w.outages[s].from && w.now < w.outages[s].to }

// entry is something to do at a time.
type entryAt struct {
	at, serial uint64
	do         func()
}

type agenda []entryAt

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].serial < a[j].serial
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(entryAt)) }
func (a *agenda) Pop() any {
	old := *a
	e := old[len(old)-1]
	old[len(old)-1] = entryAt{}
	*a = old[:len(old)-1]
	return e
}

// in does something some milliseconds from now.
func (w *World) in(ms int64, do func()) {
	w.serial++
	heap.Push(&w.queue, entryAt{uint64(w.now + max(ms, 0)), w.serial, do}) //nolint:gosec // times are after 1970
}

// time is the time by a right clock.
func (w *World) time() time.Time { return time.UnixMilli(w.now).UTC() }

// New makes a world. breaks may be nil.
func New(chance *Chance, breaks *Break) (*World, error) {
	w := &World{chance: chance, breaks: breaks, now: startMS, rooms: map[string]*roomFacts{}, log: slog.New(slog.DiscardHandler)}
	w.quota = 50
	if v, yes := chance.Draw(Tight, name("quota", 0), 0); yes {
		w.quota = 1 + int(v%4)
	}
	w.openPool()
	w.table = NewTable(w.time)
	lates := uint32(0)
	w.table.Late = func(string) bool {
		lates++
		_, late := w.chance.Draw(LateIndex, 0, lates)
		return late
	}
	w.truth = newTruth(w)
	w.table.observe, w.table.after = w.truth.changed, w.truth.committed
	w.ecs, w.gate = newCluster(w), newGateway(w)
	if err := w.deploy(); err != nil {
		return nil, err
	}
	w.product = newProduct(w)
	return w, nil
}

// Run lives until the world has come to rest, or something does not hold.
func (w *World) Run() error {
	w.plan()
	w.in(tickMS, w.tick)
	for w.err == nil && len(w.queue) > 0 {
		e := heap.Pop(&w.queue).(entryAt)
		w.now = max(w.now, int64(e.at)) //nolint:gosec // times are after 1970
		if !w.chance.calm && w.now >= startMS+stormMS {
			w.chance.calm = true
			w.say("the storm is over")
		}
		e.do()
		if w.now > startMS+limitMS {
			w.unrest()
			break
		}
	}
	w.stop()
	if w.err == nil {
		w.audit()
		w.auditOther()
	}
	return w.err
}

// plan sets the scene, and looks for rest.
func (w *World) plan() {
	for s := range services {
		if v, yes := w.chance.Draw(Outage, name("outage", int(s)), 0); yes {
			w.takeAway(s, w.now+20_000+int64(v%180)*1000)
		}
	}
	w.product.plan()
	w.planPool()
	w.in(restMS, w.look)
}

// takeAway has a service be out for five minutes.
func (w *World) takeAway(s service, from int64) {
	w.outages[s] = span{from, from + 300_000}
	w.in(from-w.now, func() { w.say("%v is out for five minutes", s); w.gate.outage() })
	w.in(from+300_000-w.now, func() { w.say("%v is back", s) })
}

// look ends the run when nothing is left to do.
func (w *World) look() {
	if w.now > startMS+60_000 && len(w.pool) == 0 && w.product.done() && w.inflight == 0 && w.ecs.idle() && w.truth.settled() && !w.other.waiting(w) {
		w.queue = nil
		return
	}
	w.in(restMS, w.look)
}

// stop ends what stands still, so that no coroutine is left.
func (w *World) stop() {
	for _, f := range w.funcs {
		f.stop()
	}
}

// unrest says what has not come to rest.
func (w *World) unrest() {
	var left []string
	if !w.product.done() {
		left = append(left, "the product waits for an answer")
	}
	for _, t := range w.ecs.order {
		if t.task.LastStatus != stopped {
			left = append(left, fmt.Sprintf("task %s of %s is %s", t.label, t.task.StartedBy, t.task.LastStatus))
		}
	}
	for _, r := range w.order {
		if why := w.truth.unsettled(r); why != "" {
			left = append(left, fmt.Sprintf("room %d: %s", r.n, why))
		}
	}
	if w.other.waiting(w) {
		left = append(left, "something is owed to the other endpoint, or about it")
	}
	w.fail("no rest after %d min: %s; %d invocations run", limitMS/60_000, strings.Join(left, "; "), w.inflight)
}

// fail notes the first thing that does not hold; the run ends with it.
func (w *World) fail(format string, args ...any) {
	if w.err == nil {
		w.Class = format
		w.err = fmt.Errorf("at %s: "+format, append([]any{w.clock()}, args...)...)
		w.say("VIOLATION: %v", w.err)
	}
}

// say adds a line to the history.
func (w *World) say(format string, args ...any) {
	if w.trace {
		w.history = append(w.history, w.clock()+" "+fmt.Sprintf(format, args...))
	}
}

// clock is the time since the start, as min:s.ms.
func (w *World) clock() string {
	ms := w.now - startMS
	return fmt.Sprintf("%02d:%02d.%03d", ms/60_000, ms/1000%60, ms%1000)
}

// History is what happened, a line each. Trace must have been asked for.
func (w *World) History() []string { return w.history }

// Trace makes the world remember its history.
func (w *World) Trace() { w.trace = true }

// roomFacts is what the world knows of a room besides the table.
type roomFacts struct {
	id      string
	n       int // in the order of their creation, from 1
	tenant  string
	serving *roomTask                 // that was accepted and has not ended
	wires   []map[string]control.Wire // after each change of one, by connection
}

// room finds a room's facts by its id; nil for none.
func (w *World) room(id string) *roomFacts { return w.rooms[id] }

// actor names something of a room, the same in every run of a seed.
func (w *World) actor(room, what string, n int) uint64 {
	if r := w.rooms[room]; r != nil {
		return mix(name(what, n), uint64(r.n), 7) //nolint:gosec // n counts
	}
	return name(what+room, n)
}

// label is a room as histories name it.
func (w *World) label(room string) string {
	if r := w.rooms[room]; r != nil {
		return fmt.Sprint("r", r.n)
	}
	return room
}
