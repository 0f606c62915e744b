package ledger

import (
	"context"
	"fmt"

	"mayfly/functions/control"
	"mayfly/functions/control/outbox"
	"mayfly/functions/store"
)

// Closed is the data of usage.closed.
type Closed struct {
	ExternalID string               `json:"external_id,omitempty"`
	OpenedMS   int64                `json:"opened_ms"`
	ClosedMS   int64                `json:"closed_ms"`
	Epochs     int                  `json:"epochs"`
	Totals     control.LedgerTotals `json:"totals"`
	Quality    string               `json:"quality"`
}

// Bound ends the sessions that a stopped epoch left open: their task was killed
// before it could say. Each ends at the task's stop, or 10 s after its last
// heartbeat if that is earlier. On a running epoch it does nothing.
func (g *Ledger) Bound(ctx context.Context, room string, epoch int) error {
	for more := true; more; {
		err := g.Retry.Do(ctx, func() error {
			c, err := g.load(ctx, room, epoch)
			if err != nil {
				return err
			}
			more = false
			if !c.epoch.Stopped || c.ledger.ClosedMS != 0 {
				return nil
			}
			all, err := control.LoadAll[control.Session](ctx, g.Store, control.RoomPK(room), control.EpochSessions(epoch))
			if err != nil {
				return err
			}
			n := 0
			for _, s := range all {
				if s.LeftMS != 0 {
					continue
				}
				if n++; n > batch {
					more = true
					break
				}
				if err := c.bound(s, g.Now().UnixMilli()); err != nil {
					return err
				}
			}
			return c.commit(ctx, g.Store)
		})
		if err != nil {
			return fmt.Errorf("bound sessions of %s epoch %d: %w", room, epoch, err)
		}
	}
	return nil
}

// bound ends one open session. The task's clock said when it was last there; how
// long it may have gone on is a difference of our clock and ECS's.
func (c *change) bound(s *control.Session, nowMS int64) error {
	e := c.epoch
	extra := int64(afterHeartbeatMS)
	if e.Task.StoppedMS != 0 {
		extra = min(extra, max(0, e.Task.StoppedMS-e.ReportedMS))
	}
	s.LeftMS = max(s.JoinedMS, e.ReportMS+extra)
	if s.ParticipantMS > 0 { // it was connected; time not connected is not counted
		s.ExtraMS = extra
		s.ParticipantMS += extra
		e.ExtraMS += extra
	}
	s.LeaveReason, s.Bounded = "task_stopped", true
	e.Bounded, c.dirtyEpoch = true, true
	return c.put(s, nowMS)
}

// Settle closes the record of a final room whose tasks are all proved stopped, and
// says whether it is closed now. Calling it again does nothing.
func (g *Ledger) Settle(ctx context.Context, room string) (closed bool, err error) {
	err = g.Retry.Do(ctx, func() error {
		closed, err = g.settle(ctx, room)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("close ledger of %s: %w", room, err)
	}
	return closed, nil
}

func (g *Ledger) settle(ctx context.Context, room string) (bool, error) {
	l, err := control.Load[control.Ledger](ctx, g.Store, control.LedgerKey(room))
	if err != nil {
		return false, err
	}
	r, err := control.Load[control.Room](ctx, g.Store, control.RoomKey(room))
	if err != nil {
		return false, err
	}
	if l.ClosedMS != 0 || !r.State.Final() {
		return l.ClosedMS != 0, nil
	}
	epochs, err := control.LoadAll[control.Epoch](ctx, g.Store, control.RoomPK(room), control.EpochPrefix)
	if err != nil {
		return false, err
	}
	for _, e := range epochs {
		if !e.Stopped {
			return false, nil
		}
		open, err := g.open(ctx, room, e.Epoch)
		if err != nil {
			return false, err
		}
		if !open {
			continue
		}
		if err := g.Bound(ctx, room, e.Epoch); err != nil {
			return false, err
		}
		// Bounding has changed the ledger, so what was loaded is of no use any more.
		return false, &store.ConflictError{Key: control.LedgerKey(room), Index: -1}
	}
	return true, g.close(ctx, l, r, epochs)
}

// open says whether an epoch has open sessions.
func (g *Ledger) open(ctx context.Context, room string, epoch int) (bool, error) {
	all, err := control.LoadAll[control.Session](ctx, g.Store, control.RoomPK(room), control.EpochSessions(epoch))
	if err != nil {
		return false, err
	}
	for _, s := range all {
		if s.LeftMS == 0 {
			return true, nil
		}
	}
	return false, nil
}

// close is the one commit: ledger, event, and the room that is due no more.
func (g *Ledger) close(ctx context.Context, l *control.Ledger, r *control.Room, epochs []*control.Epoch) error {
	l.ClosedMS = g.Now().UnixMilli()
	l.Totals, l.Quality = sum(epochs)
	event, err := outbox.Append(r, outbox.UsageClosed, l.ClosedMS, Closed{
		ExternalID: r.ExternalID, OpenedMS: l.OpenedMS, ClosedMS: l.ClosedMS,
		Epochs: len(epochs), Totals: l.Totals, Quality: l.Quality,
	})
	if err != nil {
		return err
	}
	r.Settled, r.Present = true, 0
	ledger, err := control.Put(l)
	if err != nil {
		return err
	}
	room, err := control.Put(r)
	if err != nil {
		return err
	}
	return g.Store.Commit(ctx, ledger, room, event)
}
