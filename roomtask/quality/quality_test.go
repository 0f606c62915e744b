package quality

import (
	"math"
	"testing"
	"time"
)

// window is two seconds of a full stream that came through.
func window(m Media, loss float64) Window {
	packets := int64(100)
	if m.Video {
		packets = 300
	}
	return Window{Media: m, Took: 2 * time.Second, Packets: packets, Loss: loss, RTT: 40 * time.Millisecond, Heard: true}
}

// Just below and just above each threshold, in per cent of loss.
func TestLossThresholdsFollowTheCodec(t *testing.T) {
	for _, c := range []struct {
		name       string
		media      Media
		good, poor float64
	}{
		{"Opus", Media{}, 2.5, 7.5},
		{"Opus with FEC", Media{FEC: true}, 3.75, 11.25},
		{"Opus with RED", Media{RED: true}, 5, 15},
		{"Opus with RED and FEC", Media{RED: true, FEC: true}, 7.5, 22.5},
		{"video", Media{Video: true}, 2, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, at := range []struct {
				percent float64
				want    Level
			}{{0, Excellent}, {c.good * 0.9, Excellent}, {c.good * 1.05, Good}, {c.poor * 0.95, Good}, {c.poor * 1.05, Poor}, {100, Poor}} {
				var m Meter
				if got := LevelOf(m.Add(window(c.media, at.percent/100))); got != at.want {
					t.Errorf("%.2f %%: %v, want %v (score %d)", at.percent, got, at.want, m.Score())
				}
			}
		})
	}
}

// TestMOS holds the score to points of the E-model that were worked out by hand, and to its
// ends; it never rises with loss or delay.
func TestMOS(t *testing.T) {
	for _, c := range []struct {
		way     time.Duration
		missing float64
		want    float64
	}{
		{0, 0, 4.41},                                  // R 93.2
		{100 * time.Millisecond, 0, 4.36},             // R 90.8
		{300 * time.Millisecond, 0, 3.71},             // R 72.5
		{0, 0.05, 3.92},                               // R 77.4
		{0, 0.2, 2.63},                                // R 51.1
		{time.Hour, 0, 1}, {0, 1, 1.18}, {0, 7, 1.18}, // R 17.3 with all that is missing
	} {
		if got := MOS(c.way, c.missing); math.Abs(got-c.want) > 0.02 {
			t.Errorf("%v, %.2f missing: %.3f, want %.2f", c.way, c.missing, got, c.want)
		}
	}
	for way := time.Duration(0); way < 2*time.Second; way += 10 * time.Millisecond {
		for missing := 0.0; missing < 1; missing += 0.01 {
			m := MOS(way, missing)
			if m < 1 || m > 4.5 || MOS(way+10*time.Millisecond, missing) > m || MOS(way, missing+0.01) > m {
				t.Fatalf("%v, %.2f missing: %.3f", way, missing, m)
			}
		}
	}
}

func TestMeterOverTime(t *testing.T) {
	audio, video := Media{}, Media{Video: true}
	with := func(w Window, change func(*Window)) Window { change(&w); return w }
	bad, fine := window(audio, 0.3), window(audio, 0)
	type step struct {
		w    Window
		want Level
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"falls at once, climbs one level each interval", []step{{fine, Excellent}, {bad, Poor}, {fine, Good}, {fine, Excellent}}},
		{"a relapse on the way up", []step{{bad, Poor}, {fine, Good}, {bad, Poor}, {fine, Good}, {fine, Excellent}}},
		{"mute resets", []step{{bad, Poor}, {Window{Media: audio, Took: 2 * time.Second, Muted: true}, Excellent}, {fine, Excellent}}},
		{"nothing to send says nothing", []step{{bad, Poor}, {with(bad, func(w *Window) { w.Packets, w.Loss = 0, 0 }), Poor}}},
		{"no report for six seconds, then one", []step{
			{fine, Excellent},
			{with(fine, func(w *Window) { w.Heard = false }), Excellent},
			{with(fine, func(w *Window) { w.Heard = false }), Excellent},
			{with(fine, func(w *Window) { w.Heard = false }), Lost},
			{with(fine, func(w *Window) { w.Heard, w.Packets = false, 0 }), Lost},
			{fine, Poor}, {fine, Good}, {fine, Excellent},
		}},
		{"nothing sent, and so nothing heard, loses nobody", []step{
			{fine, Excellent},
			{Window{Media: audio, Took: 10 * time.Second}, Excellent},
			{Window{Media: audio, Took: 10 * time.Second}, Excellent},
		}},
		{"DTX: one of five packets is not twenty per cent of a voice", []step{
			{with(fine, func(w *Window) { w.Packets, w.Loss = 5, 0.2 }), Excellent},
		}},
		{"the same share of a full stream is", []step{{with(fine, func(w *Window) { w.Loss = 0.2 }), Poor}}},
		{"a round trip of a third of a second is hardly noticed, one of a second is", []step{
			{with(fine, func(w *Window) { w.RTT = 300 * time.Millisecond }), Excellent},
			{with(fine, func(w *Window) { w.RTT = time.Second }), Good},
			{with(fine, func(w *Window) { w.RTT = 2 * time.Second }), Poor},
		}},
		{"jitter costs delay", []step{{with(fine, func(w *Window) { w.Jitter = 200 * time.Millisecond }), Good}}},
		{"each layer below the view costs a level or so", []step{
			{with(window(video, 0), func(w *Window) { w.Missing = 1 }), Good},
			{with(window(video, 0), func(w *Window) { w.Missing = 2 }), Good},
			{with(window(video, 0), func(w *Window) { w.Missing = 3 }), Poor},
		}},
		{"paused for want of bandwidth, although no packet was lost", []step{
			{Window{Media: video, Took: 2 * time.Second, Paused: true, Heard: true}, Poor},
			{window(video, 0), Good}, {window(video, 0), Excellent},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m Meter
			for i, s := range c.steps {
				if got := LevelOf(m.Add(s.w)); got != s.want {
					t.Errorf("step %d: %v, want %v (score %d)", i, got, s.want, m.Score())
				}
			}
		})
	}
}

// A worse interval never scores better, whatever else it is.
func TestScoreIsMonotonic(t *testing.T) {
	for _, m := range []Media{{}, {FEC: true}, {RED: true}, {RED: true, FEC: true}, {Video: true}} {
		last := most + 1
		for percent := range 101 {
			w := window(m, float64(percent)/100)
			if s := w.score(); s > last {
				t.Fatalf("%+v: %d %% scores %d after %d", m, percent, s, last)
			} else {
				last = s
			}
		}
		last = most + 1
		for ms := range 3000 {
			w := window(m, 0)
			w.RTT = time.Duration(ms) * time.Millisecond
			if s := w.score(); s > last {
				t.Fatalf("%+v: %d ms scores %d after %d", m, ms, s, last)
			} else {
				last = s
			}
		}
	}
}

func TestConcealed(t *testing.T) {
	for _, c := range []struct {
		loss     float64
		distance int
		repaired bool
		want     float64
	}{
		{0.1, 0, false, 0.1}, {0.1, 1, false, 0.01}, {0.3, 2, false, 0.027}, {0.3, 2, true, 0.0081}, {0.2, 0, true, 0.04},
		{0, 2, true, 0}, {1, 2, true, 1}, {-0.1, 0, false, 0}, {1.5, 0, false, 1},
	} {
		if got := Concealed(c.loss, c.distance, c.repaired); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("Concealed(%v, %d, %v) = %v, want %v", c.loss, c.distance, c.repaired, got, c.want)
		}
	}
}
