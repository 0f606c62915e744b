package alloc

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// camera has three layers of three temporal layers each, as browsers send VP8.
func camera() []Layer {
	l := simulcast()
	for i := range l {
		whole := l[i].Bps[0]
		l[i].TIDs, l[i].FPS = 3, 30
		l[i].Bps = [MaxTemporal]int64{whole * 40 / 100, whole * 60 / 100, whole}
	}
	return l
}

func big(id int64, c Class) Demand {
	return Demand{ID: id, Class: c, Layers: camera(), Width: 1280, Height: 720}
}

// rungs shows grants as layer.temporal, a dash for none.
func rungs(r Result) string {
	var s []string
	for _, g := range r.Grants {
		switch {
		case g.Layer == None:
			s = append(s, "-")
		case g.TID == MaxTemporal-1:
			s = append(s, fmt.Sprintf("%d", g.Layer))
		default:
			s = append(s, fmt.Sprintf("%d.%d", g.Layer, g.TID))
		}
	}
	return strings.Join(s, " ")
}

// sweep raises the estimate from low to high in steps of 1 %, one each 2 s, and returns
// what is granted, each different one once.
func sweep(demands []Demand, low, high float64) (seen []string) {
	var a Allocator
	now := second
	for bps := low; bps < high; bps *= 1.01 {
		for range 10 {
			now += 200 * ms
			s := rungs(a.Allocate(now, &Input{Estimate: int64(bps), Demands: demands}))
			if len(seen) == 0 || seen[len(seen)-1] != s {
				seen = append(seen, s)
			}
		}
	}
	return seen
}

// TestOrderOfSteps: the exact order in which videos are raised as the path widens.
func TestOrderOfSteps(t *testing.T) {
	for _, c := range []struct {
		name    string
		demands []Demand
		want    []string
	}{
		// 60 k, then 15 pictures a second, then size; 30 pictures only where the next
		// size does not fit.
		{"a camera", []Demand{big(1, Other)}, []string{"-", "0.0", "0.1", "0", "1.1", "1", "2.1", "2"}},
		{"a screen: size before pictures", []Demand{big(1, Screen)}, []string{"-", "0.0", "0.1", "0", "1.0", "1.1", "1", "2.0", "2.1", "2"}},
		{"a thumbnail beside a speaker", []Demand{{ID: 1, Class: Other, Layers: camera(), Width: 320, Height: 180}, big(2, Speaker)}, []string{
			// A minimum comes before any raise: the speaker gives back what it has to.
			"- -", "- 0.0", "- 0.1", "0.0 0.0", "0.0 0.1", "0.1 0.1", "0.1 0", "0 0", "0.1 1.1",
			"0 1.1", "0.1 1", "0 1", "0 2.1", "0 2",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := sweep(c.demands, 20_000, 4_000_000); !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// clock is an Allocator that is asked every 100 ms.
type clock struct {
	a   Allocator
	now int64
	in  Input
}

func (c *clock) run(estimate, d int64) (r Result) {
	c.in.Estimate = estimate
	for end := c.now + d; c.now < end; {
		c.now += 100 * ms
		r = c.a.Allocate(c.now, &c.in)
	}
	return r
}

// settled returns a clock at which demands have been granted what estimate allows, long
// enough for nothing to be fresh.
func settled(estimate int64, demands ...Demand) *clock {
	c := &clock{now: second, in: Input{Demands: demands}}
	c.run(estimate, 60*second)
	return c
}

func (*clock) expect(t *testing.T, what string, r Result, want string) {
	t.Helper()
	if got := rungs(r); got != want {
		t.Errorf("%s: granted %q, want %q", what, got, want)
	}
}

func TestDownAtOnceUpWithHeadroomAndPatience(t *testing.T) {
	c := settled(400_000, big(1, Other)) // 300 k are used
	c.expect(t, "at 400 k", c.run(400_000, 100*ms), "1.1")
	c.expect(t, "one call after it fell", c.run(250_000, 100*ms), "0")
	c.expect(t, "without headroom", c.run(330_000, 20*second), "0")
	c.expect(t, "not yet", c.run(400_000, 1400*ms), "0")
	c.expect(t, "after 1.5 s", c.run(400_000, 200*ms), "1.1")
	c.expect(t, "with half of it to spare, not at once", c.run(2_000_000, 200*ms), "1.1")
	c.expect(t, "but soon", c.run(2_000_000, 300*ms), "2.1")
}

// TestAFailedStepIsNotRepeated: a path that always gives way after a step up.
func TestAFailedStepIsNotRepeated(t *testing.T) {
	c := settled(250_000, big(1, Other))
	var ups []int64
	held := 0
	for end := c.now + 200*second; c.now < end; {
		r := c.run(400_000, 100*ms)
		if r.Grants[0].Layer > held {
			ups = append(ups, c.now/second)
			r = c.run(250_000, 500*ms) // it does not hold
		}
		held = r.Grants[0].Layer
	}
	if n := len(ups); n < 5 || n > 8 {
		t.Fatalf("%d steps up in 200 s: %d", n, ups)
	}
	for i := 2; i < len(ups); i++ {
		was, is := ups[i-1]-ups[i-2], ups[i]-ups[i-1]
		if is < min(2*was-3, 60) {
			t.Errorf("steps up at %d s: the pauses do not double", ups)
		}
	}
}

// TestAFailedStepHoldsUpNoSmallerOnes: the path becomes narrow in the moment of a large step,
// again and again, and soon is as wide as before. What costs less than two thirds of that
// step comes back meanwhile; only the step itself waits for the end of a pause.
func TestAFailedStepHoldsUpNoSmallerOnes(t *testing.T) {
	c := settled(1_500_000, big(1, Other), big(2, Other))
	before := rungs(c.run(1_500_000, 100*ms))
	for range 4 {
		for i := 0; i < 1000 && c.run(5_000_000, 100*ms).UsedBps < 2_500_000; i++ {
		}
		c.run(60_000, 500*ms)
		fell := c.now
		var r Result
		for rungs(r) != before && c.now-fell < 90*second {
			r = c.run(1_500_000, 100*ms)
		}
		t.Logf("back after %d ms, paused for %d ms more, the next probe is for %d bit/s", (c.now-fell)/ms, (c.a.patience.until-c.now)/ms, r.StepBps)
		if took := c.now - fell; took > 10*second {
			t.Errorf("what there was before is back after %d ms", took/ms)
		}
	}
}

// TestAWiderPathEndsThePause: what failed at 400 kbit/s says nothing about 2 Mbit/s.
func TestAWiderPathEndsThePause(t *testing.T) {
	c := settled(250_000, big(1, Other))
	for range 5 {
		for c.run(400_000, 100*ms).Grants[0].Layer < 1 {
		}
		c.run(250_000, 500*ms)
	}
	if r := c.run(400_000, 100*ms); r.StepBps < 300_000*3/2 {
		t.Errorf("the next probe is for %d bit/s, which is what failed", r.StepBps)
	}
	c.expect(t, "at 2 M", c.run(3_000_000, 3*second), "2")
}

func TestWhoComesOrIsEnlargedNeedNotWait(t *testing.T) {
	c := settled(5_000_000, big(1, Other))
	c.in.Demands = append(c.in.Demands, big(2, Other))
	c.expect(t, "a second one", c.run(5_000_000, 100*ms), "2 2")
	c = settled(5_000_000, Demand{ID: 1, Class: Other, Layers: camera(), Width: 320, Height: 180})
	c.in.Demands[0].Width, c.in.Demands[0].Height = 1280, 720
	c.expect(t, "enlarged", c.run(5_000_000, 100*ms), "2")
	c.in.Demands[0].Width, c.in.Demands[0].Height = 320, 180
	c.expect(t, "and made small again", c.run(5_000_000, 100*ms), "0")
	c.in.Demands[0].ID = 7
	c.in.Demands[0].Width, c.in.Demands[0].Height = 1280, 720
	c.expect(t, "another person in the seat", c.run(5_000_000, 100*ms), "2")
}

// TestTheSpeakerTakesFromTheOthers: what two cameras had goes to the one that speaks.
func TestTheSpeakerTakesFromTheOthers(t *testing.T) {
	c := settled(1_400_000, big(1, Other), big(2, Other))
	c.expect(t, "both alike", c.run(1_400_000, 100*ms), "1 1")
	c.in.Demands[1].Class = Speaker
	c.expect(t, "the second speaks", c.run(1_400_000, 100*ms), "1.1 2.1")
	c.in.Demands = append(c.in.Demands, big(3, Screen))
	c.run(170_000, 100*ms)
	c.expect(t, "and a screen comes on a narrow path", c.run(170_000, 100*ms), "- 0.1 0.0")
}

func TestAudioModes(t *testing.T) {
	c := &clock{now: second, in: Input{Audio: Audio{Bps: 160_000, RED: 80_000, Top: 120_000}, Demands: []Demand{big(1, Screen)}}}
	for _, step := range []struct {
		estimate, wait int64
		want           AudioMode
		video          string
	}{
		{1_000_000, second, AudioFull, "1"},
		{260_000, 100 * ms, AudioFull, "-"},
		{250_000, 100 * ms, AudioNoRED, "-"},
		{160_000, 100 * ms, AudioTop, "-"},
		{10_000, 100 * ms, AudioTop, "-"},
		{180_000, 5 * second, AudioTop, "-"}, // no headroom
		{200_000, 1500 * ms, AudioTop, "-"},
		{200_000, 200 * ms, AudioNoRED, "-"},
		{300_000, 1500 * ms, AudioNoRED, "-"},
		{300_000, 200 * ms, AudioFull, "-"},
		{200_000, 100 * ms, AudioNoRED, "-"},
		{1_000_000, 300 * ms, AudioNoRED, "-"}, // with half of it to spare it takes less time
		{1_000_000, 200 * ms, AudioFull, "-"},
		{1_000_000, 300 * ms, AudioFull, "0.0"},
		{1_000_000, 10 * second, AudioFull, "1"},
	} {
		r := c.run(step.estimate, step.wait)
		if got := rungs(r); r.Audio != step.want || got != step.video {
			t.Errorf("%d bit/s for %d ms: audio %v, video %q, want %v, %q", step.estimate, step.wait/ms, r.Audio, got, step.want, step.video)
		}
		if r.Audio != AudioFull && r.StepBps <= step.estimate {
			t.Errorf("%d bit/s: the next step is said to take %d", step.estimate, r.StepBps)
		}
	}
}

// TestHoldsAsTimePasses plays random lives: the estimate, the rates, the views and the
// occupants change, and at every moment what must be true is. Two allocators that are
// asked the same answer the same.
func TestHoldsAsTimePasses(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		var a, b Allocator
		in := Input{Demands: randomDemands(r), Estimate: 1_000_000}
		for step := range 1000 {
			now := second + int64(step)*100*ms
			in.Estimate = max(0, in.Estimate+r.Int64N(200_001)-100_000)
			switch r.IntN(40) {
			case 0:
				in.Demands = randomDemands(r)
			case 1:
				in.Estimate = r.Int64N(8_000_000)
			case 2:
				in.Audio = Audio{Bps: r.Int64N(200_000), RED: r.Int64N(100_000)}
				in.Audio.Top = in.Audio.Bps / 2
			case 3:
				in.Estimate = Unlimited
			}
			for i := range in.Demands {
				d := &in.Demands[i]
				if r.IntN(50) == 0 {
					d.Class, d.Width, d.Height = Class(r.IntN(int(numClasses))), r.IntN(1300), r.IntN(800)
				}
				if l := &d.Layers[r.IntN(len(d.Layers))]; r.IntN(50) == 0 {
					l.Active = !l.Active
				}
			}
			got := a.Allocate(now, &in)
			if diff := cmp.Diff(got, b.Allocate(now, &in)); diff != "" {
				t.Fatalf("seed %d, step %d: the second answers differently: %s", seed, step, diff)
			}
			if in.Estimate == Unlimited {
				in.Estimate = 8_000_000
			} else if err := checkGrants(&in, got); err != nil {
				t.Fatalf("seed %d, step %d: %+v\n%+v: %v", seed, step, in, got, err)
			}
		}
	}
}

// TestNoiseChangesNothing: while the estimate and every rate vary by 5 %, grants stay.
func TestNoiseChangesNothing(t *testing.T) {
	for _, estimate := range []int64{150_000, 300_000, 500_000, 800_000, 1_200_000, 2_000_000, 3_000_000, 5_000_000} {
		for seed := range uint64(5) {
			r := rand.New(rand.NewPCG(seed, 5))
			noisy := func(v int64) int64 { return int64(float64(v) * (0.95 + 0.1*r.Float64())) }
			c := &clock{now: second, in: Input{
				Audio:   Audio{Bps: 40_000, Top: 40_000},
				Demands: []Demand{big(1, Speaker), big(2, Other), big(3, Other), big(4, Other)},
			}}
			rates := camera()
			changes, late, was := 0, 0, ""
			for c.now < 181*second {
				for i := range c.in.Demands {
					for j := range rates {
						for tid := range 3 {
							c.in.Demands[i].Layers[j].Bps[tid] = noisy(rates[j].Bps[tid])
						}
					}
				}
				if is := rungs(c.run(noisy(estimate), 100*ms)); is != was {
					was = is
					if changes++; c.now > 60*second {
						late++
					}
				}
			}
			if late > 0 || changes > 8 {
				t.Errorf("%d bit/s, seed %d: %d changes in 3 minutes, %d of them in the last two", estimate, seed, changes, late)
			}
		}
	}
}

func TestAllocateDoesNotAllocate(t *testing.T) {
	c := settled(1_000_000, big(1, Screen), big(2, Speaker), big(3, Other), big(4, Other))
	if n := testing.AllocsPerRun(100, func() { c.run(900_000, second); c.run(2_000_000, second) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAllocate(b *testing.B) {
	c := settled(3_000_000)
	for i := range int64(10) {
		c.in.Demands = append(c.in.Demands, big(i, Other))
	}
	b.ReportAllocs()
	for b.Loop() {
		c.run(3_000_000, 100*ms)
	}
}
