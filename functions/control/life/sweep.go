package life

import (
	"context"
	"errors"
	"fmt"

	"mayfly/functions/control"
	"mayfly/functions/control/figures"
	"mayfly/functions/control/ledger"
	"mayfly/functions/control/pool"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
)

// orphanAgeMS is how old a task without a room must be before it is stopped: its
// room was surely committed before it, but who knows which clock is wrong.
const orphanAgeMS = 180_000

// Sweep looks at every due room and at every running task. It is the net under
// every lost event and every crash; running it at any time, twice at once, or
// never for an hour does no harm but delay.
func (l *Life) Sweep(ctx context.Context) error {
	return errors.Join(l.sweepRooms(ctx), l.sweepTasks(ctx))
}

// Busy says whether some room is not settled, or tasks are to stand by. The index may be
// a moment behind.
func (l *Life) Busy(ctx context.Context) (bool, error) {
	if len(l.Config.Pool) > 0 {
		return true, nil
	}
	for shard := range control.Shards {
		page, err := l.Store.Index(ctx, control.DuePK(shard), "", store.QueryOptions{Limit: 1})
		if err != nil {
			return false, fmt.Errorf("rooms of shard %d: %w", shard, err)
		}
		if len(page.Items) > 0 {
			return true, nil
		}
	}
	return false, nil
}

// sweepRooms takes the shards of the index side by side, rooms of one in order.
func (l *Life) sweepRooms(ctx context.Context) error {
	errs := make([]error, control.Shards)
	l.Config.Beside.Run(control.Shards, control.Shards, func(shard int) { errs[shard] = l.sweepShard(ctx, shard) })
	return errors.Join(errs...)
}

func (l *Life) sweepShard(ctx context.Context, shard int) error {
	rooms, err := l.unsettled(ctx, shard, control.IndexTime(l.nowMS())+"~")
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range rooms {
		errs = append(errs, l.due(ctx, r.ID))
	}
	return errors.Join(errs...)
}

// unsettled lists a shard's rooms that are not settled, as the index has them, due up
// to the given time ("" for all). All pages come first: looking at a room moves it
// within the index.
func (l *Life) unsettled(ctx context.Context, shard int, upTo string) ([]*Room, error) {
	var rooms []*Room
	q := store.QueryOptions{}
	for {
		page, err := l.Store.Index(ctx, control.DuePK(shard), upTo, q)
		if err != nil {
			return nil, fmt.Errorf("rooms of shard %d: %w", shard, err)
		}
		for _, it := range page.Items {
			if r, err := control.Decode[control.Room](it); err == nil {
				rooms = append(rooms, r)
			}
		}
		if page.Next == "" {
			return rooms, nil
		}
		q.Cursor = page.Next
	}
}

// due looks at one room.
func (l *Life) due(ctx context.Context, room string) error {
	r, err := l.Get(ctx, room)
	if errors.Is(err, ErrNotFound) || err == nil && (r.Settled || r.DueAtMS > l.nowMS()) {
		return nil // the index was behind
	}
	if err != nil {
		return err
	}
	next, todo, err := l.step(ctx, room, lifecycle.Event{Kind: lifecycle.Due}, nil)
	if err != nil {
		return err
	}
	if next.State.Final() {
		return errors.Join(l.retell(ctx, room), l.prove(ctx, next), l.settle(ctx, room))
	}
	return errors.Join(l.act(ctx, next, todo, l.search), l.retell(ctx, room))
}

// retell makes good a telling that was lost.
func (l *Life) retell(ctx context.Context, room string) error {
	r, err := l.Get(ctx, room)
	if err != nil || r.ToldRev >= r.Rev {
		return err
	}
	return l.tell(ctx, room)
}

// prove asks ECS about the tasks of a final room that are not known to have stopped.
func (l *Life) prove(ctx context.Context, r *Room) error {
	epochs, err := control.LoadAll[control.Epoch](ctx, l.Store, control.RoomPK(r.ID), control.EpochPrefix)
	if err != nil {
		return fmt.Errorf("epochs of %s: %w", r.ID, err)
	}
	var errs []error
	for _, e := range epochs {
		switch {
		case e.Stopped:
		case e.Task.ARN != "":
			errs = append(errs, l.look(ctx, r.ID, e.Epoch, e.Task.ARN))
		default:
			errs = append(errs, l.find(ctx, r.ID, e.Epoch))
		}
	}
	return errors.Join(errs...)
}

// settle closes the ledger of a final room if it can be.
func (l *Life) settle(ctx context.Context, room string) error {
	_, err := l.ledger().Settle(ctx, room)
	return err
}

// sweepTasks stops tasks that no room wants, makes known those that a room waits for,
// and looks at rooms whose task does not run any more.
func (l *Life) sweepTasks(ctx context.Context) error {
	tasks, err := l.Fleet.Find(ctx, "")
	if err != nil {
		return fmt.Errorf("list tasks: %w", err)
	}
	var errs []error
	running := make(map[string]bool, len(tasks))
	for _, t := range tasks {
		running[t.ARN] = true
		errs = append(errs, l.sweepTask(ctx, t))
	}
	seen := census{nowMS: l.nowMS()}
	for shard := range control.Shards {
		rooms, err := l.unsettled(ctx, shard, "")
		seen.partial = seen.partial || err != nil
		errs = append(errs, err)
		for _, r := range rooms {
			seen.count(r)
			if r.State.Final() {
				continue
			}
			if r.Task != "" && !running[r.Task] {
				errs = append(errs, l.missed(ctx, r.ID, r.Epoch, r.Task))
			}
			if r.HandingTask != "" && !running[r.HandingTask] {
				errs = append(errs, l.missed(ctx, r.ID, r.HandingEpoch, r.HandingTask))
			}
		}
	}
	seen.record(ctx, l.Meter)
	errs = append(errs, l.sweepPool(ctx, running), l.sweepNames(ctx, running))
	return errors.Join(errs...)
}

// missed takes ECS's word on a task that is not among the running: its event may be
// lost, and the room's clients wait. Not knowing the task proves nothing here, since
// the list and the index may both be behind; that is for the room's due time.
func (l *Life) missed(ctx context.Context, room string, epoch int, task string) error {
	t, err := l.Fleet.Describe(ctx, task)
	switch {
	case errors.Is(err, control.ErrTaskUnknown):
		return nil
	case err != nil:
		return fmt.Errorf("look at task of %s: %w", room, err)
	case t.LastStatus != ledger.Stopped && !stopping(t):
		return nil
	}
	if slot, ok := parseSlot(t.StartedBy); ok {
		return l.slotWord(ctx, slot, t, control.FromDescribe, l.search)
	}
	return l.word(ctx, room, epoch, t, lifecycle.TaskSeen, control.FromDescribe, l.search)
}

func (l *Life) sweepTask(ctx context.Context, t control.Task) error {
	room, epoch, ok := parseStartedBy(t.StartedBy)
	if slot, standby := parseSlot(t.StartedBy); standby {
		s, err := control.Load[control.Slot](ctx, l.Store, control.SlotKey(slot))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("load %s: %w", slot, err)
		}
		if err != nil || s.State != pool.Claimed {
			return l.slotWord(ctx, slot, t, control.FromDescribe, l.search)
		}
		room, epoch, ok = s.Room, s.Epoch, true
	}
	if !ok || t.LastStatus == ledger.Stopped {
		return nil
	}
	r, err := l.Get(ctx, room)
	switch {
	case errors.Is(err, ErrNotFound):
		if l.nowMS()-t.CreatedMS < orphanAgeMS {
			return nil
		}
		l.Log.WarnContext(ctx, "stopping a task without a room", "task", t.ARN, "room", room)
		figures.Record(ctx, l.Meter, figures.Orphans.Is(1).About(room))
		return l.stop(ctx, room, t.ARN, "orphan")
	case err != nil:
		return err
	case r.Task == t.ARN && r.Epoch == epoch && !r.State.Final():
		return nil
	}
	return l.word(ctx, room, epoch, t, lifecycle.TaskSeen, control.FromDescribe, l.search)
}
