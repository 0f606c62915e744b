package system_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"mayfly/test/system"
)

// TestFiguresOfTheControlPlane: a room's life in the real programs, with a product whose
// server takes its time, as the stand-in tells it to who is on the machine.
func TestFiguresOfTheControlPlane(t *testing.T) {
	s := system.Start(t)
	const takes = 300 * time.Millisecond
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(takes): // the server is slow: that is what is measured
		case <-r.Context().Done():
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(server.Close)
	if status, err := s.Call("POST", "/v1/webhook-endpoints", map[string]any{"url": server.URL + "/in", "events": []string{"room.*"}}, nil); err != nil || status != http.StatusCreated {
		t.Fatalf("register: %d %v", status, err)
	}
	var got map[string]float64
	until := func(what string, ok func() bool) {
		t.Helper()
		system.Until(t, 30*time.Second, what, func() bool {
			var err error
			if got, err = scrape(s.URL + "/metrics"); err != nil {
				t.Fatal(err)
			}
			return ok()
		})
	}
	until("the first sweep", func() bool { return has(got, "rooms_active") })
	if got["rooms_active"] != 0 || got[`room_start_seconds_count{phase="total"}`] != 0 {
		t.Errorf("before: %v rooms, %v starts", got["rooms_active"], got[`room_start_seconds_count{phase="total"}`])
	}
	room := s.Create([]string{"ann"}, nil)
	until("a room that lives", func() bool {
		return got["rooms_active"] == 1 && got[`room_start_seconds_count{phase="total"}`] == 1
	})
	if start := got[`room_start_seconds_sum{phase="total"}`]; start <= 0 || start > 30 {
		t.Errorf("it started in %v s", start)
	}
	if status, err := s.Call("DELETE", "/v1/rooms/"+room.ID, nil, nil); err != nil || status != http.StatusAccepted {
		t.Fatalf("delete: %d %v", status, err)
	}
	until("a room that is over, its record closed, its events delivered", func() bool {
		return got["rooms_active"] == 0 && got["ledger_open"] == 0 && got["ledger_close_lag_seconds_count"] == 1 &&
			got[`webhook_lag_seconds_count{attempt="first"}`]+got[`webhook_lag_seconds_count{attempt="later"}`] >= 4
	})
	lag := (got[`webhook_lag_seconds_sum{attempt="first"}`] + got[`webhook_lag_seconds_sum{attempt="later"}`]) /
		(got[`webhook_lag_seconds_count{attempt="first"}`] + got[`webhook_lag_seconds_count{attempt="later"}`])
	t.Logf("started in %.3f s, record closed after %.3f s, webhooks after %.3f s in the mean",
		got[`room_start_seconds_sum{phase="total"}`], got["ledger_close_lag_seconds_sum"], lag)
	if lag < takes.Seconds() {
		t.Errorf("webhooks took %v s, and the endpoint takes %v", lag, takes)
	}
	if got["orphans"] != 0 || got[`room_failures{reason="start_failed"}`] != 0 || got["webhook_failures"] != 0 {
		t.Errorf("orphans %v, failures %v, webhooks that failed %v", got["orphans"], got[`room_failures{reason="start_failed"}`], got["webhook_failures"])
	}
}
