package sendq

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mayfly/test/linksim"
)

// These play a whole subscriber, the real Sender with its estimator, allocator, pacer and
// probes, over a path on the bubble's time: one who sees a screen and three cameras and
// hears everybody. Each draws out/linksim/<name>.svg.

// episode is what happened in a stretch of a scenario.
type episode struct {
	switches  int // of layers, pauses among them
	paused    int // moments, of all of the seats
	audioLost int
	audioGot  int
	// crowdedOut is the audio that was lost because the queue was full, and not to the
	// path's own losses.
	crowdedOut int
	bytes      int64   // that arrived
	queue      []int64 // ms, each 100 ms
	lowest     int64   // estimate
	highest    int64
	sum, n     int64
}

func (e *episode) queue95() int64 {
	q := slices.Sorted(slices.Values(e.queue))
	return q[len(q)*95/100]
}

func (e *episode) mean() int64 { return e.sum / max(1, e.n) }

// session is a call over a bottleneck, watched.
type session struct {
	*rig
	b      *bottleneck
	steps  []func()
	flow   linksim.Flow    // its points are what is drawn
	others []*linksim.Flow // drawn beside it
	layers [4]int
	now    *episode
	ticks  int
}

func newSession(r *rig, bps int64) *session {
	s := &session{rig: r, b: newBottleneck(bps), now: &episode{}}
	s.steps = append(r.call(s.b), s.watch)
	return s
}

// watch looks at the call each 100 ms.
func (s *session) watch() {
	if s.ticks++; s.ticks%5 != 0 {
		return
	}
	snap, e := s.s.Snapshot(), s.now
	for i, st := range snap.Seats {
		if st.Layer != s.layers[i] {
			e.switches++
			s.layers[i] = st.Layer
		}
		if st.Layer < 0 {
			e.paused++
		}
	}
	sum := s.b.take()
	lost, got := audioLost(sum)
	e.audioLost, e.audioGot = e.audioLost+lost, e.audioGot+got
	var bytes int64
	for _, p := range sum {
		bytes += p.bytes
	}
	e.bytes += bytes
	for seat := range 4 {
		if p := sum[uint32(100*seat+1)]; p != nil {
			e.crowdedOut += p.overflow
		}
	}
	at, bps := clock(), snap.Path.Bps
	capacity, queue := s.b.line(at)
	if e.n == 0 || bps < e.lowest {
		e.lowest = bps
	}
	e.highest, e.sum, e.n = max(e.highest, bps), e.sum+bps, e.n+1
	e.queue = append(e.queue, queue/ms)
	s.flow.Points = append(s.flow.Points, linksim.Point{At: at, Estimate: bps, Received: bytes * 80, Capacity: capacity, Queue: queue})
}

// run lets d pass and returns what happened.
func (s *session) run(d time.Duration) *episode {
	s.now = &episode{}
	s.tick(d, s.steps...)
	e := s.now
	s.t.Logf("%3.0f s: estimate %d (%d…%d), %d switches, paused %d, audio lost %d of %d, queue p95 %d ms, layers %v",
		d.Seconds(), e.mean(), e.lowest, e.highest, e.switches, e.paused, e.audioLost, e.audioLost+e.audioGot, e.queue95(), s.layers)
	return e
}

// until lets time pass until ok, and returns how long it took, at most d.
func (s *session) until(d time.Duration, ok func() bool) time.Duration {
	s.now = &episode{}
	var took time.Duration
	for ; took < d && !ok(); took += 100 * time.Millisecond {
		s.tick(100*time.Millisecond, s.steps...)
	}
	return took
}

// shown is how many videos are sent.
func (s *session) shown() (n int) {
	for _, st := range s.s.Snapshot().Seats {
		if st.Layer >= 0 {
			n++
		}
	}
	return n
}

func (s *session) draw() {
	s.t.Helper()
	dir := filepath.Join("..", "..", "out", "linksim")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, strings.ReplaceAll(s.t.Name(), "/", "_")+".svg"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	if err := linksim.WriteSVG(f, s.t.Name(), append([]*linksim.Flow{&s.flow}, s.others...)...); err != nil {
		s.t.Fatal(err)
	}
}

func inSession(t *testing.T, bps int64, f func(t *testing.T, s *session)) {
	inBubble(t, func(t *testing.T, r *rig) {
		s := newSession(r, bps)
		f(t, s)
		s.draw()
	})
}

func (s *session) noAudioLost(e *episode, what string) {
	s.t.Helper()
	if e.audioLost > 0 {
		s.t.Errorf("%s: %d of %d audio packets lost", what, e.audioLost, e.audioLost+e.audioGot)
	}
}

func TestSessionOpens(t *testing.T) {
	inSession(t, 5_000_000, func(t *testing.T, s *session) {
		if took := s.until(10*time.Second, func() bool { return s.shown() == 4 }); took > time.Second {
			t.Errorf("four videos are shown after %v", took)
		}
		if took := s.until(10*time.Second, s.allWanted); took > 3*time.Second {
			t.Errorf("all layers are there after %v more", took)
		}
		e := s.run(20 * time.Second)
		s.noAudioLost(e, "on a wide path")
		if e.switches > 0 || e.queue95() > 30 {
			t.Errorf("%d switches, queue of %d ms on a wide path", e.switches, e.queue95())
		}
	})
}

func TestSessionOnACapacityThatSteps(t *testing.T) {
	inSession(t, 5_000_000, func(t *testing.T, s *session) {
		s.run(10 * time.Second)
		s.b.set(300_000)
		if took := s.until(5*time.Second, func() bool { return s.shown() <= 1 }); took > 2*time.Second {
			t.Errorf("video is shed after %v", took)
		}
		s.run(2 * time.Second)
		e := s.run(20 * time.Second)
		s.noAudioLost(e, "at 300 kbit/s")
		if e.queue95() > 120 || e.switches > 4 {
			t.Errorf("at 300 kbit/s: queue of %d ms, %d switches in 20 s", e.queue95(), e.switches)
		}
		s.b.set(5_000_000)
		took := s.until(30*time.Second, func() bool { return s.shown() == 4 })
		t.Logf("all videos are back after %v", took)
		if took > 10*time.Second {
			t.Errorf("all videos are back after %v", took)
		}
		more := s.until(30*time.Second, s.allWanted)
		t.Logf("with all layers after %v more", more)
		if more > 10*time.Second {
			t.Errorf("all layers are back after %v more", more)
		}
		s.noAudioLost(s.run(10*time.Second), "after")
	})
}

func TestSessionOnHardlyAnyPath(t *testing.T) {
	inSession(t, 3_000_000, func(t *testing.T, s *session) {
		s.run(10 * time.Second)
		s.b.set(100_000)
		if took := s.until(5*time.Second, func() bool { return s.shown() == 0 }); took > 2*time.Second {
			t.Errorf("video is shed after %v", took)
		}
		s.run(3 * time.Second)
		e := s.run(20 * time.Second)
		s.noAudioLost(e, "at 100 kbit/s")
		if e.queue95() > 150 {
			t.Errorf("at 100 kbit/s: queue of %d ms", e.queue95())
		}
		s.b.set(3_000_000)
		took := s.until(30*time.Second, func() bool { return s.shown() == 4 })
		t.Logf("all videos are back after %v", took)
		if took > 10*time.Second {
			t.Errorf("all videos are back after %v", took)
		}
	})
}

// TestSessionOfAStarvedReceiver: the browser reads nothing for 300 ms of each second, on
// a path with room. Nothing is taken from it.
func TestSessionOfAStarvedReceiver(t *testing.T) {
	inSession(t, 5_000_000, func(t *testing.T, s *session) {
		s.run(10 * time.Second)
		begun := clock()
		s.b.change(func() {
			s.b.pause = func(at int64) int64 { return max(at, at-(at-begun)%second+300*ms) }
		})
		e := s.run(30 * time.Second)
		s.noAudioLost(e, "while it starves")
		if e.paused > 0 || e.switches > 2 {
			t.Errorf("paused %d moments, %d switches", e.paused, e.switches)
		}
		s.b.change(func() { s.b.pause = nil })
		if took := s.until(10*time.Second, s.allWanted); took > 2500*time.Millisecond {
			t.Errorf("all is back after %v", took)
		}
	})
}

// TestSessionUnderLossAndNoise counts the switches of the middle one of three runs: goroutines
// take their turns in an order of their own, and one run in a hundred takes another course.
func TestSessionUnderLossAndNoise(t *testing.T) {
	for _, c := range []struct {
		name      string
		loss, bad float64
		switches  int // in a minute, of four videos
	}{{"noise", 0, 0, 2}, {"loss 5", 0.05, 0, 6}, {"loss 10", 0.1, 0, 8}, {"bursts", 0, 0.005, 20}} {
		t.Run(c.name, func(t *testing.T) {
			var switches []int
			for range 3 {
				inSession(t, 1_500_000, func(t *testing.T, s *session) {
					s.b.change(func() { s.b.loss, s.b.bad = c.loss, c.bad })
					s.run(20 * time.Second)
					noise := rand.New(rand.NewPCG(2, 2))
					s.steps = append(s.steps, func() { s.b.set(int64(1_500_000 * (0.95 + 0.1*noise.Float64()))) })
					e := s.run(60 * time.Second)
					if e.queue95() > 100 || e.mean() < 900_000 {
						t.Errorf("queue of %d ms, estimate %d", e.queue95(), e.mean())
					}
					if c.loss+c.bad == 0 {
						s.noAudioLost(e, c.name)
					}
					switches = append(switches, e.switches)
				})
			}
			if slices.Sort(switches); switches[1] > c.switches {
				t.Errorf("%v switches in a minute, want %d", switches, c.switches)
			}
		})
	}
}

func TestSessionOnABloatedPath(t *testing.T) {
	inSession(t, 800_000, func(t *testing.T, s *session) {
		s.b.change(func() { s.b.queue = 2 * second })
		s.run(10 * time.Second)
		s.b.set(400_000)
		s.run(5 * time.Second)
		e := s.run(30 * time.Second)
		s.noAudioLost(e, "with a queue of 2 s")
		if e.queue95() > 120 || e.switches > 6 {
			t.Errorf("queue of %d ms, %d switches in 30 s", e.queue95(), e.switches)
		}
	})
}
