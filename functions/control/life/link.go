package life

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"mayfly/functions/control"
	"mayfly/functions/control/figures"
	"mayfly/functions/control/ledger"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
	"mayfly/shared/usage"
)

// Codes of signal.Refused besides those of lifecycle.
const (
	refusedNotFound    = "not_found"
	refusedBadIdentity = "bad_identity"
)

func refused(code string) *Reply {
	return &Reply{Type: signal.LinkRefused, Body: signal.Refused{Code: code}}
}

// stranger refuses a task that is not the one it says.
func (l *Life) stranger(ctx context.Context, room string) *Reply {
	figures.Record(ctx, l.Meter, figures.AuthFailures.Is(1, figures.AuthTask).About(room))
	return refused(refusedBadIdentity)
}

// Register answers a task that claims its room: Registered, Refused, or no answer
// when ECS cannot vouch for the task yet.
func (l *Life) Register(ctx context.Context, conn control.Conn, who TaskIdentity, m signal.Register) (*Reply, error) {
	if who.TaskID == "" || !strings.HasSuffix(m.TaskARN, "/"+who.TaskID) {
		return l.stranger(ctx, m.Room), nil
	}
	r, err := l.Get(ctx, m.Room)
	if errors.Is(err, ErrNotFound) {
		return refused(refusedNotFound), nil
	}
	if err != nil {
		return nil, err
	}
	if r.Task == "" && r.State == lifecycle.Starting {
		if yes, reply, err := l.vouch(ctx, m); !yes {
			return reply, err
		}
	}
	e := lifecycle.Event{Kind: lifecycle.Register, Epoch: m.Epoch, Task: m.TaskARN, Link: conn.ID}
	next, todo, err := l.step(ctx, m.Room, e, func(_, next *Room) ([]store.Write, error) {
		if next.Link == conn.ID { // not that of a task that hands the room over
			next.SourceIP = who.SourceIP
		}
		return l.registration(ctx, conn, m)
	})
	if code, no := refusal(err); no {
		l.Log.InfoContext(ctx, "task refused", "room", m.Room, "epoch", m.Epoch, "code", code)
		return answerRefusal(code), nil
	}
	if err != nil {
		return nil, err
	}
	if err := l.act(ctx, next, todo, l.speak); err != nil {
		l.Log.WarnContext(ctx, "telling left to the next heartbeat", "room", m.Room, "err", err)
	}
	named, after := l.named(ctx, m.TaskARN, who.SourceIP)
	return &Reply{After: after, Type: signal.LinkRegistered, Body: signal.Registered{
		Room: m.Room, Epoch: m.Epoch, PublicIP: who.SourceIP, NowMS: l.nowMS(),
		JoinSeq: next.JoinSeq, Limits: next.Limits, RelayTLS: named,
	}}, nil
}

// vouch asks ECS whose task it is, when it registers before RunTask's answer was
// recorded: any task could claim the room else. ECS may not know the task yet: then
// there is no answer, and the task repeats its frame.
func (l *Life) vouch(ctx context.Context, m signal.Register) (yes bool, reply *Reply, err error) {
	t, err := l.Fleet.Describe(ctx, m.TaskARN)
	switch {
	case errors.Is(err, control.ErrTaskUnknown):
		return false, nil, nil
	case err != nil:
		return false, nil, fmt.Errorf("vouch for task of %s: %w", m.Room, err)
	case t.StartedBy != startedBy(m.Room, m.Epoch):
		return false, l.stranger(ctx, m.Room), nil
	}
	return true, nil, nil
}

// registration writes the link's connection, and into the epoch's usage the task, if
// RunTask's answer has not done so, and what it counted while it stood by.
func (l *Life) registration(ctx context.Context, conn control.Conn, m signal.Register) ([]store.Write, error) {
	c, err := control.Load[control.Connection](ctx, l.Store, control.ConnKey(conn.ID))
	if errors.Is(err, store.ErrNotFound) {
		c, err = &control.Connection{ID: conn.ID, CreatedMS: l.nowMS()}, nil
	}
	if err != nil {
		return nil, err
	}
	c.Kind, c.Room, c.Epoch, c.TaskARN = control.ConnTask, m.Room, m.Epoch, m.TaskARN
	w, err := control.Put(c)
	if err != nil {
		return nil, err
	}
	wire, err := l.OpenWire(ctx, m.Room, conn.ID, control.ConnTask)
	if err != nil {
		return nil, err
	}
	writes := append(wire, w)
	ep, err := control.Load[control.Epoch](ctx, l.Store, control.EpochKey(m.Room, m.Epoch))
	if err != nil {
		return nil, err
	}
	stood := ep.ClaimedMS != 0 && ep.Task.ARN == m.TaskARN && (m.StoodIn > ep.StoodIn || m.StoodOut > ep.StoodOut)
	if stood {
		ep.StoodIn, ep.StoodOut = m.StoodIn, m.StoodOut
	}
	if ep.Task.ARN == "" || stood {
		ep.Task.ARN = m.TaskARN
		if w, err = control.Put(ep); err != nil {
			return nil, err
		}
		writes = append(writes, w)
	}
	return writes, nil
}

// OpenWire is the write that begins to count a connection of the room, and CloseWire
// the one that ends it.
func (l *Life) OpenWire(ctx context.Context, room, conn, kind string) ([]store.Write, error) {
	return l.ledger().OpenWire(ctx, room, conn, kind)
}

// CloseWire is OpenWire's other end.
func (l *Life) CloseWire(ctx context.Context, room, conn string) ([]store.Write, error) {
	return l.ledger().CloseWire(ctx, room, conn)
}

// answerRefusal is the frame for a refusal of the step. A frame that overtook its
// registration is not answered: the task repeats it.
func answerRefusal(code string) *Reply {
	if code == lifecycle.NotRegistered {
		return nil
	}
	return refused(code)
}

// Heartbeat stores usage and renews the lease: Ack, Refused, or no answer when the
// connection has not registered (yet).
func (l *Life) Heartbeat(ctx context.Context, conn control.Conn, m signal.Heartbeat) (*Reply, error) {
	r, reply, err := l.frame(ctx, conn, m.Usage, lifecycle.Event{Kind: lifecycle.Heartbeat})
	if err != nil || reply != nil || r == nil {
		return reply, err
	}
	near, err := l.judge(ctx, r)
	if err != nil { // the next heartbeat judges again
		l.Log.WarnContext(ctx, "caps not judged", "room", r.ID, "err", err)
	}
	if err := l.ordered(ctx, r, m.Orders); err != nil { // the next heartbeat tells again
		l.Log.WarnContext(ctx, "orders not told", "room", r.ID, "err", err)
	}
	var named *signal.RelayTLS
	if m.Nameless && r.Link == conn.ID {
		named = l.name(ctx, r.Task, r.SourceIP)
	}
	return &Reply{Type: signal.LinkAck, Body: signal.Ack{Seq: m.Usage.Seq, Budget: near, RelayTLS: named}}, nil
}

// Ending answers a task that wants to end: ending_ok, Keep, Refused, or none.
func (l *Life) Ending(ctx context.Context, conn control.Conn, m signal.Ending) (*Reply, error) {
	e := lifecycle.Event{Kind: lifecycle.Ending, JoinSeq: m.JoinSeq, Final: m.Final, Reason: m.Reason}
	r, reply, err := l.frame(ctx, conn, m.Usage, e)
	if err != nil || reply != nil || r == nil {
		return reply, err
	}
	return &Reply{Type: signal.LinkEndingOK, Body: signal.EndingOK{Seq: m.Usage.Seq}}, nil
}

// frame handles a frame with a usage report. Usage comes first: it counts even if
// the room has gone on without this task. A nil room means no answer.
func (l *Life) frame(ctx context.Context, conn control.Conn, rep usage.Report, e lifecycle.Event) (*Room, *Reply, error) {
	c, err := control.Load[control.Connection](ctx, l.Store, control.ConnKey(conn.ID))
	if errors.Is(err, store.ErrNotFound) || err == nil && c.Kind != control.ConnTask {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("load connection: %w", err)
	}
	switch err := l.ledger().Report(ctx, c.Room, c.Epoch, c.TaskARN, e.JoinSeq, rep); {
	case errors.Is(err, store.ErrNotFound):
		return nil, refused(refusedNotFound), nil
	case errors.Is(err, ledger.ErrOtherTask):
		return nil, refused(lifecycle.OtherTask), nil
	case err != nil:
		return nil, nil, err
	}
	e.Epoch, e.Task = c.Epoch, c.TaskARN
	next, todo, err := l.step(ctx, c.Room, e, nil)
	if code, no := refusal(err); no {
		return nil, answerRefusal(code), nil
	}
	if err != nil {
		return nil, nil, err
	}
	if err := l.act(ctx, next, todo, l.speak); err != nil {
		l.Log.WarnContext(ctx, "telling left to the next heartbeat", "room", c.Room, "err", err)
	}
	if next.ToldRev < next.Rev && len(todo) == 0 { // an earlier telling was lost
		if err := l.tell(ctx, c.Room); err != nil {
			l.Log.WarnContext(ctx, "telling left to the next heartbeat", "room", c.Room, "err", err)
		}
	}
	for _, a := range todo {
		if a.Kind == lifecycle.Keep {
			return next, &Reply{Type: signal.LinkKeep, Body: signal.Keep{JoinSeq: next.JoinSeq}}, nil
		}
	}
	return next, nil, nil
}
