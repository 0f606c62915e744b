package api

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/control/api/apitest"
	"mayfly/functions/control/controltest"
	"mayfly/functions/control/hooks"
	"mayfly/functions/control/ledger"
	"mayfly/functions/control/life"
	"mayfly/functions/outbound"
	"mayfly/functions/store"
	"mayfly/infra/local/boltstore"
	"mayfly/shared/ticket"
)

// world is the API over the embedded store, with the rest of AWS faked.
type world struct {
	t     *testing.T
	clock *controltest.Clock
	store *boltstore.Store
	fleet *controltest.Fleet
	life  *life.Life
	post  *controltest.Post
	key   *ticket.Key
	api   *API
	boss  string // operator's API key
	acme  string // API key
	other string // another tenant's

	contract *apitest.Contract
	commits  atomic.Int64 // that changed anything
}

func newWorld(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	clock := controltest.NewClock()
	w := &world{t: t, clock: clock, fleet: controltest.NewFleet(clock), acme: NewKey("test"), other: NewKey("live"), boss: NewKey("live"), post: controltest.NewPost(),
		contract: apitest.Load(t, Document())}
	s, err := boltstore.OpenWith(filepath.Join(t.TempDir(), "db"), boltstore.Options{Now: clock.Now, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	w.store = s
	counted := countedStore{s, &w.commits}
	log := slog.New(slog.DiscardHandler)
	w.life = &life.Life{Store: counted, Fleet: w.fleet, Post: w.post, Now: clock.Now, Log: log,
		Config: life.Config{MaxRooms: 1000}, Books: &ledger.Books{Store: counted, Now: clock.Now}}
	keys, err := ParseKeys(KeyEntry("acme", w.acme) + "," + KeyEntry("other", w.other) + "," + KeyEntry(operator, w.boss))
	if err != nil {
		t.Fatal(err)
	}
	if w.key, err = ticket.KeyFromSecret("a secret for tests, 32 bytes long"); err != nil {
		t.Fatal(err)
	}
	hookKeys, err := hooks.NewKeys("a secret for webhooks of 32 bytes", "")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Hooks: &hooks.Hooks{Store: counted, Sender: outbound.New(outbound.Config{}), Now: clock.Now, Log: log, Keys: hookKeys},
		Store: counted, Life: w.life, Now: clock.Now, Log: log, Keys: keys, Key: w.key,
		CursorKey: []byte("sixteen bytes or more"), Region: "eu-test-1",
		PublicURL: "https://api.example/", SignallingURL: "wss://ws.example/live",
		AllowedOrigins: []string{"https://app.example"},
	}
	for _, c := range change {
		c(&cfg)
	}
	if w.api, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

// countedStore counts the commits that took effect.
type countedStore struct {
	control.Store
	n *atomic.Int64
}

// Commit implements store.Store.
func (s countedStore) Commit(ctx context.Context, writes ...store.Write) error {
	err := s.Store.Commit(ctx, writes...)
	if err == nil {
		s.n.Add(1)
	}
	return err
}

// header is one request header.
type header struct{ name, value string }

// as sends an API key.
func as(key string) header { return header{"Authorization", "Bearer " + key} }

// idem sends an Idempotency-Key.
func idem(key string) header { return header{"Idempotency-Key", key} }

// do sends one request.
func (w *world) do(method, path, body string, headers ...header) *httptest.ResponseRecorder {
	w.t.Helper()
	r := httptest.NewRequest(method, "https://api.example"+path, strings.NewReader(body))
	for _, h := range headers {
		r.Header.Add(h.name, h.value)
	}
	x := apitest.Exchange{Method: method, Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header.Clone(), Body: []byte(body)}
	rec := httptest.NewRecorder()
	w.api.ServeHTTP(rec, r)
	x.Status, x.AnswerHeader, x.Answer = rec.Code, rec.Header().Clone(), rec.Body.Bytes()
	if err := w.contract.Check(x); err != nil {
		w.t.Errorf("against the document: %v", err)
	}
	return rec
}

// decode reads an answer of the status that is wanted.
func decode[T any](w *world, rec *httptest.ResponseRecorder, status int) T {
	w.t.Helper()
	var v T
	if rec.Code != status {
		w.t.Fatalf("status %d, want %d: %s", rec.Code, status, rec.Body)
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil {
		w.t.Fatalf("answer is not JSON: %v: %s", err, rec.Body)
	}
	return v
}

// refused checks that the answer is the problem of that code, with all its members.
func (w *world) refused(rec *httptest.ResponseRecorder, code string) Problem {
	w.t.Helper()
	if got := rec.Header().Get("Content-Type"); got != "application/problem+json" {
		w.t.Fatalf("content type %q, want a problem: %d %s", got, rec.Code, rec.Body)
	}
	want := problem(code, "")
	p := decode[Problem](w, rec, want.Status)
	if p.Code != code || p.Type != TypeURI(code) || p.Title != want.Title || p.Status != want.Status || p.RequestID == "" {
		w.t.Errorf("problem %+v, want code %s with type, title, status and request_id", p, code)
	}
	if want.RetryAfterS > 0 && (p.RetryAfterS < 1 || rec.Header().Get("Retry-After") != fmt.Sprint(p.RetryAfterS)) {
		w.t.Errorf("Retry-After %q, retry_after_s %d", rec.Header().Get("Retry-After"), p.RetryAfterS)
	}
	return p
}

// create makes a room of acme.
func (w *world) create(body string, headers ...header) roomView {
	w.t.Helper()
	return decode[roomView](w, w.do("POST", "/v1/rooms", body, append(headers, as(w.acme))...), http.StatusCreated)
}

// rooms counts the rooms that are stored for a tenant.
func (w *world) rooms(tenant string) int {
	w.t.Helper()
	all, err := control.LoadAll[control.Listed](context.Background(), w.store, control.TenantPK(tenant), control.ListedPrefix)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(all)
}

// verify checks a ticket as the socket function will.
func (w *world) verify(token, room string, at time.Time) (ticket.Claims, error) {
	return ticket.Verify(token, publishedKeys(w.store), room, at)
}
