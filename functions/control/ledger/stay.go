package ledger

import (
	"context"
	"fmt"

	"mayfly/functions/control"
	"mayfly/functions/store"
)

// Stay is the newest stay of a participation: the session that its join opened, or
// the one that the task counts after the participant was lost and came back by the
// same join (see roomtask/usage). It is open if the participant is there, as far as
// was reported. Errors: store.ErrNotFound.
func (g *Ledger) Stay(ctx context.Context, room string, epoch int, session string) (*control.Session, error) {
	prefix := control.EpochSessions(epoch) + session
	all, err := control.LoadAll[control.Session](ctx, g.Store, control.RoomPK(room), prefix)
	if err != nil {
		return nil, fmt.Errorf("stays of %s: %w", session, err)
	}
	var last *control.Session
	for _, s := range all {
		if s.ID != session && s.ID[:min(len(s.ID), len(session)+1)] != session+"." {
			continue
		}
		if last == nil || last.LeftMS != 0 && (s.LeftMS == 0 || s.LeftMS > last.LeftMS) {
			last = s
		}
	}
	if last == nil {
		return nil, store.ErrNotFound
	}
	return last, nil
}
