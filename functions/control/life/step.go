package life

import (
	"context"
	"errors"
	"fmt"

	"mayfly/functions/control"
	"mayfly/functions/control/ledger"
	"mayfly/functions/control/outbox"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
)

// extra adds writes to a step's commit, seeing the room as it was and as it will
// be. It may load what it needs, and is called afresh on every try.
type extra func(prev, next *Room) ([]store.Write, error)

// step applies one event to a stored room, and returns the room as it is now with
// the actions that are left to do. Refusals of the step pass through as
// *lifecycle.Refusal; a room that is not there is ErrNotFound.
func (l *Life) step(ctx context.Context, room string, e lifecycle.Event, with extra) (*Room, []lifecycle.Action, error) {
	var next *Room
	var todo []lifecycle.Action
	err := l.Config.Retry.Do(ctx, func() error {
		prev, err := control.Load[control.Room](ctx, l.Store, control.RoomKey(room))
		if errors.Is(err, store.ErrNotFound) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		if next, todo, err = l.try(ctx, prev, e, with); err == nil {
			l.count(ctx, prev, next)
		}
		return err
	})
	if err != nil {
		return next, nil, fmt.Errorf("%s of %s: %w", e.Kind, room, err)
	}
	return next, todo, nil
}

// try is one load → step → commit, after the load.
func (l *Life) try(ctx context.Context, prev *Room, e lifecycle.Event, with extra) (*Room, []lifecycle.Action, error) {
	e.AtMS = l.nowMS()
	life, actions, err := l.Config.Rules.Step(prev.Room, e)
	if err != nil {
		return prev, nil, err
	}
	next := *prev
	next.Room = life
	asked, err := l.asks(ctx, prev, &next)
	if err != nil {
		return prev, nil, err
	}
	writes, todo, err := l.changes(ctx, prev, &next, actions)
	if err != nil {
		return prev, nil, err
	}
	writes = append(writes, asked...)
	if with != nil {
		more, err := with(prev, &next)
		if err != nil {
			return prev, nil, err
		}
		writes = append(writes, more...)
	}
	changed := next.Room != prev.Room || next.EventSeq != prev.EventSeq || next.SourceIP != prev.SourceIP
	if changed {
		w, err := control.Put(&next)
		if err != nil {
			return prev, nil, err
		}
		writes = append([]store.Write{w}, writes...)
	}
	if len(writes) == 0 {
		return &next, todo, nil
	}
	if err := l.Store.Commit(ctx, writes...); err != nil {
		return prev, nil, err
	}
	if changed {
		next.Ver++
	}
	return &next, todo, nil
}

// changes makes the writes that belong to a transition besides the room itself:
// its events, the ledger's place for a new epoch, the tenant's quota.
func (l *Life) changes(ctx context.Context, prev, next *Room, actions []lifecycle.Action) (writes []store.Write, todo []lifecycle.Action, err error) {
	for _, a := range actions {
		if a.Kind != lifecycle.Emit {
			todo = append(todo, a)
			continue
		}
		w, err := outbox.Append(next, a.Name, next.PhaseMS, l.eventData(next))
		if err != nil {
			return nil, nil, err
		}
		writes = append(writes, w)
	}
	if next.Epoch > prev.Epoch {
		next.OrderAck = 0 // its task knows nothing yet
		ep := ledger.OpenEpoch(next.ID, next.Epoch, next.StartingMS)
		ep.Asked = next.Ask
		w, err := control.Put(ep)
		if err != nil {
			return nil, nil, err
		}
		writes = append(writes, w)
	}
	if next.State.Final() && !prev.State.Final() {
		next.Present = 0
		w, err := l.release(ctx, next)
		if err != nil {
			return nil, nil, err
		}
		writes = append(writes, w)
	}
	return writes, todo, nil
}

// StateData is the data of the room's own events.
type StateData struct {
	ExternalID string `json:"external_id,omitempty"`
	State      string `json:"state"`
	Epoch      int    `json:"epoch"`
	Reason     string `json:"reason,omitempty"`
}

func (l *Life) eventData(r *Room) StateData {
	return StateData{ExternalID: r.ExternalID, State: string(r.State), Epoch: r.Epoch, Reason: r.Reason}
}

// doer carries out one action; false means that the action is not its to carry out.
type doer func(ctx context.Context, r *Room, a lifecycle.Action) (bool, error)

// speak ends a task's link. It is all that a function without rights on tasks does.
func (l *Life) speak(ctx context.Context, r *Room, a lifecycle.Action) (bool, error) {
	if a.Kind != lifecycle.End {
		return false, nil
	}
	return true, l.tellEnd(ctx, r.ID, a.Link, a.Reason)
}

// run starts and stops tasks, beside what speak does.
func (l *Life) run(ctx context.Context, r *Room, a lifecycle.Action) (bool, error) {
	switch a.Kind {
	case lifecycle.Start:
		return true, l.start(ctx, r, a)
	case lifecycle.Stop:
		return true, l.stop(ctx, r.ID, a.Task, a.Reason)
	}
	return l.speak(ctx, r, a)
}

// search looks for tasks whose fate is unknown, beside what run does.
func (l *Life) search(ctx context.Context, r *Room, a lifecycle.Action) (bool, error) {
	switch a.Kind {
	case lifecycle.Look:
		return true, l.look(ctx, r.ID, r.Epoch, a.Task)
	case lifecycle.Find:
		return true, l.find(ctx, r.ID, a.Epoch)
	}
	return l.run(ctx, r, a)
}

// act carries out what a committed step asks for, as far as do may: speak behind the
// link, run behind the API, search in the sweep and behind ECS events. So each
// function can be given the rights that it uses and no others. What is left undone
// the room's dueAt brings to the sweep.
func (l *Life) act(ctx context.Context, r *Room, todo []lifecycle.Action, do doer) error {
	var errs []error
	for _, a := range todo {
		if a.Kind == lifecycle.Tell || a.Kind == lifecycle.Keep {
			continue // Tell comes last, below: a start waits longer than clients; Keep is Ending's answer
		}
		done, err := do(ctx, r, a)
		if !done {
			l.Log.WarnContext(ctx, "left to the sweep", "room", r.ID, "action", a.Kind)
		}
		errs = append(errs, err)
	}
	for _, a := range todo {
		if a.Kind == lifecycle.Tell {
			errs = append(errs, l.tell(ctx, r.ID))
		}
	}
	if r.State.Final() {
		errs = append(errs, l.settle(ctx, r.ID))
	}
	return errors.Join(errs...)
}

// refusal picks the step's refusal out of an error.
func refusal(err error) (code string, ok bool) {
	var r *lifecycle.Refusal
	if errors.As(err, &r) {
		return r.Code, true
	}
	return "", false
}
