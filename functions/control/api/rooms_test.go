package api

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mayfly/functions/control"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
	"mayfly/shared/ticket"
)

// publishedKeys finds ticket keys where the socket function does.
func publishedKeys(s control.Store) ticket.Lookup {
	return func(kid string) (ed25519.PublicKey, error) {
		k, err := control.Load[control.TicketKey](context.Background(), s, control.TicketKeyKey(kid))
		if errors.Is(err, store.ErrNotFound) {
			return nil, ticket.ErrUnknownKey
		}
		if err != nil {
			return nil, err
		}
		return k.Public, nil
	}
}

func TestCreateGivesRoomTicketsAndURL(t *testing.T) {
	w := newWorld(t)
	rec := w.do("POST", "/v1/rooms", `{"external_id":"lesson-7","region":"auto","max_participants":5,"empty_timeout_s":30,
		"metadata":{"b":[1,2],"a":null},"tags":{"team":"blue"},
		"participants":[{"identity":"alice","name":"Alice","role":"host","ttl_s":120,"attributes":{"k":"v"}},
			{"identity":"bob","grants":{"publish":["mic"],"subscribe":true}}]}`, as(w.acme))
	room := decode[roomView](w, rec, http.StatusCreated)
	if rec.Header().Get("Location") != "/v1/rooms/"+room.ID || !roomForm.MatchString(room.ID) {
		t.Errorf("id %q at %q", room.ID, rec.Header().Get("Location"))
	}
	want := limitsView{MaxParticipants: 5, UnusedTimeoutS: 300, EmptyTimeoutS: 30, MaxDurationS: 14400, StartDeadlineS: 120}
	if room.Limits != want || room.Region != "eu-test-1" || room.ExternalID != "lesson-7" || room.Tags["team"] != "blue" ||
		string(room.Metadata) != `{"b":[1,2],"a":null}` || room.SignalURL != "wss://ws.example/live" {
		t.Errorf("room %+v", room)
	}
	if len(room.Participants) != 2 {
		t.Fatalf("%d tickets", len(room.Participants))
	}
	alice := room.Participants[0]
	claims, err := w.verify(alice.Ticket, room.ID, w.clock.Now())
	if err != nil {
		t.Fatalf("the ticket does not verify with the published key: %v", err)
	}
	if diff := cmp.Diff(ticket.Claims{
		Issuer: "mayfly", Audience: "room:" + room.ID, Identity: "alice", ID: alice.Participant, Tenant: "acme", Room: room.ID,
		IssuedAt: w.clock.Now().Unix(), NotBefore: w.clock.Now().Unix(), Expires: w.clock.Now().Unix() + 120,
		Name: "Alice", Attributes: map[string]string{"k": "v"},
		Grants: signal.Grants{Publish: []string{"mic", "camera", "screen", "screen-audio"}, Subscribe: true, Chat: true, Moderate: true},
	}, claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	if text := rec.Body.String(); !strings.Contains(text, alice.CallURL) {
		t.Errorf("the call URL cannot be copied from the answer as it is: %s", text)
	}
	u, err := url.Parse(alice.CallURL)
	if err != nil {
		t.Fatal(err)
	}
	q, err := url.ParseQuery(u.Fragment)
	if err != nil || u.RawQuery != "" || u.Host+u.Path != "api.example/call/" ||
		q.Get("ticket") != alice.Ticket || q.Get("room") != room.ID || q.Get("ws") != "wss://ws.example/live" {
		t.Errorf("call URL %s (%v)", alice.CallURL, err)
	}
	bob, err := w.verify(room.Participants[1].Ticket, room.ID, w.clock.Now())
	if err != nil || len(bob.Grants.Publish) != 1 || bob.Grants.Chat || bob.Expires-bob.IssuedAt != 600 {
		t.Errorf("bob's claims %+v (%v)", bob, err)
	}
	if n := len(w.fleet.Tasks()); n != 1 {
		t.Errorf("%d tasks were started", n)
	}
}

func TestCreateWithNothing(t *testing.T) {
	w := newWorld(t)
	room := w.create(`{}`)
	if room.Limits != (limitsView{25, 300, 20, 14400, 120}) || room.State != lifecycle.Requested || len(room.Participants) != 0 {
		t.Errorf("room %+v", room)
	}
}

func TestConcurrentCreatesWithOneKeyMakeOneRoom(t *testing.T) {
	w := newWorld(t)
	const n = 100
	body := `{"participants":[{"identity":"alice"},{"identity":"bob"}]}`
	answers := make([]*httptest.ResponseRecorder, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { answers[i] = w.do("POST", "/v1/rooms", body, as(w.acme), idem("lesson 7")) })
	}
	wg.Wait()
	replayed := 0
	for _, rec := range answers {
		if rec.Code != http.StatusCreated || rec.Body.String() != answers[0].Body.String() {
			t.Fatalf("answers differ: %d %s\nand %s", rec.Code, rec.Body, answers[0].Body)
		}
		if rec.Header().Get("Idempotent-Replayed") == "true" {
			replayed++
		}
	}
	if rooms, tasks, starts := w.rooms("acme"), len(w.fleet.Tasks()), w.fleet.Calls("start"); rooms != 1 || tasks != 1 || starts != 1 {
		t.Errorf("%d rooms, %d tasks, %d RunTask calls; want one of each", rooms, tasks, starts)
	}
	if replayed != n-1 {
		t.Errorf("%d of %d answers are marked as replayed", replayed, n)
	}
}

func TestIdempotency(t *testing.T) {
	w := newWorld(t)
	body := `{"external_id":"x","participants":[{"identity":"alice"}]}`
	first := w.do("POST", "/v1/rooms", body, as(w.acme), idem(`"key-1"`))
	room := decode[roomView](w, first, http.StatusCreated)
	w.clock.Advance(3 * time.Hour)
	if _, err := w.verify(room.Participants[0].Ticket, room.ID, w.clock.Now()); !errors.Is(err, ticket.ErrExpired) {
		t.Errorf("after three hours the ticket is %v", err)
	}
	t.Run("same body again, in another order and long after", func(t *testing.T) {
		again := w.do("POST", "/v1/rooms", "{\n \"participants\":[{\"identity\":\"alice\"}], \"external_id\":\"x\"}", as(w.acme), idem("key-1"))
		if again.Code != http.StatusCreated || again.Body.String() != first.Body.String() {
			t.Errorf("answer %d %s, want %s", again.Code, again.Body, first.Body)
		}
	})
	t.Run("another body", func(t *testing.T) {
		w.refused(w.do("POST", "/v1/rooms", `{"external_id":"y"}`, as(w.acme), idem("key-1")), codeIdempotencyUsed)
	})
	t.Run("the room has ended since", func(t *testing.T) {
		if rec := w.do("DELETE", "/v1/rooms/"+room.ID, "", as(w.acme)); rec.Code != http.StatusAccepted {
			t.Fatalf("delete: %d %s", rec.Code, rec.Body)
		}
		if again := w.do("POST", "/v1/rooms", body, as(w.acme), idem("key-1")); again.Body.String() != first.Body.String() {
			t.Errorf("answer %s, want %s", again.Body, first.Body)
		}
	})
	t.Run("another tenant's", func(t *testing.T) {
		rec := w.do("POST", "/v1/rooms", body, as(w.other), idem("key-1"))
		if v := decode[roomView](w, rec, http.StatusCreated); v.ID == room.ID {
			t.Error("two tenants share a room")
		}
	})
	t.Run("the same key on another route", func(t *testing.T) {
		rec := w.do("POST", "/v1/rooms/"+w.create(`{}`).ID+"/tickets", `{"participants":[{"identity":"a"}]}`, as(w.acme), idem("key-1"))
		decode[ticketsView](w, rec, http.StatusCreated)
	})
	t.Run("after 24 hours", func(t *testing.T) {
		w.clock.Advance(21*time.Hour + time.Second)
		if v := w.create(body, idem("key-1")); v.ID == room.ID {
			t.Error("the key still stands for the old room")
		}
	})
	for name, value := range map[string]string{"empty": `""`, "long": strings.Repeat("k", 256), "control": "a\tb", "not ASCII": "schlüssel"} {
		t.Run(name, func(t *testing.T) {
			p := w.refused(w.do("POST", "/v1/rooms", `{}`, as(w.acme), idem(value)), codeInvalidRequest)
			if len(p.Errors) != 1 || p.Errors[0].Pointer != "header:Idempotency-Key" {
				t.Errorf("errors %+v", p.Errors)
			}
		})
	}
	t.Run("twice", func(t *testing.T) {
		w.refused(w.do("POST", "/v1/rooms", `{}`, as(w.acme), idem("a"), idem("b")), codeInvalidRequest)
	})
}

func TestAnonymousCallsStartNothing(t *testing.T) {
	w := newWorld(t)
	room := w.create(`{}`)
	starts := w.fleet.Calls("start")
	key := []byte(w.acme)
	key[len(key)-1] ^= 1
	credentials := []string{
		"", "Bearer", "Bearer ", "Bearer " + string(key), "Bearer " + NewKey("live"), "Basic " + w.acme, w.acme,
		"Bearer " + w.acme + "x", "Bearer rk_live_", "Bearer \x00", "bearer  " + w.acme,
	}
	requests := []struct{ method, path string }{
		{"POST", "/v1/rooms"}, {"GET", "/v1/rooms"}, {"GET", "/v1/rooms/" + room.ID}, {"DELETE", "/v1/rooms/" + room.ID},
		{"POST", "/v1/rooms/" + room.ID + "/tickets"}, {"GET", "/v1/rooms/" + room.ID + "/participants"},
		{"GET", "/v1/rooms/" + room.ID + "/usage"},
	}
	var first string
	for i := range 1000 {
		q := requests[i%len(requests)]
		rec := w.do(q.method, q.path, `{}`, header{"Authorization", credentials[i%len(credentials)]}, header{"X-N", fmt.Sprint(i)})
		p := w.refused(rec, codeUnauthorized)
		if rec.Header().Get("WWW-Authenticate") == "" {
			t.Fatal("no WWW-Authenticate")
		}
		body := strings.Replace(rec.Body.String(), p.RequestID, "", 1)
		if first == "" {
			first = body
		}
		if body != first {
			t.Fatalf("call %d is answered %s, another %s", i, body, first)
		}
	}
	if n := w.fleet.Calls("start"); n != starts {
		t.Errorf("anonymous calls started %d tasks", n-starts)
	}
	if n := w.rooms("acme"); n != 1 {
		t.Errorf("%d rooms, want the one", n)
	}
}

func TestBadBodies(t *testing.T) {
	w := newWorld(t)
	p := func(n int) string { return strings.TrimSuffix(strings.Repeat(`{"identity":"a"},`, n), ",") }
	for name, tc := range map[string]struct {
		body, code, pointer string
	}{
		"empty":                 {``, codeBadJSON, ""},
		"not JSON":              {`{"external_id":`, codeBadJSON, ""},
		"a list":                {`[]`, codeBadJSON, ""},
		"null":                  {`null`, codeBadJSON, ""},
		"two objects":           {`{}{}`, codeBadJSON, ""},
		"text after":            {`{} x`, codeBadJSON, ""},
		"not UTF-8":             {"{\"external_id\":\"\xff\"}", codeBadJSON, ""},
		"a million brackets":    {strings.Repeat("[", 60_000), codeBadJSON, ""},
		"64 KB and one":         {`{"external_id":"` + strings.Repeat("x", maxBody) + `"}`, codeBodyTooLarge, ""},
		"unknown field":         {`{"max_particpants":5}`, codeInvalidRequest, "/max_particpants"},
		"field in capitals":     {`{"External_ID":"x"}`, codeInvalidRequest, "/External_ID"},
		"unknown nested field":  {`{"participants":[{"identity":"a"},{"identity":"b","admin":true}]}`, codeInvalidRequest, "/participants/1/admin"},
		"unknown grant":         {`{"participants":[{"identity":"a","grants":{"root":true}}]}`, codeInvalidRequest, "/participants/0/grants/root"},
		"slash in a name":       {`{"a/b~c":1}`, codeInvalidRequest, "/a~1b~0c"},
		"string for a number":   {`{"max_participants":"5"}`, codeInvalidRequest, "/max_participants"},
		"fraction":              {`{"max_participants":1.5}`, codeInvalidRequest, "/max_participants"},
		"exponent":              {`{"max_participants":1e2}`, codeInvalidRequest, "/max_participants"},
		"huge number":           {`{"max_participants":99999999999999999999}`, codeInvalidRequest, "/max_participants"},
		"null number":           {`{"max_participants":null}`, codeInvalidRequest, "/max_participants"},
		"zero participants":     {`{"max_participants":0}`, codeInvalidRequest, "/max_participants"},
		"negative timeout":      {`{"empty_timeout_s":-1}`, codeInvalidRequest, "/empty_timeout_s"},
		"two days":              {`{"max_duration_s":172800}`, codeInvalidRequest, "/max_duration_s"},
		"another region":        {`{"region":"us-east-1"}`, codeInvalidRequest, "/region"},
		"metadata a string":     {`{"metadata":"x"}`, codeInvalidRequest, "/metadata"},
		"metadata null":         {`{"metadata":null}`, codeInvalidRequest, "/metadata"},
		"metadata of 3 KB":      {`{"metadata":{"k":"` + strings.Repeat("x", 3<<10) + `"}}`, codeInvalidRequest, "/metadata"},
		"tag not a string":      {`{"tags":{"n":1}}`, codeInvalidRequest, "/tags/n"},
		"tag with a formula":    {`{"tags":{"=cmd()":"x"}}`, codeInvalidRequest, "/tags/=cmd()"},
		"seventeen tags":        {`{"tags":{` + tags(17) + `}}`, codeInvalidRequest, "/tags"},
		"control character":     {`{"external_id":"a\u0000b"}`, codeInvalidRequest, "/external_id"},
		"line break":            {`{"external_id":"a\nb"}`, codeInvalidRequest, "/external_id"},
		"right-to-left":         {`{"participants":[{"identity":"a","name":"x\u202ey"}]}`, codeInvalidRequest, "/participants/0/name"},
		"no identity":           {`{"participants":[{}]}`, codeInvalidRequest, "/participants/0/identity"},
		"long identity":         {`{"participants":[{"identity":"` + strings.Repeat("x", 129) + `"}]}`, codeInvalidRequest, "/participants/0/identity"},
		"long name":             {`{"participants":[{"identity":"a","name":"` + strings.Repeat("x", 65) + `"}]}`, codeInvalidRequest, "/participants/0/name"},
		"unknown role":          {`{"participants":[{"identity":"a","role":"god"}]}`, codeInvalidRequest, "/participants/0/role"},
		"role and grants":       {`{"participants":[{"identity":"a","role":"host","grants":{}}]}`, codeInvalidRequest, "/participants/0/grants"},
		"unknown kind":          {`{"participants":[{"identity":"a","grants":{"publish":["mic","lidar"]}}]}`, codeInvalidRequest, "/participants/0/grants/publish/1"},
		"kind twice":            {`{"participants":[{"identity":"a","grants":{"publish":["mic","mic"]}}]}`, codeInvalidRequest, "/participants/0/grants/publish/1"},
		"ttl of two days":       {`{"participants":[{"identity":"a","ttl_s":172800}]}`, codeInvalidRequest, "/participants/0/ttl_s"},
		"attributes of 2 KB":    {`{"participants":[{"identity":"a","attributes":{"k":"` + strings.Repeat("x", 2<<10) + `"}}]}`, codeInvalidRequest, "/participants/0/attributes"},
		"101 participants":      {`{"participants":[` + p(101) + `]}`, codeInvalidRequest, "/participants"},
		"participants a string": {`{"participants":"alice"}`, codeInvalidRequest, "/participants"},
		"participant a string":  {`{"participants":["alice"]}`, codeInvalidRequest, "/participants/0"},
	} {
		t.Run(name, func(t *testing.T) {
			got := w.refused(w.do("POST", "/v1/rooms", tc.body, as(w.acme)), tc.code)
			if tc.pointer == "" && len(got.Errors) == 0 {
				return
			}
			if len(got.Errors) != 1 || got.Errors[0].Pointer != tc.pointer || got.Errors[0].Detail == "" {
				t.Errorf("errors %+v, want one at %s", got.Errors, tc.pointer)
			}
		})
	}
	if n := w.rooms("acme"); n != 0 {
		t.Errorf("%d rooms were made", n)
	}
}

func tags(n int) string {
	var b []string
	for i := range n {
		b = append(b, fmt.Sprintf(`"k%d":"v"`, i))
	}
	return strings.Join(b, ",")
}

func TestAllFaultsAtOnce(t *testing.T) {
	w := newWorld(t)
	p := w.refused(w.do("POST", "/v1/rooms", `{"max_participants":0,"empty_timeout_s":0,"participants":[{"identity":""}]}`,
		as(w.acme), idem("")), codeInvalidRequest)
	if len(p.Errors) != 4 {
		t.Errorf("%d errors, want all four: %+v", len(p.Errors), p.Errors)
	}
	many := w.refused(w.do("POST", "/v1/rooms", `{`+strings.ReplaceAll(tags(40), `"k`, `"unknown`)+`}`, as(w.acme)), codeInvalidRequest)
	if len(many.Errors) != maxErrors {
		t.Errorf("%d errors, want the first %d", len(many.Errors), maxErrors)
	}
}

// Every field at its limit, with the characters that JSON and base64 blow up most.
func TestLargestTicketFits(t *testing.T) {
	w := newWorld(t)
	rec := w.do("POST", "/v1/rooms", fmt.Sprintf(`{"participants":[{"identity":%q,"name":%q,"role":"host","ttl_s":86400,"attributes":{"k":%q}}]}`,
		strings.Repeat("<", 128), strings.Repeat("&", 64), strings.Repeat(">", 160)), as(w.acme))
	room := decode[roomView](w, rec, http.StatusCreated)
	if _, err := w.verify(room.Participants[0].Ticket, room.ID, w.clock.Now()); err != nil {
		t.Error(err)
	}
}

func TestContentType(t *testing.T) {
	w := newWorld(t)
	for value, code := range map[string]string{
		"application/json": "", "application/json; charset=utf-8": "", "APPLICATION/JSON": "",
		"text/plain": codeMediaType, "application/x-www-form-urlencoded": codeMediaType, "x": codeMediaType, ";;": codeMediaType,
	} {
		rec := w.do("POST", "/v1/rooms", `{}`, as(w.acme), header{"Content-Type", value})
		if code == "" {
			decode[roomView](w, rec, http.StatusCreated)
		} else {
			w.refused(rec, code)
		}
	}
}

func TestQuota(t *testing.T) {
	w := newWorld(t)
	w.life.Config.MaxRooms = 2
	w.create(`{}`)
	second := w.create(`{}`)
	if p := w.refused(w.do("POST", "/v1/rooms", `{}`, as(w.acme)), codeQuota); p.RetryAfterS == 0 {
		t.Error("no retry_after_s")
	}
	if decode[roomView](w, w.do("POST", "/v1/rooms", `{}`, as(w.other)), http.StatusCreated).ID == second.ID {
		t.Error("another tenant got this room")
	}
}
