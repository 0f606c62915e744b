package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"mayfly/functions/control"
	"mayfly/functions/control/figures"
	"mayfly/functions/control/outbox"
	"mayfly/functions/store"
	"mayfly/shared/signal"
)

// Closed is the data of usage.closed.
type Closed struct {
	ExternalID   string               `json:"external_id,omitempty"`
	OpenedMS     int64                `json:"opened_ms"`
	ClosedMS     int64                `json:"closed_ms"`
	Epochs       int                  `json:"epochs"`
	Totals       control.LedgerTotals `json:"totals"`
	Quality      string               `json:"quality"`
	PriceBook    string               `json:"price_book"`
	CostNanoUSD  int64                `json:"cost_nano_usd"`
	PriceNanoUSD int64                `json:"price_nano_usd"`
	Hash         string               `json:"hash"`
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

// bound ends one open session, with its events.
func (c *change) bound(s *control.Session, nowMS int64) error {
	unknown := s.Seq == 0
	infer(c.epoch, s)
	if !s.NotTaken {
		c.epoch.Bounded, c.dirtyEpoch = true, true
	}
	if unknown && !s.NotTaken {
		if err := c.event(outbox.ParticipantJoined, nowMS, Joined{s.Participant, s.ID, s.Epoch, s.JoinedMS}); err != nil {
			return err
		}
	}
	if err := c.tracks(s, s.On, nowMS); err != nil {
		return err
	}
	return c.put(s, nowMS)
}

// infer ends an open session of a stopped task. Of one that was reported, the
// task's clock said when it was last there; how long it may have gone on is the
// time from there to its end by ECS, or from when the report came, if our clock says
// that this was later.
func infer(e *control.Epoch, s *control.Session) {
	s.LeaveReason = "task_stopped"
	if s.Seq == 0 {
		inferUnknown(e, s)
		return
	}
	extra := int64(afterHeartbeatMS)
	if e.Task.StoppedMS != 0 {
		extra = min(extra, max(0, e.Task.StoppedMS-max(e.ReportedMS, e.ReportMS)))
	}
	s.LeftMS = max(s.JoinedMS, e.ReportMS+extra)
	if s.ParticipantMS > 0 { // it was connected; time not connected is not counted
		extend(s, extra)
	}
	s.Bounded = true
}

// inferUnknown ends a session that was admitted and that no report has told of.
// Either the task never took it (a bad offer, a full room, a frame that was lost),
// or it was killed before the report came, which a task sends at once and again
// every 2 s. A report that came 10 s after the admission would have told of it.
func inferUnknown(e *control.Epoch, s *control.Session) {
	end := max(e.ReportedMS, s.AdmittedMS) + afterHeartbeatMS
	if e.Task.StoppedMS != 0 {
		end = min(end, e.Task.StoppedMS)
	}
	told := e.Final && known(e, s) || e.ReportedMS > s.AdmittedMS+afterHeartbeatMS
	if told || end <= s.AdmittedMS {
		s.NotTaken, s.Told, s.LeaveReason, s.LeftMS = true, true, "not_taken", s.AdmittedMS
		return
	}
	s.JoinedMS, s.LeftMS, s.Bounded = s.AdmittedMS, end, true
	extend(s, end-s.AdmittedMS)
}

// known says whether a final report was made by a task that knew of the session's join, or
// could take it no more. A room whose end lost against a join goes on after its task's
// final report: if it is killed then, the join's number says on which side it was.
func known(e *control.Epoch, s *control.Session) bool {
	if d := doubt(e); d > 0 || s.JoinSeq == 0 {
		return e.ReportedMS+d >= s.AdmittedMS
	}
	return s.JoinSeq <= e.FinalJoins
}

// doubt is how much later than a final report a join may seem to have been admitted,
// that was admitted before it: the two times are of two functions, whose clocks may be
// apart. A task that was killed may have let somebody in after the report; one that
// ended by itself has told of everybody.
func doubt(e *control.Epoch) int64 {
	if code := e.Task.ExitCode; code != nil && (*code == signal.ExitEnded || *code == signal.ExitTerminated) {
		return clocksApartMS
	}
	return 0
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
	r, err := g.record(ctx, room)
	if err != nil {
		return false, err
	}
	if r.ledger.ClosedMS != 0 || !r.room.State.Final() {
		return r.ledger.ClosedMS != 0, nil
	}
	for _, e := range r.epochs {
		if !e.Stopped {
			return false, nil
		}
	}
	for _, s := range r.sessions {
		if s.LeftMS == 0 {
			if err := g.Bound(ctx, room, s.Epoch); err != nil {
				return false, err
			}
			// Bounding has changed the ledger, so what was loaded is of no use any more.
			return false, &store.ConflictError{Key: control.LedgerKey(room), Index: -1}
		}
	}
	return true, g.close(ctx, r)
}

// close is the one commit: ledger, event, the tenant's copy, and the room that is
// due no more.
func (g *Ledger) close(ctx context.Context, rec *record) error {
	l, r := rec.ledger, rec.room
	totals, quality, bill, err := g.bill(ctx, rec)
	if err != nil {
		return err
	}
	l.ClosedMS, l.EndedMS = g.Now().UnixMilli(), r.EndedMS
	l.Totals, l.Quality, l.Bill, l.PriceBook = totals, quality, &bill, bill.Book
	if l.Hash, err = hashOf(l); err != nil {
		return err
	}
	event, err := outbox.Append(r, outbox.UsageClosed, l.ClosedMS, Closed{
		ExternalID: r.ExternalID, OpenedMS: l.OpenedMS, ClosedMS: l.ClosedMS,
		Epochs: len(rec.epochs), Totals: l.Totals, Quality: l.Quality,
		PriceBook: bill.Book, CostNanoUSD: bill.CostNanoUSD, PriceNanoUSD: bill.PriceNanoUSD, Hash: l.Hash,
	})
	if err != nil {
		return err
	}
	r.Settled, r.Present = true, 0
	writes, err := g.Spend(ctx, r, spent(bill))
	if err != nil {
		return err
	}
	writes = append(writes, event)
	for _, d := range []control.Doc{l, r, &control.Bill{
		Tenant: l.Tenant, Room: l.Room, AtMS: l.ClosedMS, ExternalID: l.ExternalID, Region: l.Region, Tags: l.Tags,
		OpenedMS: l.OpenedMS, EndedMS: l.EndedMS, Quality: l.Quality, Totals: l.Totals, Bill: bill, Hash: l.Hash,
	}} {
		w, err := control.Put(d)
		if err != nil {
			return err
		}
		writes = append(writes, w)
	}
	if err := g.Store.Commit(ctx, writes...); err != nil {
		return err
	}
	figures.Record(ctx, g.Meter, figures.LedgerCloseLag.Is(figures.Since(l.EndedMS, l.ClosedMS)).About(l.Room))
	return nil
}

// hashOf is the hex SHA-256 of a closed record or a correction, as it is stored and
// without its own hash.
func hashOf(d control.Doc) (string, error) {
	switch d := d.(type) {
	case *control.Ledger:
		c := *d
		c.Hash = ""
		return sum256(c)
	case *control.Correction:
		c := *d
		c.Hash = ""
		return sum256(c)
	}
	return "", fmt.Errorf("no hash of a %T", d)
}

func sum256(v any) (string, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("hash: %w", err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

// extend adds inferred time to a session. One that was audio only stays so.
func extend(s *control.Session, ms int64) {
	if s.ParticipantMS > 0 && s.AudioOnlyMS == s.ParticipantMS {
		s.AudioOnlyMS += ms
	}
	s.ParticipantMS += ms
	s.ExtraMS += ms
}
