package sendq

import (
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtp"

	"mayfly/roomtask/alloc"
	"mayfly/roomtask/rtpx"
)

// TestGovernor runs it against tasks that have time for a share of what is wanted.
func TestGovernor(t *testing.T) {
	for _, c := range []struct {
		name     string
		capacity float64 // of the wanted pictures; below 0 there is no time for all the sound
	}{
		{"enough", 1.05}, {"nearly enough", 0.93}, {"half", 0.5}, {"a little", 0.12}, {"no picture", 0}, {"not even the sound", -0.1},
	} {
		var g governor
		most, raises, late := 0.0, 0, 0
		const run = 10 * 60 * second
		for now := second; now < run; now += lookEvery {
			sent := 1 - g.withheld
			share := 0.0
			if sent > c.capacity && (sent > 0 || c.capacity < 0) && g.withheld <= 1 {
				share = 1
				late++
			}
			before := g.withheld
			g.look(share, now)
			if g.withheld < before {
				raises++
			}
			if now > run/10 {
				most = max(most, g.withheld)
			}
		}
		sent := 1 - g.withheld
		switch {
		case c.capacity >= 1 && (g.withheld != 0 || raises > 0):
			t.Errorf("%s: %v is withheld", c.name, g.withheld)
		case c.capacity < 0 && g.withheld < 1:
			t.Errorf("%s: pictures are sent", c.name)
		case c.capacity < 1 && c.capacity >= 0 && (sent > c.capacity+raiseBy || sent < c.capacity-3*raiseBy):
			t.Errorf("%s: %.2f is sent", c.name, sent)
		}
		// Past the beginning, a raise that is too much is tried about once a minute.
		if limit := int(run / raiseMost * 6); late > limit+40 {
			t.Errorf("%s: late in %d of %d looks, want at most %d", c.name, late, run/lookEvery, limit+40)
		}
		t.Logf("%s: %.2f is sent, late in %.2f %% of the time, %d raises", c.name, sent, 100*float64(late)/float64(run/lookEvery), raises)
	}
}

// TestGovernorForgives has the machine do something else for half a second, now and then.
func TestGovernorForgives(t *testing.T) {
	var g governor
	for i := range 1000 {
		late := 0.0
		if i%8 < 2 {
			late = 1
		}
		if g.look(late, second+int64(i)*lookEvery); g.withheld > 0 {
			t.Fatalf("%v is withheld at look %d", g.withheld, i)
		}
	}
}

// TestGovernorLetsGo has the processor back after a while: everything is sent again.
func TestGovernorLetsGo(t *testing.T) {
	var g governor
	now := second
	for ; now < 8*second; now += lookEvery {
		g.look(1, now)
	}
	if g.withheld != onlySpeakers {
		t.Fatalf("%v is withheld after 7 s", g.withheld)
	}
	begun := now
	for ; g.withheld > 0 && now < begun+5*60*second; now += lookEvery {
		g.look(0, now)
	}
	if took := now - begun; took > 50*second {
		t.Errorf("all is sent again after %d s", took/second)
	}
}

// call is what the test and the writers share.
type call struct {
	sync.Mutex
	cost   time.Duration // of a packet
	spoken []int64       // when each word was said
}

// lateness is what a viewer's lines are written to by a worker that takes its time: each
// packet costs it some.
type lateness struct {
	*call
	words  int
	late   []int64
	frames int
}

func (l *lateness) WriteRTP(h *rtp.Header, payload []byte) (int, error) {
	l.Lock()
	cost := l.cost
	l.Unlock()
	time.Sleep(cost)
	l.Lock()
	defer l.Unlock()
	if h.PayloadType == ptOpus {
		l.late = append(l.late, clock()-l.spoken[l.words])
		l.words++
	} else {
		l.frames++
	}
	return h.MarshalSize() + len(payload), nil
}

// TestOverload gives one worker two thirds of the time that twenty viewers of two cameras
// and a voice take: nobody misses a word, or hears it late, some pictures are withheld for
// that reason, and all of them come back when there is time again.
func TestOverload(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	synctest.Test(t, func(t *testing.T) {
		const viewers = 20
		call := &call{cost: 500 * time.Microsecond} // 2000 packets a second; 3000 are wanted
		r := &rig{t: t, pool: rtpx.NewPool(64 << 20), wire: &wire{}}
		ann, bob, wheel := r.publisher("ann"), r.publisher("bob"), NewWheel()
		var told []float64
		wheel.Overloaded = func(w float64) { told = append(told, w) }
		all, lines := make([]*Sender, viewers), make([]*lateness, viewers)
		for i := range all {
			lines[i] = &lateness{call: call}
			all[i] = New(Config{Now: clock, WriteRTCP: r.wire.writeRTCP, Wheel: wheel})
			for n, p := range []*publisher{ann, bob} {
				audio, video := r.wire.audioOut(n), r.wire.videoOut(n)
				audio.W, video.W = lines[i], lines[i]
				a := Assignment{Video: p.camera(), Width: 320, Height: 180, Speaking: n == 0}
				if n == 0 {
					a.Audio = ann.mic()
				}
				all[i].SetSeat(n, audio, video)
				all[i].Assign(n, a)
			}
		}
		r.s = all[0]
		asked := map[uint32]int{}
		second := func() (frames int) {
			for range 50 {
				r.tick(20*time.Millisecond, func() {
					for _, p := range r.pubs {
						n := p.plis(p.base())
						p.frame(0, n > asked[p.base()] || len(call.spoken) == 0, 400)
						asked[p.base()] = n
					}
					call.Lock()
					call.spoken = append(call.spoken, clock())
					call.Unlock()
					ann.speak()
					for _, s := range all[1:] {
						s.Tick(clock())
					}
				})
			}
			call.Lock()
			defer call.Unlock()
			for _, l := range lines {
				frames += l.frames
				l.frames = 0
			}
			return frames
		}
		for range 10 { // until it has found what it has time for
			second()
		}
		call.Lock()
		for _, l := range lines {
			l.late = l.late[:0]
		}
		call.Unlock()
		frames, paused := 0, 0
		for range 20 {
			frames += second()
		}
		for i, s := range all {
			call.Lock()
			slices.Sort(lines[i].late)
			if n := len(lines[i].late); n < 990 || lines[i].late[n/2] > 30*ms || lines[i].late[n*99/100] > 150*ms {
				t.Errorf("viewer %d heard %d words of 1000, late by %d ms in the median, %d at p99", i, n, lines[i].late[n/2]/ms, lines[i].late[n*99/100]/ms)
			}
			call.Unlock()
			for _, seat := range s.Snapshot().Seats {
				if seat.Paused == alloc.ReasonOverload {
					paused++
				}
			}
		}
		if share := float64(frames) / (20 * viewers * 100); share < 0.25 || share > 0.55 || paused < viewers/3 {
			t.Errorf("%.2f of the pictures came, %d seats are paused for it", share, paused)
		}
		call.Lock()
		call.cost = 200 * time.Microsecond
		call.Unlock()
		back := 0
		for ; back < 120 && second() < viewers*100; back++ {
		}
		if back > 90 || wheel.Withheld() != 0 {
			t.Errorf("%v is withheld %d s after there is time for everything", wheel.Withheld(), back)
		}
		if len(told) == 0 || told[len(told)-1] != 0 || math.Abs(told[0]-0.3) > 0.001 {
			t.Errorf("told %v", told)
		}
		t.Logf("%.2f of the pictures came; all after %d s with time; told %.2f", float64(frames)/(20*viewers*100), back, told)
		for _, s := range all {
			s.Close()
		}
		ann.in.Close()
		bob.in.Close()
	})
}
