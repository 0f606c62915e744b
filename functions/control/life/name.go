package life

import (
	"context"
	"errors"
	"fmt"

	"mayfly/functions/control"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
)

// What a create says of another open room with its external id.
const (
	IfExistsError  = "error"
	IfExistsReturn = "return"
)

// claimName finds the open room of the external id, or makes the write that lets the
// new room be it. A race of two creates is lost by one of them in its commit.
// Errors: ErrNameTaken.
func (l *Life) claimName(ctx context.Context, room *Room, r CreateRequest) (*Room, []store.Write, error) {
	if r.IfExists == "" {
		return nil, nil, nil
	}
	name, err := control.Load[control.RoomName](ctx, l.Store, control.RoomNameKey(r.Tenant, r.ExternalID))
	if errors.Is(err, store.ErrNotFound) {
		name, err = &control.RoomName{Tenant: r.Tenant, ExternalID: r.ExternalID}, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("load room name: %w", err)
	}
	if name.Room != "" {
		old, err := l.Get(ctx, name.Room)
		switch {
		case errors.Is(err, ErrNotFound): // nothing is in its way
		case err != nil:
			return nil, nil, err
		case old.State == lifecycle.Draining || old.State.Final():
		case r.IfExists == IfExistsReturn:
			return &old, nil, nil
		default:
			return nil, nil, ErrNameTaken
		}
	}
	name.Room = room.ID
	w, err := control.Put(name)
	return nil, []store.Write{w}, err
}

func deref(r *Room) Room {
	if r == nil {
		return Room{}
	}
	return *r
}
