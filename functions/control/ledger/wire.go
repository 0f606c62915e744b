package ledger

import (
	"context"
	"errors"
	"fmt"

	"mayfly/functions/control"
	"mayfly/functions/store"
)

// OpenWire is the write that begins to count how long a WebSocket is open; none if
// it is being counted. One that was closed is open again: the gateway's word that a
// connection has gone may be early, never what comes over it.
func (g *Ledger) OpenWire(ctx context.Context, room, conn, kind string) ([]store.Write, error) {
	w := &control.Wire{Room: room, Conn: conn, Kind: kind, OpenedMS: g.Now().UnixMilli()}
	old, err := control.Load[control.Wire](ctx, g.Store, w.Place().Key)
	switch {
	case err == nil && old.ClosedMS == 0:
		return nil, nil
	case err == nil:
		w = old
		w.ClosedMS = 0
	case !errors.Is(err, store.ErrNotFound):
		return nil, fmt.Errorf("load wire: %w", err)
	}
	put, err := control.Put(w)
	return []store.Write{put}, err
}

// CloseWire is the write that ends the count; none if it has ended.
func (g *Ledger) CloseWire(ctx context.Context, room, conn string) ([]store.Write, error) {
	w, err := control.Load[control.Wire](ctx, g.Store, (&control.Wire{Room: room, Conn: conn}).Place().Key)
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && w.ClosedMS != 0:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("load wire: %w", err)
	}
	w.ClosedMS = g.Now().UnixMilli()
	put, err := control.Put(w)
	return []store.Write{put}, err
}
