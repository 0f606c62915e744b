package local

import (
	"net/http/httptest"
	"sync"
	"testing"

	"mayfly/functions/control/figures"
	"mayfly/roomtask/metrics"
	"mayfly/roomtask/metrics/metricstest"
)

// scraped is what a strict reader takes of a meter.
func scraped(t *testing.T, m *meter) map[string]float64 {
	t.Helper()
	var w metrics.Writer
	m.write(&w)
	got, err := metricstest.Parse(w.String())
	if err != nil {
		t.Fatalf("%v, in\n%s", err, w.String())
	}
	return got
}

// TestMeter: every series is there from the start but for gauges that were never told, and
// counters add up, gauges change, distributions count.
func TestMeter(t *testing.T) {
	m := newMeter()
	got := scraped(t, m)
	if _, told := got["rooms_active"]; told {
		t.Error("rooms_active before a sweep")
	}
	for _, name := range []string{"orphans", `auth_failures{why="key"}`, `room_start_seconds_count{phase="total"}`, `webhook_lag_seconds_bucket{attempt="first",le="+Inf"}`} {
		if v, there := got[name]; !there || v != 0 {
			t.Errorf("%s is %v at the start (%v)", name, v, there)
		}
	}
	before := len(got)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 25 {
				m.Record(t.Context(), figures.RoomsActive.Is(7), figures.Orphans.Is(1), figures.AuthFailures.Is(1, "key"), figures.RoomStart.Is(24, figures.PhaseTotal),
					figures.RoomFailures.Is(1, "a reason that is new"))
			}
		})
	}
	wg.Wait()
	m.Record(t.Context(), figures.RoomsActive.Is(2))
	got = scraped(t, m)
	for name, want := range map[string]float64{
		"rooms_active": 2, "orphans": 100, `auth_failures{why="key"}`: 100, `room_failures{reason="other"}`: 100,
		`room_start_seconds_count{phase="total"}`: 100, `room_start_seconds_sum{phase="total"}`: 2400,
		`room_start_seconds_bucket{phase="total",le="20"}`: 0, `room_start_seconds_bucket{phase="total",le="25"}`: 100,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if len(got) != before+1 {
		t.Errorf("%d samples became %d: only the gauge is new", before, len(got))
	}
}

// TestFiguresAreForThisMachine: who asks from elsewhere, or by another name, is told nothing.
func TestFiguresAreForThisMachine(t *testing.T) {
	l := &Local{meter: newMeter()}
	for _, c := range []struct {
		from, host string
		want       int
	}{
		{"127.0.0.1:999", "127.0.0.1:8080", 200}, {"[::1]:999", "localhost:8080", 200},
		{"192.0.2.7:999", "127.0.0.1:8080", 403}, {"127.0.0.1:999", "rebound.example:8080", 403},
	} {
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.RemoteAddr, r.Host = c.from, c.host
		w := httptest.NewRecorder()
		l.metrics(w, r)
		if w.Code != c.want {
			t.Errorf("from %s to %s: %d, want %d", c.from, c.host, w.Code, c.want)
		}
	}
}
