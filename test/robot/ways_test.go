package robot

import (
	"testing"
	"time"
)

func TestRelayIn(t *testing.T) {
	ms := time.Millisecond
	for _, c := range []struct {
		way     string
		servers int
		asked   time.Duration
		want    time.Duration
		ever    bool
	}{
		{WayAny, 1, 20 * ms, 700 * ms, true},
		{WayAny, 1, 200 * ms, 900 * ms, true},
		{WayAny, 1, 5000 * ms, 2500 * ms, true},
		{WayAny, 0, 20 * ms, 0, false},
		{WayDirect, 1, 20 * ms, 0, false},
		{WayRelay, 1, 20 * ms, 0, true},
		{WayRelay, 0, 20 * ms, 0, false},
	} {
		if got, ever := relayIn(c.way, c.servers, c.asked); got != c.want || ever != c.ever {
			t.Errorf("%q, %d servers, after %v: %v %v, want %v %v", c.way, c.servers, c.asked, got, ever, c.want, c.ever)
		}
	}
}
