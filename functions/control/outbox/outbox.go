// Package outbox is how the control plane tells the world what happened: events
// that are stored in the commit of the change they tell, and put into their tenant's
// log later.
//
// An event exists if and only if its change does. Per room, events are numbered
// from 1 without a gap, because the number is taken from the room's own item in
// the same commit. The deliver handler drains: one commit marks events, gives them
// the next positions of their tenant's log, and makes a delivery for each webhook
// endpoint that wants them. So an event is in the log once, and owed to each endpoint
// once, whatever crashes. Until then it is in the OUTBOX index.
//
// life, ledger and hooks append; hooks sends; api reads the log. The package decides
// nothing about rooms. Read Append, then Drain, then log.go.
package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/store"
)

// Append makes the write of the room's next event and takes its number. The caller
// commits the room and the event together. Types are listed in types.go.
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

// AppendHook is Append for an event about a webhook endpoint. If only is not empty,
// that endpoint alone is sent it.
func AppendHook(h *control.Hook, typ, only string, atMS int64, data any) (store.Write, error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return store.Write{}, fmt.Errorf("encode event %s: %w", typ, err)
	}
	h.EventSeq++
	return control.Put(&control.Event{
		ID: fmt.Sprintf("evt_%s_%d", h.ID, h.EventSeq), Seq: h.EventSeq, Type: typ,
		Endpoint: h.ID, Only: only, Tenant: h.Tenant, AtMS: atMS, Data: raw,
	})
}

// Outbox drains events. All fields are set once, before use.
type Outbox struct {
	Store control.Store
	Now   control.Clock
	Log   *slog.Logger
	Retry control.Retry
}

// Deliver is told of one event before it comes into the log, at least once. An error
// leaves the event in the outbox, and its room's later ones with it.
type Deliver func(ctx context.Context, e control.Event) error

// LogTo tells the structured log.
func LogTo(log *slog.Logger) Deliver {
	return func(ctx context.Context, e control.Event) error {
		log.LogAttrs(ctx, slog.LevelInfo, "event", slog.String("room", e.Room), slog.String("type", e.Type),
			slog.Uint64("seq", e.Seq), slog.String("id", e.ID), slog.String("tenant", e.Tenant),
			slog.Time("at", time.UnixMilli(e.AtMS).UTC()), slog.Any("data", e.Data))
		return nil
	}
}

// Drain puts the events with these keys into their tenants' logs, a room's in their
// order, and those before them that are not there yet. Keys of other items, and
// events that are there already, are passed over. It goes on after a failure (with
// the next room) and returns all of them.
func (o *Outbox) Drain(ctx context.Context, keys []store.Key, deliver Deliver) error {
	failed := o.DrainEach(ctx, keys, deliver)
	var errs []error
	for _, pk := range slices.Sorted(maps.Keys(failed)) {
		errs = append(errs, failed[pk])
	}
	return errors.Join(errs...)
}

// DrainEach is Drain, and says for which partitions it failed.
func (o *Outbox) DrainEach(ctx context.Context, keys []store.Key, deliver Deliver) map[string]error {
	failed := map[string]error{}
	tenants := map[string][]*control.Event{}
	for _, last := range lasts(keys) {
		events, err := o.pending(ctx, last)
		for i, e := range events {
			if derr := deliver(ctx, *e); derr != nil {
				k := e.Place().Key
				err = fmt.Errorf("deliver %s %s: %w", k.PK, k.SK, derr)
				events = events[:i]
				break
			}
		}
		if err != nil {
			failed[last.PK] = err
		}
		if len(events) > 0 {
			tenants[events[0].Tenant] = append(tenants[events[0].Tenant], events...)
		}
	}
	for _, tenant := range slices.Sorted(maps.Keys(tenants)) {
		left, err := o.publish(ctx, tenant, tenants[tenant])
		for _, e := range left {
			pk := e.Place().PK
			failed[pk] = errors.Join(failed[pk], fmt.Errorf("publish %s: %w", e.ID, err))
		}
	}
	return failed
}

// lasts are the last event's key of each room, in the order of rooms.
func lasts(keys []store.Key) []store.Key {
	last := map[string]store.Key{}
	for _, k := range keys {
		if isEvent(k) && k.SK > last[k.PK].SK {
			last[k.PK] = k
		}
	}
	return slices.SortedFunc(maps.Values(last), func(a, b store.Key) int { return strings.Compare(a.PK, b.PK) })
}

// pending walks back from an event to the first of its room that is not in the log
// yet: all before that are, because a room's events come into it in their order.
func (o *Outbox) pending(ctx context.Context, last store.Key) ([]*control.Event, error) {
	var events []*control.Event
	for k := last; ; {
		e, err := control.Load[control.Event](ctx, o.Store, k)
		if errors.Is(err, store.ErrNotFound) || err == nil && e.DeliveredMS != 0 {
			break // in the log, and perhaps expired since
		}
		if err != nil {
			return nil, fmt.Errorf("load %s %s: %w", k.PK, k.SK, err)
		}
		events = append(events, e)
		if e.Seq <= 1 {
			break
		}
		before := *e
		before.Seq--
		k = before.Place().Key
	}
	slices.Reverse(events)
	return events, nil
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

func isEvent(k store.Key) bool {
	mine := strings.HasPrefix(k.PK, control.RoomPK("")) || strings.HasPrefix(k.PK, control.HookPK(""))
	return mine && strings.HasPrefix(k.SK, control.EventPrefix)
}
