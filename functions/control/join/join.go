package join

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"mayfly/functions/control"
	"mayfly/functions/control/figures"
	"mayfly/functions/control/life"
	"mayfly/functions/store"
	"mayfly/shared/signal"
)

// Join owns the connections. The exported fields are set once, before use; its
// methods may be called from any number of goroutines and processes.
type Join struct {
	Store control.Store
	Life  *life.Life
	Post  control.Post
	Now   control.Clock
	Log   *slog.Logger
	// AllowedOrigins are the pages that may open a client WebSocket, as
	// "https://host[:port]". A client that is no browser sends no origin.
	AllowedOrigins []string
	// Retry is for commits that lose a race. The zero value will do.
	Retry control.Retry
	// Meter takes figures; nil takes none.
	Meter figures.Meter

	keys keyring
}

// Refusal is why a connection is not opened. Status is the HTTP status to answer.
type Refusal struct {
	Status int
	Reason string
}

func (r *Refusal) Error() string { return r.Reason }

// OpenClient decides on a client's $connect. It gives the subprotocol to echo. No
// row is written: a connection that never says who it is costs nothing.
func (j *Join) OpenClient(origin, offered string) (protocol string, err error) {
	if origin != "" && !slices.Contains(j.AllowedOrigins, origin) {
		return "", &Refusal{403, "origin not allowed"}
	}
	for p := range strings.SplitSeq(offered, ",") {
		if strings.TrimSpace(p) == signal.Version {
			return signal.Version, nil
		}
	}
	return "", &Refusal{400, "subprotocol " + signal.Version + " is needed"}
}

// OpenTask remembers who the gateway says has opened a link.
func (j *Join) OpenTask(ctx context.Context, conn string, who life.TaskIdentity) error {
	if who.TaskID == "" {
		figures.Record(ctx, j.Meter, figures.AuthFailures.Is(1, figures.AuthTask))
		return &Refusal{403, "no identity"}
	}
	w, err := control.Put(&control.LinkID{
		Conn: conn, TaskID: who.TaskID, SourceIP: who.SourceIP, CreatedMS: j.Now().UnixMilli(),
	})
	if err != nil {
		return err
	}
	err = j.Store.Commit(ctx, w)
	if control.LostRace(err) {
		return nil // the gateway repeated itself
	}
	return err
}

// CloseClient forgets a client's connection and tells the task.
func (j *Join) CloseClient(ctx context.Context, conn string) error {
	row, err := j.connection(ctx, conn)
	if err != nil || row == nil {
		return err
	}
	if err := j.forget(ctx, row); err != nil {
		return err
	}
	if row.Joined {
		j.tellGone(ctx, row.Room, conn)
	}
	return nil
}

// tellGone tells a room's task that a client's WebSocket closed. It is a hint: the
// task notices by itself when it next writes to that client.
func (j *Join) tellGone(ctx context.Context, room, conn string) {
	err := j.toLink(ctx, room, anyEpoch, signal.LinkClientGone, signal.ClientGone{Conn: conn})
	if err != nil {
		j.Log.DebugContext(ctx, "client_gone not told", "room", room, "conn", conn, "err", err)
	}
}

// CloseTask forgets a link. The room keeps its state: the task comes back with a
// new link, or ECS tells that it stopped.
func (j *Join) CloseTask(ctx context.Context, conn string) error {
	id, err := control.Load[control.LinkID](ctx, j.Store, control.LinkIDKey(conn))
	switch {
	case err == nil:
		if err := j.commitLoose(ctx, control.Remove(id)); err != nil {
			return fmt.Errorf("forget the link's identity: %w", err)
		}
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	row, err := j.connection(ctx, conn)
	if err != nil || row == nil {
		return err
	}
	return j.forget(ctx, row)
}

// connection loads what a connection was authenticated as; nil if it was not.
func (j *Join) connection(ctx context.Context, conn string) (*control.Connection, error) {
	row, err := control.Load[control.Connection](ctx, j.Store, control.ConnKey(conn))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load connection: %w", err)
	}
	return row, nil
}

// forget deletes both rows of a connection, and notes how long it was open. Losing a race means that somebody else
// has deleted or rewritten them, which is as good.
func (j *Join) forget(ctx context.Context, row *control.Connection) error {
	writes := []store.Write{control.Remove(row)}
	rc, err := control.Load[control.RoomConn](ctx, j.Store, control.RoomConnKey(row.Room, row.ID))
	switch {
	case err == nil:
		writes = append(writes, control.Remove(rc))
	case !errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("load room connection: %w", err)
	}
	closed, err := j.Life.CloseWire(ctx, row.Room, row.ID)
	if err != nil {
		return err
	}
	writes = append(writes, closed...)
	if err := j.commitLoose(ctx, writes...); err != nil {
		return fmt.Errorf("forget connection: %w", err)
	}
	return nil
}

// commitLoose commits, and takes a lost race for success.
func (j *Join) commitLoose(ctx context.Context, writes ...store.Write) error {
	if err := j.Store.Commit(ctx, writes...); err != nil && !control.LostRace(err) {
		return err
	}
	return nil
}
