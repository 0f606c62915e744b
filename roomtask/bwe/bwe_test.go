package bwe

import (
	"math/rand/v2"
	"testing"
)

// link is a path with a bottleneck: packets leave it at rate, wait in a queue of at
// most limit, and some are lost at random. Its time is the test's.
type link struct {
	rate   int64 // bits per second
	delay  int64 // ns, one way
	limit  int64 // longest queue, ns
	random float64
	free   int64 // when the bottleneck is idle again
	rng    *rand.Rand
}

func (l *link) send(now int64, size int) (arrival int64, ok bool) {
	if l.rng.Float64() < l.random {
		return 0, false
	}
	start := max(now, l.free)
	if start-now > l.limit {
		return 0, false
	}
	l.free = start + int64(size)*8*second/l.rate
	return l.free + l.delay, true
}

// drive sends at demand, or at the estimate while that is congested, and reports every
// 50 ms, from start for dur. It returns the time spent in Congested.
func drive(e *Estimator, l *link, seq *uint16, start, dur, demand int64) (congested int64) {
	const size, clockOffset = 1200, 12345 * second
	var acks []Ack
	var credit int64
	for now := start; now < start+dur; now += 5 * ms {
		bps := demand
		if s := e.Snapshot(now); s.State == Congested {
			bps = min(bps, s.Bps)
			congested += 5 * ms
		}
		for credit += bps * 5 * ms / second / 8; credit >= size; credit -= size {
			*seq++
			e.OnSent(*seq, size, now, 0)
			arrival, ok := l.send(now, size)
			acks = append(acks, Ack{*seq, ok, arrival + clockOffset})
		}
		if now%(50*ms) == 0 {
			e.OnFeedback(now+l.delay, acks)
			acks = acks[:0]
		}
		if now%(20*ms) == 0 {
			e.Tick(now)
		}
	}
	return congested
}

func newLink(rate int64) *link {
	return &link{rate: rate, delay: 30 * ms, limit: 500 * ms, rng: rand.New(rand.NewPCG(1, 2))}
}

func TestClearWhileThePathIsWide(t *testing.T) {
	var e Estimator
	var seq uint16
	if c := drive(&e, newLink(10_000_000), &seq, second, 60*second, 2_500_000); c != 0 {
		t.Errorf("congested for %d ms on a path with room", c/ms)
	}
	s := e.Snapshot(61 * second)
	if s.AckedBps < 2_300_000 || s.AckedBps > 2_700_000 {
		t.Errorf("acked %d bit/s, sent 2.5 Mbit/s", s.AckedBps)
	}
}

func TestRandomLossIsNoCongestion(t *testing.T) {
	var e Estimator
	var seq uint16
	l := newLink(10_000_000)
	l.random = 0.03
	if c := drive(&e, l, &seq, second, 60*second, 2_000_000); c != 0 {
		t.Errorf("congested for %d ms at 3 %% random loss", c/ms)
	}
}

func TestNarrowPathIsFoundAndKeptTo(t *testing.T) {
	for _, rate := range []int64{300_000, 1_000_000, 3_000_000} {
		var e Estimator
		var seq uint16
		l := newLink(rate)
		drive(&e, l, &seq, second, 3*second, 2*rate)
		s := e.Snapshot(4 * second)
		if s.State != Congested {
			t.Fatalf("%d bit/s: not congested after 3 s of double the rate: %+v", rate, s)
		}
		drive(&e, l, &seq, 4*second, 5*second, 2*rate)
		s = e.Snapshot(9 * second)
		if s.Bps > rate*13/10 || s.Bps < rate*4/10 {
			t.Errorf("%d bit/s: estimate %d", rate, s.Bps)
		}
	}
}

func TestFailedReturnsBecomeRare(t *testing.T) {
	var e Estimator
	var seq uint16
	l := newLink(1_000_000)
	const dur = 300 * second
	congested := drive(&e, l, &seq, second, dur, 2_000_000)
	if congested < dur*8/10 {
		t.Errorf("congested only %d of %d s although the path stayed narrow", congested/second, dur/second)
	}
}

func TestRecovers(t *testing.T) {
	var e Estimator
	var seq uint16
	l := newLink(1_000_000)
	drive(&e, l, &seq, second, 5*second, 2_000_000)
	l.rate = 20_000_000
	drive(&e, l, &seq, 6*second, 60*second, 2_000_000)
	if s := e.Snapshot(66 * second); s.State != Clear || s.AckedBps < 1_900_000 {
		t.Errorf("a minute after the path became wide: %+v", s)
	}
}

func TestLossReportsAlone(t *testing.T) {
	var e Estimator
	for now := second; now < 6*second; now += 10 * ms {
		e.OnSent(uint16(now/ms), 1250, now, 0) // 1 Mbit/s
		if now%second == 0 {
			e.OnLoss(now, 64) // 25 %
		}
		e.Tick(now)
	}
	s := e.Snapshot(6 * second)
	if s.State != Congested || s.Bps > 900_000 || s.Bps < minBps {
		t.Errorf("after 25 %% loss: %+v", s)
	}
}

func TestIgnoresForgedFeedback(t *testing.T) {
	var e Estimator
	acks := make([]Ack, 1000)
	for i := range acks {
		acks[i] = Ack{Seq: uint16(i * 60), Received: i%2 == 0, Arrival: int64(i)}
	}
	e.OnFeedback(second, acks)
	if s := e.Snapshot(second); s.State != Clear || s.AckedBps != 0 || s.Loss != 0 {
		t.Errorf("feedback about packets that were never sent: %+v", s)
	}
	e.OnSent(7, 1000, second, 0)
	for range 5 {
		e.OnFeedback(second, []Ack{{Seq: 7, Received: true, Arrival: 5}})
	}
	if got := e.Snapshot(second).AckedBps; got < 7000 || got > 8000 {
		t.Errorf("one packet told of five times counts as %d bit/s, want 8000 at most", got)
	}
}

func TestNeverBelowTheFloor(t *testing.T) {
	var e Estimator
	var seq uint16
	l := newLink(1_000_000)
	l.random = 0.9
	drive(&e, l, &seq, second, 60*second, 1_000_000)
	if s := e.Snapshot(61 * second); s.State != Congested || s.Bps < minBps {
		t.Errorf("at 90 %% loss: %+v", s)
	}
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	var e Estimator
	acks := make([]Ack, 20)
	var seq uint16
	now := second
	if n := testing.AllocsPerRun(100, func() {
		for i := range acks {
			seq++
			now += ms
			e.OnSent(seq, 1200, now, 0)
			acks[i] = Ack{seq, true, now}
		}
		e.OnFeedback(now, acks)
		e.Tick(now)
	}); n != 0 {
		t.Errorf("%v allocations per report", n)
	}
}
