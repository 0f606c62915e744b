package sendq

import (
	"testing"
	"time"

	"github.com/pion/rtcp"

	"mayfly/roomtask/forward"
)

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

// TestRoundTripsThatAreRemembered: ICE's counts before there is a report, a longer one of a
// report at once, and neither is taken for the smoothed one.
func TestRoundTripsThatAreRemembered(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ann := r.publisher("ann")
		r.s.SetSeat(0, nil, r.wire.videoOut(0))
		r.assign(0, Assignment{Video: ann.camera(), Width: 320, Height: 180})
		r.s.Reached(0)
		r.s.Reached(int64(30 * time.Millisecond))
		r.tick(40*time.Millisecond, func() { ann.frame(0, true, 100) })
		longest := func() int64 { return r.s.cfg.Wheel.LongestRTT(clock()) / int64(time.Millisecond) }
		if got, shown := longest(), r.s.RTT(); got != 30 || shown != 0 {
			t.Errorf("after ICE: %d ms are remembered, %d shown; want 30 and none", got, shown)
		}
		for _, want := range []int64{40, 400} {
			r.pass(50 * time.Millisecond)
			at := uint32(forward.NTP(clock()) >> 16)
			r.s.Feedback(2, &rtcp.ReceiverReport{Reports: []rtcp.ReceptionReport{{SSRC: 2, LastSenderReport: at - uint32(want*65536/1000)}}})
			r.tick(40 * time.Millisecond)
			if got := longest(); got < want-1 || got > want+1 {
				t.Errorf("%d ms are remembered, want %d", got, want)
			}
		}
		if shown := r.s.RTT() / int64(time.Millisecond); shown > 100 {
			t.Errorf("%d ms are shown after one report of 400", shown)
		}
	})
}
