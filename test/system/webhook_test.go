package system_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"mayfly/test/system"
)

// product is a product's server on this machine.
type product struct {
	*httptest.Server
	t      *testing.T
	mu     sync.Mutex
	secret string        // guarded by mu
	down   bool          // guarded by mu
	got    []productRead // guarded by mu
}

// productRead is what it reads of an event. A usage event is a CloudEvent.
type productRead struct {
	ID      string `json:"id"`
	EventID string `json:"eventid"`
	Type    string `json:"type"`
	Room    string `json:"room"`
	Seq     uint64 `json:"seq"`
}

func newProduct(t *testing.T) *product {
	p := &product{t: t}
	p.Server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.Close)
	return p
}

func (p *product) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender was killed
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	verifier, err := standardwebhooks.NewWebhook(p.secret)
	if err == nil {
		err = verifier.Verify(body, r.Header)
	}
	if err != nil {
		p.t.Errorf("not signed: %v", err)
	}
	if p.down {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	var e productRead
	if err := json.Unmarshal(body, &e); err != nil {
		p.t.Error(err)
	}
	p.got = append(p.got, e)
}

// register makes the server an endpoint.
func (p *product) register(s *system.System) (id string) {
	p.t.Helper()
	var made struct{ ID, Secret string }
	status, err := s.Call("POST", "/v1/webhook-endpoints", map[string]any{"url": p.URL + "/in"}, &made)
	if err != nil || status != http.StatusCreated {
		p.t.Fatalf("register: %d %v", status, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.secret = made.Secret
	return made.ID
}

// of lists what came of a room, in the order in which it came.
func (p *product) of(room string) (list []productRead) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.got {
		if e.Room == room {
			list = append(list, e)
		}
	}
	return list
}

func (p *product) has(room, typ string) bool {
	for _, e := range p.of(room) {
		if e.Type == typ {
			return true
		}
	}
	return false
}

// TestWebhooks: a room's whole life arrives at the product's server, signed, each event
// once and in the order of the room.
func TestWebhooks(t *testing.T) {
	needWhole(t)
	s := system.Start(t)
	p := newProduct(t)
	p.register(s)
	room := s.Create([]string{"ann"}, nil)
	ann := join(t, s, room.Participants[0].Ticket)
	system.Until(t, 20*time.Second, "the product hears of ann's camera", func() bool { return p.has(room.ID, "track.published") })
	if err := ann.Leave(); err != nil {
		t.Fatal(err)
	}
	system.Until(t, 30*time.Second, "the product hears of the bill", func() bool { return p.has(room.ID, "com.mayfly.usage.closed") })
	kinds := map[string]int{}
	for i, e := range p.of(room.ID) {
		kinds[e.Type]++
		if e.Seq != uint64(i)+1 {
			t.Errorf("event %d is %+v", i, e)
		}
		if e.Type == "com.mayfly.usage.closed" && (e.ID != room.ID+":1" || e.EventID != fmt.Sprintf("evt_%s_%d", room.ID, e.Seq)) {
			t.Errorf("usage event %+v", e)
		}
	}
	for _, typ := range []string{"room.created", "room.starting", "room.live", "participant.joined", "participant.left", "room.ended", "com.mayfly.usage.closed"} {
		if kinds[typ] != 1 {
			t.Errorf("%s came %d times; all: %v", typ, kinds[typ], kinds)
		}
	}
	if kinds["track.published"] == 0 || kinds["track.published"] != kinds["track.unpublished"] {
		t.Errorf("tracks: %v", kinds)
	}
	var log struct{ Events []productRead }
	if _, err := s.Call("GET", "/v1/events?limit=100&room="+room.ID, nil, &log); err != nil || len(log.Events) != len(p.of(room.ID)) {
		t.Errorf("the log has %d events, the product %d: %v", len(log.Events), len(p.of(room.ID)), err)
	}
}

// TestWebhooksOutliveTheSender: while the product's server is down everything that sends
// is killed; what was owed arrives after both are back.
func TestWebhooksOutliveTheSender(t *testing.T) {
	needWhole(t)
	s := system.Start(t)
	p := newProduct(t)
	id := p.register(s)
	p.mu.Lock()
	p.down = true
	p.mu.Unlock()
	room := s.Create(nil, nil)
	type deliveries struct {
		Deliveries []struct {
			State    string
			Attempts []struct{ Status int }
		}
	}
	system.Until(t, 10*time.Second, "a delivery has failed", func() bool {
		var list deliveries
		_, err := s.Call("GET", "/v1/webhook-endpoints/"+id+"/deliveries?state=pending", nil, &list)
		for _, d := range list.Deliveries {
			if len(d.Attempts) > 0 && d.Attempts[0].Status == http.StatusServiceUnavailable {
				return true
			}
		}
		return err != nil
	})
	s.Restart(syscall.SIGKILL)
	p.mu.Lock()
	p.down = false
	p.mu.Unlock()
	system.Until(t, 30*time.Second, "the first event has come after all", func() bool { return p.has(room.ID, "room.created") })
	system.Until(t, 30*time.Second, "nothing is owed any more", func() bool {
		var list deliveries
		status, err := s.Call("GET", "/v1/webhook-endpoints/"+id+"/deliveries?state=pending", nil, &list)
		return err == nil && status == http.StatusOK && len(list.Deliveries) == 0
	})
	seen := map[uint64]bool{}
	for _, e := range p.of(room.ID) {
		seen[e.Seq] = true
	}
	for seq := uint64(1); seq <= uint64(len(seen)); seq++ {
		if !seen[seq] {
			t.Errorf("event %d of %v never came", seq, seen)
		}
	}
}
