// Package outbox is how the control plane tells the world what happened: events
// that are stored in the commit of the change they tell, and delivered later.
//
// An event exists if and only if its change does. Per room, events are numbered
// from 1 without a gap, because the number is taken from the room's own item in
// the same commit. Until an event is delivered it is in the OUTBOX index. Delivery
// is at least once: a crash between delivering and marking repeats it, with the
// same id. life and ledger append; the deliver handler drains. The package decides
// nothing about rooms. Read Append, then Drain.
package outbox

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/store"
)

// Types of event. The rest of the room's are in shared/lifecycle.
const (
	RoomCreated       = "room.created"
	ParticipantJoined = "participant.joined"
	ParticipantLeft   = "participant.left"
	UsageClosed       = "usage.closed"
	UsageCorrected    = "usage.corrected" // differences to a closed record
	QuotaNear         = "quota.near"      // a room comes near one of its caps
)

// Append makes the write of the room's next event and takes its number. The caller
// commits the room and the event together.
func Append(r *control.Room, typ string, atMS int64, data any) (store.Write, error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return store.Write{}, fmt.Errorf("encode event %s: %w", typ, err)
	}
	r.EventSeq++
	return control.Put(&control.Event{
		ID: fmt.Sprintf("evt_%s_%d", r.ID, r.EventSeq), Seq: r.EventSeq, Type: typ,
		Room: r.ID, Tenant: r.Tenant, AtMS: atMS, Data: raw,
	})
}

// Outbox drains events. All fields are set once, before use.
type Outbox struct {
	Store control.Store
	Now   control.Clock
	Log   *slog.Logger
	Retry control.Retry
}

// Deliver hands one event over. An error leaves it in the outbox.
type Deliver func(ctx context.Context, e control.Event) error

// LogTo delivers to the structured log.
func LogTo(log *slog.Logger) Deliver {
	return func(ctx context.Context, e control.Event) error {
		log.LogAttrs(ctx, slog.LevelInfo, "event", slog.String("room", e.Room), slog.String("type", e.Type),
			slog.Uint64("seq", e.Seq), slog.String("id", e.ID), slog.String("tenant", e.Tenant),
			slog.Time("at", time.UnixMilli(e.AtMS).UTC()), slog.Any("data", e.Data))
		return nil
	}
}

// Drain delivers the events with these keys, a room's in their order, and marks
// them. Keys of other items, and events that are delivered already, are passed
// over. It goes on after a failure (with the next room) and returns all of them.
func (o *Outbox) Drain(ctx context.Context, keys []store.Key, deliver Deliver) error {
	keys = slices.Clone(keys)
	slices.SortFunc(keys, func(a, b store.Key) int {
		return cmp.Or(strings.Compare(a.PK, b.PK), strings.Compare(a.SK, b.SK))
	})
	var errs []error
	failed := "" // partition whose later events must wait
	for _, k := range slices.Compact(keys) {
		if !isEvent(k) || k.PK == failed {
			continue
		}
		if err := o.deliver(ctx, k, deliver); err != nil {
			failed = k.PK
			errs = append(errs, fmt.Errorf("deliver %s %s: %w", k.PK, k.SK, err))
		}
	}
	return errors.Join(errs...)
}

// Sweep drains every event that the index still holds and that is older than
// after: younger ones are left to whoever was woken by their commit.
func (o *Outbox) Sweep(ctx context.Context, after time.Duration, deliver Deliver) error {
	upTo := control.IndexTime(o.Now().Add(-after).UnixMilli()) + "~"
	var errs []error
	for shard := range control.Shards {
		var keys []store.Key
		q := store.QueryOptions{}
		for {
			page, err := o.Store.Index(ctx, control.OutboxPK(shard), upTo, q)
			if err != nil {
				errs = append(errs, fmt.Errorf("outbox index %d: %w", shard, err))
				break
			}
			for _, it := range page.Items {
				keys = append(keys, it.Key)
			}
			if page.Next == "" {
				break
			}
			q.Cursor = page.Next
		}
		errs = append(errs, o.Drain(ctx, keys, deliver))
	}
	return errors.Join(errs...)
}

// deliver hands one event over and marks it.
func (o *Outbox) deliver(ctx context.Context, k store.Key, deliver Deliver) error {
	handed := false
	return o.Retry.Do(ctx, func() error {
		e, err := control.Load[control.Event](ctx, o.Store, k)
		if errors.Is(err, store.ErrNotFound) {
			return nil // delivered, and expired since
		}
		if err != nil || e.DeliveredMS != 0 {
			return err
		}
		if !handed {
			if err := deliver(ctx, *e); err != nil {
				return err
			}
			handed = true
		}
		e.DeliveredMS = o.Now().UnixMilli()
		w, err := control.Put(e)
		if err != nil {
			return err
		}
		return o.Store.Commit(ctx, w)
	})
}

func isEvent(k store.Key) bool {
	return strings.HasPrefix(k.PK, control.RoomPK("")) && strings.HasPrefix(k.SK, control.EventPrefix)
}
