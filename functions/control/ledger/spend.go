package ledger

import (
	"context"
	"errors"
	"fmt"

	"mayfly/functions/control"
	"mayfly/functions/control/budget"
	"mayfly/functions/control/price"
	"mayfly/functions/store"
)

// Used is what a running room has used of what its caps limit, by its last reports
// and our clock. NanoUSD is the greater of cost and price: a cap on money protects
// whoever it is that pays. It is an estimate from above for the bill only in that a
// task's time runs on; the bill itself comes from the close.
func (g *Ledger) Used(ctx context.Context, room *control.Room) (budget.Amounts, error) {
	epochs, err := control.LoadAll[control.Epoch](ctx, g.Store, control.RoomPK(room.ID), control.EpochPrefix)
	if err != nil {
		return budget.Amounts{}, err
	}
	book, err := g.Books.Of(ctx, room)
	if err != nil {
		return budget.Amounts{}, err
	}
	nowMS := g.Now().UnixMilli()
	var used budget.Amounts
	var u price.Usage
	for _, e := range epochs {
		used.ParticipantMS += e.Totals.ParticipantMS
		used.EgressBytes += e.Totals.BytesOut.Total
		u.AudioOnlyMS += e.Totals.AudioOnlyMS
		u.Messages += e.Totals.MessagesIn + e.Totals.MessagesOut
		seconds := taskS(e)
		if from := max(e.Task.PullStartedMS, e.AskedMS); !e.Stopped && e.Task.ARN != "" {
			seconds = billableS(max(0, nowMS-from))
		}
		cpu, memory := size(e)
		u.Tasks = append(u.Tasks, price.Task{
			Arch: e.Task.Arch, Spot: spot(e), CPUUnits: cpu, MemoryMiB: memory, BillableS: seconds,
		})
	}
	u.ParticipantMS = used.ParticipantMS
	u.Egress = []price.Egress{{Transport: "udp", Bytes: used.EgressBytes}}
	used.NanoUSD = spent(price.Of(book, room.Region, u))
	return used, nil
}

// spent is what counts against caps and quotas of money.
func spent(b price.Bill) int64 { return max(b.CostNanoUSD, b.PriceNanoUSD) }

// Spend counts what a metered room has spent by now against its tenant's day. The
// caller commits the room, which remembers what was counted, together with the
// write; there is none if nothing is new. Each room has its place among the day's
// counters, so that rooms that end at the same time seldom meet.
func (g *Ledger) Spend(ctx context.Context, r *control.Room, nano int64) ([]store.Write, error) {
	if !r.Metered || nano == r.Spent {
		return nil, nil
	}
	nowMS := g.Now().UnixMilli()
	s := &control.Spend{Tenant: r.Tenant, Day: control.Day(nowMS), Shard: control.Shard(r.ID)}
	old, err := control.Load[control.Spend](ctx, g.Store, s.Place().Key)
	switch {
	case err == nil:
		s = old
	case !errors.Is(err, store.ErrNotFound):
		return nil, fmt.Errorf("load spend: %w", err)
	}
	s.NanoUSD += nano - r.Spent
	s.AtMS, r.Spent = nowMS, nano
	w, err := control.Put(s)
	return []store.Write{w}, err
}
