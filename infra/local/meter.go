package local

import (
	"context"
	"io"
	"net/http"
	"sync"

	"mayfly/functions/control/figures"
	"mayfly/roomtask/metrics"
)

// meter keeps the figures of the functions, which on AWS go to CloudWatch, and tells them
// in Prometheus' text format as tasks tell theirs. The functions are made anew with every
// process, and so are the figures.
type meter struct {
	mu         sync.Mutex                    // guards what follows
	numbers    map[series]float64            // gauges and counters
	histograms map[series]*metrics.Histogram // all there may be
}

// series is one figure with one label.
type series struct{ name, label string }

func newMeter() *meter {
	m := &meter{numbers: map[series]float64{}, histograms: map[series]*metrics.Histogram{}}
	for _, f := range figures.All {
		for _, label := range labels(f) {
			switch f.Kind {
			case figures.Distribution:
				m.histograms[series{f.Name, label}] = metrics.NewHistogram(f.Limits...)
			case figures.Counter:
				m.numbers[series{f.Name, label}] = 0
			}
		}
	}
	return m
}

// labels are all that a figure's label may say; "" for a figure without one.
func labels(f *figures.Figure) []string {
	if f.Label == "" {
		return []string{""}
	}
	return append(f.Labels[:len(f.Labels):len(f.Labels)], figures.Other)
}

// Record implements figures.Meter.
func (m *meter) Record(_ context.Context, values ...figures.Value) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range values {
		s := series{v.Of.Name, v.Label}
		switch v.Of.Kind {
		case figures.Distribution:
			m.histograms[s].Observe(v.V)
		case figures.Counter:
			m.numbers[s] += v.V
		case figures.Gauge:
			m.numbers[s] = v.V
		}
	}
}

// write writes all figures. A gauge that was never told is left out.
func (m *meter) write(w *metrics.Writer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range figures.All {
		if _, told := m.numbers[series{f.Name, ""}]; f.Kind == figures.Gauge && !told {
			continue
		}
		w.Family(f.Name, string(f.Kind), f.Help)
		for _, label := range labels(f) {
			var named []string
			if f.Label != "" {
				named = []string{f.Label, label}
			}
			s := series{f.Name, label}
			if h := m.histograms[s]; h != nil {
				w.Histogram(h, named...)
			} else {
				w.Sample(m.numbers[s], named...)
			}
		}
	}
}

// metrics is GET /metrics, for who is on this machine.
func (l *Local) metrics(w http.ResponseWriter, r *http.Request) {
	if !own(r) {
		http.Error(w, "/metrics is for the machine that runs mayfly local.", http.StatusForbidden)
		return
	}
	var text metrics.Writer
	l.meter.write(&text)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = io.WriteString(w, text.String()) // a reader that is gone misses nothing
}
