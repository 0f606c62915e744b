package life

import (
	"context"
	"errors"
	"fmt"

	"mayfly/functions/control"
	"mayfly/functions/control/budget"
	"mayfly/functions/control/outbox"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
)

// quota is what the tenant may have: its own limits, or else the deployment's.
func (l *Life) quota(ctx context.Context, tenant string) (budget.Quota, error) {
	c := l.Config
	q := budget.Quota{Rooms: c.MaxRooms, PerSecond: c.CreatesPerSecond, Burst: c.CreateBurst, SpendNano: c.SpendPerDay}
	if q.Rooms == 0 {
		q.Rooms = defaultMaxRooms
	}
	own, err := control.Load[control.TenantLimits](ctx, l.Store, control.LimitsKey(tenant))
	if errors.Is(err, store.ErrNotFound) {
		return q, nil
	}
	if err != nil {
		return q, fmt.Errorf("load limits: %w", err)
	}
	set := func(to *int, v int) {
		if v != 0 {
			*to = v
		}
	}
	set(&q.Rooms, own.MaxRooms)
	set(&q.PerSecond, own.CreatesPerSecond)
	set(&q.Burst, own.CreateBurst)
	if own.SpendPerDay != 0 {
		q.SpendNano = own.SpendPerDay
	}
	return q, nil
}

// take finds the tenant's counter that has a place for the room. Errors: ErrQuota,
// ErrRate, ErrSpend.
func (l *Life) take(ctx context.Context, room *Room) (*taken, error) {
	q, err := l.quota(ctx, room.Tenant)
	if err != nil {
		return nil, err
	}
	if room.Metered = q.SpendNano > 0; room.Metered {
		spent, err := control.LoadAll[control.Spend](ctx, l.Store, control.TenantPK(room.Tenant), control.SpendPrefix(control.Day(l.nowMS())))
		if err != nil {
			return nil, fmt.Errorf("load spend: %w", err)
		}
		parts := make([]int64, len(spent))
		for i, s := range spent {
			parts[i] = s.NanoUSD
		}
		if budget.Spent(q, parts) {
			return nil, ErrSpend
		}
	}
	stored, err := control.LoadAll[control.Quota](ctx, l.Store, control.TenantPK(room.Tenant), control.QuotaPrefix)
	if err != nil {
		return nil, fmt.Errorf("load quota: %w", err)
	}
	var shards [budget.Shards]budget.Shard
	docs := [budget.Shards]*control.Quota{}
	for _, d := range stored {
		shards[d.N], docs[d.N] = d.Shard, d
	}
	i, after, no := budget.Take(q, shards, int(l.Config.Retry.Float64()*budget.Shards), l.nowMS())
	switch no {
	case budget.TooMany:
		return nil, &QuotaError{ErrQuota, QuotaLeft{q, q.Left(shards, l.nowMS())}}
	case budget.TooFast:
		return nil, &QuotaError{ErrRate, QuotaLeft{q, q.Left(shards, l.nowMS())}}
	}
	shards[i] = after
	if docs[i] == nil {
		docs[i] = &control.Quota{Tenant: room.Tenant, N: i}
	}
	docs[i].Shard, room.QuotaShard = after, i
	return &taken{docs[i], QuotaLeft{q, q.Left(shards, l.nowMS())}}, nil
}

// taken is a place in the tenant's quota, as the commit must write it.
type taken struct {
	doc  *control.Quota
	left QuotaLeft
}

// QuotaLeft is what a tenant may have, and what of it is left.
type QuotaLeft struct {
	Quota budget.Quota
	Left  budget.Left
}

// QuotaError is ErrQuota or ErrRate, with what is left.
type QuotaError struct {
	Err error
	QuotaLeft
}

func (e *QuotaError) Error() string { return e.Err.Error() }

// Unwrap is the error that callers compare with.
func (e *QuotaError) Unwrap() error { return e.Err }

// release gives the room's place in the tenant's quota back.
func (l *Life) release(ctx context.Context, r *Room) (store.Write, error) {
	q, err := control.Load[control.Quota](ctx, l.Store, control.QuotaKey(r.Tenant, r.QuotaShard))
	if err != nil {
		return store.Write{}, fmt.Errorf("load quota: %w", err)
	}
	q.Rooms = max(0, q.Rooms-1)
	return control.Put(q)
}

// spendStep is how much a room spends before it is counted against the tenant's day,
// a cent: every heartbeat would be a write for nothing.
const spendStep = 10_000_000

// judge looks how near a live room is to its caps, after a report was stored. It
// tells the product when the room comes nearer, ends a room that is over, and
// returns what the task is to know; nil while all caps are far.
func (l *Life) judge(ctx context.Context, r *Room) (*signal.Budget, error) {
	if r.State != lifecycle.Live {
		return nil, nil
	}
	caps, used := r.Caps, budget.Amounts{}
	if caps != used || r.Metered {
		var err error
		if used, err = l.ledger().Used(ctx, r); err != nil {
			return nil, fmt.Errorf("usage of %s so far: %w", r.ID, err)
		}
	}
	caps.DurationMS, used.DurationMS = r.EndsAtMS-r.CreatedMS, l.nowMS()-r.CreatedMS
	v := budget.Judge(caps, used)
	if v.Level > r.Near || r.Metered && used.NanoUSD-r.Spent >= spendStep {
		if err := l.near(ctx, r.ID, v, used); err != nil {
			return nil, fmt.Errorf("budget of %s: %w", r.ID, err)
		}
	}
	if v.Level == budget.Over {
		next, todo, err := l.step(ctx, r.ID, lifecycle.Event{Kind: lifecycle.Delete, Reason: OverBudget(v.Cap)}, nil)
		if err == nil {
			err = l.act(ctx, next, todo, l.speak)
		}
		return nil, err
	}
	if v.Level == budget.None {
		return nil, nil
	}
	return &signal.Budget{Level: v.Level.String(), Cap: v.Cap, UsedPermil: v.Permil, Reduce: v.Reduce}, nil
}

// OverBudget is the reason of a room that was ended by a cap.
func OverBudget(name string) string {
	switch name {
	case budget.ParticipantMinutes:
		return signal.ReasonMaxMinutes
	case budget.EgressBytes:
		return signal.ReasonMaxEgress
	}
	return signal.ReasonMaxCost
}

// NearData is the data of quota.near.
type NearData struct {
	ExternalID string         `json:"external_id,omitempty"`
	Level      string         `json:"level"` // near, last or over
	Cap        string         `json:"cap"`
	UsedPermil int            `json:"used_permil"`
	Caps       budget.Amounts `json:"caps"`
	Used       budget.Amounts `json:"used"`
}

// near remembers a level, with its event, and counts what the room has spent.
func (l *Life) near(ctx context.Context, room string, v budget.Verdict, used budget.Amounts) error {
	return l.Config.Retry.Do(ctx, func() error {
		r, err := control.Load[control.Room](ctx, l.Store, control.RoomKey(room))
		if err != nil || r.State.Final() {
			return err
		}
		var writes []store.Write
		if v.Level > r.Near {
			r.Near = v.Level
			w, err := outbox.Append(r, outbox.QuotaNear, l.nowMS(), NearData{
				ExternalID: r.ExternalID, Level: v.Level.String(), Cap: v.Cap, UsedPermil: v.Permil, Caps: r.Caps, Used: used,
			})
			if err != nil {
				return err
			}
			writes = append(writes, w)
		}
		w, err := l.ledger().Spend(ctx, r, used.NanoUSD)
		if err != nil {
			return err
		}
		writes = append(writes, w...)
		if len(writes) == 0 {
			return nil
		}
		put, err := control.Put(r)
		if err != nil {
			return err
		}
		return l.Store.Commit(ctx, append(writes, put)...)
	})
}
