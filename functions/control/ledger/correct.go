package ledger

import (
	"context"
	"fmt"
	"slices"

	"mayfly/functions/control"
	"mayfly/functions/control/outbox"
	"mayfly/functions/control/price"
	"mayfly/functions/store"
	"mayfly/shared/usage"
)

// Corrected is the data of usage.corrected: differences to the closed record and
// the corrections before.
type Corrected struct {
	ExternalID   string               `json:"external_id,omitempty"`
	N            int                  `json:"n"`
	Epoch        int                  `json:"epoch"`
	From         string               `json:"from"`
	Totals       control.LedgerTotals `json:"totals"`
	CostNanoUSD  int64                `json:"cost_nano_usd"`
	PriceNanoUSD int64                `json:"price_nano_usd"`
	PrevHash     string               `json:"prev_hash"`
	Hash         string               `json:"hash"`
}

// correctReport takes a report that came after the close.
func (g *Ledger) correctReport(ctx context.Context, room string, epoch int, rep word) error {
	from := control.FromHeartbeat
	if rep.Final {
		from = control.FromFinal
	}
	return g.correct(ctx, room, epoch, from, func(r *record, e *control.Epoch) []control.Session {
		takeTotals(e, rep, g.Now().UnixMilli())
		var news []control.Session
		for _, u := range rep.Sessions {
			if s := takeSession(e, r.session(epoch, u.ID), u, rep.Report); s != nil {
				if s.LeftMS == 0 {
					infer(e, s)
				}
				news = append(news, *s)
			}
		}
		if rep.Final {
			news = append(news, r.unnamed(e, rep.Report)...)
		}
		return news
	})
}

// unnamed ends anew what was inferred of sessions that a final report does not name.
func (r *record) unnamed(e *control.Epoch, rep usage.Report) []control.Session {
	var news []control.Session
	for _, s := range r.sessions {
		named := slices.ContainsFunc(rep.Sessions, func(u usage.Session) bool { return u.ID == s.ID })
		if s.Epoch != e.Epoch || !s.Bounded || named {
			continue
		}
		again := *s
		if reinfer(e, &again); again != *s {
			news = append(news, again)
		}
	}
	return news
}

// CorrectTask takes ECS's word on a task whose end was inferred, once the record is
// closed. Words that change nothing are passed over.
func (g *Ledger) CorrectTask(ctx context.Context, room string, epoch int, t control.Task, from string) error {
	return g.correct(ctx, room, epoch, from, func(r *record, e *control.Epoch) []control.Session {
		if !Merge(e, t, from) {
			return nil
		}
		var news []control.Session
		for _, s := range r.sessions {
			if s.Epoch == epoch && s.Bounded {
				again := *s
				reinfer(e, &again)
				news = append(news, again)
			}
		}
		return news
	})
}

// reinfer ends a session anew whose task's end has become known.
func reinfer(e *control.Epoch, s *control.Session) {
	if s.AudioOnlyMS == s.ParticipantMS {
		s.AudioOnlyMS -= s.ExtraMS
	}
	s.ParticipantMS -= s.ExtraMS
	s.ExtraMS, s.LeftMS, s.Bounded = 0, 0, false
	infer(e, s)
}

// Rebound ends the bounded sessions of an epoch anew, when ECS's own word on the
// task's end comes after the inferred one. On a closed record it does nothing:
// that is CorrectTask's.
func (g *Ledger) Rebound(ctx context.Context, room string, epoch int) error {
	err := g.Retry.Do(ctx, func() error {
		c, err := g.load(ctx, room, epoch)
		if err != nil || c.ledger.ClosedMS != 0 || !c.epoch.Stopped {
			return err
		}
		all, err := control.LoadAll[control.Session](ctx, g.Store, control.RoomPK(room), control.EpochSessions(epoch))
		if err != nil {
			return err
		}
		for _, s := range all {
			was := *s
			if !s.Bounded {
				continue
			}
			if reinfer(c.epoch, s); *s == was {
				continue
			}
			w, err := control.Put(s)
			if err != nil {
				return err
			}
			if c.writes = append(c.writes, w); len(c.writes) > 2*batch {
				break // the rest keeps its inferred end, within the same bound
			}
		}
		return c.commit(ctx, g.Store)
	})
	if err != nil {
		return fmt.Errorf("bound sessions of %s epoch %d anew: %w", room, epoch, err)
	}
	return nil
}

// correct appends a correction to a closed record: what change makes of the epoch
// and its sessions, less what was counted so far. No difference, no correction.
func (g *Ledger) correct(ctx context.Context, room string, epoch int, from string, change func(*record, *control.Epoch) []control.Session) error {
	err := g.Retry.Do(ctx, func() error {
		r, err := g.record(ctx, room)
		if err != nil || r.ledger.ClosedMS == 0 {
			return err
		}
		done, err := control.LoadAll[control.Correction](ctx, g.Store, control.RoomPK(room), control.CorrectionPrefix)
		if err != nil {
			return err
		}
		prev := r.ledger.Hash
		for _, c := range done {
			r.overlay(c.After, c.Sessions)
			prev = c.Hash
		}
		was, _, wasBill, err := g.bill(ctx, r)
		if err != nil {
			return err
		}
		e := r.epoch(epoch)
		if e == nil {
			return store.ErrNotFound
		}
		after := *e
		sessions := change(r, &after)
		r.overlay(after, sessions)
		is, quality, isBill, err := g.bill(ctx, r)
		if err != nil {
			return err
		}
		c := &control.Correction{
			Room: room, N: len(done) + 1, AtMS: g.Now().UnixMilli(), Epoch: epoch, From: from,
			Totals: less(is, was), After: after, Sessions: sessions, PrevHash: prev,
		}
		c.Cost, c.CostNano = price.Less(isBill.Cost, wasBill.Cost)
		c.Price, c.PriceN = price.Less(isBill.Price, wasBill.Price)
		if c.Totals == (control.LedgerTotals{}) && len(c.Cost) == 0 && len(c.Price) == 0 {
			return nil
		}
		return g.append(ctx, r, c, isBill, quality)
	})
	if err != nil {
		return fmt.Errorf("correct ledger of %s epoch %d: %w", room, epoch, err)
	}
	return nil
}

// append commits a correction with its event and the tenant's copy.
func (g *Ledger) append(ctx context.Context, r *record, c *control.Correction, bill price.Bill, quality string) error {
	var err error
	if c.Hash, err = hashOf(c); err != nil {
		return err
	}
	event, err := outbox.Append(r.room, outbox.UsageCorrected, c.AtMS, Corrected{
		ExternalID: r.room.ExternalID, N: c.N, Epoch: c.Epoch, From: c.From, Totals: c.Totals,
		CostNanoUSD: c.CostNano, PriceNanoUSD: c.PriceN, PrevHash: c.PrevHash, Hash: c.Hash,
	})
	if err != nil {
		return err
	}
	bill.Cost, bill.CostNanoUSD, bill.Price, bill.PriceNanoUSD = c.Cost, c.CostNano, c.Price, c.PriceN
	l := r.ledger
	writes := []store.Write{event}
	for _, d := range []control.Doc{r.room, c, &control.Bill{
		Tenant: l.Tenant, Room: l.Room, N: c.N, AtMS: c.AtMS, ExternalID: l.ExternalID, Region: l.Region, Tags: l.Tags,
		OpenedMS: l.OpenedMS, EndedMS: l.EndedMS, Quality: quality, Totals: c.Totals, Bill: bill, Hash: c.Hash,
	}} {
		w, err := control.Put(d)
		if err != nil {
			return err
		}
		writes = append(writes, w)
	}
	g.Log.WarnContext(ctx, "a closed bill was corrected", "room", c.Room, "n", c.N, "from", c.From, "cost_nano_usd", c.CostNano)
	return g.Store.Commit(ctx, writes...)
}

// epoch and session find what was loaded; nil for nothing.
func (r *record) epoch(n int) *control.Epoch {
	for _, e := range r.epochs {
		if e.Epoch == n {
			return e
		}
	}
	return nil
}

func (r *record) session(epoch int, id string) *control.Session {
	for _, s := range r.sessions {
		if s.Epoch == epoch && s.ID == id {
			return s
		}
	}
	return nil
}

// overlay replaces an epoch and sessions of the loaded record.
func (r *record) overlay(e control.Epoch, sessions []control.Session) {
	if old := r.epoch(e.Epoch); old != nil {
		e.Held = old.Held
		*old = e
	}
	for _, s := range sessions {
		if old := r.session(s.Epoch, s.ID); old != nil {
			*old = s
		} else {
			r.sessions = append(r.sessions, &s)
		}
	}
}

// less is a − b, field by field.
func less(a, b control.LedgerTotals) control.LedgerTotals {
	bytes := func(a, b usage.Bytes) usage.Bytes {
		return a.Zip(b, func(x, y int64) int64 { return x - y })
	}
	return control.LedgerTotals{
		ParticipantMS: a.ParticipantMS - b.ParticipantMS, AudioOnlyMS: a.AudioOnlyMS - b.AudioOnlyMS,
		Sessions: a.Sessions - b.Sessions, PeakParticipants: a.PeakParticipants - b.PeakParticipants,
		BytesIn: bytes(a.BytesIn, b.BytesIn), BytesOut: bytes(a.BytesOut, b.BytesOut),
		Egress: control.Egress{
			UDP: a.Egress.UDP - b.Egress.UDP, TCP: a.Egress.TCP - b.Egress.TCP, TURNUDP: a.Egress.TURNUDP - b.Egress.TURNUDP,
			TURNTCP: a.Egress.TURNTCP - b.Egress.TURNTCP, TURNTLS: a.Egress.TURNTLS - b.Egress.TURNTLS, Unknown: a.Egress.Unknown - b.Egress.Unknown,
		},
		TaskMSRaw: a.TaskMSRaw - b.TaskMSRaw, TaskSBillable: a.TaskSBillable - b.TaskSBillable,
		CPUUnitS: a.CPUUnitS - b.CPUUnitS, MemoryMiBS: a.MemoryMiBS - b.MemoryMiBS,
		MessagesIn: a.MessagesIn - b.MessagesIn, MessagesOut: a.MessagesOut - b.MessagesOut, ConnectionMS: a.ConnectionMS - b.ConnectionMS,
	}
}
