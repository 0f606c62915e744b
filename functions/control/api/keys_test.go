package api

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mayfly/functions/control"
)

// newKey makes a stored key.
func (w *world) newKey(path, body, by string) keyView {
	w.t.Helper()
	return decode[keyView](w, w.do("POST", path, body, as(by)), http.StatusCreated)
}

func TestKeysAreMadeListedAndRevoked(t *testing.T) {
	w := newWorld(t)
	first := w.newKey("/v1/keys", `{"name":"web"}`, w.acme)
	if !strings.HasPrefix(first.Key, "rk_live_") || len(first.Key) != 8+43 || first.ID != first.Key[:16] || !slices.Equal(first.Scopes, productScopes) {
		t.Fatalf("key %+v", first)
	}
	stored, err := control.Load[control.APIKey](t.Context(), w.store, control.APIKeyKey(first.ID))
	if err != nil || strings.Contains(stored.Hash, first.Key[16:]) || stored.Hash != keyHash(first.Key) {
		t.Fatalf("stored %+v (%v)", stored, err)
	}
	room := decode[roomView](w, w.do("POST", "/v1/rooms", `{}`, as(first.Key)), http.StatusCreated)
	if rec := w.do("GET", "/v1/rooms/"+room.ID, "", as(w.acme)); rec.Code != http.StatusOK {
		t.Errorf("the room is another tenant's: %d", rec.Code)
	}
	second := w.newKey("/v1/keys", `{"kind":"test","scopes":["rooms:read"]}`, first.Key)
	w.refused(w.do("POST", "/v1/keys", `{}`, as(w.acme)), codeKeyLimit)
	list := decode[keyList](w, w.do("GET", "/v1/keys", "", as(w.acme)), http.StatusOK)
	if len(list.Keys) != 2 || list.Keys[0].ID != first.ID || list.Keys[1].ID != second.ID || list.Keys[0].Key != "" {
		t.Errorf("list %+v", list)
	}
	w.refused(w.do("DELETE", "/v1/keys/"+first.ID, "", as(w.other)), codeNotFound)
	if rec := w.do("DELETE", "/v1/keys/"+first.ID, "", as(w.acme)); rec.Code != http.StatusNoContent || rec.Body.Len() != 0 {
		t.Fatalf("revoked: %d %s", rec.Code, rec.Body)
	}
	w.refused(w.do("DELETE", "/v1/keys/"+first.ID, "", as(w.acme)), codeNotFound)
	w.refused(w.do("GET", "/v1/rooms", "", as(first.Key)), codeUnauthorized)
	w.newKey("/v1/keys", `{}`, w.acme) // there is room for another
}

func TestScopes(t *testing.T) {
	w := newWorld(t)
	reader := w.newKey("/v1/keys", `{"scopes":["rooms:read","keys:write"]}`, w.acme).Key
	w.create(`{}`)
	if rec := w.do("GET", "/v1/rooms", "", as(reader)); rec.Code != http.StatusOK {
		t.Fatalf("reading: %d", rec.Code)
	}
	for _, e := range w.api.endpoints() {
		if slices.Contains([]string{ScopeRoomsRead, ScopeKeys, open}, e.scope) {
			continue
		}
		path := strings.NewReplacer("{id}", "room_00000000000000000000000000", "{pid}", p1, "{tenant}", "acme", "{key}", "k").Replace(e.path)
		lacks := strings.TrimSpace(strings.Replace(e.scope, ScopeRoomsRead, "", 1))
		if p := w.refused(w.do(e.method, path, `{}`, as(reader)), codeForbidden); !strings.Contains(p.Detail, lacks) {
			t.Errorf("%s %s: %s", e.method, e.path, p.Detail)
		}
	}
	// The log of events has bills in it: who may not read usage may not read it.
	for scopes, code := range map[string]int{`["usage:read"]`: http.StatusForbidden, `["rooms:read"]`: http.StatusForbidden, `["rooms:read","usage:read"]`: http.StatusOK} {
		key := w.newKey("/v1/keys", `{"scopes":`+scopes+`}`, w.acme)
		if rec := w.do("GET", "/v1/events?after=0", "", as(key.Key)); rec.Code != code {
			t.Errorf("events with %s: %d, want %d", scopes, rec.Code, code)
		}
		w.do("DELETE", "/v1/keys/"+key.ID, "", as(w.acme)) // two live ones at most
	}
	w.refused(w.do("POST", "/v1/keys", `{"scopes":["rooms:write"]}`, as(reader)), codeForbidden)
	for _, body := range []string{`{"scopes":["admin"]}`, `{"scopes":[]}`, `{"scopes":["rooms:read","rooms:read"]}`, `{"kind":"dev"}`, `{"ttl_s":0}`} {
		w.refused(w.do("POST", "/v1/keys", body, as(w.acme)), codeInvalidRequest)
	}
	w.refused(w.do("POST", "/v1/rooms", `{}`, as(w.boss)), codeForbidden)
}

func TestKeysExpire(t *testing.T) {
	w := newWorld(t)
	k := w.newKey("/v1/keys", `{"ttl_s":60}`, w.acme)
	w.newKey("/v1/keys", `{}`, w.acme)
	w.clock.Advance(59 * time.Second)
	if rec := w.do("GET", "/v1/rooms", "", as(k.Key)); rec.Code != http.StatusOK {
		t.Fatalf("before its end: %d", rec.Code)
	}
	w.clock.Advance(time.Second)
	w.refused(w.do("GET", "/v1/rooms", "", as(k.Key)), codeUnauthorized)
	w.newKey("/v1/keys", `{}`, w.acme) // it does not count any more
}

// Two callers at once must not end with three keys.
func TestTwoLiveKeysAtMost(t *testing.T) {
	w := newWorld(t)
	answers := make([]*httptest.ResponseRecorder, 8)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = w.do("POST", "/v1/keys", `{}`, as(w.acme)) })
	}
	wg.Wait()
	made := 0
	for _, rec := range answers {
		if rec.Code == http.StatusCreated {
			made++
		} else {
			w.refused(rec, codeKeyLimit)
		}
	}
	if made != maxLiveKeys {
		t.Errorf("%d keys were made", made)
	}
}

// A key that is unknown, wrong, revoked or of another form gets one and the same answer.
func TestUnknownAndWrongKeysAreAlike(t *testing.T) {
	w := newWorld(t)
	k := w.newKey("/v1/keys", `{}`, w.acme)
	revoked := w.newKey("/v1/keys", `{}`, w.acme)
	w.do("DELETE", "/v1/keys/"+revoked.ID, "", as(w.acme))
	wrong := k.ID + strings.Repeat("A", 51-len(k.ID))
	var first string
	for _, key := range []string{wrong, NewKey("live"), NewKey("test"), revoked.Key, k.Key[:50], k.Key + "A", "rk_dev_x", ""} {
		rec := w.do("GET", "/v1/rooms", "", as(key))
		p := w.refused(rec, codeUnauthorized)
		body := strings.Replace(rec.Body.String(), p.RequestID, "", 1)
		if first == "" {
			first = body
		}
		if body != first {
			t.Errorf("%.20s…: %s, another %s", key, body, first)
		}
	}
}

func TestOperator(t *testing.T) {
	w := newWorld(t)
	k := w.newKey("/v1/tenants/newcomer/keys", `{}`, w.boss)
	if k.Tenant != "newcomer" {
		t.Fatalf("key %+v", k)
	}
	decode[roomView](w, w.do("POST", "/v1/rooms", `{}`, as(k.Key)), http.StatusCreated)
	w.refused(w.do("GET", "/v1/tenants/newcomer/keys", "", as(w.acme)), codeForbidden)
	w.refused(w.do("GET", "/v1/tenants/New_Comer/keys", "", as(w.boss)), codeNotFound)

	limits := decode[limitsRequest](w, w.do("PUT", "/v1/tenants/newcomer/limits", `{"max_rooms":2,"spend_nano_usd_per_day":5000000000}`, as(w.boss)), http.StatusOK)
	if *limits.MaxRooms != 2 || *limits.SpendPerDay != 5_000_000_000 || limits.CreateBurst != nil {
		t.Errorf("limits %+v", limits)
	}
	decode[roomView](w, w.do("POST", "/v1/rooms", `{}`, as(k.Key)), http.StatusCreated)
	w.refused(w.do("POST", "/v1/rooms", `{}`, as(k.Key)), codeQuota)
	decode[limitsRequest](w, w.do("PUT", "/v1/tenants/newcomer/limits", `{}`, as(w.boss)), http.StatusOK)
	decode[roomView](w, w.do("POST", "/v1/rooms", `{}`, as(k.Key)), http.StatusCreated)
	w.refused(w.do("PUT", "/v1/tenants/newcomer/limits", `{"max_rooms":-1}`, as(w.boss)), codeInvalidRequest)
	if rec := w.do("DELETE", "/v1/tenants/newcomer/keys/"+k.ID, "", as(w.boss)); rec.Code != http.StatusNoContent {
		t.Fatalf("revoked: %d %s", rec.Code, rec.Body)
	}
	w.refused(w.do("GET", "/v1/rooms", "", as(k.Key)), codeUnauthorized)
}

func TestPriceBooksAreInstalledAndFixed(t *testing.T) {
	w := newWorld(t)
	book := `{"id":"acme-2026-11","currency":"USD","effective_from":"2026-11-01","rounding":"half_even_per_line","default_region":"eu-test-1",
		"regions":{"eu-test-1":[{"sku":"task.cpu","unit":"cpu_unit_s","nano_usd":PRICE,"per":1024}]},"markup_permil":1200}`
	cheap, dear := strings.Replace(book, "PRICE", "10000", 1), strings.Replace(book, "PRICE", "20000", 1)
	w.refused(w.do("POST", "/v1/price-books", cheap, as(w.acme)), codeForbidden)
	if rec := w.do("POST", "/v1/price-books", cheap, as(w.boss)); rec.Code != http.StatusCreated || rec.Header().Get("Location") != "/v1/price-books/acme-2026-11" {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	if rec := w.do("POST", "/v1/price-books", cheap, as(w.boss)); rec.Code != http.StatusCreated {
		t.Errorf("the same again: %d %s", rec.Code, rec.Body)
	}
	w.refused(w.do("POST", "/v1/price-books", dear, as(w.boss)), codePriceBook)
	w.refused(w.do("POST", "/v1/price-books", strings.Replace(cheap, `"USD"`, `"EUR"`, 1), as(w.boss)), codeInvalidRequest)
	w.clock.Advance(2 * time.Minute) // the list of books is read once a minute
	list := decode[bookList](w, w.do("GET", "/v1/price-books", "", as(w.acme)), http.StatusOK)
	if n := len(list.PriceBooks); n != 2 || list.PriceBooks[n-1].ID != "acme-2026-11" {
		t.Errorf("books %+v", list)
	}
	if rec := w.do("GET", "/v1/price-books/acme-2026-11", "", as(w.acme)); rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), "10000") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

func TestCallers(t *testing.T) {
	c, err := ParseCallers("acme=arn:aws:iam::123456789012:role/apps/web, acme=arn:aws:iam::123456789012:user/ops/eve,other=arn:aws-cn:iam::123456789012:role/web")
	if err != nil {
		t.Fatal(err)
	}
	for arn, want := range map[string]string{
		"arn:aws:sts::123456789012:assumed-role/web/i-0abc":    "acme",
		"arn:aws:iam::123456789012:role/apps/web":              "acme",
		"arn:aws:iam::123456789012:user/ops/eve":               "acme",
		"arn:aws:iam::123456789012:user/eve":                   "",
		"arn:aws-cn:sts::123456789012:assumed-role/web/x":      "other",
		"arn:aws:sts::123456789013:assumed-role/web/i-0abc":    "",
		"arn:aws:sts::123456789012:assumed-role/webb/i":        "",
		"arn:aws:sts::123456789012:federated-user/web":         "",
		"arn:aws:sts::123456789012:assumed-role/web":           "",
		"arn:aws:sts::123456789012:assumed-role/web/i\nforged": "",
		"": "",
	} {
		if got, _ := c.Tenant(arn); got != want {
			t.Errorf("%q is %q, want %q", arn, got, want)
		}
	}
	for _, bad := range []string{"acme", "acme=arn:aws:s3:::bucket", "A=arn:aws:iam::123456789012:role/x",
		"a=arn:aws:iam::123456789012:role/x,b=arn:aws:iam::123456789012:role/y/x", "a=arn:aws:sts::123456789012:assumed-role/x/y"} {
		if _, err := ParseCallers(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestAWSCallersAreTenants(t *testing.T) {
	callers, err := ParseCallers("acme=arn:aws:iam::123456789012:role/web")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *Config) { c.Callers = callers })
	ask := func(arn string, headers ...header) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "https://api.example/v1/rooms", nil)
		for _, h := range headers {
			r.Header.Set(h.name, h.value)
		}
		rec := httptest.NewRecorder()
		w.api.ServeHTTP(rec, r.WithContext(WithCaller(r.Context(), arn)))
		return rec
	}
	room := w.create(`{}`)
	list := decode[roomList](w, ask("arn:aws:sts::123456789012:assumed-role/web/x"), http.StatusOK)
	if len(list.Rooms) != 1 || list.Rooms[0].ID != room.ID {
		t.Errorf("rooms %+v", list.Rooms)
	}
	// Somebody else's identity is not made better by a key: the route is not for keys.
	w.refused(ask("arn:aws:sts::123456789012:assumed-role/eve/x", as(w.acme)), codeForbidden)
}
