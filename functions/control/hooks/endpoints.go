package hooks

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/control/outbox"
	"mayfly/functions/store"
)

// RotateFor is how long the key before still signs after a rotation.
const RotateFor = 24 * time.Hour

// MaxEndpoints is how many a tenant may have.
const MaxEndpoints = outbox.MaxHooks

// Errors of the endpoints' owner.
var (
	ErrNotFound = errors.New("hooks: no such endpoint")
	ErrTooMany  = errors.New("hooks: too many endpoints")
	ErrReused   = errors.New("hooks: idempotency key of another request")
)

// Spec is what the owner decides about an endpoint.
type Spec struct {
	URL         string
	Events      []string
	Description string
	Kind        string // HMAC or Ed25519
	Enabled     bool
}

// Create makes an endpoint. With an idempotency key the id follows from it, so that a
// repeat finds the first; replayed says that it did.
func (h *Hooks) Create(ctx context.Context, tenant, idempotency, bodyHash string, s Spec) (hook *control.Hook, replayed bool, err error) {
	id := "we_" + strings.ToLower(rand.Text())
	if idempotency != "" {
		sum := sha256.Sum256([]byte(tenant + "\x00" + idempotency))
		id = "we_" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:])[:26])
	}
	err = h.Retry.Do(ctx, func() error {
		old, err := h.Get(ctx, tenant, id)
		switch {
		case err == nil && old.BodyHash != bodyHash:
			return ErrReused
		case err == nil: // without a key, by this very call: its answer was lost
			hook, replayed = old, idempotency != ""
			return nil
		case !errors.Is(err, ErrNotFound):
			return err
		}
		hook = &control.Hook{
			Tenant: tenant, ID: id, URL: s.URL, Events: s.Events, Description: s.Description, BodyHash: bodyHash,
			Keys: []control.HookKid{{Gen: 1, Kind: s.Kind}}, CreatedMS: h.Now().UnixMilli(),
		}
		h.enable(hook, s.Enabled)
		w, err := control.Put(hook)
		if err != nil {
			return err
		}
		return h.counted(ctx, tenant, 1, w)
	})
	if err != nil {
		return nil, false, fmt.Errorf("create webhook endpoint: %w", err)
	}
	return hook, replayed, nil
}

// counted commits a write that makes the tenant's endpoints more or fewer.
func (h *Hooks) counted(ctx context.Context, tenant string, by int, w store.Write) error {
	n, err := control.Load[control.HookCount](ctx, h.Store, control.HookCountKey(tenant))
	if errors.Is(err, store.ErrNotFound) {
		n, err = &control.HookCount{Tenant: tenant}, nil
	}
	if err != nil {
		return err
	}
	if n.N += by; n.N > MaxEndpoints {
		return ErrTooMany
	}
	count, err := control.Put(n)
	if err != nil {
		return err
	}
	return h.Store.Commit(ctx, w, count)
}

// enable switches an endpoint on or off, as its owner wants it.
func (h *Hooks) enable(hook *control.Hook, on bool) {
	switch {
	case on:
		hook.Disabled, hook.DisabledMS, hook.EnabledMS = "", 0, h.Now().UnixMilli()
	case hook.Disabled == "":
		hook.Disabled, hook.DisabledMS = control.HookOff, h.Now().UnixMilli()
	}
}

// Get finds one of the tenant's endpoints.
func (h *Hooks) Get(ctx context.Context, tenant, id string) (*control.Hook, error) {
	hook, err := control.Load[control.Hook](ctx, h.Store, control.HookKey(tenant, id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrNotFound
	}
	return hook, err
}

// Patch is a change by the owner; what is nil stays.
type Patch struct {
	URL, Description *string
	Events           []string
	Enabled          *bool
}

// Update changes an endpoint.
func (h *Hooks) Update(ctx context.Context, tenant, id string, p Patch) (*control.Hook, error) {
	hook, err := h.Get(ctx, tenant, id)
	if err != nil {
		return nil, err
	}
	err = h.change(ctx, hook, func(now *control.Hook) ([]store.Write, error) {
		if p.URL != nil {
			now.URL = *p.URL
		}
		if p.Description != nil {
			now.Description = *p.Description
		}
		if p.Events != nil {
			now.Events = p.Events
		}
		if p.Enabled != nil {
			h.enable(now, *p.Enabled)
		}
		return nil, nil
	})
	return hook, err
}

// Delete removes an endpoint. What is still owed to it goes when it comes due.
func (h *Hooks) Delete(ctx context.Context, tenant, id string) error {
	return h.Retry.Do(ctx, func() error {
		hook, err := h.Get(ctx, tenant, id)
		if err != nil {
			return err
		}
		return h.counted(ctx, tenant, -1, control.Remove(hook))
	})
}

// Rotate gives an endpoint a new key of a kind ("" for the kind it has). The one
// before signs beside it for RotateFor; older ones do not any more.
func (h *Hooks) Rotate(ctx context.Context, tenant, id, kind string) (*control.Hook, error) {
	hook, err := h.Get(ctx, tenant, id)
	if err != nil {
		return nil, err
	}
	err = h.change(ctx, hook, func(now *control.Hook) ([]store.Write, error) {
		last := now.Keys[len(now.Keys)-1]
		next := control.HookKid{Gen: last.Gen + 1, Kind: last.Kind}
		if kind != "" {
			next.Kind = kind
		}
		last.UntilMS = h.Now().Add(RotateFor).UnixMilli()
		now.Keys = []control.HookKid{last, next}
		return nil, nil
	})
	return hook, err
}

// Test sends an endpoint an event that says nothing else, whatever its filter, and
// returns the event's id.
func (h *Hooks) Test(ctx context.Context, tenant, id string) (event string, err error) {
	hook, err := h.Get(ctx, tenant, id)
	if err != nil {
		return "", err
	}
	err = h.change(ctx, hook, func(now *control.Hook) ([]store.Write, error) {
		w, err := outbox.AppendHook(now, outbox.EndpointTest, now.ID, h.Now().UnixMilli(), TestData{Endpoint: now.ID})
		event = fmt.Sprintf("evt_%s_%d", now.ID, now.EventSeq)
		return []store.Write{w}, err
	})
	return event, err
}

// TestData is the data of webhook.test, and DisabledData that of webhook.disabled.
type (
	TestData struct {
		Endpoint string `json:"endpoint"`
	}
	DisabledData struct {
		Endpoint string `json:"endpoint"`
		URL      string `json:"url"`
		Reason   string `json:"reason"` // gone or failing
		Event    string `json:"event"`  // whose delivery showed it
	}
)

// disable stops an endpoint, with the event that says so. One that is stopped already,
// or was enabled anew since the attempt, is left alone.
func (h *Hooks) disable(ctx context.Context, hook *control.Hook, why string, d *control.Delivery) error {
	asOf := hook.URL
	return h.change(ctx, hook, func(now *control.Hook) ([]store.Write, error) {
		if now.Disabled != "" || now.URL != asOf || why == control.HookFailing && !failing(now, d) {
			return nil, nil
		}
		now.Disabled, now.DisabledMS = why, h.Now().UnixMilli()
		h.Log.WarnContext(ctx, "webhook endpoint disabled", "endpoint", now.ID, "tenant", now.Tenant, "reason", why)
		w, err := outbox.AppendHook(now, outbox.EndpointDisabled, "", now.DisabledMS,
			DisabledData{Endpoint: now.ID, URL: now.URL, Reason: why, Event: d.Event})
		return []store.Write{w}, err
	})
}

// change loads an endpoint, changes it and commits, with the writes that belong to the
// change. hook is as it is stored then.
func (h *Hooks) change(ctx context.Context, hook *control.Hook, with func(*control.Hook) ([]store.Write, error)) error {
	return h.Retry.Do(ctx, func() error {
		now, err := h.Get(ctx, hook.Tenant, hook.ID)
		if err != nil {
			return err
		}
		more, err := with(now)
		if err != nil {
			return err
		}
		w, err := control.Put(now)
		if err == nil {
			err = h.Store.Commit(ctx, append([]store.Write{w}, more...)...)
		}
		if err == nil {
			now.Ver++
			*hook = *now
		}
		return err
	})
}

// Redeliver makes new deliveries of events to an endpoint: of those in the list, or, if
// dead, of those that were given up, the newest first, at most limit. It returns the ids of
// the events; an event that the log does not hold any more is left out.
func (h *Hooks) Redeliver(ctx context.Context, hook *control.Hook, events []string, dead bool, limit int) ([]string, error) {
	var done []string
	if dead {
		var err error
		if events, err = h.dead(ctx, hook.ID, limit); err != nil {
			return nil, err
		}
	}
	for _, id := range events {
		made, err := h.redeliver(ctx, hook, id)
		if err != nil {
			return done, fmt.Errorf("redeliver %s: %w", id, err)
		}
		if made {
			done = append(done, id)
		}
	}
	return done, nil
}

// dead lists the events whose last delivery to an endpoint was given up.
func (h *Hooks) dead(ctx context.Context, endpoint string, limit int) ([]string, error) {
	var events []string
	seen := map[string]bool{}
	q := store.QueryOptions{Descending: true}
	for {
		page, err := h.Store.Query(ctx, control.HookPK(endpoint), control.DeliveryPrefix, q)
		if err != nil {
			return nil, fmt.Errorf("deliveries of %s: %w", endpoint, err)
		}
		for _, it := range page.Items {
			d, err := control.Decode[control.Delivery](it)
			if err != nil {
				return nil, err
			}
			if d.State == control.DeliveryDead && !seen[d.Event] {
				if events = append(events, d.Event); len(events) == limit {
					return events, nil
				}
			}
			seen[d.Event] = true
		}
		if page.Next == "" {
			return events, nil
		}
		q.Cursor = page.Next
	}
}

// redeliver makes one more delivery of an event; false if there is no such event of
// the tenant, or it has expired.
func (h *Hooks) redeliver(ctx context.Context, hook *control.Hook, event string) (bool, error) {
	key, ok := eventKey(event)
	if !ok {
		return false, nil
	}
	made := false
	err := h.Retry.Do(ctx, func() error {
		e, err := control.Load[control.Event](ctx, h.Store, key)
		if errors.Is(err, store.ErrNotFound) || err == nil && (e.Tenant != hook.Tenant || e.Position == 0) {
			return nil
		}
		if err != nil {
			return err
		}
		runs, err := control.LoadAll[control.Delivery](ctx, h.Store, control.HookPK(hook.ID), control.DeliveryRuns(e.Position))
		if err != nil {
			return err
		}
		next := &control.Delivery{
			Tenant: e.Tenant, Endpoint: hook.ID, Position: e.Position, Event: e.ID, Type: e.Type, Room: e.Room, Seq: e.Seq,
			State: control.DeliveryPending, DueMS: h.Now().UnixMilli(), CreatedMS: h.Now().UnixMilli(),
		}
		if n := len(runs); n > 0 {
			next.Run = runs[n-1].Run + 1
			if runs[n-1].State == control.DeliveryPending {
				made = true // on its way already
				return nil
			}
		}
		w, err := control.Put(next)
		if err != nil {
			return err
		}
		made = true
		return h.Store.Commit(ctx, w)
	})
	return made, err
}

// eventKey is where the event of an id is: "evt_<room or endpoint>_<seq>".
func eventKey(id string) (store.Key, bool) {
	rest, ok := strings.CutPrefix(id, "evt_")
	at := strings.LastIndexByte(rest, '_')
	if !ok || at < 1 {
		return store.Key{}, false
	}
	var seq uint64
	if _, err := fmt.Sscanf(rest[at+1:], "%d", &seq); err != nil || fmt.Sprint(seq) != rest[at+1:] {
		return store.Key{}, false
	}
	e := control.Event{Room: rest[:at], Seq: seq}
	if strings.HasPrefix(rest, "we_") {
		e.Room, e.Endpoint = "", rest[:at]
	}
	return e.Place().Key, true
}
