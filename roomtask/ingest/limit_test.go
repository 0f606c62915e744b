package ingest

import (
	"testing"
	"time"
)

// TestFlowLimitsRates offers a flow what it may take, and much more: it passes the
// burst and the rate, in packets and in bytes, whichever is less, and nothing is ever
// owed for what was refused.
func TestFlowLimitsRates(t *testing.T) {
	const second = int64(time.Second)
	video, audio := Limits{}.paces()
	wide, _ := Limits{VideoPackets: 100, VideoBits: 80_000}.paces()
	none, _ := Unlimited.paces()
	for name, c := range map[string]struct {
		pace
		size    int
		every   int64 // ns between the packets that are offered
		seconds int64
		want    int64 // packets that pass, in all
	}{
		"a camera of 3 Mbit/s":     {video, 1200, second / 312, 10, 3120},
		"a microphone of 5 ms":     {audio, 300, second / 200, 10, 2000},
		"small packets, 50,000/s":  {video, 50, second / 50_000, 10, 11 * 4000},
		"large packets, 50,000/s":  {video, 1200, second / 50_000, 10, 11 * 20_000_000 / 8 / 1200},
		"audio packets, 2,500/s":   {audio, 120, second / 2500, 10, 11 * 400},
		"a limit of its own":       {wide, 100, second / 1000, 10, 11 * 100},
		"no limit":                 {none, 1200, second / 50_000, 10, 500_000},
		"reports without any size": {pace{packet: controlGap}, 0, second / 50_000, 10, 11 * 4000},
	} {
		var f flow
		passed := int64(0)
		for now := second; now < second+c.seconds*second; now += c.every {
			if f.admit(now, c.pace, c.size) {
				passed++
			}
		}
		if d := passed - c.want; d < -c.want/100 || d > c.want/100 {
			t.Errorf("%s: %d packets passed, want %d", name, passed, c.want)
		}
		if !f.admit(20*second, c.pace, c.size) {
			t.Errorf("%s: after a rest nothing passes", name)
		}
	}
}
