package room

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/roomtask/metrics"
	"mayfly/roomtask/metrics/metricstest"
	"mayfly/shared/signal"
	"mayfly/shared/usage"
)

// families are the names that operators and dashboards know.
var families = []string{
	"participants", "tracks", "bytes_total", "packets_lost_ratio", "rtt_ms", "jitter_ms", "concealment_ratio", "mos", "nack_total", "pli_total",
	"forward_latency_us", "layer_switches", "reconnects", "join_seconds", "drops_total", "withheld_ratio",
}

func (w *world) metrics(t *testing.T) map[string]float64 {
	t.Helper()
	var out metrics.Writer
	w.room.metrics.Collect(&out)
	got, err := metricstest.Parse(out.String())
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, name := range families {
		if !strings.Contains(out.String(), "# TYPE "+name+" ") {
			t.Errorf("no family %s", name)
		}
	}
	for series := range got {
		for _, word := range []string{"ann", "bob", "room_1", "ses-"} {
			if strings.Contains(series, word) {
				t.Errorf("series %s names somebody", series)
			}
		}
	}
	return got
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ann, bob := called(t)
		series := len(w.metrics(t))
		ann.m.mu.Lock()
		ann.m.counts = Counts{
			In: usage.Bytes{Total: 1000, Audio: 300, Video: 600}, Out: usage.Bytes{Total: 500, Audio: 200, Video: 250, RTX: 50},
			NACKs: 7, PLIs: 2, Resent: 5, Switches: 3, Drops: [numDrops]uint64{dropPaced: 11},
		}
		ann.m.mu.Unlock()
		w.data("bob", signal.TypeMute, signal.Mute{Kind: signal.KindMic, Muted: true})
		bob.loss = 0.08
		w.run(4*time.Second, ann, bob)
		w.room.metrics.Forwarded(150_000)

		check := func(when string, want map[string]float64) {
			t.Helper()
			got := w.metrics(t)
			for name, v := range want {
				if got[name] != v {
					t.Errorf("%s: %s is %v, want %v", when, name, got[name], v)
				}
			}
		}
		counted := map[string]float64{
			`bytes_total{dir="in",kind="audio"}`: 300, `bytes_total{dir="in",kind="other"}`: 100, `bytes_total{dir="out",kind="rtx"}`: 50, `bytes_total{dir="out",kind="other"}`: 0,
			`nack_total{dir="out"}`: 7, `nack_total{dir="in"}`: 5, `pli_total`: 2, `layer_switches`: 3,
			`drops_total{reason="paced"}`: 11, `drops_total{reason="no_buffer"}`: 0,
		}
		check("two are there", map[string]float64{
			`participants`: 2, `tracks{kind="mic"}`: 1, `tracks{kind="camera"}`: 2, `tracks{kind="screen"}`: 0,
			`forward_latency_us_bucket{le="100"}`: 0, `forward_latency_us_bucket{le="200"}`: 1, `forward_latency_us_sum`: 150,
			`join_seconds_count{step="media",transport="udp"}`: 2, `join_seconds_count{step="data",transport="udp"}`: 2, `join_seconds_count{step="media",transport="tcp"}`: 0,
		})
		check("and have counted", counted)
		got := w.metrics(t)
		// 8 % of loss to bob, at two judgements; RED leaves 0.64 % of it.
		if n := got[`packets_lost_ratio_bucket{dir="out",le="0.1"}`] - got[`packets_lost_ratio_bucket{dir="out",le="0.05"}`]; n != 2 {
			t.Errorf("%v observations of 8 %% loss", n)
		}
		if n := got[`concealment_ratio_bucket{le="0.01"}`] - got[`concealment_ratio_bucket{le="0.005"}`]; n != 2 {
			t.Errorf("%v observations of what RED leaves", n)
		}
		// Two round trips of 40 ms, and hardly anything missing.
		if n := got[`mos_bucket{le="4.5"}`] - got[`mos_bucket{le="4.25"}`]; n == 0 || n != got[`mos_count`] || got[`mos_count`] != got[`concealment_ratio_count`] {
			t.Errorf("%v of %v scores are above 4.25, of %v seats", n, got[`mos_count`], got[`concealment_ratio_count`])
		}
		if got[`rtt_ms_count`] == 0 || got[`rtt_ms_sum`]/got[`rtt_ms_count`] != 40 {
			t.Errorf("round trips: %v of %v", got[`rtt_ms_sum`], got[`rtt_ms_count`])
		}

		w.media["bob"].post(Event{Kind: EventDisconnected})
		w.media["bob"].post(Event{Kind: EventConnected})
		w.data("ann", signal.TypeLeave, signal.Leave{})
		c := w.client("ann", 1, nil)
		c.Session.JoinSeq, c.Session.ID, c.Session.Resumed = 9, "ses-again", true
		w.frame(signal.LinkClient, c)
		w.run(3*time.Second, bob)
		check("what was counted stays when its participant leaves", counted)
		check("coming back", map[string]float64{`participants`: 2, `reconnects{kind="path"}`: 1, `reconnects{kind="rejoin"}`: 1})
		if n := len(w.metrics(t)); n != series {
			t.Errorf("%d series, %d at first: their number must not grow", n, series)
		}
		w.finish()
	})
}
