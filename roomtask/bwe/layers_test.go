package bwe_test

import (
	"fmt"
	"testing"

	"mayfly/roomtask/bwe"
	"mayfly/test/linksim"
)

// layered is an owner that sends no probes and, without a pacer, one of three layers
// of a camera: the largest that fits while the path is congested, else the largest.
type layered struct {
	probed
	layer    int64
	switches int
	decideAt int64
}

var layers = []int64{100_000, 250_000, 600_000, 1_800_000} // with audio; the first is audio and little more

func (l *layered) Bps(now int64) int64 {
	if now < l.decideAt && l.layer != 0 {
		return l.layer
	}
	l.decideAt = now + 200*ms
	pick := layers[len(layers)-1]
	if s := l.Snapshot(now); s.State == bwe.Congested {
		pick = layers[0]
		for _, bps := range layers[1:] {
			if bps <= s.Bps*95/100 {
				pick = bps
			}
		}
	}
	if l.layer != 0 && pick != l.layer {
		l.switches++
	}
	l.layer = pick
	return pick
}

func (l *layered) NextProbe(int64, int64) (linksim.Probe, bool) { return linksim.Probe{}, false }

// TestLayersWithoutProbes: an owner that can only choose between layers finds the one
// that fits, and does not change it all the time.
func TestLayersWithoutProbes(t *testing.T) {
	for _, c := range []struct {
		rate, received int64
		switches       int // in two minutes
	}{{150_000, 90_000, 10}, {400_000, 220_000, 10}, {800_000, 550_000, 14}, {1_500_000, 550_000, 10}, {2_500_000, 1_700_000, 0}} {
		for seed := range uint64(seeds) {
			t.Run(fmt.Sprintf("%dk/%d", c.rate/1000, seed), func(t *testing.T) {
				n := linksim.New(seed)
				l := &layered{}
				f := n.Flow(n.Link(path(c.rate)), l, want(2_000_000))
				n.Run(125 * second)
				draw(t, f)
				t.Logf("%d switches in 2 minutes, audio lost %.2f %%", l.switches, 100*(1-float64(f.AudioGot)/float64(f.AudioSent)))
				measure(f, 5, 125).check(t, "", limits{received: c.received})
				if l.switches > c.switches {
					t.Errorf("%d switches, want %d at most", l.switches, c.switches)
				}
			})
		}
	}
}
