package life

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"mayfly/functions/control"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
)

// pushers is how many connections are posted to at once. A post takes 10–30 ms.
const pushers = 16

// RoomMessage is what watchers are told of a room.
func (l *Life) RoomMessage(r Room) signal.Room {
	m := signal.Room{
		ID: r.ID, Version: r.Rev, Epoch: r.Epoch, State: string(r.State), Phase: r.Phase,
		SinceMS: r.PhaseMS, Reason: r.Reason, E2EE: r.E2EE,
	}
	starting := r.State == lifecycle.Starting && r.Phase != lifecycle.PhaseQueued // how long a queue takes nobody knows
	if eta := l.Config.StartEtaMS; eta > 0 && (starting || r.State == lifecycle.Requested) {
		since := max(r.StartingMS, r.AskedMS)
		if since == 0 {
			since = l.nowMS()
		}
		m.EtaMS = max(0, eta-(l.nowMS()-since))
	}
	return m
}

// tell posts the room's state to every client connection of the room, and
// remembers that it did, so that a telling lost in a crash is made good by the next
// heartbeat or sweep. Clients ignore a Version that they have seen.
func (l *Life) tell(ctx context.Context, room string) error {
	r, err := l.Get(ctx, room)
	if err != nil {
		return err
	}
	data, err := signal.Encode(signal.TypeRoom, 0, l.RoomMessage(r))
	if err != nil {
		return fmt.Errorf("encode room: %w", err)
	}
	conns, err := control.LoadAll[control.RoomConn](ctx, l.Store, control.RoomPK(room), control.RoomConnPrefix)
	if err != nil {
		return fmt.Errorf("watchers of %s: %w", room, err)
	}
	conns = slices.DeleteFunc(conns, func(c *control.RoomConn) bool { return c.Kind != control.ConnClient })
	errs := make([]error, len(conns))
	l.Config.Beside.Run(pushers, len(conns), func(i int) { errs[i] = l.push(ctx, conns[i], data) })
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("tell watchers of %s: %w", room, err)
	}
	return l.told(ctx, room, r.Rev)
}

// push posts to one connection, and forgets it if it is gone.
func (l *Life) push(ctx context.Context, c *control.RoomConn, data []byte) error {
	err := l.Post.Send(ctx, control.Conn{ID: c.Conn}, data)
	if !errors.Is(err, control.ErrGone) {
		return err
	}
	writes := []store.Write{control.Remove(c)}
	conn, err := control.Load[control.Connection](ctx, l.Store, control.ConnKey(c.Conn))
	switch {
	case err == nil:
		writes = append(writes, control.Remove(conn))
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	closed, err := l.ledger().CloseWire(ctx, c.Room, c.Conn)
	if err != nil {
		return err
	}
	writes = append(writes, closed...)
	if err := l.Store.Commit(ctx, writes...); err != nil && !control.LostRace(err) {
		return fmt.Errorf("forget connection: %w", err)
	}
	return nil // a lost race: somebody else has forgotten it, or the row expires
}

// told remembers what the watchers know.
func (l *Life) told(ctx context.Context, room string, rev int64) error {
	return l.Config.Retry.Do(ctx, func() error {
		r, err := control.Load[control.Room](ctx, l.Store, control.RoomKey(room))
		if err != nil || r.ToldRev >= rev {
			return err
		}
		r.ToldRev = rev
		w, err := control.Put(r)
		if err != nil {
			return err
		}
		return l.Store.Commit(ctx, w)
	})
}

// tellEnd tells a task to end. A link that is gone is no error: the task is told
// again when it registers anew, at its next heartbeat, and by the sweep.
func (l *Life) tellEnd(ctx context.Context, room, link, reason string) error {
	data, err := signal.Encode(signal.LinkEnd, 0, signal.End{Reason: reason})
	if err != nil {
		return fmt.Errorf("encode end: %w", err)
	}
	err = l.Post.Send(ctx, control.Conn{ID: link, Task: true}, data)
	if err != nil && !errors.Is(err, control.ErrGone) {
		return fmt.Errorf("tell task of %s to end: %w", room, err)
	}
	return nil
}
