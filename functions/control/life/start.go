package life

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"mayfly/functions/control"
	"mayfly/functions/control/shape"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
)

// plan is what the room's tasks may be, in the order in which they are asked for. Spot
// is for the first task alone: a room that lost one is not to lose another.
func (l *Life) plan(r *Room) []shape.Shape {
	return shape.Plan(r.Size, r.Spot && r.Epoch <= 1, l.Config.Zones)
}

// asks keeps on the room what a new attempt asks for, so that every repeat of it, by a
// later deployment too, asks for the same; and in the epoch's usage.
func (l *Life) asks(ctx context.Context, prev, next *Room) ([]store.Write, error) {
	if next.Epoch == prev.Epoch && next.Attempt == prev.Attempt {
		return nil, nil
	}
	next.Ask = shape.At(l.plan(next), next.Attempt)
	if next.Epoch != prev.Epoch {
		return nil, nil // the epoch is opened with it
	}
	ep, err := control.Load[control.Epoch](ctx, l.Store, control.EpochKey(next.ID, next.Epoch))
	if err != nil {
		return nil, fmt.Errorf("load epoch %d: %w", next.Epoch, err)
	}
	ep.Asked = next.Ask
	w, err := control.Put(ep)
	return []store.Write{w}, err
}

// token is the idempotency token of one attempt.
func token(room string, epoch, attempt int) string {
	t := room + "." + strconv.Itoa(epoch)
	if attempt > 0 {
		t += "." + strconv.Itoa(attempt)
	}
	return t
}

// start gives the room a standby task, or calls RunTask and records its answer. The token makes a repeat, by the sweep
// or after a lost answer, find the task that the first call started. A refusal is no
// error: the room is queued, and the next attempt is made here or by the sweep.
func (l *Life) start(ctx context.Context, r *Room, a lifecycle.Action) error {
	if done, err := l.claim(ctx, r, a); done || err != nil {
		return err
	}
	t, err := l.Fleet.Start(ctx, control.StartRequest{
		Room: r.ID, Epoch: a.Epoch, Token: token(r.ID, a.Epoch, a.Attempt),
		Region: r.Region, Revision: r.Revision, Shape: r.Ask,
	})
	if err == nil {
		return l.word(ctx, r.ID, a.Epoch, t, lifecycle.Started, control.FromDescribe, l.run)
	}
	e := l.failure(r, a, err)
	next, todo, serr := l.step(ctx, r.ID, e, nil)
	if !e.Refused || serr != nil {
		return errors.Join(fmt.Errorf("start task of %s epoch %d: %w", r.ID, a.Epoch, err), serr)
	}
	l.Log.WarnContext(ctx, "start refused", "room", r.ID, "epoch", a.Epoch, "attempt", a.Attempt, "reason", e.Reason,
		"cpu", r.Ask.CPU, "spot", r.Ask.Spot, "zone", r.Ask.Zone, "err", err)
	return l.act(ctx, next, todo, l.run)
}

// failure is what an error of RunTask means to the room.
func (l *Life) failure(r *Room, a lifecycle.Action, err error) lifecycle.Event {
	e := lifecycle.Event{
		Kind: lifecycle.StartFailed, Epoch: a.Epoch, Attempt: a.Attempt, Ask: a.Ask,
		Shapes: len(l.plan(r)), Jitter: int(l.Config.Retry.Float64() * 1000), Reason: lifecycle.ReasonNoCapacity,
	}
	switch {
	case errors.Is(err, control.ErrNoCapacity):
		e.Refused, e.Move = true, true
	case errors.Is(err, control.ErrBusy):
		e.Refused = true
	case errors.Is(err, control.ErrRefused):
		e.Refused, e.Move, e.Reason = true, true, lifecycle.ReasonStartRefused
	}
	return e
}
