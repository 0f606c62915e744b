package hooks

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mayfly/functions/control/controltest"
	"mayfly/functions/control/figures"
)

// slow answers after some time, and fails as often as it is told to.
type slow struct {
	w     *world
	takes time.Duration
	fails int
}

func (s *slow) answer(string) (Answer, error) {
	s.w.clock.Advance(s.takes)
	if s.fails > 0 {
		s.fails--
		return Answer{Status: http.StatusServiceUnavailable}, nil
	}
	return Answer{Status: http.StatusNoContent}, nil
}

// TestWebhookLag: from the event to the endpoint's answer. What an endpoint that fails adds
// is told apart: nobody here can do anything about it.
func TestWebhookLag(t *testing.T) {
	w := newWorld(t)
	m := &controltest.Meter{}
	w.Meter = m
	to := &slow{w: w, takes: 9 * time.Second}
	w.Sender = &fake{answer: to.answer}
	w.endpoint("https://slow.example")
	w.happen("room_a", 1)
	w.clock.Advance(2 * time.Second) // until the event is in the log
	w.publish()
	w.send()
	want := func(first, later []float64, failures int) {
		t.Helper()
		if diff := cmp.Diff([][]float64{first, later}, [][]float64{m.Of(figures.WebhookLag, figures.AttemptFirst), m.Of(figures.WebhookLag, figures.AttemptLater)}); diff != "" {
			t.Errorf("lag (-want +got):\n%s", diff)
		}
		if got := len(m.Of(figures.WebhookFailures, "")); got != failures {
			t.Errorf("%d failures, want %d", got, failures)
		}
	}
	want([]float64{11}, nil, 0)

	to.takes, to.fails = time.Second, 1
	w.happen("room_a", 2) // the second is put off with the first, and never fails itself
	w.publish()
	w.send()
	want([]float64{11}, nil, 1)
	w.clock.Advance(5 * time.Second)
	w.send()
	want([]float64{11}, []float64{7, 8}, 1)

	w.clock.Advance(time.Hour)
	w.happen("room_b", 1)
	w.publish()
	w.send()
	want([]float64{11, 1}, []float64{7, 8}, 1)
}
