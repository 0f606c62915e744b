package bwe_test

import (
	"fmt"
	"testing"

	"mayfly/test/linksim"
)

// seeds is how often each scenario is played, with other chances every time.
const seeds = 2

// limits are what a flow must keep to in a stretch of time. Zero = not checked.
type limits struct {
	received       int64 // at least, bits per second in the mean
	highest        int64 // the estimate never above
	lowest         int64 // the estimate never below
	queue, queue95 int64 // at most, ms
}

func (m figures) check(t *testing.T, what string, l limits) {
	t.Helper()
	m.log(t, what)
	if m.received < l.received {
		t.Errorf("%s: received %d bit/s, want %d", what, m.received, l.received)
	}
	if l.highest > 0 && m.highest > l.highest {
		t.Errorf("%s: the estimate rose to %d, want %d at most", what, m.highest, l.highest)
	}
	if m.lowest < l.lowest {
		t.Errorf("%s: the estimate fell to %d, want %d at least", what, m.lowest, l.lowest)
	}
	if l.queue > 0 && m.queue > l.queue {
		t.Errorf("%s: queue %d ms in the mean, want %d", what, m.queue, l.queue)
	}
	if l.queue95 > 0 && m.queue95 > l.queue95 {
		t.Errorf("%s: queue 95th percentile %d ms, want %d", what, m.queue95, l.queue95)
	}
}

func within(t *testing.T, what string, took, limit int64) {
	t.Helper()
	t.Logf("%-22s %d ms", what, took)
	if took < 0 || took > limit {
		t.Errorf("%s took %d ms, want %d at most", what, took, limit)
	}
}

func TestStartFindsThePath(t *testing.T) {
	for _, c := range []struct{ rate, ms, over, queue95 int64 }{
		// One packet is 64 ms of the narrowest and a probe of five doubles it.
		{150_000, 500, 180, 200}, {300_000, 500, 125, 150}, {1_000_000, 500, 125, 120},
		{5_000_000, 1500, 125, 120}, {20_000_000, 2500, 125, 120},
	} {
		for seed := range uint64(seeds) {
			t.Run(fmt.Sprintf("%dk/%d", c.rate/1000, seed), func(t *testing.T) {
				n := linksim.New(seed)
				f := n.Flow(n.Link(path(c.rate)), newProbed(), want(30_000_000))
				n.Run(30 * second)
				draw(t, f)
				within(t, "80 %", reaches(f, 0, c.rate*8/10), c.ms)
				measure(f, 5, 30).check(t, "then", limits{received: c.rate * 88 / 100, highest: c.rate * c.over / 100, lowest: c.rate * 7 / 10, queue95: c.queue95})
			})
		}
	}
}

func TestCapacitySteps(t *testing.T) {
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			n := linksim.New(seed)
			l := n.Link(path(5_000_000))
			f := n.Flow(l, newProbed(), want(6_000_000))
			n.Run(20 * second)
			l.Rate = 300_000
			n.Run(30 * second)
			l.Rate = 5_000_000
			n.Run(40 * second)
			draw(t, f)
			measure(f, 5, 20).check(t, "5 M", limits{received: 4_400_000, highest: 6_000_000, lowest: 3_500_000, queue95: 100})
			within(t, "down", settles(f, 20, 300_000), 2500)
			measure(f, 25, 50).check(t, "300 k", limits{received: 260_000, highest: 420_000, lowest: 200_000, queue: 60, queue95: 150})
			within(t, "up to 80 %", reaches(f, 50, 4_000_000), 10_000)
			measure(f, 60, 90).check(t, "5 M again", limits{received: 4_400_000, highest: 6_000_000, lowest: 3_500_000, queue95: 120})
		})
	}
}

// TestRandomLoss: the share that a path loses by itself does not take its rate away.
func TestRandomLoss(t *testing.T) {
	for _, loss := range []float64{0, 0.01, 0.05, 0.1, 0.15, 0.2} {
		for seed := range uint64(seeds) {
			t.Run(fmt.Sprintf("%.0f/%d", loss*100, seed), func(t *testing.T) {
				n := linksim.New(seed)
				p := path(2_000_000)
				p.Loss = loss
				f := n.Flow(n.Link(p), newProbed(), want(3_000_000))
				n.Run(60 * second)
				draw(t, f)
				least := int64(float64(2_000_000*75/100) * (1 - loss))
				measure(f, 20, 60).check(t, "", limits{received: least, highest: 2_800_000, queue95: 130})
			})
		}
	}
}

func TestBurstLoss(t *testing.T) {
	for _, b := range []linksim.Burst{{Enter: 0.005, Leave: 0.2, Loss: 0.8}, {Enter: 0.01, Leave: 0.1, Loss: 0.9}, {Enter: 0.01, Leave: 0.05, Loss: 1}} {
		for seed := range uint64(seeds) {
			t.Run(fmt.Sprintf("%.0f/%d", b.Share()*100, seed), func(t *testing.T) {
				n := linksim.New(seed)
				p := path(2_000_000)
				p.Burst = &b
				f := n.Flow(n.Link(p), newProbed(), want(3_000_000))
				n.Run(60 * second)
				draw(t, f)
				least := int64(float64(2_000_000*65/100) * (1 - b.Share()))
				measure(f, 20, 60).check(t, "", limits{received: least, highest: 3_000_000, queue95: 130})
			})
		}
	}
}

// TestShallowQueue is a path that holds hardly more than a frame and drops the rest:
// loss is the main sign.
func TestShallowQueue(t *testing.T) {
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			n := linksim.New(seed)
			p := path(5_000_000)
			p.QueueTime, p.QueueBytes = 0, 25_000
			l := n.Link(p)
			f := n.Flow(l, newProbed(), want(8_000_000))
			n.Run(20 * second)
			l.Rate = 1_000_000
			n.Run(30 * second)
			draw(t, f)
			measure(f, 5, 20).check(t, "5 M", limits{received: 3_800_000, highest: 6_500_000})
			measure(f, 24, 50).check(t, "1 M", limits{received: 700_000, highest: 1_400_000})
			lost := float64(l.Overflow*1200) / float64(f.Sent)
			t.Logf("overflow %.1f %%", 100*lost)
			if lost > 0.06 {
				t.Errorf("%.1f %% were sent for nothing", 100*lost)
			}
		})
	}
}

func TestRoundTrips(t *testing.T) {
	for _, rtt := range []int64{10, 50, 100, 200, 400} {
		for seed := range uint64(seeds) {
			t.Run(fmt.Sprintf("%d/%d", rtt, seed), func(t *testing.T) {
				n := linksim.New(seed)
				p := path(2_000_000)
				p.Delay = rtt / 2 * ms
				c := want(3_000_000)
				c.Back = rtt / 2 * ms
				f := n.Flow(n.Link(p), newProbed(), c)
				n.Run(60 * second)
				draw(t, f)
				within(t, "80 %", reaches(f, 0, 1_600_000), 1000+4*rtt)
				measure(f, 10, 60).check(t, "then", limits{received: 1_700_000, highest: 2_500_000, lowest: 1_300_000, queue: 40, queue95: 130})
			})
		}
	}
}

// TestBufferbloat: a queue of 3 s is not filled, and emptied soon when it was.
func TestBufferbloat(t *testing.T) {
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			n := linksim.New(seed)
			p := path(1_000_000)
			p.QueueTime = 3 * second
			l := n.Link(p)
			f := n.Flow(l, newProbed(), want(4_000_000))
			n.Run(30 * second)
			l.Rate = 500_000
			n.Run(30 * second)
			draw(t, f)
			measure(f, 5, 30).check(t, "1 M", limits{received: 850_000, highest: 1_300_000, queue: 60, queue95: 150})
			within(t, "down", settles(f, 30, 500_000), 3000)
			measure(f, 34, 60).check(t, "500 k", limits{received: 420_000, highest: 700_000, queue: 60, queue95: 150})
		})
	}
}

// TestTwoViewersShareALink: the one who comes later gets a fair part, and both together
// use the link.
func TestTwoViewersShareALink(t *testing.T) {
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			n := linksim.New(seed)
			l := n.Link(path(3_000_000))
			a := n.Flow(l, newProbed(), want(4_000_000))
			late := want(4_000_000)
			late.Start = 20 * second
			b := n.Flow(l, newProbed(), late)
			n.Run(120 * second)
			draw(t, a, b)
			x, y := measure(a, 40, 120), measure(b, 40, 120)
			x.check(t, "first", limits{received: 800_000, queue: 60, queue95: 150})
			y.check(t, "second", limits{received: 800_000, queue: 60, queue95: 150})
			if sum := x.received + y.received; sum < 2_500_000 {
				t.Errorf("together %d bit/s of 3 M", sum)
			}
			// Jain's index: 1 = equal, 0.5 = one has all.
			fx, fy := float64(x.received), float64(y.received)
			jain := (fx + fy) * (fx + fy) / (2 * (fx*fx + fy*fy))
			t.Logf("fairness %.3f", jain)
			if jain < 0.9 {
				t.Errorf("fairness %.3f, want 0.9", jain)
			}
		})
	}
}

// TestNoOscillationUnderNoise: a capacity that varies by 5 % moves the estimate little.
func TestNoOscillationUnderNoise(t *testing.T) {
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			n := linksim.New(seed)
			l := n.Link(path(2_000_000))
			n.Every(200*ms, func() { l.Rate = int64(2_000_000 * (0.95 + 0.1*n.Rand.Float64())) })
			f := n.Flow(l, newProbed(), want(4_000_000))
			n.Run(90 * second)
			draw(t, f)
			measure(f, 10, 90).check(t, "", limits{received: 1_700_000, highest: 2_500_000, lowest: 1_400_000, queue95: 130})
		})
	}
}

// TestDemandBelowCapacityIsLeftAlone: what is sent has room, so neither jitter, nor
// reordering, nor a receiver's clock that runs wrong, nor reports that get lost may
// take any of it away.
func TestDemandBelowCapacityIsLeftAlone(t *testing.T) {
	const demand = 1_500_000
	for name, change := range map[string]func(*linksim.Path, *linksim.FlowConfig){
		"jitter 5":     func(p *linksim.Path, _ *linksim.FlowConfig) { p.Jitter = 5 * ms },
		"jitter 15":    func(p *linksim.Path, _ *linksim.FlowConfig) { p.Jitter = 15 * ms },
		"jitter 30":    func(p *linksim.Path, _ *linksim.FlowConfig) { p.Jitter = 30 * ms },
		"reorder":      func(p *linksim.Path, _ *linksim.FlowConfig) { p.Reorder, p.ReorderBy = 0.05, 20*ms },
		"fast clock":   func(_ *linksim.Path, c *linksim.FlowConfig) { c.Drift = 200e-6 },
		"slow clock":   func(_ *linksim.Path, c *linksim.FlowConfig) { c.Drift = -200e-6 },
		"lost reports": func(_ *linksim.Path, c *linksim.FlowConfig) { c.BackLoss = 0.3 },
		"rare reports": func(_ *linksim.Path, c *linksim.FlowConfig) { c.Report = 250 * ms },
	} {
		for seed := range uint64(seeds) {
			t.Run(fmt.Sprintf("%s/%d", name, seed), func(t *testing.T) {
				n := linksim.New(seed)
				p, c := path(3_000_000), want(demand)
				change(&p, &c)
				f := n.Flow(n.Link(p), newProbed(), c)
				n.Run(60 * second)
				draw(t, f)
				measure(f, 5, 60).check(t, "", limits{received: demand * 97 / 100, lowest: demand * 9 / 10, queue95: 30})
			})
		}
	}
}

// TestLongerRouteIsNoQueue: a delay that rises for good is taken for the path's own.
func TestLongerRouteIsNoQueue(t *testing.T) {
	n := linksim.New(1)
	l := n.Link(path(2_000_000))
	f := n.Flow(l, newProbed(), want(1_000_000))
	n.Run(20 * second)
	l.Delay += 150 * ms
	n.Run(40 * second)
	draw(t, f)
	measure(f, 30, 60).check(t, "after", limits{received: 950_000})
}

// TestOutage: nothing at all gets through for 4 s.
func TestOutage(t *testing.T) {
	n := linksim.New(1)
	l := n.Link(path(2_000_000))
	f := n.Flow(l, newProbed(), want(1_500_000))
	n.Run(20 * second)
	l.Loss = 1
	n.Run(4 * second)
	l.Loss = 0
	n.Run(36 * second)
	draw(t, f)
	if m := measure(f, 23, 24); m.highest > 600_000 {
		t.Errorf("estimate %d after 3 s of silence", m.highest)
	}
	within(t, "back to 80 %", reaches(f, 24, 1_200_000), 10_000)
	measure(f, 35, 60).check(t, "after", limits{received: 1_400_000})
}

// TestAudioIsSpared: on a link that hardly carries it, video sheds and audio does not.
func TestAudioIsSpared(t *testing.T) {
	n := linksim.New(1)
	l := n.Link(path(2_000_000))
	f := n.Flow(l, newProbed(), want(3_000_000))
	n.Run(20 * second)
	l.Rate = 100_000
	n.Run(5 * second)
	sent, got := f.AudioSent, f.AudioGot
	n.Run(25 * second)
	draw(t, f)
	lost := float64((f.AudioSent-sent)-(f.AudioGot-got)) / float64(f.AudioSent-sent)
	t.Logf("audio lost %.2f %%", 100*lost)
	if lost > 0.02 {
		t.Errorf("%.1f %% of audio lost at 100 kbit/s", 100*lost)
	}
}

// TestAFloorIsNoReasonToFillTheQueue: the path became a little narrower than what the least
// costs, so that hardly anything is lost and nearly all arrives. Packets that come evenly out
// of a full queue are proof enough after a second.
func TestAFloorIsNoReasonToFillTheQueue(t *testing.T) {
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			n := linksim.New(seed)
			p := path(2_000_000)
			p.QueueTime = 3 * second
			l := n.Link(p)
			e := newProbed()
			e.SetFloor(720_000)
			f := n.Flow(l, e, want(700_000))
			n.Run(20 * second)
			l.Rate = 600_000
			n.Run(20 * second)
			draw(t, f)
			within(t, "empty", settles(f, 20, 600_000), 3500)
			measure(f, 24, 40).check(t, "then", limits{received: 540_000, queue: 90, queue95: 220})
		})
	}
}
