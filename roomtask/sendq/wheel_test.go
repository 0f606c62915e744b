package sendq

import "testing"

func TestLongestRTTOfTheLastSeconds(t *testing.T) {
	w := NewWheel()
	const t0 = 1000 * second
	if got := w.LongestRTT(t0); got != 0 {
		t.Errorf("nothing is known: %d", got)
	}
	for _, v := range []struct{ at, rtt, want int64 }{
		{0, 20 * ms, 20 * ms},
		{1 * second, 300 * ms, 300 * ms},
		{2 * second, 30 * ms, 300 * ms},
		{5 * second, 30 * ms, 300 * ms},
		{8 * second, 40 * ms, 40 * ms}, // the path of 300 ms is gone
		{60 * second, 0, 0},            // and now all are
	} {
		if v.rtt > 0 {
			w.trips.add(v.rtt, t0+v.at)
		}
		if got := w.LongestRTT(t0 + v.at); got != v.want {
			t.Errorf("after %d s: %d ms, want %d", v.at/second, got/ms, v.want/ms)
		}
	}
}
