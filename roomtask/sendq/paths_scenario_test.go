package sendq

import (
	"fmt"
	"testing"
	"time"

	"mayfly/test/linksim"
)

// These play whole senders over paths of any length and with much loss, and two of them
// side by side on one link. What the path itself loses at random is not counted as lost:
// audio must not be crowded out of a queue.

// perMinute is how often layers are switched in a minute, of all four videos.
func (e *episode) perMinute() float64 { return float64(e.switches) / float64(e.n) * 600 }

// bps is the rate that arrived.
func (e *episode) bps() int64 { return e.bytes * 80 / max(1, e.n) }

// bounds are what a stretch of a session must keep to. Zero = not checked, but crowdedOut.
type bounds struct {
	perMinute  float64
	highest    int64 // the estimate never above
	arrived    int64 // at least, bits per second
	queue95    int64 // ms, at most
	crowdedOut int   // packets of audio, at most
}

// keeps says what of b a stretch did not keep to, "" for nothing.
func (s *session) keeps(what string, e *episode, b bounds) (missed string) {
	s.t.Logf("%-14s estimate ≤ %d, %d bit/s arrived, %.1f switches a minute, queue p95 %d ms, audio crowded out %d of %d",
		what, e.highest, e.bps(), e.perMinute(), e.queue95(), e.crowdedOut, e.audioLost+e.audioGot)
	switch {
	case b.perMinute > 0 && e.perMinute() > b.perMinute:
		return fmt.Sprintf("%s: %.1f switches a minute; ", what, e.perMinute())
	case b.highest > 0 && e.highest > b.highest:
		return fmt.Sprintf("%s: the estimate rose to %d; ", what, e.highest)
	case e.bps() < b.arrived:
		return fmt.Sprintf("%s: %d bit/s arrived; ", what, e.bps())
	case b.queue95 > 0 && e.queue95() > b.queue95:
		return fmt.Sprintf("%s: queue of %d ms; ", what, e.queue95())
	case e.crowdedOut > b.crowdedOut:
		return fmt.Sprintf("%s: %d packets of audio crowded out; ", what, e.crowdedOut)
	}
	return ""
}

// within lets time pass until ok, and says if that was more than limit, "" if not.
func (s *session) within(what string, limit time.Duration, ok func() bool) (missed string) {
	took := s.until(2*limit, ok)
	if s.t.Logf("%-14s %v", what, took); took > limit {
		return fmt.Sprintf("%s after %v; ", what, took)
	}
	return ""
}

// some are all cases, or with -short the first: the race detector, which is slow here, finds
// in one what there is in all.
func some[T any](all []T) []T {
	if testing.Short() {
		return all[:1]
	}
	return all
}

// mostly plays a scenario that says what it did not keep to. Goroutines take their turns in
// an order of their own, and which probes get through a lossy path is chance, so one run in
// some tens takes another course: two of three must not.
func mostly(t *testing.T, play func(t *testing.T) (missed string)) {
	t.Helper()
	first := play(t)
	if first == "" {
		return
	}
	t.Logf("once: %s", first)
	for range 2 {
		if again := play(t); again != "" {
			t.Errorf("twice of three: %s and %s", first, again)
		}
	}
}

func (s *session) showing(n int) func() bool { return func() bool { return s.shown() >= n } }
func (s *session) only(n int) func() bool    { return func() bool { return s.shown() <= n } }

// TestSessionOverRoundTrips: the call opens, sheds its videos and gets them back, however
// far away the viewer is.
func TestSessionOverRoundTrips(t *testing.T) {
	for _, rtt := range some([]time.Duration{400, 10, 50, 100, 200}) {
		rtt *= time.Millisecond
		t.Run(fmt.Sprint(rtt.Milliseconds()), func(t *testing.T) {
			mostly(t, func(t *testing.T) string { return overRoundTrip(t, rtt) })
		})
	}
}

func overRoundTrip(t *testing.T, rtt time.Duration) (missed string) {
	inSession(t, 5_000_000, func(_ *testing.T, s *session) {
		s.b.change(func() { s.b.delay = int64(rtt) / 2 })
		missed += s.within("four videos", time.Second+rtt, s.showing(4))
		missed += s.within("all layers", 4*time.Second+6*rtt, s.allWanted)
		missed += s.keeps("5 M", s.run(10*time.Second), bounds{perMinute: 18, highest: 5_500_000, arrived: 1_500_000, queue95: 60})
		s.b.set(300_000)
		missed += s.within("shed", 1500*time.Millisecond+2*rtt, s.only(1))
		// A queue that was full before the cut drops whatever comes.
		missed += s.keeps("settling", s.run(3*time.Second), bounds{crowdedOut: 20})
		missed += s.keeps("300 k", s.run(15*time.Second), bounds{perMinute: 8, highest: 360_000, arrived: 80_000, queue95: 60})
		s.b.set(5_000_000)
		missed += s.within("videos back", 10*time.Second, s.showing(4))
		missed += s.within("layers back", 10*time.Second, s.allWanted)
		missed += s.keeps("after", s.run(10*time.Second), bounds{perMinute: 18, highest: 5_500_000, arrived: 1_500_000, queue95: 60})
	})
	return missed
}

// TestSessionUnderHeavyLoss: what the path loses by itself takes neither the videos away nor
// the means to find out what it carries, when that changes.
func TestSessionUnderHeavyLoss(t *testing.T) {
	type path struct {
		name      string
		loss, bad float64 // bad: the chance of a burst to begin, of ten packets in the mean
		arrived   int64
	}
	for _, c := range some([]path{
		{"20", 0.20, 0, 600_000},
		{"15", 0.15, 0, 600_000},
		{"bursts of 6", 0, 0.006, 500_000},
		{"bursts of 17", 0, 0.02, 500_000},
	}) {
		t.Run(c.name, func(t *testing.T) {
			mostly(t, func(t *testing.T) string { return underLoss(t, c.loss, c.bad, c.arrived) })
		})
	}
}

// underLoss plays a path that becomes narrow and wide again. What of the narrow one is not
// lost is more than what leaves it without loss, so the estimate may be above its rate.
func underLoss(t *testing.T, loss, bad float64, arrived int64) (missed string) {
	inSession(t, 1_500_000, func(_ *testing.T, s *session) {
		s.b.change(func() { s.b.loss, s.b.bad = loss, bad })
		missed += s.within("four videos", 2*time.Second, s.showing(4))
		s.run(15 * time.Second)
		missed += s.keeps("1.5 M", s.run(40*time.Second), bounds{perMinute: 24, highest: 3_000_000, arrived: arrived, queue95: 100})
		s.b.set(300_000)
		missed += s.within("shed", 3*time.Second, s.only(2))
		missed += s.keeps("settling", s.run(3*time.Second), bounds{crowdedOut: 60})
		missed += s.keeps("300 k", s.run(20*time.Second), bounds{perMinute: 24, highest: 700_000, arrived: 60_000, queue95: 150})
		s.b.set(1_500_000)
		missed += s.within("videos back", 15*time.Second, s.showing(4))
	})
	return missed
}

// joined lets another viewer of the same call come in, over the same link.
func (s *session) joined() *session {
	w := &wire{}
	o := &session{rig: &rig{t: s.t, pool: s.pool, wire: w, pubs: s.pubs}, b: s.b.beside(), now: &episode{}}
	o.s = New(Config{Now: clock, WriteRTCP: w.writeRTCP, Wheel: s.s.cfg.Wheel})
	s.steps = append(s.steps, s.attend(w, o.s, o.b), func() { o.s.Tick(clock()) }, o.watch)
	return o
}

// TestSessionsShareALink: a second viewer comes in on a link that the first one fills. They
// come to terms: none starves, both together use the link, and audio is spared in both.
// Layers are coarse, a step of a camera is 350 kbit/s, so shares are not equal to the bit.
func TestSessionsShareALink(t *testing.T) {
	for _, c := range some([]share{{1_000_000, 0.8, 0.7, 50}, {2_000_000, 0.8, 0.3, 50}, {3_000_000, 0.8, 0.2, 50}}) {
		t.Run(fmt.Sprint(c.bps/1000), func(t *testing.T) {
			mostly(t, c.play)
		})
	}
}

// share is what two viewers of a link of bps keep to: Jain's index at least, and at most so
// much of each one's videos paused and so many switches a minute.
type share struct {
	bps                     int64
	jain, paused, perMinute float64
}

// play lets both be there for a minute, and says what they did not keep to.
func (c *share) play(t *testing.T) (missed string) {
	inSession(t, c.bps, func(t *testing.T, s *session) {
		s.run(20 * time.Second)
		o := s.joined()
		defer o.s.Close()
		s.others = []*linksim.Flow{&o.flow}
		missed += s.within("second sees", 3*time.Second, o.showing(1))
		s.run(20 * time.Second)
		o.now = &episode{}
		e, f := s.run(60*time.Second), o.now
		x, y := float64(e.bps()), float64(f.bps())
		jain := (x + y) * (x + y) / (2 * (x*x + y*y))
		t.Logf("fairness %.3f, together %.0f, paused %.2f and %.2f, %.0f and %.0f switches a minute, queue p95 %d ms, audio crowded out %d and %d, estimates ≤ %d and %d",
			jain, x+y, e.pausedShare(), f.pausedShare(), e.perMinute(), f.perMinute(), e.queue95(), e.crowdedOut, f.crowdedOut, e.highest, f.highest)
		switch {
		case jain < c.jain:
			missed += fmt.Sprintf("fairness %.3f", jain)
		case int64(x+y) < c.bps*60/100:
			missed += fmt.Sprintf("%.0f bit/s together", x+y)
		case max(e.pausedShare(), f.pausedShare()) > c.paused:
			missed += fmt.Sprintf("%.2f and %.2f of the videos paused", e.pausedShare(), f.pausedShare())
		case max(e.perMinute(), f.perMinute()) > c.perMinute:
			missed += fmt.Sprintf("%.0f and %.0f switches a minute", e.perMinute(), f.perMinute())
		case e.queue95() > 250:
			missed += fmt.Sprintf("queue of %d ms", e.queue95())
		case e.crowdedOut+f.crowdedOut > 40: // of 24,000
			missed += fmt.Sprintf("%d packets of audio crowded out", e.crowdedOut+f.crowdedOut)
		case max(e.highest, f.highest) > c.bps*13/10:
			missed += fmt.Sprintf("estimates of %d and %d", e.highest, f.highest)
		}
	})
	return missed
}

// pausedShare is the share of the four videos that was not sent, in the mean.
func (e *episode) pausedShare() float64 { return float64(e.paused) / float64(4*e.n) }
