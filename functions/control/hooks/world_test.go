package hooks

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"testing"

	"mayfly/functions/control"
	"mayfly/functions/control/controltest"
	"mayfly/functions/control/outbox"
	"mayfly/functions/store"
	"mayfly/infra/local/boltstore"
)

// world is one tenant's webhooks over the embedded store.
type world struct {
	t     *testing.T
	ctx   context.Context
	clock *controltest.Clock
	store *boltstore.Store
	proc  *controltest.Process
	out   *outbox.Outbox
	*Hooks
}

const tenant = "acme"

func newWorld(t *testing.T) *world {
	t.Helper()
	clock := controltest.NewClock()
	s, err := boltstore.OpenWith(filepath.Join(t.TempDir(), "db"), boltstore.Options{Now: clock.Now, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	keys, err := NewKeys("a secret for tests, 32 bytes long", "")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, ctx: t.Context(), clock: clock, store: s, proc: controltest.NewProcess(s, nil, nil)}
	log := slog.New(slog.DiscardHandler)
	w.out = &outbox.Outbox{Store: w.proc.Store(), Now: clock.Now, Log: log}
	w.Hooks = &Hooks{Store: w.proc.Store(), Now: clock.Now, Log: log, Keys: keys, Random: func() float64 { return 0.5 }}
	return w
}

// endpoint makes an endpoint of everything.
func (w *world) endpoint(url string, filter ...string) *control.Hook {
	w.t.Helper()
	if filter == nil {
		filter = []string{"*"}
	}
	h, _, err := w.Create(w.ctx, tenant, "", "", Spec{URL: url, Events: filter, Kind: HMAC, Enabled: true})
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

// happen commits n events of a room, as life does, and returns their keys.
func (w *world) happen(room string, n int) (keys []store.Key) {
	w.t.Helper()
	r, err := control.Load[control.Room](w.ctx, w.store, control.RoomKey(room))
	if errors.Is(err, store.ErrNotFound) {
		r, err = &control.Room{ID: room, Tenant: tenant, Settled: true}, nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	for range n {
		event, err := outbox.Append(r, "room.live", w.clock.MS(), map[string]any{"state": "live", "epoch": r.EventSeq})
		if err != nil {
			w.t.Fatal(err)
		}
		put, err := control.Put(r)
		if err == nil {
			err = w.store.Commit(w.ctx, put, event)
		}
		if err != nil {
			w.t.Fatal(err)
		}
		r.Ver++
		keys = append(keys, event.Item.Key)
	}
	return keys
}

func ignore(context.Context, control.Event) error { return nil }

// publish puts all events into the log.
func (w *world) publish() {
	w.t.Helper()
	if err := w.out.Sweep(w.ctx, 0, ignore); err != nil {
		w.t.Fatal(err)
	}
}

// send sweeps once.
func (w *world) send() (nextMS int64, more bool) {
	w.t.Helper()
	next, more, err := w.Sweep(w.ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	return next, more
}

// hook is the endpoint as it is stored.
func (w *world) hook(id string) *control.Hook {
	w.t.Helper()
	h, err := control.Load[control.Hook](w.ctx, w.store, control.HookKey(tenant, id))
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

// deliveries are an endpoint's, oldest first.
func (w *world) deliveries(id string) []*control.Delivery {
	w.t.Helper()
	all, err := control.LoadAll[control.Delivery](w.ctx, w.store, control.HookPK(id), control.DeliveryPrefix)
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// fake is a Sender that answers by a function.
type fake struct {
	mu     sync.Mutex
	got    []string // webhook-id of each request; guarded by mu
	answer func(id string) (Answer, error)
}

func (f *fake) Check(string) error { return nil }

func (f *fake) Post(_ context.Context, _ string, header http.Header, _ []byte) (Answer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.got = append(f.got, header.Get("webhook-id"))
	if f.answer == nil {
		return Answer{Status: http.StatusNoContent}, nil
	}
	return f.answer(header.Get("webhook-id"))
}

func (f *fake) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	got := f.got
	f.got = nil
	return got
}
