package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mayfly/functions/control"
	"mayfly/functions/control/ledger"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
	"mayfly/shared/ticket"
	"mayfly/shared/usage"
)

// Participants of the tests.
const p1, p2 = "p_00000000000000000000000001", "p_00000000000000000000000002"

var update = flag.Bool("update", false, "rewrite docs/problems.md")

func TestProblemsDoc(t *testing.T) {
	const path = "../../../docs/problems.md"
	if *update {
		if err := os.WriteFile(path, []byte(ProblemsDoc()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ProblemsDoc(), string(page)); diff != "" {
		t.Errorf("docs/problems.md is not what the table says; run go test ./functions/control/api -update (-table +page):\n%s", diff)
	}
}

func TestProblemsAreOneEach(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range Problems {
		if seen[p.Code] || p.Title == "" || p.Meaning == "" || http.StatusText(p.Status) == "" || p.Status < 400 {
			t.Errorf("entry %+v", p)
		}
		seen[p.Code] = true
	}
}

// A foreign room and an absent one must be told apart by nothing at all.
func TestForeignIsAbsent(t *testing.T) {
	w := newWorld(t)
	mine := w.create(`{}`)
	for _, tc := range []struct{ method, path, body string }{
		{"GET", "/v1/rooms/ROOM", ""},
		{"DELETE", "/v1/rooms/ROOM", ""},
		{"POST", "/v1/rooms/ROOM/tickets", `{"participants":[{"identity":"mallory"}]}`},
		{"GET", "/v1/rooms/ROOM/participants", ""},
		{"GET", "/v1/rooms/ROOM/usage", ""},
	} {
		var answers []string
		for _, id := range []string{mine.ID, "room_00000000000000000000000000", "room_x", "ROOM%23x", "%00", "room_" + strings.Repeat("Z", 3000)} {
			rec := w.do(tc.method, strings.Replace(tc.path, "ROOM", id, 1), tc.body, as(w.other))
			p := w.refused(rec, codeNotFound)
			rec.Header().Del("X-Request-Id")
			head, err := json.Marshal(rec.Header())
			if err != nil {
				t.Fatal(err)
			}
			answers = append(answers, strings.Replace(rec.Body.String(), p.RequestID, "", 1)+string(head))
		}
		if len(slices.Compact(answers)) != 1 {
			t.Errorf("%s %s: the answers differ: %q", tc.method, tc.path, answers)
		}
	}
	if r := decode[roomView](w, w.do("GET", "/v1/rooms/"+mine.ID, "", as(w.acme)), http.StatusOK); r.State != lifecycle.Starting {
		t.Errorf("the room is %s after another tenant's calls", r.State)
	}
}

func TestRouting(t *testing.T) {
	w := newWorld(t)
	for _, tc := range []struct{ method, path, code, allow string }{
		{"PUT", "/v1/rooms", codeMethod, "GET, POST"},
		{"PUT", "/v1/rooms/room_x", codeMethod, "DELETE, GET, PATCH"},
		{"GET", "/v1/rooms/room_x/tickets", codeMethod, "POST"},
		{"POST", "/healthz", codeMethod, "GET"},
		{"GET", "/", codeNotFound, ""},
		{"GET", "/v1", codeNotFound, ""},
		{"GET", "/v1/rooms/", codeNotFound, ""},
		{"GET", "/v1//rooms", codeNotFound, ""},
		{"GET", "/v1/../v1/rooms", codeNotFound, ""},
		{"GET", "/v1/rooms/a/b/c", codeNotFound, ""},
		{"GET", "/.env", codeNotFound, ""},
	} {
		t.Run(tc.method+" "+tc.path, func(t *testing.T) {
			rec := w.do(tc.method, tc.path, "", as(w.acme))
			w.refused(rec, tc.code)
			if got := rec.Header().Get("Allow"); got != tc.allow {
				t.Errorf("Allow %q, want %q", got, tc.allow)
			}
		})
	}
}

func TestListPagesThroughEveryRoomOnce(t *testing.T) {
	w := newWorld(t)
	var want []string
	for i := range 7 {
		want = append(want, w.create(`{"external_id":"`+string(rune('a'+i%2))+`"}`).ID)
		w.clock.Advance(time.Second)
	}
	slices.Reverse(want)
	decode[roomView](w, w.do("POST", "/v1/rooms", `{}`, as(w.other)), http.StatusCreated)
	path := "/v1/rooms?limit=3"
	var got []string
	for page := 0; path != ""; page++ {
		rec := w.do("GET", path, "", as(w.acme))
		l := decode[roomList](w, rec, http.StatusOK)
		for _, r := range l.Rooms {
			got = append(got, r.ID)
		}
		if page == 0 { // a room that is made while paging is newer than the cursor
			w.create(`{}`)
			w.do("DELETE", "/v1/rooms/"+want[4], "", as(w.acme))
		}
		next := strings.TrimSuffix(strings.TrimPrefix(rec.Header().Get("Link"), "<"), `>; rel="next"`)
		if (l.NextCursor == "") != (next == "") {
			t.Errorf("next_cursor %q and Link %q", l.NextCursor, next)
		}
		path = next
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rooms (-want +got):\n%s", diff)
	}
	ended := decode[roomList](w, w.do("GET", "/v1/rooms?state=draining", "", as(w.acme)), http.StatusOK)
	a := decode[roomList](w, w.do("GET", "/v1/rooms?external_id=a&limit=4", "", as(w.acme)), http.StatusOK)
	if len(ended.Rooms) != 1 || ended.Rooms[0].ID != want[4] || len(a.Rooms) != 4 {
		t.Errorf("filters found %d draining and %d of a", len(ended.Rooms), len(a.Rooms))
	}
}

func TestBadListQueries(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		w.create(`{}`)
	}
	cursor := decode[roomList](w, w.do("GET", "/v1/rooms?limit=1", "", as(w.acme)), http.StatusOK).NextCursor
	decode[roomList](w, w.do("GET", "/v1/rooms?limit=1&cursor="+cursor, "", as(w.acme)), http.StatusOK)
	changed := []byte(cursor)
	changed[len(changed)/2] ^= 1
	room := w.create(`{}`).ID
	for name, tc := range map[string]struct{ path, pointer, key string }{
		"limit 0":                  {"/v1/rooms?limit=0", "query:limit", w.acme},
		"limit 101":                {"/v1/rooms?limit=101", "query:limit", w.acme},
		"limit x":                  {"/v1/rooms?limit=x", "query:limit", w.acme},
		"limit twice":              {"/v1/rooms?limit=1&limit=2", "query:limit", w.acme},
		"unknown parameter":        {"/v1/rooms?sort=name", "query:sort", w.acme},
		"unknown state":            {"/v1/rooms?state=happy", "query:state", w.acme},
		"cursor made up":           {"/v1/rooms?cursor=QUFBQUFBQUFBQUFBQUFBQUFBQQ", "query:cursor", w.acme},
		"cursor not base64":        {"/v1/rooms?cursor=!", "query:cursor", w.acme},
		"cursor changed":           {"/v1/rooms?cursor=" + string(changed), "query:cursor", w.acme},
		"another tenant's cursor":  {"/v1/rooms?cursor=" + cursor, "query:cursor", w.other},
		"cursor of another filter": {"/v1/rooms?state=live&cursor=" + cursor, "query:cursor", w.acme},
		"cursor of another list":   {"/v1/rooms/" + room + "/participants?cursor=" + cursor, "query:cursor", w.acme},
	} {
		t.Run(name, func(t *testing.T) {
			p := w.refused(w.do("GET", tc.path, "", as(tc.key)), codeInvalidRequest)
			if len(p.Errors) != 1 || p.Errors[0].Pointer != tc.pointer {
				t.Errorf("errors %+v, want one at %s", p.Errors, tc.pointer)
			}
		})
	}
}

func TestTickets(t *testing.T) {
	w := newWorld(t)
	room := w.create(`{}`)
	path := "/v1/rooms/" + room.ID + "/tickets"
	body := `{"participants":[{"identity":"carol","role":"viewer"}]}`
	rec := w.do("POST", path, body, as(w.acme), idem("t1"))
	v := decode[ticketsView](w, rec, http.StatusCreated)
	c, err := w.verify(v.Participants[0].Ticket, room.ID, w.clock.Now())
	if err != nil || c.Identity != "carol" || len(c.Grants.Publish) != 0 || !c.Grants.Subscribe {
		t.Errorf("claims %+v (%v)", c, err)
	}
	if again := w.do("POST", path, body, as(w.acme), idem("t1")); again.Body.String() != rec.Body.String() {
		t.Errorf("repeated: %s, want %s", again.Body, rec.Body)
	}
	w.refused(w.do("POST", path, `{"participants":[{"identity":"dave"}]}`, as(w.acme), idem("t1")), codeIdempotencyUsed)
	elsewhere := "/v1/rooms/" + w.create(`{}`).ID + "/tickets"
	w.refused(w.do("POST", elsewhere, body, as(w.acme), idem("t1")), codeIdempotencyUsed)
	fresh := decode[ticketsView](w, w.do("POST", path, body, as(w.acme)), http.StatusCreated)
	if fresh.Participants[0].Participant == v.Participants[0].Participant {
		t.Error("two tickets without a key are one participant")
	}
	w.refused(w.do("POST", path, `{}`, as(w.acme)), codeInvalidRequest)
	w.do("DELETE", "/v1/rooms/"+room.ID, "", as(w.acme))
	w.refused(w.do("POST", path, body, as(w.acme)), codeRoomOver)
}

func TestDelete(t *testing.T) {
	w := newWorld(t)
	room := w.create(`{}`)
	for range 2 { // it may be repeated
		v := decode[roomView](w, w.do("DELETE", "/v1/rooms/"+room.ID, "", as(w.acme)), http.StatusAccepted)
		if v.State != lifecycle.Draining && v.State != lifecycle.Ended || v.Reason != "deleted" {
			t.Errorf("room is %s (%s)", v.State, v.Reason)
		}
	}
}

func TestParticipantsAndUsage(t *testing.T) {
	w := newWorld(t)
	room := w.create(`{}`)
	ctx := context.Background()
	put := func(docs ...control.Doc) {
		t.Helper()
		for _, d := range docs {
			wr, err := control.Put(d)
			if err == nil {
				err = w.store.Commit(ctx, wr)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	at := w.clock.MS()
	put(&control.Participant{Room: room.ID, ID: p1, Identity: "alice", Name: "Alice", State: "joined", Session: "s_1", Epoch: 1, JoinedMS: at, Resume: "HASH", Salt: "SALT"},
		&control.Participant{Room: room.ID, ID: p2, Identity: "bob", Name: "Bob", State: "joined", Session: "s_2", Epoch: 1, JoinedMS: at},
		&control.Session{Room: room.ID, Epoch: 1, Seq: 1,
			Session: usage.Session{ID: "s_1", Participant: p1, JoinedMS: at, LeftMS: at + 5000, ParticipantMS: 5000}})
	rec := w.do("GET", "/v1/rooms/"+room.ID+"/participants", "", as(w.acme))
	l := decode[participantList](w, rec, http.StatusOK)
	if len(l.Participants) != 2 || l.Participants[0].State != "left" || l.Participants[0].LeftAt == "" || l.Participants[1].State != "joined" {
		t.Errorf("participants %+v", l.Participants)
	}
	if bytes.Contains(rec.Body.Bytes(), []byte("HASH")) || bytes.Contains(rec.Body.Bytes(), []byte("SALT")) {
		t.Error("the answer holds what resume secrets are made of")
	}
	page := decode[participantList](w, w.do("GET", "/v1/rooms/"+room.ID+"/participants?limit=1", "", as(w.acme)), http.StatusOK)
	rest := decode[participantList](w, w.do("GET", "/v1/rooms/"+room.ID+"/participants?limit=1&cursor="+page.NextCursor, "", as(w.acme)), http.StatusOK)
	if len(page.Participants) != 1 || len(rest.Participants) != 1 || rest.Participants[0].ID != p2 || rest.NextCursor != "" {
		t.Errorf("pages %+v and %+v", page, rest)
	}
	u := decode[ledger.View](w, w.do("GET", "/v1/rooms/"+room.ID+"/usage?include=participants", "", as(w.acme)), http.StatusOK)
	if u.Room != room.ID || u.Status != ledger.StatusOpen || len(u.Participants) != 1 || u.Participants[0].MS != 5000 {
		t.Errorf("usage %+v", u)
	}
}

func TestOpenEndpoints(t *testing.T) {
	w := newWorld(t)
	if rec := w.do("GET", "/healthz", ""); rec.Code != http.StatusOK {
		t.Errorf("healthz: %d", rec.Code)
	}
	set := decode[ticket.JWKS](w, w.do("GET", "/.well-known/jwks.json", ""), http.StatusOK)
	if public, err := set.Keys[0].Public(); err != nil || !public.Equal(w.key.Public()) {
		t.Errorf("the key set does not hold the key (%v)", err)
	}
	rec := w.do("GET", "/call/", "")
	h := rec.Header()
	if rec.Code != http.StatusOK || !strings.Contains(h.Get("Content-Security-Policy"), "connect-src 'self' wss://ws.example") ||
		h.Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(rec.Body.String(), "<html") {
		t.Errorf("page: %d %v %s", rec.Code, h, rec.Body)
	}
	if again := w.do("GET", "/call/", "", header{"If-None-Match", h.Get("ETag")}); again.Code != http.StatusNotModified || again.Body.Len() > 0 {
		t.Errorf("unchanged page: %d", again.Code)
	}
	if js := w.do("GET", "/call/client.js", ""); js.Code != http.StatusOK || !strings.HasPrefix(js.Header().Get("Content-Type"), "text/javascript") {
		t.Errorf("client.js: %d %v", js.Code, js.Header())
	}
	for _, path := range []string{"/call/nothing.js", "/call/../api.go", "/call/%2e%2e/api.go", "/call//index.html"} {
		w.refused(w.do("GET", path, ""), codeNotFound)
	}
}

func TestCORS(t *testing.T) {
	w := newWorld(t)
	preflight := func(origin string) http.Header {
		return w.do("OPTIONS", "/v1/rooms", "", header{"Origin", origin}, header{"Access-Control-Request-Method", "POST"}).Header()
	}
	h := preflight("https://app.example")
	if h.Get("Access-Control-Allow-Origin") != "https://app.example" || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "Idempotency-Key") {
		t.Errorf("an allowed origin gets %v", h)
	}
	for _, origin := range []string{"https://evil.example", "null", "https://app.example.evil.example", "http://app.example", ""} {
		if h := preflight(origin); h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%q is allowed: %v", origin, h)
		}
	}
	rec := w.do("GET", "/v1/rooms", "", header{"Origin", "https://app.example"}, as(w.acme))
	if rec.Header().Get("Access-Control-Allow-Origin") != "https://app.example" || rec.Header().Get("Vary") != "Origin" ||
		rec.Header().Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("answer %v", rec.Header())
	}
}

// failing is a store whose every call fails.
type failing struct {
	control.Store
	err error
}

func (f failing) Get(context.Context, store.Key) (store.Item, error) { return store.Item{}, f.err }

func (f failing) Query(context.Context, string, string, store.QueryOptions) (store.Page, error) {
	return store.Page{}, f.err
}

func TestStoreFailures(t *testing.T) {
	for _, tc := range []struct {
		err  error
		code string
	}{{store.ErrThrottled, codeUnavailable}, {store.ErrUnavailable, codeUnavailable}, {errors.New("secret table name"), codeInternal}} {
		w := newWorld(t, func(c *Config) { c.Store = failing{c.Store, tc.err} })
		rec := w.do("GET", "/v1/rooms", "", as(w.acme))
		w.refused(rec, tc.code)
		if strings.Contains(rec.Body.String(), "secret") {
			t.Errorf("the inner error is told: %s", rec.Body)
		}
	}
}

func TestKeys(t *testing.T) {
	a, b := NewKey("live"), NewKey("test")
	k, err := ParseKeys(" " + KeyEntry("acme", a) + ", " + KeyEntry("acme", b) + ",")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{a, b} {
		if tenant, ok := k.Tenant(key); !ok || tenant != "acme" {
			t.Errorf("key of acme is %q's (%v)", tenant, ok)
		}
	}
	if _, ok := k.Tenant(NewKey("live")); ok {
		t.Error("an unknown key is known")
	}
	// The hash of the empty string is what a malformed key is compared as.
	empty, err := ParseKeys("acme=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := empty.Tenant("anything"); ok {
		t.Error("a malformed key is known")
	}
	for _, bad := range []string{"", ",", "acme", "acme=", "acme=zz", "=00", "ACME=" + strings.Repeat("0", 64), "a#b=" + strings.Repeat("0", 64), "acme=" + strings.Repeat("0", 62)} {
		if _, err := ParseKeys(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
