package hooks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mayfly/functions/control"
	"mayfly/functions/control/outbox"
	"mayfly/functions/store"
)

// TestWholeSchedule: an endpoint that never works is tried ten times over 75 hours,
// then it is disabled, and the others are told.
func TestWholeSchedule(t *testing.T) {
	w := newWorld(t)
	f := &fake{answer: func(id string) (Answer, error) { return Answer{Status: 500}, nil }}
	w.Sender = f
	bad := w.endpoint("https://bad.example")
	w.happen("room_a", 1)
	w.publish()
	began := w.clock.Now()
	var tried []time.Duration
	for next, more := w.send(); more; next, more = w.send() {
		if got := f.take(); len(got) > 0 {
			tried = append(tried, w.clock.Now().Sub(began).Round(time.Second))
		}
		w.clock.Advance(time.UnixMilli(next).Sub(w.clock.Now()))
	}
	tried = append(tried, w.clock.Now().Sub(began).Round(time.Second))
	h, m := time.Hour, time.Minute
	want := []time.Duration{0, 5 * time.Second, 5*m + 5*time.Second, 35*m + 5*time.Second}
	for _, hours := range []time.Duration{2, 7, 17, 31, 51, 75} {
		want = append(want, hours*h+want[3])
	}
	if d := cmp.Diff(want, tried); d != "" || len(f.take()) != 1 {
		t.Errorf("attempts (-want +got):\n%s", d)
	}
	d := w.deliveries(bad.ID)[0]
	if d.State != control.DeliveryDead || d.Why != "exhausted" || len(d.Attempts) != 10 || d.Attempts[9].Status != 500 {
		t.Errorf("delivery %+v", d)
	}
	if got := w.hook(bad.ID); got.Disabled != control.HookFailing {
		t.Errorf("the endpoint is %q", got.Disabled)
	}
	// The event of it is in the log and goes to another endpoint.
	good := w.endpoint("https://good.example", "webhook.*")
	f.answer = nil
	w.happen("room_a", 1)
	w.publish()
	w.send()
	if d := cmp.Diff([]string{"evt_" + bad.ID + "_1"}, f.take()); d != "" {
		t.Errorf("told (-want +got):\n%s", d)
	}
	if n := len(w.deliveries(bad.ID)); n != 1 {
		t.Errorf("%d deliveries to a disabled endpoint", n)
	}
	if n := len(w.deliveries(good.ID)); n != 1 {
		t.Errorf("%d deliveries to the other", n)
	}
}

// TestOneDeadLetterDoesNotDisable: an endpoint that works for the rest stays.
func TestOneDeadLetterDoesNotDisable(t *testing.T) {
	w := newWorld(t)
	f := &fake{answer: func(id string) (Answer, error) {
		if id == "evt_room_a_1" {
			return Answer{}, errors.New("connection reset")
		}
		return Answer{Status: 200}, nil
	}}
	w.Sender = f
	hook := w.endpoint("https://picky.example")
	w.happen("room_a", 1)
	w.publish()
	for next, more := w.send(); more; next, more = w.send() {
		w.clock.Advance(time.UnixMilli(next).Sub(w.clock.Now()))
		w.happen("room_b", 1)
		w.publish()
	}
	all := w.deliveries(hook.ID)
	if all[0].State != control.DeliveryDead || all[0].Attempts[0].Error != "connection reset" || w.hook(hook.ID).Disabled != "" {
		t.Errorf("first delivery %+v, endpoint %q", all[0], w.hook(hook.ID).Disabled)
	}
	f.answer = nil
	f.take()
	done, err := w.Redeliver(w.ctx, hook, nil, true, 100)
	if err != nil || len(done) != 1 {
		t.Fatalf("redelivered %q, %v", done, err)
	}
	w.send()
	if got := f.take(); len(got) != 1 || got[0] != "evt_room_a_1" {
		t.Errorf("sent %q", got)
	}
	if all = w.deliveries(hook.ID); all[1].Run != 1 || all[1].State != control.DeliveryDelivered || all[1].Position != all[0].Position {
		t.Errorf("second run %+v", all[1])
	}
	if done, err = w.Redeliver(w.ctx, hook, nil, true, 100); err != nil || len(done) != 0 {
		t.Errorf("what was redelivered is still dead: %q, %v", done, err)
	}
}

// TestGone: 410 disables at once, with all that was still to be sent.
func TestGone(t *testing.T) {
	w := newWorld(t)
	f := &fake{answer: func(string) (Answer, error) { return Answer{Status: http.StatusGone}, nil }}
	w.Sender = f
	hook := w.endpoint("https://gone.example")
	w.happen("room_a", 3)
	w.publish()
	w.send()
	if n := len(f.take()); n != 1 {
		t.Errorf("%d requests after 410", n)
	}
	w.send()
	for i, d := range w.deliveries(hook.ID) {
		if d.State != control.DeliveryDead {
			t.Errorf("delivery %d: %s %s", i, d.State, d.Why)
		}
	}
	if got := w.hook(hook.ID); got.Disabled != control.HookGone || got.EventSeq != 1 {
		t.Errorf("endpoint %+v", got)
	}
	on := true
	f.answer = nil
	if _, err := w.Update(w.ctx, tenant, hook.ID, Patch{Enabled: &on}); err != nil {
		t.Fatal(err)
	}
	w.happen("room_b", 1)
	w.publish()
	w.send()
	// Its own end is told to it, too, now that it takes events again.
	if got := f.take(); len(got) != 2 {
		t.Errorf("enabled again, it was sent %q", got)
	}
}

// TestOrder: a room's events go out in their order, those of several rooms at once,
// and a short failure keeps the order.
func TestOrder(t *testing.T) {
	w := newWorld(t)
	fail := true
	f := &fake{answer: func(id string) (Answer, error) {
		if id == "evt_room_a_3" && fail {
			fail = false
			return Answer{Status: 503}, nil
		}
		return Answer{Status: 200}, nil
	}}
	w.Sender = f
	hook := w.endpoint("https://in.example")
	keys := append(w.happen("room_a", 6), w.happen("room_b", 6)...)
	keys[1], keys[4] = keys[4], keys[1] // a stream keeps no order between items
	if err := w.out.Drain(w.ctx, keys, ignore); err != nil {
		t.Fatal(err)
	}
	var due []store.Key
	for _, d := range w.deliveries(hook.ID) {
		due = append(due, d.Place().Key)
	}
	due[0], due[3] = due[3], due[0]
	if err := w.Send(w.ctx, due); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(10 * time.Second)
	w.send()
	var a, b []string
	for _, id := range f.take() {
		if rest, ok := strings.CutPrefix(id, "evt_room_a_"); ok {
			a = append(a, rest)
		} else {
			b = append(b, strings.TrimPrefix(id, "evt_room_b_"))
		}
	}
	if d := cmp.Diff([]string{"1", "2", "3", "3", "4", "5", "6"}, a); d != "" {
		t.Errorf("room a (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"1", "2", "3", "4", "5", "6"}, b); d != "" {
		t.Errorf("room b (-want +got):\n%s", d)
	}
}

// TestDeadEndpointHoldsUpNobody: one that fails is asked twice in a pass, however much
// is owed to it.
func TestDeadEndpointHoldsUpNobody(t *testing.T) {
	w := newWorld(t)
	down := w.endpoint("https://down.example")
	f := &fake{}
	w.Sender = sender{f, func(url, _ string) (Answer, error) {
		if url == down.URL {
			return Answer{}, errors.New("no answer in time")
		}
		return Answer{Status: 200}, nil
	}}
	up := w.endpoint("https://up.example")
	for i := range 40 {
		w.happen(fmt.Sprint("room_", i), 2)
	}
	w.publish()
	w.send()
	asked := 0
	for _, d := range w.deliveries(down.ID) {
		asked += len(d.Attempts)
		if d.State != control.DeliveryPending || d.DueMS <= w.clock.MS() {
			t.Fatalf("delivery %+v is still in the way", d)
		}
	}
	if asked < patience || asked > patience+atOnceEach {
		t.Errorf("asked %d times", asked)
	}
	for _, d := range w.deliveries(up.ID) {
		if d.State != control.DeliveryDelivered {
			t.Errorf("the other endpoint's delivery is %s", d.State)
		}
	}
}

// sender answers by URL and webhook-id.
type sender struct {
	*fake
	by func(url, id string) (Answer, error)
}

func (s sender) Post(ctx context.Context, url string, header http.Header, body []byte) (Answer, error) {
	if _, err := s.fake.Post(ctx, url, header, body); err != nil {
		return Answer{}, err
	}
	return s.by(url, header.Get("webhook-id"))
}

func TestFilters(t *testing.T) {
	for _, tc := range []struct {
		filter []string
		typ    string
		want   bool
	}{
		{[]string{"*"}, "usage.closed", true},
		{[]string{"room.*"}, "room.live", true},
		{[]string{"room.*"}, "usage.closed", false},
		{[]string{"room.live", "usage.closed"}, "usage.closed", true},
		{[]string{"room.live"}, "room.lively", false},
		{nil, "room.live", false},
	} {
		if got := outbox.Wanted(tc.filter, tc.typ); got != tc.want {
			t.Errorf("%q of %v: %v", tc.typ, tc.filter, got)
		}
	}
	for f, want := range map[string]bool{"*": true, "room.*": true, "room.live": true, "room.dead": false, "rooms.*": false, "": false, "room": false, "*.*": false} {
		if got := outbox.KnownFilter(f); got != want {
			t.Errorf("filter %q is known: %v", f, got)
		}
	}
}

func TestDeletedEndpoint(t *testing.T) {
	w := newWorld(t)
	f := &fake{}
	w.Sender = f
	hook := w.endpoint("https://in.example")
	w.happen("room_a", 3)
	w.publish()
	if err := w.Delete(w.ctx, tenant, hook.ID); err != nil {
		t.Fatal(err)
	}
	if _, more := w.send(); more || len(f.take()) != 0 || len(w.deliveries(hook.ID)) != 0 {
		t.Error("what was owed to a deleted endpoint is still there")
	}
}

// TestCreateAtOnceAndAgain: an Idempotency-Key makes one endpoint, with one key.
func TestCreateAtOnceAndAgain(t *testing.T) {
	w := newWorld(t)
	spec := Spec{URL: "https://in.example", Events: []string{"*"}, Kind: Ed25519, Enabled: true}
	one, replayed, err := w.Create(w.ctx, tenant, "key", "hash", spec)
	if err != nil || replayed {
		t.Fatal(err, replayed)
	}
	two, replayed, err := w.Create(w.ctx, tenant, "key", "hash", spec)
	if err != nil || !replayed || two.ID != one.ID {
		t.Fatalf("%+v %v %v", two, replayed, err)
	}
	if _, _, err := w.Create(w.ctx, tenant, "key", "other", spec); !errors.Is(err, ErrReused) {
		t.Errorf("another request with the key: %v", err)
	}
	if foreign, _, err := w.Create(w.ctx, "other", "key", "hash", spec); err != nil || foreign.ID == one.ID {
		t.Errorf("another tenant's: %v %v", foreign, err)
	}
	var wg sync.WaitGroup
	var made atomic.Int32
	for range 2 * MaxEndpoints {
		wg.Go(func() {
			switch _, _, err := w.Create(w.ctx, tenant, "", "", spec); {
			case err == nil:
				made.Add(1)
			case !errors.Is(err, ErrTooMany):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := made.Load(); n != MaxEndpoints-1 {
		t.Errorf("%d more were made, want %d", n, MaxEndpoints-1)
	}
	if err := w.Delete(w.ctx, tenant, one.ID); err != nil {
		t.Fatal(err)
	}
	w.endpoint("https://in.example")
}
