package ledger

import (
	"context"
	"errors"
	"fmt"

	"mayfly/functions/control"
	"mayfly/functions/control/outbox"
	"mayfly/functions/store"
	"mayfly/shared/usage"
)

// Joined and Left are the data of participant.joined and participant.left.
type (
	Joined struct {
		Participant string `json:"participant"`
		Session     string `json:"session"`
		Epoch       int    `json:"epoch"`
		JoinedMS    int64  `json:"joined_ms"`
	}
	Left struct {
		Participant   string      `json:"participant"`
		Session       string      `json:"session"`
		Epoch         int         `json:"epoch"`
		JoinedMS      int64       `json:"joined_ms"`
		LeftMS        int64       `json:"left_ms"`
		ParticipantMS int64       `json:"participant_ms"`
		Reason        string      `json:"reason,omitempty"`
		BytesIn       usage.Bytes `json:"bytes_in"`
		BytesOut      usage.Bytes `json:"bytes_out"`
		Bounded       bool        `json:"bounded,omitempty"`
	}
)

// Report stores one report of the epoch's task, with the events of who came and
// went. A report that was stored already changes nothing; one that comes after the
// close becomes a correction, if it tells anything new. Errors: store.ErrNotFound,
// ErrOtherTask. joinSeq is the last join that the task knew of when it made the report.
func (g *Ledger) Report(ctx context.Context, room string, epoch int, taskARN string, joinSeq uint64, rep usage.Report) error {
	sessions, stopped, closed := rep.Sessions, false, false
	for {
		part := sessions[:min(batch, len(sessions))]
		sessions = sessions[len(part):]
		err := g.Retry.Do(ctx, func() error {
			s, err := g.load(ctx, room, epoch)
			if err != nil {
				return err
			}
			if s.epoch.Task.ARN != taskARN {
				return ErrOtherTask
			}
			if closed = s.ledger.ClosedMS != 0; closed {
				return nil
			}
			if err := s.merge(ctx, g.Store, word{rep, joinSeq}, part, len(sessions) == 0, g.Now().UnixMilli()); err != nil {
				return err
			}
			stopped = s.epoch.Stopped
			return s.commit(ctx, g.Store)
		})
		if err != nil {
			return fmt.Errorf("report %d of %s epoch %d: %w", rep.Seq, room, epoch, err)
		}
		if closed {
			return g.correctReport(ctx, room, epoch, word{rep, joinSeq})
		}
		if len(sessions) == 0 {
			break
		}
	}
	if !stopped {
		return nil
	}
	// The report came after the proof: what it left open ended too, and who it does not
	// name, though it is the last one, was not there.
	err := g.Bound(ctx, room, epoch)
	if err == nil && rep.Final {
		err = g.Rebound(ctx, room, epoch)
	}
	return err
}

// word is a report, with the last join that its task knew of.
type word struct {
	usage.Report
	joinSeq uint64
}

// change is one load → decide → commit on a room's usage. It lives for one try.
type change struct {
	ledger *control.Ledger
	room   *control.Room
	epoch  *control.Epoch
	writes []store.Write // of sessions and events
	// What else the commit must write, and not merely check.
	dirtyRoom, dirtyEpoch bool
}

// load reads the ledger first: writes to the usage of a stopped epoch raise the
// ledger's version, so that whatever is read after it is as it says.
func (g *Ledger) load(ctx context.Context, room string, epoch int) (*change, error) {
	var c change
	var err error
	if c.ledger, err = control.Load[control.Ledger](ctx, g.Store, control.LedgerKey(room)); err != nil {
		return nil, err
	}
	if c.room, err = control.Load[control.Room](ctx, g.Store, control.RoomKey(room)); err != nil {
		return nil, err
	}
	c.epoch, err = control.Load[control.Epoch](ctx, g.Store, control.EpochKey(room, epoch))
	return &c, err
}

// merge takes over part of a report's sessions, and with the last part its totals.
func (c *change) merge(ctx context.Context, st control.Store, rep word, part []usage.Session, last bool, nowMS int64) error {
	for _, u := range part {
		old, err := control.Load[control.Session](ctx, st, control.SessionKey(c.room.ID, c.epoch.Epoch, u.ID))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err := c.session(old, u, rep.Report, nowMS); err != nil {
			return err
		}
	}
	e := c.epoch
	if !last || !takeTotals(e, rep, nowMS) {
		return nil
	}
	c.dirtyEpoch = true
	if rep.Seq == e.ReportSeq && c.room.Epoch == e.Epoch && !c.room.State.Final() && c.room.Present != rep.Totals.Present {
		c.room.Present, c.dirtyRoom = rep.Totals.Present, true
	}
	return nil
}

// takeTotals takes a newer report's sums over, and says whether that changed anything.
// A final report stays final until a session begins after it: an empty room that is told
// to carry on has not ended. That holds in whatever order the reports come: a task that
// waits for its end to be agreed to still sends heartbeats, and one of these may overtake
// the report that was final.
func takeTotals(e *control.Epoch, rep word, nowMS int64) (changed bool) {
	same := rep.Totals.Sessions == e.Totals.Sessions
	if rep.Seq <= e.ReportSeq {
		late := rep.Final && same && !e.Final
		if late {
			e.Final, e.FinalJoins = true, rep.joinSeq
		}
		return late
	}
	if rep.Final {
		e.FinalJoins = rep.joinSeq
	}
	e.Final = rep.Final || e.Final && same
	e.ReportSeq, e.ReportMS, e.ReportedMS = rep.Seq, rep.AtMS, max(e.ReportedMS, nowMS)
	e.Totals = rep.Totals
	return true
}

// session merges one session. old is nil if it is new.
func (c *change) session(old *control.Session, u usage.Session, rep usage.Report, nowMS int64) error {
	s := takeSession(c.epoch, old, u, rep)
	if s == nil {
		return nil
	}
	if old == nil || old.Seq == 0 && !old.Told || old.NotTaken {
		if err := c.event(outbox.ParticipantJoined, nowMS, Joined{u.Participant, u.ID, s.Epoch, u.JoinedMS}); err != nil {
			return err
		}
	}
	was := usage.Tracks{}
	if old != nil {
		was = old.On
	}
	if err := c.tracks(s, was, nowMS); err != nil {
		return err
	}
	return c.put(s, nowMS)
}

// takeSession is a session as a report tells it; nil if what is known is newer. It
// replaces what was inferred: the task's own figure came after all.
func takeSession(e *control.Epoch, old *control.Session, u usage.Session, rep usage.Report) *control.Session {
	s := &control.Session{Room: e.Room, Epoch: e.Epoch, Session: u, Seq: rep.Seq, AtMS: rep.AtMS}
	if old != nil {
		if rep.Seq <= old.Seq {
			return nil
		}
		s.Held, s.Told = old.Held, old.Told && !old.NotTaken
		s.AdmittedMS, s.JoinSeq, s.IdentityHash, s.Role = old.AdmittedMS, old.JoinSeq, old.IdentityHash, old.Role
	}
	return s
}

// put writes a session, with its leave if that is new.
func (c *change) put(s *control.Session, nowMS int64) error {
	if s.LeftMS != 0 && !s.Told {
		s.Told = true
		if err := c.event(outbox.ParticipantLeft, nowMS, Left{
			s.Participant, s.ID, s.Epoch, s.JoinedMS, s.LeftMS, s.ParticipantMS,
			s.LeaveReason, s.BytesIn, s.BytesOut, s.Bounded,
		}); err != nil {
			return err
		}
	}
	w, err := control.Put(s)
	c.writes = append(c.writes, w)
	return err
}

func (c *change) event(typ string, atMS int64, data any) error {
	w, err := outbox.Append(c.room, typ, atMS, data)
	c.writes, c.dirtyRoom = append(c.writes, w), true
	return err
}

// commit writes what changed. The epoch is part of every commit, so that a report
// and the word that the task stopped can't both think they came first; and what
// touches a stopped epoch's usage is a change of the ledger.
func (c *change) commit(ctx context.Context, st control.Store) error {
	if len(c.writes) == 0 && !c.dirtyEpoch && !c.dirtyRoom {
		return nil
	}
	writes := c.writes
	for _, d := range []struct {
		doc   control.Doc
		write bool
	}{{c.ledger, c.epoch.Stopped}, {c.epoch, c.dirtyEpoch}} {
		w := control.Unchanged(d.doc)
		if d.write {
			var err error
			if w, err = control.Put(d.doc); err != nil {
				return err
			}
		}
		writes = append(writes, w)
	}
	if c.dirtyRoom {
		w, err := control.Put(c.room)
		if err != nil {
			return err
		}
		writes = append(writes, w)
	}
	return st.Commit(ctx, writes...)
}
