package life

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"mayfly/functions/control"
	"mayfly/functions/control/pool"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
)

// A standby task speaks every 10 s, and what it says is written once a minute. One that
// was not heard of for longer may be gone, and is not claimed.
const (
	seenEveryMS = 50_000
	freshMS     = 90_000
)

// errTaken says that a slot has no task to give any more, errNotAllowed that the room
// may not have one.
var (
	errTaken      = errors.New("life: the standby task is taken")
	errNotAllowed = errors.New("life: a task may be on its way to the room")
)

// Standby answers a task that waits for a room: standing, its room, or that it is not
// wanted. No answer means that ECS cannot vouch for it yet.
func (l *Life) Standby(ctx context.Context, conn control.Conn, who TaskIdentity, m signal.Standby) (*Reply, error) {
	if who.TaskID == "" || !strings.HasSuffix(m.TaskARN, "/"+who.TaskID) {
		return l.stranger(ctx, ""), nil
	}
	var reply *Reply
	err := l.Config.Retry.Do(ctx, func() error {
		s, err := control.Load[control.Slot](ctx, l.Store, control.SlotKey(m.Slot))
		if errors.Is(err, store.ErrNotFound) {
			reply = refused(refusedNotFound)
			return nil
		}
		if err != nil {
			return err
		}
		if s.Run.Task.ARN == "" {
			known, err := l.vouchStandby(ctx, s, m.TaskARN)
			if reply = known; reply != nil || err != nil || s.Run.Task.ARN == "" {
				return err
			}
		}
		reply, err = l.standing(ctx, s, conn, who, m)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("standby of %s: %w", m.Slot, err)
	}
	return reply, nil
}

// vouchStandby asks ECS whose task it is, when it speaks before RunTask's answer was
// recorded, and fills it in.
func (l *Life) vouchStandby(ctx context.Context, s *control.Slot, arn string) (*Reply, error) {
	t, err := l.Fleet.Describe(ctx, arn)
	switch {
	case errors.Is(err, control.ErrTaskUnknown):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("vouch for a standby task: %w", err)
	case t.StartedBy != slotRequest(s).StartedBy():
		return l.stranger(ctx, ""), nil
	}
	s.Run.Task = t
	return nil, nil
}

// standing takes the task's word, and answers it.
func (l *Life) standing(ctx context.Context, s *control.Slot, conn control.Conn, who TaskIdentity, m signal.Standby) (*Reply, error) {
	switch {
	case s.Run.Task.ARN != m.TaskARN:
		return refused(lifecycle.OtherTask), nil
	case s.State == pool.Claimed:
		return &Reply{Type: signal.LinkAssign, Body: signal.Assign{Room: s.Room, Epoch: s.Epoch}}, nil
	case s.State != pool.Asked && s.State != pool.Standby:
		return refused(lifecycle.Over), nil
	}
	reply := &Reply{Type: signal.LinkStanding, Body: struct{}{}}
	now := l.nowMS()
	if s.State == pool.Standby && s.Link == conn.ID && now-s.SeenMS < seenEveryMS {
		return reply, nil
	}
	if s.StoodMS == 0 {
		s.StoodMS = now
	}
	reply.After = func(ctx context.Context) { l.name(ctx, m.TaskARN, who.SourceIP) }
	s.State, s.Link, s.SourceIP, s.SeenMS = pool.Standby, conn.ID, who.SourceIP, now
	s.MessagesIn, s.MessagesOut = max(s.MessagesIn, m.MessagesIn), max(s.MessagesOut, m.MessagesOut)
	w, err := control.Put(s)
	if err != nil {
		return nil, err
	}
	return reply, l.Store.Commit(ctx, w)
}

// claim gives a room that is about to start one of the tasks that stand by, if one of
// its size and revision does, and it is allowed to. done means that no RunTask must be
// called: the room has a task, or may have.
//
// The claim is one commit of slot, room and the epoch's usage. Whoever else wants the
// slot, or has started a task for the room, has changed one of them.
func (l *Life) claim(ctx context.Context, r *Room, a lifecycle.Action) (done bool, err error) {
	if len(l.Config.Pool) == 0 || r.Size == "" {
		return false, nil
	}
	slots, err := control.LoadAll[control.Slot](ctx, l.Store, control.PoolPK, control.SlotPrefix)
	if err != nil {
		return false, fmt.Errorf("load the pool: %w", err)
	}
	var fit []*control.Slot
	for _, s := range slots {
		going := s.Run.Task.StoppingMS != 0
		if s.State == pool.Standby && !going && s.Size == r.Size && s.Revision == r.Revision && l.nowMS()-s.SeenMS < freshMS {
			fit = append(fit, s)
		}
	}
	// Creates at the same time begin with different ones.
	for from := int(l.Config.Retry.Float64() * float64(len(fit))); len(fit) > 0; from = 0 {
		s := fit[from]
		fit = append(fit[:from], fit[from+1:]...)
		done, err = l.claimSlot(ctx, r, a, s)
		switch {
		case errors.Is(err, errTaken):
			continue
		case errors.Is(err, errNotAllowed):
			return false, nil
		}
		return done, err
	}
	return false, nil
}

// claimSlot claims one slot. Errors: errTaken, errNotAllowed. After any other one nobody
// knows whether the commit took effect, so that it must not be followed by a RunTask.
func (l *Life) claimSlot(ctx context.Context, r *Room, a lifecycle.Action, s *control.Slot) (done bool, err error) {
	e := lifecycle.Event{
		Kind: lifecycle.Assigned, Epoch: a.Epoch, Attempt: a.Attempt, Ask: a.Ask, Task: s.Run.Task.ARN, Version: s.Run.Task.Version,
	}
	next, todo, err := l.step(ctx, r.ID, e, func(_, next *Room) ([]store.Write, error) {
		return l.assignment(ctx, next, s.ID)
	})
	if _, no := refusal(err); no {
		// The room has gone on, by this very commit perhaps; or somebody else may be
		// calling RunTask: then a repeat of that call is safe, and a claim is not.
		now, err := l.Get(ctx, r.ID)
		if err == nil && now.Task == "" && now.State == lifecycle.Starting {
			err = errNotAllowed
		}
		return err == nil, err
	}
	if err != nil {
		return false, err
	}
	// The task repeats its standby, and is answered with the room, if this is lost.
	if err := l.assign(ctx, s.Link, next); err != nil {
		l.Log.WarnContext(ctx, "assignment left to the task's next standby", "room", r.ID, "slot", s.ID, "err", err)
	}
	return true, l.act(ctx, next, todo, l.run)
}

// assignment is what the commit of a claim writes besides the room.
func (l *Life) assignment(ctx context.Context, next *Room, slot string) ([]store.Write, error) {
	s, err := control.Load[control.Slot](ctx, l.Store, control.SlotKey(slot))
	if errors.Is(err, store.ErrNotFound) || err == nil && s.State != pool.Standby {
		return nil, errTaken
	}
	if err != nil {
		return nil, err
	}
	ep, err := control.Load[control.Epoch](ctx, l.Store, control.EpochKey(next.ID, next.Epoch))
	if err != nil {
		return nil, err
	}
	now := l.nowMS()
	s.State, s.Room, s.Epoch, s.ClaimedMS = pool.Claimed, next.ID, next.Epoch, now
	ep.Task, ep.ClaimedMS, ep.AcceptedMS, ep.Asked = s.Run.Task, now, now, s.Shape
	writes := make([]store.Write, 2)
	for i, d := range []control.Doc{s, ep} {
		if writes[i], err = control.Put(d); err != nil {
			return nil, err
		}
	}
	return writes, nil
}

// assign tells a claimed task its room.
func (l *Life) assign(ctx context.Context, link string, r *Room) error {
	data, err := signal.Encode(signal.LinkAssign, 0, signal.Assign{Room: r.ID, Epoch: r.Epoch})
	if err != nil {
		return fmt.Errorf("encode assign: %w", err)
	}
	return l.Post.Send(ctx, control.Conn{ID: link, Task: true}, data)
}
