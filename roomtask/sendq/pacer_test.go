package sendq

import (
	"math/rand/v2"
	"slices"
	"testing"
)

type pkt struct {
	class queueClass
	line  int
	frame uint32
	n     int // of count in the frame
	count int
	size  int
}

type pacerRig struct {
	p       pacer[pkt]
	now     int64
	dropped []pkt
	sent    []pkt
	at      []int64
}

func newPacer(bps int64) *pacerRig {
	r := &pacerRig{now: second}
	r.p.drop = func(k pkt) { r.dropped = append(r.dropped, k) }
	r.p.setRate(bps)
	r.p.at = r.now
	return r
}

func (r *pacerRig) frame(c queueClass, line int, frame uint32, count int) {
	for n := range count {
		r.p.push(c, pkt{c, line, frame, n, count, 1200}, 1200, line, frame)
	}
}

func (r *pacerRig) audio(c queueClass) { r.p.push(c, pkt{class: c, size: 100}, 100, -1, 0) }

// run lets d pass, and sends all that may go.
func (r *pacerRig) run(d int64) {
	for end := r.now + d; ; {
		for {
			w, c, ok := r.p.next(r.now)
			if !ok {
				break
			}
			k := w.item
			if c != k.class {
				panic("another queue")
			}
			r.sent, r.at = append(r.sent, k), append(r.at, r.now)
		}
		w := r.p.wait(r.now)
		if w < 0 || r.now+w > end {
			r.now = end
			return
		}
		r.now += max(w, 1)
	}
}

func TestPacerKeepsTheOrderOfQueues(t *testing.T) {
	r := newPacer(1_000_000)
	for c := numQueues - 1; c >= 0; c-- {
		if c <= queueRTCP {
			r.audio(c)
		} else {
			r.frame(c, int(c), 1, 2)
		}
	}
	r.run(second)
	if len(r.sent) != 3+2*int(numQueues-3) || len(r.dropped) != 0 {
		t.Fatalf("%d sent, %d dropped", len(r.sent), len(r.dropped))
	}
	if !slices.IsSortedFunc(r.sent, func(a, b pkt) int { return int(a.class - b.class) }) {
		t.Errorf("sent in the order %v", r.sent)
	}
}

func TestPacerHasItsRateAndBurst(t *testing.T) {
	for _, bps := range []int64{300_000, 2_000_000, 20_000_000} {
		r := newPacer(bps)
		var frame uint32
		for end := r.now + 2*second; r.now < end; {
			for r.p.videoBytes() < r.p.room()/2 {
				frame++
				r.frame(queueOther, 1, frame, 5)
			}
			r.run(20 * ms)
		}
		got := int64(len(r.sent)) * 1200 * 8 / 2
		if want := bps * 5 / 2; got < want*95/100 || got > want*106/100 {
			t.Errorf("%d bit/s: sent at %d, want 2.5 times", bps, got)
		}
		most := 0
		for i, j := 0, 0; j < len(r.at); j++ {
			for r.at[i] < r.at[j] {
				i++
			}
			most = max(most, j-i+1)
		}
		if most > 11 {
			t.Errorf("%d bit/s: %d packets at once", bps, most)
		}
	}
}

func TestPacerLetsAudioPassAndCountsIt(t *testing.T) {
	r := newPacer(300_000)
	r.frame(queueOther, 1, 1, 40)
	r.run(10 * ms)
	r.sent = nil
	for range 5 {
		r.audio(queueAudio)
	}
	r.run(0)
	if len(r.sent) != 5 {
		t.Fatalf("%d of 5 audio packets went at once", len(r.sent))
	}
	before := r.p.tokens
	r.audio(queueAudio)
	r.run(0)
	if r.p.tokens != before-100 {
		t.Errorf("audio of 100 bytes took %d", before-r.p.tokens)
	}
}

func TestPacerDropsWholeFramesOfTheLeastValuable(t *testing.T) {
	r := newPacer(1_000_000)
	r.audio(queueAudio)
	r.frame(queueSpeaker, 1, 1, 10)
	r.frame(queueOther, 2, 1, 10)
	r.frame(queueProbe, -1, 0, 3)
	r.run(5 * ms) // the speaker's frame has begun
	for f := uint32(2); f < 12; f++ {
		r.frame(queueSpeaker, 1, f, 10)
	}
	for range 1000 {
		r.audio(queueAudio)
	}
	if r.p.videoBytes() > r.p.room() {
		t.Errorf("%d bytes wait, there is room for %d", r.p.videoBytes(), r.p.room())
	}
	probes, others := 0, 0
	for i, k := range r.dropped {
		switch k.class {
		case queueProbe:
			probes++
			if i >= 3 {
				t.Error("a probe was dropped after video")
			}
		case queueOther:
			others++
		case queueSpeaker:
			if others < 10 {
				t.Error("the speaker was dropped while another face waited")
			}
			if k.frame == 1 {
				t.Error("a frame was dropped that had begun")
			}
		default:
			t.Errorf("dropped of queue %d", k.class)
		}
	}
	if probes != 3 {
		t.Errorf("%d probes dropped", probes)
	}
	r.run(10 * second)
	wholeFrames(t, r)
}

// wholeFrames checks that of each frame either all was sent or nothing.
func wholeFrames(t *testing.T, r *pacerRig) {
	t.Helper()
	type id struct {
		line  int
		frame uint32
	}
	got := map[id]int{}
	for _, k := range r.sent {
		if k.class >= queueScreen && k.class < queueProbe {
			got[id{k.line, k.frame}]++
		}
	}
	for _, k := range r.dropped {
		if n := got[id{k.line, k.frame}]; n > 0 && k.class >= queueScreen && k.class < queueProbe {
			t.Errorf("line %d frame %d: %d packets sent, others dropped", k.line, k.frame, n)
		}
	}
}

func TestPacerResendsWithinABudget(t *testing.T) {
	r := newPacer(2_000_000)
	for range 50 {
		r.p.push(queueVideoRTX, pkt{class: queueVideoRTX, line: -1, size: 1200}, 1200, -1, 0)
	}
	r.p.rtx = rtxBudget{at: r.now}
	r.frame(queueOther, 2, 1, 10)
	r.run(100 * ms)
	resent := 0
	for _, k := range r.sent {
		if k.class == queueVideoRTX {
			resent++
		}
	}
	// A quarter of 2 Mbit/s is 6250 bytes in 100 ms.
	if resent < 4 || resent > 7 || len(r.sent)-resent != 10 {
		t.Errorf("%d sent again and %d new", resent, len(r.sent)-resent)
	}
}

// TestPacerUnderLoad: audio never waits nor is dropped, and what waits stays bounded,
// whatever is pushed and whatever the rate does.
func TestPacerUnderLoad(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	r := newPacer(500_000)
	frames := map[int]uint32{}
	audio := 0
	for range 5000 {
		line := rng.IntN(4)
		frames[line]++
		r.frame([]queueClass{queueScreen, queueSpeaker, queuePinned, queueOther}[line], line, frames[line], 1+rng.IntN(8))
		if rng.IntN(2) == 0 {
			r.audio(queueAudio)
			audio++
		}
		if rng.IntN(50) == 0 {
			r.p.setRate(int64(100_000 + rng.IntN(3_000_000)))
		}
		if got := r.p.videoBytes(); got > r.p.room()+12*1200 {
			t.Fatalf("%d bytes wait, room %d", got, r.p.room())
		}
		r.run(rng.Int64N(10 * ms))
		if r.p.queues[queueAudio].len() > 0 {
			t.Fatal("audio waits")
		}
	}
	for _, k := range r.sent {
		if k.class == queueAudio {
			audio--
		}
	}
	if audio != 0 {
		t.Errorf("%d audio packets were not sent", audio)
	}
	wholeFrames(t, r)
	if len(r.dropped) == 0 {
		t.Error("nothing was dropped: the load was none")
	}
}

func TestPacerDoesNotAllocate(t *testing.T) {
	r := newPacer(5_000_000)
	r.sent, r.at = make([]pkt, 0, 1<<16), make([]int64, 0, 1<<16)
	var frame uint32
	if n := testing.AllocsPerRun(100, func() {
		frame++
		r.frame(queueOther, 1, frame, 8)
		r.audio(queueAudio)
		r.run(33 * ms)
	}); n != 0 {
		t.Errorf("%v allocations per frame", n)
	}
}
