package outbox

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"mayfly/functions/control"
	"mayfly/functions/store"
)

// MaxHooks is how many webhook endpoints a tenant may have. It bounds what one event
// writes: with the log's end it fits a commit many times over.
const MaxHooks = 16

// maxPublish is how many events one commit puts into the log. More of them make
// fewer commits that compete for the log's end, and a longer one to repeat.
const maxPublish = 25

// ErrExpired says that events after the position are not kept any more.
var ErrExpired = errors.New("outbox: the log does not go back that far")

// publish puts events of one tenant into its log, in the order of the list, and
// returns those that it could not. The log's end is part of each commit: of two that
// publish at the same time one has to look again, so positions have no gap, and
// nothing appears before what a reader has seen.
func (o *Outbox) publish(ctx context.Context, tenant string, events []*control.Event) (left []*control.Event, err error) {
	for len(events) > 0 {
		took, again := 0, false
		err := o.Retry.Do(ctx, func() error {
			if again {
				if err := o.reload(ctx, events[:min(len(events), maxPublish)]); err != nil {
					return err
				}
			}
			again = true
			var err error
			took, err = o.append(ctx, tenant, events)
			return err
		})
		if err != nil {
			return events, err
		}
		events = events[took:]
	}
	return nil, nil
}

// reload reads events anew after a lost race.
func (o *Outbox) reload(ctx context.Context, events []*control.Event) error {
	for _, e := range events {
		now, err := control.Load[control.Event](ctx, o.Store, e.Place().Key)
		if errors.Is(err, store.ErrNotFound) {
			e.DeliveredMS = 1 // somebody else put it there, and it has expired since
			continue
		}
		if err != nil {
			return err
		}
		*e = *now
	}
	return nil
}

// append is one commit: as many of the first events as fit, and the log's end. It
// returns how many of them are done with.
func (o *Outbox) append(ctx context.Context, tenant string, events []*control.Event) (took int, err error) {
	head, err := Head(ctx, o.Store, tenant)
	if err != nil {
		return 0, err
	}
	hooks, err := Hooks(ctx, o.Store, tenant)
	if err != nil {
		return 0, err
	}
	nowMS := o.Now().UnixMilli()
	var writes []store.Write
	for _, e := range events[:min(len(events), maxPublish)] {
		if e.DeliveredMS != 0 {
			took++
			continue
		}
		more, err := entry(*e, head.Position+1, hooks, nowMS)
		if err != nil {
			return 0, err
		}
		if len(writes)+len(more)+1 > store.MaxWrites {
			break
		}
		head.Position++
		took++
		writes = append(writes, more...)
	}
	if len(writes) == 0 {
		return took, nil
	}
	end, err := control.Put(head)
	if err != nil {
		return 0, err
	}
	return took, o.Store.Commit(ctx, append([]store.Write{end}, writes...)...)
}

// entry is what one event writes: its mark, its place in the log, its deliveries.
func entry(e control.Event, position uint64, hooks []*control.Hook, nowMS int64) ([]store.Write, error) {
	e.DeliveredMS, e.Position = nowMS, position
	docs := []control.Doc{&e, &control.Logged{
		Tenant: e.Tenant, Position: position, ID: e.ID, Type: e.Type, Room: e.Room, Endpoint: e.Endpoint,
		Seq: e.Seq, AtMS: e.AtMS, LoggedMS: nowMS, Data: e.Data,
	}}
	for _, h := range hooks {
		if owed(h, &e) {
			docs = append(docs, &control.Delivery{
				Tenant: e.Tenant, Endpoint: h.ID, Position: position, Event: e.ID, Type: e.Type, Room: e.Room, Seq: e.Seq,
				State: control.DeliveryPending, DueMS: nowMS, CreatedMS: nowMS,
			})
		}
	}
	writes := make([]store.Write, 0, len(docs))
	for _, d := range docs {
		w, err := control.Put(d)
		if err != nil {
			return nil, err
		}
		writes = append(writes, w)
	}
	return writes, nil
}

// owed says whether the endpoint is to be sent the event.
func owed(h *control.Hook, e *control.Event) bool {
	if e.Only != "" {
		return h.ID == e.Only
	}
	return h.Disabled == "" && Wanted(h.Events, e.Type)
}

// Wanted says whether a filter lets a type pass: "*", "room.*", or the type itself.
func Wanted(filter []string, typ string) bool {
	family, _, _ := strings.Cut(typ, ".")
	for _, f := range filter {
		if f == "*" || f == typ || f == family+".*" {
			return true
		}
	}
	return false
}

// Hooks are a tenant's webhook endpoints.
func Hooks(ctx context.Context, s control.Store, tenant string) ([]*control.Hook, error) {
	hooks, err := control.LoadAll[control.Hook](ctx, s, control.TenantPK(tenant), control.HookPrefix)
	if err != nil {
		return nil, fmt.Errorf("webhook endpoints of %s: %w", tenant, err)
	}
	return hooks, nil
}

// Head is the end of a tenant's log, one of which nothing is stored for an empty log.
func Head(ctx context.Context, s control.Store, tenant string) (*control.LogHead, error) {
	head, err := control.Load[control.LogHead](ctx, s, control.LogHeadKey(tenant))
	if errors.Is(err, store.ErrNotFound) {
		return &control.LogHead{Tenant: tenant}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", tenant, err)
	}
	return head, nil
}

// Read lists a tenant's log after a position, 0 for the oldest that is kept. If events
// after the position have expired it returns ErrExpired: the reader has missed some.
func Read(ctx context.Context, s control.Store, tenant string, after uint64, limit int) ([]*control.Logged, error) {
	q := store.QueryOptions{Limit: limit}
	if after > 0 {
		q.Cursor = store.QueryCursor(control.LoggedKey(tenant, after))
	}
	page, err := s.Query(ctx, control.LogPK(tenant), control.LoggedPrefix, q)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", tenant, err)
	}
	list := make([]*control.Logged, 0, len(page.Items))
	for _, it := range page.Items {
		l, err := control.Decode[control.Logged](it)
		if err != nil {
			return nil, err
		}
		if n := len(list); n > 0 && l.Position != list[n-1].Position+1 {
			break // expired between two that have not: the next call says so
		}
		list = append(list, l)
	}
	if after == 0 {
		return list, nil
	}
	if len(list) > 0 {
		if list[0].Position > after+1 {
			return nil, ErrExpired
		}
		return list, nil
	}
	head, err := Head(ctx, s, tenant)
	if err != nil {
		return nil, err
	}
	if head.Position > after {
		// Either everything after it has expired, or it came after the query.
		if _, err := s.Get(ctx, control.LoggedKey(tenant, after+1)); errors.Is(err, store.ErrNotFound) {
			return nil, ErrExpired
		} else if err != nil {
			return nil, fmt.Errorf("log of %s: %w", tenant, err)
		}
	}
	return list, nil
}

// ReadRoom lists a room's events after a sequence number, as far as they are in the log.
func ReadRoom(ctx context.Context, s control.Store, room string, after uint64, limit int) ([]*control.Logged, error) {
	q := store.QueryOptions{Limit: limit}
	if after > 0 {
		q.Cursor = store.QueryCursor(control.EventKey(room, after))
	}
	page, err := s.Query(ctx, control.RoomPK(room), control.EventPrefix, q)
	if err != nil {
		return nil, fmt.Errorf("events of %s: %w", room, err)
	}
	var list []*control.Logged
	for _, it := range page.Items {
		e, err := control.Decode[control.Event](it)
		if err != nil {
			return nil, err
		}
		if e.Position == 0 {
			break
		}
		list = append(list, &control.Logged{
			Tenant: e.Tenant, Position: e.Position, ID: e.ID, Type: e.Type, Room: e.Room, Seq: e.Seq, AtMS: e.AtMS, Data: e.Data,
		})
	}
	if after > 0 && len(list) > 0 && list[0].Seq > after+1 {
		return nil, ErrExpired
	}
	return list, nil
}
