package join

import (
	"context"
	"errors"
	"fmt"

	"mayfly/functions/control"
	"mayfly/functions/store"
	"mayfly/shared/signal"
)

// banned refuses who was ejected, and who comes by an identity that is banned,
// whatever ticket it holds.
func (j *Join) banned(ctx context.Context, who *identified) error {
	identity := ""
	if who.claims != nil {
		identity = who.claims.Identity
	}
	if who.part != nil {
		if who.part.EjectedMS != 0 {
			return signal.Fault(signal.CodeEjected, "this participation was ended")
		}
		identity = who.part.Identity
	}
	_, err := j.Store.Get(ctx, control.BanKey(who.room, identity))
	switch {
	case err == nil:
		return signal.Fault(signal.CodeEjected, "this identity is banned from the room")
	case !errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("load ban: %w", err)
	}
	return nil
}

// notBanned makes a join's commit lose against a ban that comes between.
func notBanned(room, identity string) store.Write {
	return store.Write{Op: store.Check, Item: store.Item{Key: control.BanKey(room, identity)}}
}
