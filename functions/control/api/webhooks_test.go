package api

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mayfly/functions/control"
	"mayfly/functions/control/hooks"
	"mayfly/functions/control/outbox"
)

const hooksPath = "/v1/webhook-endpoints"

// endpoint makes a webhook endpoint of acme.
func (w *world) endpoint(body string, headers ...header) hookView {
	w.t.Helper()
	return decode[hookView](w, w.do("POST", hooksPath, body, append(headers, as(w.acme))...), http.StatusCreated)
}

// publish puts what has happened into the log, as deliver does.
func (w *world) publish() {
	w.t.Helper()
	o := &outbox.Outbox{Store: w.store, Now: w.clock.Now, Log: slog.New(slog.DiscardHandler)}
	if err := o.Sweep(w.t.Context(), 0, outbox.LogTo(o.Log)); err != nil {
		w.t.Fatal(err)
	}
}

func TestEndpointLife(t *testing.T) {
	w := newWorld(t)
	made := w.endpoint(`{"url":"https://example.com/in","events":["room.*","usage.closed"],"description":"billing"}`)
	if !hookForm.MatchString(made.ID) || !strings.HasPrefix(made.Secret, "whsec_") || !made.Enabled || made.Signing != "hmac" || made.PublicKey != "" {
		t.Fatalf("%+v", made)
	}
	at := hooksPath + "/" + made.ID
	want := made
	want.Secret = "" // it is told once
	if d := cmp.Diff(want, decode[hookView](w, w.do("GET", at, "", as(w.acme)), 200)); d != "" {
		t.Errorf("GET (-created +read):\n%s", d)
	}
	w.clock.Advance(time.Second)
	keyed := w.endpoint(`{"url":"https://example.com/other","signing":"ed25519","enabled":false}`)
	if !strings.HasPrefix(keyed.PublicKey, "whpk_") || keyed.Secret != "" || keyed.Enabled || keyed.DisabledReason != "disabled" {
		t.Errorf("%+v", keyed)
	}
	list := decode[hookList](w, w.do("GET", hooksPath, "", as(w.acme)), 200)
	if d := cmp.Diff(hookList{[]hookView{want, keyed}}, list); d != "" {
		t.Errorf("list (-want +got):\n%s", d)
	}
	want.URL, want.Events, want.Enabled, want.Description = "https://example.com/new", []string{"*"}, false, ""
	want.DisabledReason, want.DisabledAt = "disabled", stamp(w.clock.MS())
	got := decode[hookView](w, w.do("PATCH", at, `{"url":"https://example.com/new","events":["*"],"enabled":false,"description":""}`, as(w.acme)), 200)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("PATCH (-want +got):\n%s", d)
	}
	got = decode[hookView](w, w.do("PATCH", at, `{"enabled":true}`, as(w.acme)), 200)
	if got.URL != want.URL || !got.Enabled || got.DisabledReason != "" {
		t.Errorf("enabled again: %+v", got)
	}
	turned := decode[hookView](w, w.do("POST", at+"/rotate-secret", "", as(w.acme)), 200)
	if turned.Secret == "" || turned.Secret == made.Secret || turned.PreviousKeyEnds != stamp(w.clock.MS()+hooks.RotateFor.Milliseconds()) {
		t.Errorf("rotated %+v", turned)
	}
	turned = decode[hookView](w, w.do("POST", at+"/rotate-secret", `{"signing":"ed25519"}`, as(w.acme)), 200)
	if turned.Signing != "ed25519" || turned.PublicKey == "" || turned.Secret != "" {
		t.Errorf("rotated to ed25519: %+v", turned)
	}
	if rec := w.do("DELETE", at, "", as(w.acme)); rec.Code != http.StatusNoContent || rec.Body.Len() != 0 {
		t.Errorf("DELETE: %d %s", rec.Code, rec.Body)
	}
	w.refused(w.do("GET", at, "", as(w.acme)), codeNotFound)
	w.refused(w.do("DELETE", at, "", as(w.acme)), codeNotFound)
}

func TestEndpointIsCreatedOnce(t *testing.T) {
	w := newWorld(t)
	one := w.endpoint(`{"url":"https://example.com/in"}`, idem("a"))
	rec := w.do("POST", hooksPath, `{"url":"https://example.com/in"}`, idem("a"), as(w.acme))
	if d := cmp.Diff(one, decode[hookView](w, rec, 201)); d != "" || rec.Header().Get("Idempotent-Replayed") != "true" {
		t.Errorf("the repeat (-first +second):\n%s", d)
	}
	w.refused(w.do("POST", hooksPath, `{"url":"https://example.com/else"}`, idem("a"), as(w.acme)), codeIdempotencyUsed)
	for i := 1; i < hooks.MaxEndpoints; i++ {
		w.endpoint(`{"url":"https://example.com/in"}`)
	}
	w.refused(w.do("POST", hooksPath, `{"url":"https://example.com/in"}`, as(w.acme)), codeTooManyHooks)
}

func TestEndpointRefusals(t *testing.T) {
	w := newWorld(t)
	mine := w.endpoint(`{"url":"https://example.com/in"}`)
	at := hooksPath + "/" + mine.ID
	for body, pointer := range map[string]string{
		`{}`:                               "/url",
		`{"url":"http://example.com"}`:     "/url",
		`{"url":"https://10.0.0.1/"}`:      "/url",
		`{"url":"https://127.0.0.1:8443"}`: "/url",
		`{"url":"https://169.254.169.254/latest/meta-data"}`:               "/url",
		`{"url":"https://example.com:22/"}`:                                "/url",
		`{"url":"https://u:p@example.com/"}`:                               "/url",
		`{"url":7}`:                                                        "/url",
		`{"url":"https://example.com","events":[]}`:                        "/events",
		`{"url":"https://example.com","events":["room.dead"]}`:             "/events/0",
		`{"url":"https://example.com","events":["*","*"]}`:                 "/events/1",
		`{"url":"https://example.com","events":"*"}`:                       "/events",
		`{"url":"https://example.com","signing":"none"}`:                   "/signing",
		`{"url":"https://example.com","secret":"x"}`:                       "/secret",
		`{"url":"https://example.com","enabled":1}`:                        "/enabled",
		`{"url":"https://example.com","description":"\u0007"}`:             "/description",
		`{"url":"https://example.com","description":"` + long(257) + `"}`:  "/description",
		`{"url":"https://example.com","events":["` + long(2000) + `"]}`:    "/events/0",
		`{"url":"https://example.com/` + long(2048) + `","events":["*"]}`:  "/url",
		`{"url":"https://example.com","events":["room.live","\u202eabc"]}`: "/events/1",
	} {
		p := w.refused(w.do("POST", hooksPath, body, as(w.acme)), codeInvalidRequest)
		if len(p.Errors) != 1 || p.Errors[0].Pointer != pointer {
			t.Errorf("%.60s: %+v", body, p.Errors)
		}
	}
	w.refused(w.do("PATCH", at, `{"url":"https://[::1]/"}`, as(w.acme)), codeInvalidRequest)
	w.refused(w.do("PATCH", at, `{"events":[]}`, as(w.acme)), codeInvalidRequest)
	w.refused(w.do("POST", at+"/rotate-secret", `{"signing":"rsa"}`, as(w.acme)), codeInvalidRequest)
	w.refused(w.do("POST", at+"/rotate-secret", `{"signing":`, as(w.acme)), codeBadJSON)
	for _, body := range []string{`{}`, `{"event_ids":[]}`, `{"dead":true,"event_ids":["evt_x_1"]}`, `{"event_ids":["../x"]}`, `{"event_ids":["evt_` + mine.ID + `_0"]}`} {
		w.refused(w.do("POST", at+"/redeliver", body, as(w.acme)), codeInvalidRequest)
	}
	for _, query := range []string{"?state=lost", "?limit=0", "?limit=101", "?cursor=AAAA", "?other=1"} {
		w.refused(w.do("GET", at+"/deliveries"+query, "", as(w.acme)), codeInvalidRequest)
	}
	for _, query := range []string{"?after=-1", "?after=x", "?after=1.5", "?after=1000000000000", "?after=1&after=2", "?limit=0", "?limit=1000", "?cursor=x"} {
		w.refused(w.do("GET", "/v1/events"+query, "", as(w.acme)), codeInvalidRequest)
	}
	// Nothing was changed by any of these.
	mine.Secret = ""
	if d := cmp.Diff(hookList{[]hookView{mine}}, decode[hookList](w, w.do("GET", hooksPath, "", as(w.acme)), 200)); d != "" {
		t.Errorf("(-before +after):\n%s", d)
	}
}

func long(n int) string { return strings.Repeat("a", n) }

// TestForeignEndpoints: another tenant's endpoints and events are absent, whatever is
// asked of them, and without a key there is nothing at all.
func TestForeignEndpoints(t *testing.T) {
	w := newWorld(t)
	mine := w.endpoint(`{"url":"https://example.com/in"}`)
	room := w.create(`{}`)
	w.publish()
	event := "evt_" + room.ID + "_1"
	at := hooksPath + "/" + mine.ID
	for _, q := range [][3]string{
		{"GET", at, ""}, {"PATCH", at, `{"enabled":false}`}, {"DELETE", at, ""}, {"GET", at + "/deliveries", ""},
		{"POST", at + "/redeliver", `{"dead":true}`}, {"POST", at + "/rotate-secret", ""}, {"POST", at + "/test", ""},
		{"GET", "/v1/events?room=" + room.ID, ""},
	} {
		w.refused(w.do(q[0], q[1], q[2], as(w.other)), codeNotFound)
		w.refused(w.do(q[0], q[1], q[2]), codeUnauthorized)
	}
	for _, id := range []string{"we_x", "..%2f..", strings.ToUpper(mine.ID), mine.ID + "%00", room.ID} {
		w.refused(w.do("GET", hooksPath+"/"+id, "", as(w.acme)), codeNotFound)
	}
	theirs := decode[hookView](w, w.do("POST", hooksPath, `{"url":"https://example.com/spy"}`, as(w.other)), 201)
	rec := w.do("POST", hooksPath+"/"+theirs.ID+"/redeliver", fmt.Sprintf(`{"event_ids":[%q]}`, event), as(w.other))
	if got := decode[redeliverView](w, rec, 202); len(got.EventIDs) != 0 {
		t.Errorf("another tenant's event was sent to %+v", got)
	}
	if got := decode[eventList](w, w.do("GET", "/v1/events", "", as(w.other)), 200); len(got.Events) != 0 {
		t.Errorf("another tenant reads %s", got.Events)
	}
	if got := decode[hookView](w, w.do("GET", at, "", as(w.acme)), 200); !got.Enabled {
		t.Errorf("changed by somebody else: %+v", got)
	}
}

func TestEvents(t *testing.T) {
	w := newWorld(t)
	rooms := []roomView{w.create(`{}`), w.create(`{"external_id":"x"}`)}
	if got := decode[eventList](w, w.do("GET", "/v1/events", "", as(w.acme)), 200); len(got.Events) != 0 || got.NextAfter != 0 || got.More {
		t.Errorf("before anything is in the log: %+v", got)
	}
	w.publish()
	type event struct {
		ID, Type, Room, Timestamp string
		Seq, Position             uint64
		Data                      map[string]any
	}
	var all []event
	after := uint64(0)
	for {
		page := decode[eventList](w, w.do("GET", fmt.Sprintf("/v1/events?after=%d&limit=1", after), "", as(w.acme)), 200)
		for _, raw := range page.Events {
			var e event
			if err := json.Unmarshal(raw, &e); err != nil {
				t.Fatal(err)
			}
			all = append(all, e)
		}
		if !page.More {
			break
		}
		after = page.NextAfter
	}
	seq := map[string]uint64{}
	for i, e := range all {
		if seq[e.Room]++; e.Position != uint64(i)+1 || e.Seq != seq[e.Room] || e.ID != fmt.Sprintf("evt_%s_%d", e.Room, e.Seq) || e.Timestamp != stamp(w.clock.MS()) {
			t.Errorf("event %d: %+v", i, e)
		}
	}
	if len(seq) != 2 || seq[rooms[0].ID] < 2 {
		t.Errorf("events of %v", seq)
	}
	one := decode[eventList](w, w.do("GET", "/v1/events?after=1&room="+rooms[0].ID, "", as(w.acme)), 200)
	if len(one.Events) != int(seq[rooms[0].ID])-1 || one.NextAfter != seq[rooms[0].ID] {
		t.Errorf("of one room: %+v", one)
	}
	w.clock.Advance(control.LogTTL + time.Second)
	w.refused(w.do("GET", "/v1/events?after=1", "", as(w.acme)), codeEventsExpired)
}

func TestTestAndDeliveries(t *testing.T) {
	w := newWorld(t)
	made := w.endpoint(`{"url":"https://example.com/in","events":["usage.*"]}`)
	other := w.endpoint(`{"url":"https://example.com/in"}`)
	at := hooksPath + "/" + made.ID
	event := decode[testView](w, w.do("POST", at+"/test", "", as(w.acme)), 202).EventID
	w.create(`{}`)
	w.publish()
	list := decode[deliveryList](w, w.do("GET", at+"/deliveries", "", as(w.acme)), 200)
	if len(list.Deliveries) != 1 || list.Deliveries[0].EventID != event || list.Deliveries[0].Type != "webhook.test" || list.Deliveries[0].State != "pending" {
		t.Fatalf("%+v", list)
	}
	theirs := decode[deliveryList](w, w.do("GET", hooksPath+"/"+other.ID+"/deliveries?limit=1", "", as(w.acme)), 200)
	if len(theirs.Deliveries) != 1 || theirs.NextCursor == "" || theirs.Deliveries[0].Type == "webhook.test" {
		t.Errorf("%+v", theirs)
	}
	rest := decode[deliveryList](w, w.do("GET", hooksPath+"/"+other.ID+"/deliveries?limit=1&cursor="+theirs.NextCursor, "", as(w.acme)), 200)
	if len(rest.Deliveries) != 1 || rest.Deliveries[0].Seq != theirs.Deliveries[0].Seq-1 {
		t.Errorf("second page %+v", rest)
	}
	w.refused(w.do("GET", at+"/deliveries?cursor="+theirs.NextCursor, "", as(w.acme)), codeInvalidRequest)
	got := decode[redeliverView](w, w.do("POST", at+"/redeliver", fmt.Sprintf(`{"event_ids":[%q,"evt_room_00000000000000000000000000_1"]}`, event), as(w.acme)), 202)
	if d := cmp.Diff([]string{event}, got.EventIDs); d != "" {
		t.Errorf("redelivered (-want +got):\n%s", d)
	}
}

// TestSecretsStayInside: no secret of an endpoint is in the table.
func TestSecretsStayInside(t *testing.T) {
	w := newWorld(t)
	made := w.endpoint(`{"url":"https://example.com/in"}`)
	h, err := w.store.Get(t.Context(), control.HookKey("acme", made.ID))
	if err != nil {
		t.Fatal(err)
	}
	if bare := strings.TrimPrefix(made.Secret, "whsec_"); strings.Contains(string(h.Data), bare) {
		t.Errorf("the table holds the secret: %s", h.Data)
	}
}
