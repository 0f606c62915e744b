package entry

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"mayfly/functions/control"
	"mayfly/functions/control/outbox"
	"mayfly/functions/outbound"
	"mayfly/functions/store"
)

// receiver is a product's HTTPS server, which verifies with the reference library.
type receiver struct {
	*httptest.Server
	answer func(n int, w http.ResponseWriter, r *http.Request) // the nth request, from 1
	mu     sync.Mutex
	secret string    // guarded by mu
	seen   int       // guarded by mu
	got    []envelop // verified and answered with 2xx; guarded by mu
}

// envelop is what the receiver reads of a body.
type envelop struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Room     string `json:"room"`
	Seq      uint64 `json:"seq"`
	Position uint64 `json:"position"`
	header   string
}

func newReceiver(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) *receiver {
	t.Helper()
	r := &receiver{answer: answer}
	r.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		r.seen++
		n, secret := r.seen, r.secret
		r.mu.Unlock()
		verifier, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Error(err)
			return
		}
		if err := verifier.Verify(body, q.Header); err != nil {
			t.Errorf("the reference library refuses: %v, %v", err, q.Header)
		}
		e := envelop{header: q.Header.Get("webhook-id")}
		if err := json.Unmarshal(body, &e); err != nil || len(body) > outbox.MaxBody || q.Header.Get("Content-Type") != "application/json" {
			t.Errorf("body of %d bytes: %v", len(body), err)
		}
		kept := &status{ResponseWriter: w, code: http.StatusOK}
		if r.answer != nil {
			r.answer(n, kept, q)
		}
		if kept.code/100 == 2 {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.got = append(r.got, e)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

// sender finds the receiver at a public address, as example.com, by its certificate.
func (r *receiver) sender() *outbound.Client {
	pool := x509.NewCertPool()
	pool.AddCert(r.Certificate())
	return outbound.New(outbound.Config{
		Roots: pool,
		Lookup: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("93.184.215.14")}, nil
		},
		Connect: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, r.Listener.Addr().String())
		},
	})
}

func (r *receiver) requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen
}

// hooked is a world whose deliver sends to the receiver, and the endpoint's id.
func hooked(t *testing.T, r *receiver) (*world, string) {
	t.Helper()
	w := newWorld(t)
	w.clock.Advance(time.Since(w.clock.Now())) // the library reads the machine's clock
	w.deps.Sender = r.sender()
	deliver, err := Deliver(w.deps)
	if err != nil {
		t.Fatal(err)
	}
	w.deliver = func() lambda.Handler { return lambda.NewHandler(deliver) }
	var made struct{ ID, Secret string }
	answer := w.http("POST", "/v1/webhook-endpoints", "", `{"url":"https://hooks.example.com/in","events":["room.*"]}`, w.auth())
	if err := json.Unmarshal([]byte(answer.Body), &made); err != nil || answer.StatusCode != http.StatusCreated {
		t.Fatalf("%d %s", answer.StatusCode, answer.Body)
	}
	r.mu.Lock()
	r.secret = made.Secret
	r.mu.Unlock()
	return w, made.ID
}

// stream hands deliver what the table's stream would: the items of a partition.
func (w *world) stream(pk, prefix string) events.DynamoDBEventResponse {
	w.t.Helper()
	page, err := w.store.Query(w.t.Context(), pk, prefix, store.QueryOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	batch := ""
	for i, it := range page.Items {
		if i > 0 {
			batch += ","
		}
		batch += record(w.t, "INSERT", [2]string{it.PK, it.SK})
	}
	var out events.DynamoDBEventResponse
	w.invoke(w.deliver, `{"Records":[`+batch+`]}`, &out)
	return out
}

// TestWebhooksOverHTTPS: create a room, and its events are at the product's server in
// their order, verified by the reference library, and the same in the log.
func TestWebhooksOverHTTPS(t *testing.T) {
	r := newReceiver(t, nil)
	w, id := hooked(t, r)
	room := w.create()
	for range 2 { // the stream repeats itself
		w.stream("ROOM#"+room.ID, "EVENT#")
		w.stream("HOOK#"+id, "DELIVERY#")
	}
	var log struct{ Events []envelop }
	answer := w.http("GET", "/v1/events", "after=0", "", w.auth())
	if err := json.Unmarshal([]byte(answer.Body), &log); err != nil {
		t.Fatalf("%v in %s", err, answer.Body)
	}
	if len(r.got) < 2 || len(r.got) != len(log.Events) {
		t.Fatalf("received %+v, the log has %+v", r.got, log.Events)
	}
	for i, e := range r.got {
		want := fmt.Sprintf("evt_%s_%d", room.ID, i+1)
		if e.ID != want || e.header != want || e.Seq != uint64(i)+1 || e.Position != uint64(i)+1 || e.Room != room.ID {
			t.Errorf("message %d: %+v", i, e)
		}
		e.header = ""
		if d := cmp.Diff(log.Events[i], e, cmp.AllowUnexported(envelop{})); d != "" {
			t.Errorf("the log has another event (-log +webhook):\n%s", d)
		}
	}
	if r.got[0].Type != "room.created" {
		t.Errorf("first %+v", r.got[0])
	}
}

// TestReceivers: what servers do, and what the product can read of it afterwards.
func TestReceivers(t *testing.T) {
	type attempt struct {
		Status int
		Error  string
	}
	for name, tc := range map[string]struct {
		answer   func(n int, w http.ResponseWriter, r *http.Request)
		state    string
		attempts []attempt
		after    time.Duration // until the next attempt, at least
		enabled  bool
	}{
		"fails once": {func(n int, w http.ResponseWriter, _ *http.Request) {
			if n == 1 {
				w.WriteHeader(http.StatusInternalServerError)
			}
		}, "delivered", []attempt{{500, ""}, {200, ""}}, 0, true},
		"redirects": {func(_ int, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://hooks.example.com/other", http.StatusPermanentRedirect)
		}, "pending", []attempt{{308, ""}, {308, ""}}, 4 * time.Minute, true},
		"gone": {func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) },
			"dead", []attempt{{410, ""}}, 0, false},
		"too many requests": {func(n int, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		}, "pending", []attempt{{429, ""}}, 59 * time.Minute, true},
		"hangs up": {func(int, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			"pending", []attempt{{0, "EOF"}, {0, "EOF"}}, 4 * time.Minute, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t, tc.answer)
			w, id := hooked(t, r)
			room := w.create()
			w.stream("ROOM#"+room.ID, "EVENT#000000000001")
			w.stream("HOOK#"+id, "DELIVERY#")
			w.clock.Advance(10 * time.Second)
			w.deps.Config.SweepFor = 0 // one pass
			w.sweepDeliver()
			var list struct {
				Deliveries []struct {
					State    string
					Next     time.Time `json:"next_attempt_at"`
					Attempts []attempt
				}
			}
			answer := w.http("GET", "/v1/webhook-endpoints/"+id+"/deliveries", "", "", w.auth())
			if err := json.Unmarshal([]byte(answer.Body), &list); err != nil || len(list.Deliveries) != 1 {
				t.Fatalf("%v in %s", err, answer.Body)
			}
			d := list.Deliveries[0]
			if diff := cmp.Diff(tc.attempts, d.Attempts); diff != "" || d.State != tc.state {
				t.Errorf("%s; attempts (-want +got):\n%s", d.State, diff)
			}
			if d.State == "pending" && d.Next.Sub(w.clock.Now()) < tc.after {
				t.Errorf("next attempt in %v, want at least %v", d.Next.Sub(w.clock.Now()), tc.after)
			}
			var hook struct{ Enabled bool }
			answer = w.http("GET", "/v1/webhook-endpoints/"+id, "", "", w.auth())
			if err := json.Unmarshal([]byte(answer.Body), &hook); err != nil || hook.Enabled != tc.enabled {
				t.Errorf("enabled %v: %s, %v", hook.Enabled, answer.Body, err)
			}
		})
	}
}

// sweepDeliver is the schedule's event, with the configuration as it is now.
func (w *world) sweepDeliver() {
	w.t.Helper()
	deliver, err := Deliver(w.deps)
	if err != nil {
		w.t.Fatal(err)
	}
	w.invoke(func() lambda.Handler { return lambda.NewHandler(deliver) },
		`{"version":"0","detail-type":"Scheduled Event","source":"aws.events","detail":{}}`, nil)
}

// TestSweepSendsAgainAfterFiveSeconds: one scheduled invocation makes the first attempt
// that the stream did not, and its repeat, and ends when nothing is due before it would.
func TestSweepSendsAgainAfterFiveSeconds(t *testing.T) {
	r := newReceiver(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n <= 2 {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	w, _ := hooked(t, r)
	w.create()
	w.clock.Advance(2 * time.Minute) // the stream lost everything
	w.deps.Config.SweepFor = 40 * time.Second
	w.waits = nil
	w.sweepDeliver()
	if len(w.waits) == 0 || len(w.waits) > 2 || r.requests() < 2 {
		t.Errorf("%d requests, waited %v", r.requests(), w.waits)
	}
}

// TestStreamIsToldWhatFailed: the batch is repeated from the first record that could not
// be put into the log, and no further than that.
func TestStreamIsToldWhatFailed(t *testing.T) {
	r := newReceiver(t, nil)
	w, _ := hooked(t, r)
	one, two := w.create(), w.create()
	w.deps.Store = failing{w.deps.Store, "ROOM#" + two.ID}
	deliver, err := Deliver(w.deps)
	if err != nil {
		t.Fatal(err)
	}
	var batch events.DynamoDBEvent
	for i, room := range []string{one.ID, two.ID, one.ID, two.ID} {
		raw := record(t, "INSERT", [2]string{"ROOM#" + room, fmt.Sprintf("EVENT#%012d", i/2+1)})
		var rec events.DynamoDBEventRecord
		if err := json.Unmarshal([]byte(raw), &rec); err != nil {
			t.Fatal(err)
		}
		rec.Change.SequenceNumber = fmt.Sprint(100 + i)
		batch.Records = append(batch.Records, rec)
	}
	out, err := deliver(t.Context(), batch)
	if err != nil || !slices.Equal(out.BatchItemFailures, []events.DynamoDBBatchItemFailure{{ItemIdentifier: "101"}}) {
		t.Errorf("%+v, %v", out, err)
	}
	e, err := control.Load[control.Event](t.Context(), w.store, control.EventKey(one.ID, 2))
	if err != nil || e.Position != 2 {
		t.Errorf("the other room's events are not in the log: %+v, %v", e, err)
	}
}

// failing is a store that cannot read one partition.
type failing struct {
	control.Store
	pk string
}

func (f failing) Get(ctx context.Context, k store.Key) (store.Item, error) {
	if k.PK == f.pk {
		return store.Item{}, errors.New("unreadable")
	}
	return f.Store.Get(ctx, k)
}
