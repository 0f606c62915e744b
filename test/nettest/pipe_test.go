package nettest

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

const ms = int64(time.Millisecond)

// arrival is a packet that came through, by its number, and when.
type arrival struct {
	n  int
	at int64
}

// drive pushes count packets of a size, one each gap, then lets what is under way
// arrive. at is called before each push.
func drive(p *pipe[int], count, size int, gap time.Duration, at func(n int, now int64)) (got []arrival) {
	take := func(until int64) {
		for {
			t, ok := p.next()
			if !ok || t > until {
				return
			}
			for {
				n, ok := p.pop(t)
				if !ok {
					break
				}
				got = append(got, arrival{n, t})
			}
		}
	}
	now := int64(0)
	for n := range count {
		now = int64(n) * int64(gap)
		take(now)
		if at != nil {
			at(n, now)
		}
		p.push(now, size, n)
	}
	take(now + int64(time.Hour))
	return got
}

func numbers(got []arrival) []int {
	ns := make([]int, len(got))
	for i, a := range got {
		ns[i] = a.n
	}
	return ns
}

func TestZeroSettingsPassEverythingAtOnce(t *testing.T) {
	got := drive(newPipe[int](Settings{}, 1), 1000, 1200, time.Millisecond, nil)
	for i, a := range got {
		if a.n != i || a.at != int64(i)*ms {
			t.Fatalf("packet %d came as number %d at %v", i, a.n, time.Duration(a.at))
		}
	}
	if len(got) != 1000 {
		t.Errorf("%d of 1000 came", len(got))
	}
}

func TestRate(t *testing.T) {
	for _, rate := range []int64{100_000, 1_000_000, 20_000_000} {
		p := newPipe[int](Settings{Rate: rate, QueueTime: 100 * time.Millisecond, Delay: 20 * time.Millisecond}, 1)
		// Twice what the link takes, for about 10 s.
		gap := time.Duration(int64(time.Second) * 1200 * 8 / (2 * rate))
		got := drive(p, int(10*time.Second/gap), 1200, gap, nil)
		span := got[len(got)-1].at - got[0].at
		bps := float64(len(got)-1) * 1200 * 8 / time.Duration(span).Seconds()
		if math.Abs(bps/float64(rate)-1) > 0.02 {
			t.Errorf("%d bit/s: %.0f came through", rate, bps)
		}
		c := p.counters()
		if c.Overflow+c.Out != c.In || c.Overflow < c.In*4/10 {
			t.Errorf("%d bit/s: %+v", rate, c)
		}
		// The queue's bound is judged when a packet comes; it and those before it are then served.
		if most := int64(100*time.Millisecond) + 2*1200*8*int64(time.Second)/rate; c.LongestQueue > most {
			t.Errorf("%d bit/s: waited %v", rate, time.Duration(c.LongestQueue))
		}
		if !slices.IsSorted(numbers(got)) {
			t.Errorf("%d bit/s: out of order", rate)
		}
	}
}

func TestQueueBytes(t *testing.T) {
	p := newPipe[int](Settings{Rate: 1_000_000, QueueBytes: 12_000}, 1)
	if got := drive(p, 100, 1200, 0, nil); len(got) != 10 || p.counters().Overflow != 90 {
		t.Errorf("%d of a burst of 100 came: %+v", len(got), p.counters())
	}
}

// TestSettingsChangeOnTheFly has a link of 100 kbit/s become one of 1 Mbit/s: what waits
// goes on at the new rate, and the packet that is being sent is not sent anew.
func TestSettingsChangeOnTheFly(t *testing.T) {
	p := newPipe[int](Settings{Rate: 100_000}, 1)
	got := drive(p, 11, 1250, 0, nil)[:0] // 100 ms each: warm, then once more by hand
	now := int64(10 * time.Second)
	for n := range 11 {
		p.push(now, 1250, n)
	}
	p.set(now+50*ms, Settings{Rate: 1_000_000}) // half of the first is out; the other half takes 5 ms
	for {
		at, ok := p.next()
		if !ok {
			break
		}
		if n, ok := p.pop(at); ok {
			got = append(got, arrival{n, at - now})
		}
	}
	if len(got) != 11 || got[0].at != 55*ms || got[10].at != 155*ms {
		t.Errorf("%v", got)
	}
	for n := range 3 {
		p.push(now+int64(time.Second), 1250, n)
	}
	p.set(now+int64(time.Second), Settings{}) // no bottleneck any more: nothing may be left behind
	for n := range 3 {
		if v, ok := p.pop(now + int64(time.Second)); !ok || v != n {
			t.Errorf("packet %d is stuck (%d, %v)", n, v, ok)
		}
	}
}

func TestLoss(t *testing.T) {
	burst := Burst{Enter: 0.02, Leave: 0.25, Loss: 0.8}
	for name, c := range map[string]struct {
		s    Settings
		want float64
	}{
		"30 %":        {Settings{Loss: 0.3}, 0.3},
		"1 %":         {Settings{Loss: 0.01}, 0.01},
		"bursts":      {Settings{Burst: burst}, burst.Share()},
		"both":        {Settings{Loss: 0.1, Burst: burst}, 1 - 0.9*(1-burst.Share())},
		"all":         {Settings{Loss: 1}, 1},
		"never a bad": {Settings{Burst: Burst{Leave: 1, Loss: 1}}, 0},
	} {
		const packets = 200_000
		p := newPipe[int](c.s, 7)
		got := drive(p, packets, 100, time.Millisecond, nil)
		share := 1 - float64(len(got))/packets
		// Five standard deviations; bursts of mean length 4 spread wider, by at most √8.
		if bound := 5 * math.Sqrt(8*c.want*(1-c.want)/packets); math.Abs(share-c.want) > bound {
			t.Errorf("%s: %.4f lost, want %.4f ± %.4f", name, share, c.want, bound)
		}
		if lost := p.counters().Lost; lost != int64(packets-len(got)) {
			t.Errorf("%s: %d counted as lost", name, lost)
		}
	}
}

// TestBurstsAreBursts: with a mean stay of four packets in the bad state, losses come in
// runs of that mean length.
func TestBurstsAreBursts(t *testing.T) {
	const packets = 200_000
	got := drive(newPipe[int](Settings{Burst: Burst{Enter: 0.01, Leave: 0.25, Loss: 1}}, 3), packets, 100, time.Millisecond, nil)
	runs := 0
	for i := 1; i < len(got); i++ {
		if got[i].n != got[i-1].n+1 {
			runs++
		}
	}
	if mean := float64(packets-len(got)) / float64(runs); mean < 3.8 || mean > 4.2 {
		t.Errorf("runs of %.2f losses", mean)
	}
}

func TestDelayAndJitterKeepTheOrder(t *testing.T) {
	p := newPipe[int](Settings{Delay: 30 * time.Millisecond, Jitter: 40 * time.Millisecond}, 1)
	got := drive(p, 10_000, 100, 5*time.Millisecond, nil)
	if len(got) != 10_000 || !slices.IsSorted(numbers(got)) {
		t.Fatalf("%d came, in order: %v", len(got), slices.IsSorted(numbers(got)))
	}
	least, most := int64(math.MaxInt64), int64(0)
	for _, a := range got {
		late := a.at - int64(a.n)*5*ms
		least, most = min(least, late), max(most, late)
	}
	if least < 30*ms || least > 31*ms || most > 70*ms || most < 69*ms {
		t.Errorf("delays from %v to %v", time.Duration(least), time.Duration(most))
	}
}

func TestReorderAndDuplicate(t *testing.T) {
	p := newPipe[int](Settings{Reorder: 0.05, ReorderBy: 25 * time.Millisecond, Duplicate: 0.02}, 1)
	got := drive(p, 100_000, 100, 10*time.Millisecond, nil)
	late, twice, seen := 0, 0, make([]int, 100_000)
	for i, a := range got {
		seen[a.n]++
		if seen[a.n] == 2 {
			twice++
		} else if i > 0 && a.n < got[i-1].n {
			late++
		}
	}
	for n, times := range seen {
		if times == 0 {
			t.Fatalf("packet %d was lost", n)
		}
	}
	c := p.counters()
	if twice < 1800 || twice > 2200 || int64(twice) != c.Duplicated || c.Out != int64(len(got)) {
		t.Errorf("%d came twice: %+v", twice, c)
	}
	if late < 4500 || late > 5500 || c.Reordered < 4700 || c.Reordered > 5300 {
		t.Errorf("%d came late: %+v", late, c)
	}
}

// TestSeedDecides: the same seed and arrivals give the same fate, and a change of
// settings does not shift the fate of later packets.
func TestSeedDecides(t *testing.T) {
	lossy := Settings{Loss: 0.2, Jitter: 3 * time.Millisecond, Duplicate: 0.1}
	run := func(seed uint64, at func(p *pipe[int], n int, now int64)) []arrival {
		p := newPipe[int](lossy, seed)
		return drive(p, 2000, 500, time.Millisecond, func(n int, now int64) {
			if at != nil {
				at(p, n, now)
			}
		})
	}
	first := run(1, nil)
	if !slices.Equal(first, run(1, nil)) {
		t.Error("the same seed gave another result")
	}
	if slices.Equal(first, run(2, nil)) {
		t.Error("another seed gave the same result")
	}
	late := func(as []arrival) []int {
		return slices.DeleteFunc(numbers(as), func(n int) bool { return n < 1010 })
	}
	changed := run(1, func(p *pipe[int], n int, now int64) {
		switch n {
		case 500:
			p.set(now, Settings{})
		case 1000:
			p.set(now, lossy)
		}
	})
	if !slices.Equal(late(first), late(changed)) {
		t.Error("settings that came and went changed the fate of later packets")
	}
}

// TestMemoryIsBounded pushes far more than fits, whatever the settings are.
func TestMemoryIsBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for name, s := range map[string]Settings{
		"no bound before the bottleneck": {Rate: 1000},
		"a long way":                     {Delay: maxDelay},
	} {
		p := newPipe[int](s, 1)
		for n := range 100_000 {
			p.push(int64(n)*1000, 100+rng.IntN(1300), n)
			if held := p.counters().Held; held > maxHeld {
				t.Fatalf("%s: %d bytes held", name, held)
			}
		}
		if c := p.counters(); c.Overflow == 0 || c.Overflow+c.Out+int64(len(p.queue)+len(p.due)) != c.In {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, s := range []Settings{
		{Loss: 1.1}, {Loss: math.NaN()}, {Burst: Burst{Enter: -0.1}}, {Rate: -1}, {Delay: -1}, {Duplicate: 2},
		{Delay: maxDelay, Jitter: 1}, {Reorder: -1},
	} {
		if s.Check() == nil {
			t.Errorf("accepted %+v", s)
		}
	}
	if err := (Settings{Loss: 1, Delay: maxDelay, Rate: 1}).Check(); err != nil {
		t.Error(err)
	}
}
