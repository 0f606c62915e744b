package model

import (
	"fmt"

	"mayfly/functions/control"
	"mayfly/functions/control/pool"
	"mayfly/functions/control/shape"
	"mayfly/functions/store"
)

const (
	// poolTenant is whose bill the pool is on, as the functions have it by default.
	poolTenant = "operator"
	// fullMS is by when the pool must be full again after the storm, and drainedMS by when
	// its operator takes it away after that, so that a world can come to rest.
	fullMS = 360_000
	// comingMS is how long a task that takes a claimed one's place may still be on its way.
	comingMS = 90_000
)

// poolSize is what rooms get that ask for nothing: 25 people with pictures.
var poolSize = shape.Resolve(shape.Auto, 25, shape.Video)

// slotFacts is what the world knows of a place in the warm pool.
type slotFacts struct {
	n     int // in the order of their first RunTask, from 1
	id    string
	task  string // that has the place, as far as is known
	room  string // that claimed it
	epoch int
}

// openPool decides whether this world has a warm pool.
func (w *World) openPool() {
	w.slots = map[string]*slotFacts{}
	if v, yes := w.chance.Draw(Pooled, name("pool", 0), 0); yes {
		w.pool = []pool.Target{{Size: poolSize, N: 1 + int(v%3)}}
	}
}

// planPool has the pool filled at once, by a schedule that fires early, looked at when
// all is calm, and taken away.
func (w *World) planPool() {
	if len(w.pool) > 0 {
		w.in(restMS/2, w.sweep)
		w.in(stormMS+fullMS, w.drainPool)
	}
}

// drainPool: what was claimed has a successor. From here on nothing stands by: a new
// configuration, that is new sandboxes.
func (w *World) drainPool() {
	standing := 0
	for _, s := range all[control.Slot](w, control.PoolPK, control.SlotPrefix) {
		if s.State == pool.Standby || s.State == pool.Asked && w.now-s.CreatedMS < comingMS {
			standing++
		}
	}
	if want := w.pool[0].N; standing < want {
		w.fail("%d tasks stand by, and the pool is to have %d", standing, want)
	}
	w.say("the operator takes the pool of %d away", w.pool[0].N)
	w.pool = nil
	w.generation++
	for _, f := range w.funcs {
		f.idle = nil
	}
}

// slot names a place in the pool, in the order in which their tasks are asked for.
func (w *World) slot(id string) *slotFacts {
	s := w.slots[id]
	if s == nil {
		s = &slotFacts{id: id, n: len(w.slots) + 1}
		w.slots[id] = s
	}
	return s
}

// had lists the tasks that a start of the request would be one too many beside.
func (c *cluster) had(r control.StartRequest) (found []*ecsTask) {
	if r.Slot == "" {
		return c.of(r.Room, r.Epoch)
	}
	for _, t := range c.order {
		if t.slot != nil && t.slot.id == r.Slot {
			found = append(found, t)
		}
	}
	return found
}

// slot: a place is made once, given to one room at most and never to another, and goes
// with the bill of its standing by.
func (v *truth) slot(old, is store.Item) {
	w := v.w
	if is.Version == 0 {
		return
	}
	s := decode[control.Slot](w, is)
	f := w.slot(s.ID)
	if arn := s.Run.Task.ARN; arn != "" {
		if f.task != "" && f.task != arn {
			w.fail("place %d of the pool has task %s, and had %s", f.n, arn, f.task)
		}
		f.task = arn
	}
	if s.Room == f.room && s.Epoch == f.epoch {
		return
	}
	if f.room != "" {
		w.fail("standby task %d was claimed by %s, and is by %s", f.n, w.label(f.room), w.label(s.Room))
		return
	}
	if had := w.ecs.of(s.Room, s.Epoch); len(had) > 0 {
		w.fail("room %s epoch %d claims standby task %d, and has task %s", w.label(s.Room), s.Epoch, f.n, had[0].label)
	}
	f.room, f.epoch = s.Room, s.Epoch
	w.claims++
	for _, t := range w.ecs.order { // a second task of the slot, if ECS itself runs one, goes with it
		if t.slot == f {
			t.room, t.epoch = s.Room, s.Epoch
			t.label = fmt.Sprintf("%s.%d(%s)", w.label(s.Room), s.Epoch, t.label)
		}
	}
	w.say("room %s epoch %d has standby task %d", w.label(s.Room), s.Epoch, f.n)
	_ = old
}

// auditPool: each task of the pool is billed once for its standing by, to the second,
// on the pool's line; that and what the room pays for is all of it, and no more.
func (w *World) auditPool() {
	if left := all[control.Slot](w, control.PoolPK, control.SlotPrefix); len(left) > 0 {
		w.fail("%d places of the pool are left, the first %s", len(left), left[0].State)
	}
	bills := map[string][]*control.Bill{}
	for ms := startMS - int64(86_400_000); ms <= w.now+86_400_000; ms += 86_400_000 {
		for _, b := range all[control.Bill](w, control.BillsPK(poolTenant, control.Day(ms)), control.BillPrefix) {
			bills[b.Room] = append(bills[b.Room], b)
		}
	}
	for _, t := range w.ecs.order {
		switch {
		case t.slot == nil:
		case t.task.ARN == t.slot.task:
			w.auditSlot(t, bills[t.slot.id])
		case t.slot.task == "" && t.whole() > 0:
			w.fail("standby task %d ran for %d ms, and nobody knew", t.slot.n, t.whole())
		}
	}
}

func (w *World) auditSlot(t *ecsTask, bills []*control.Bill) {
	whole, claimed := t.whole(), int64(0)
	stood := whole
	if t.slot.room != "" {
		e := all[control.Epoch](w, control.RoomPK(t.slot.room), control.EpochKey(t.slot.room, t.slot.epoch).SK)[0]
		claimed = e.ClaimedMS
		stood = 0
		if whole > 0 {
			stood = min(max(0, claimed-t.task.PullStartedMS), whole)
		}
		if claimed == 0 || e.Task.ARN != t.task.ARN {
			w.fail("room %s epoch %d claimed standby task %d, and has %s since %d", w.label(t.slot.room), t.slot.epoch, t.slot.n, e.Task.ARN, claimed)
		}
	}
	if want := b2i(stood > 0); len(bills) != want {
		w.fail("standby task %d stood by for %d ms, and has %d bills of it", t.slot.n, stood, len(bills))
		return
	}
	if stood == 0 {
		return
	}
	seconds := billable(whole)
	if t.slot.room != "" {
		seconds = stood / 1000 // the rest is the room's
	}
	b := bills[0]
	if b.Totals.TaskMSRaw != stood || b.Totals.TaskSBillable != seconds {
		w.fail("standby task %d stood by for %d ms (%d s), and is billed %d (%d s)", t.slot.n, stood, seconds, b.Totals.TaskMSRaw, b.Totals.TaskSBillable)
	}
	messages, most := b.Totals.MessagesIn+b.Totals.MessagesOut, int64(0)
	if p := t.process; p != nil {
		if most = p.sentIn + p.sentOut; p.assigned {
			most = p.stood
		}
		if p.accepted && messages != most {
			w.fail("standby task %d sent and got %d messages before its room, and is billed %d", t.slot.n, most, messages)
		}
	}
	if messages > most {
		w.fail("standby task %d sent and got %d messages, and is billed %d", t.slot.n, most, messages)
	}
	w.auditMoney(fmt.Sprint("standby task ", t.slot.n), &b.Bill)
}

// whole is how long ECS ran the task, by its own times.
func (t *ecsTask) whole() int64 {
	if t.task.PullStartedMS == 0 {
		return 0
	}
	return t.task.StoppedMS - t.task.PullStartedMS
}

// billable is what Fargate charges for so many milliseconds.
func billable(ms int64) int64 {
	if ms == 0 {
		return 0
	}
	return max(60, (ms+999)/1000)
}

// share is what a room pays of its epoch's task: all of it, or what came after its claim.
func (t *ecsTask) share(e *control.Epoch) (ms, seconds int64) {
	whole := t.whole()
	if t.slot == nil {
		return whole, billable(whole)
	}
	stood := int64(0)
	if whole > 0 {
		stood = min(max(0, e.ClaimedMS-t.task.PullStartedMS), whole)
	}
	return whole - stood, billable(whole) - stood/1000
}
