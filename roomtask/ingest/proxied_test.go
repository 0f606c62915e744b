package ingest

import (
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/rtcp"

	"mayfly/shared/signal"
)

// TestSubscribersLossReachesTheEncoder: the worst subscriber's loss is what the report
// about audio says, for as long as it lasts, and nothing else of the report changes.
func TestSubscribersLossReachesTheEncoder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, micLine, cameraLine)
		seq := uint16(0)
		// second lets a second pass, in which one packet of ten is lost on the way to us,
		// and returns what the reports say about microphone and camera.
		second := func(losses ...float64) (fractions [2]uint8, total uint32) {
			for range 50 {
				if seq++; seq%10 != 9 {
					r.send(packet{ssrc: 20, pt: ptOpus, seq: seq, ts: 960 * uint32(seq), ext: ids("1", "", ""), payload: []byte{1}})
					r.send(packet{ssrc: 30, pt: ptVP8, seq: seq, ts: 3000 * uint32(seq), ext: ids("2", "q", ""), payload: delta})
				}
				r.advance(20 * ms)
			}
			for _, l := range losses {
				r.p.Source(signal.KindMic).SubscriberLoss(l)
				r.p.Source(signal.KindCamera).SubscriberLoss(l)
			}
			r.p.Tick(r.now())
			for _, p := range r.settle() {
				if rr, ok := p.(*rtcp.ReceiverReport); ok {
					for _, b := range rr.Reports {
						if b.SSRC == 20 {
							fractions[0], total = b.FractionLost, b.TotalLost
						} else {
							fractions[1] = b.FractionLost
						}
					}
				}
			}
			return fractions, total
		}
		const own = 25 // 10 % of 256
		var got [][2]uint8
		note := func(f [2]uint8, total uint32) {
			got = append(got, f)
			if want := (uint32(seq) + 1) / 10; total+1 < want || total > want {
				t.Errorf("%d lost in all after %d packets", total, seq)
			}
		}
		note(second())
		note(second(0.02, 0.05)) // less than on the way to us
		note(second(0.25, 0.5, 0.125))
		note(second(0.25))
		for range 8 {
			note(second())
		}
		want := [][2]uint8{{own, own}, {own, own}, {128, own}, {128, own}}
		if diff := cmp.Diff(want, got[:4]); diff != "" {
			t.Errorf("fractions lost (-want +got):\n%s", diff)
		}
		if last := got[len(got)-1]; last != [2]uint8{own, own} {
			t.Errorf("8 s after the last report the fractions are %v", last)
		}
		if f, _ := second(7); f[0] != 255 {
			t.Errorf("more than all is %d", f[0])
		}
	})
}
