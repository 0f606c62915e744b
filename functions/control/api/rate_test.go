package api

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"mayfly/functions/control"
)

func TestRateLimitOfCreates(t *testing.T) {
	w := newWorld(t)
	w.life.Config.CreatesPerSecond, w.life.Config.CreateBurst, w.life.Config.MaxRooms = 2, 4, 10
	for i := range 4 {
		rec := w.do("POST", "/v1/rooms", `{}`, as(w.acme))
		if rec.Code != http.StatusCreated {
			t.Fatalf("create %d: %d %s", i, rec.Code, rec.Body)
		}
		if got := rec.Header().Get("RateLimit-Policy"); got != `"creates";q=4;w=2, "rooms";q=10` {
			t.Errorf("policy %s", got)
		}
		want := fmt.Sprintf(`"creates";r=%d;t=0, "rooms";r=%d`, 3-i, 9-i)
		if i == 3 {
			want = `"creates";r=0;t=2, "rooms";r=6` // each of four counters fills by half a token a second
		}
		if got := rec.Header().Get("RateLimit"); got != want {
			t.Errorf("create %d leaves %s, want %s", i, got, want)
		}
	}
	rec := w.do("POST", "/v1/rooms", `{}`, as(w.acme))
	if p := w.refused(rec, codeRate); p.RetryAfterS != 2 || rec.Header().Get("RateLimit") != `"creates";r=0;t=2, "rooms";r=6` {
		t.Errorf("refused: %+v, %s", p, rec.Header())
	}
	w.clock.Advance(2 * time.Second) // as it says
	w.create(`{}`)
	if rec := w.do("POST", "/v1/rooms", `{}`, as(w.other)); rec.Header().Get("RateLimit") != `"creates";r=3;t=0, "rooms";r=9` {
		t.Errorf("another tenant has %s left", rec.Header().Get("RateLimit"))
	}
	w.life.Config.CreatesPerSecond = 0
	if rec := w.do("POST", "/v1/rooms", `{}`, as(w.other)); rec.Header().Get("RateLimit") != `"rooms";r=8` {
		t.Errorf("without a rate: %s", rec.Header().Get("RateLimit"))
	}
}

func TestRateLimitOfTickets(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.TicketsPerSecond, c.TicketBurst = 2, 5 })
	room := w.create(`{"participants":[{"identity":"host"}]}`)
	path, two := "/v1/rooms/"+room.ID+"/tickets", `{"participants":[{"identity":"a"},{"identity":"b"}]}`
	for i, left := range []int{3, 1, 0} {
		rec := w.do("POST", path, two, as(w.acme))
		if rec.Code != http.StatusCreated || rec.Header().Get("RateLimit") != fmt.Sprintf(`"tickets";r=%d;t=0`, left) ||
			rec.Header().Get("RateLimit-Policy") != `"tickets";q=5;w=3` {
			t.Fatalf("request %d: %d %s", i, rec.Code, rec.Header())
		}
	}
	rate := func() *control.TicketRate {
		r, err := control.Load[control.TicketRate](t.Context(), w.store, control.TicketRateKey("acme"))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	before := rate()
	rec := w.do("POST", path, two, as(w.acme))
	if p := w.refused(rec, codeRate); p.RetryAfterS != 1 || rec.Header().Get("RateLimit") != `"tickets";r=0;t=1` {
		t.Errorf("refused: %+v %s", p, rec.Header())
	}
	if after := rate(); after.Ver != before.Ver {
		t.Error("a refusal was written")
	}
	w.clock.Advance(time.Second)
	first := w.do("POST", path, two, as(w.acme), idem("k"))
	if first.Code != http.StatusCreated || rate().Ver != before.Ver+1 {
		t.Fatalf("a second later: %d, %d writes", first.Code, rate().Ver-before.Ver)
	}
	again := w.do("POST", path, two, as(w.acme), idem("k"))
	if again.Body.String() != first.Body.String() || rate().Ver != before.Ver+1 {
		t.Errorf("a repeat costs: %d %s", again.Code, again.Body)
	}
	if rec := w.do("PUT", "/v1/tenants/acme/limits", `{"tickets_per_s":100,"ticket_burst":200}`, as(w.boss)); rec.Code != http.StatusOK {
		t.Fatal(rec.Body)
	}
	w.clock.Advance(time.Second)
	if rec := w.do("POST", path, two, as(w.acme)); rec.Header().Get("RateLimit-Policy") != `"tickets";q=200;w=2` {
		t.Errorf("the tenant's own limit: %s", rec.Header())
	}
}

// However many ask at once, no more get tickets than the rate has.
func TestTicketRateUnderRace(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.TicketsPerSecond, c.TicketBurst = 1, 5 })
	room := w.create(`{}`)
	codes := make([]int, 20)
	var wg sync.WaitGroup
	for i := range codes {
		wg.Go(func() {
			codes[i] = w.do("POST", "/v1/rooms/"+room.ID+"/tickets", `{"participants":[{"identity":"a"}]}`, as(w.acme)).Code
		})
	}
	wg.Wait()
	made := 0
	for _, c := range codes {
		if c == http.StatusCreated {
			made++
		} else if c != http.StatusTooManyRequests {
			t.Errorf("status %d", c)
		}
	}
	if made != 5 {
		t.Errorf("%d requests got tickets, want 5", made)
	}
}
