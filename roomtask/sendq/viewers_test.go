package sendq

import (
	"cmp"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/pion/rtp"

	"mayfly/roomtask/rtpx"
)

// sight is what a viewer is sent of a packet, without what differs by chance: where its
// counts begin, and the numbers of transport-wide feedback.
type sight struct {
	SSRC    uint32
	Seq     uint16
	TS      uint32
	Marker  bool
	Payload string // without the VP8 numbers
	At      time.Duration
}

// sees runs a call of ann's camera for a good viewer, and one on a bad link if bad.
func sees(t *testing.T, bad bool) (got []sight, path string, loser Snapshot) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r := &rig{t: t, pool: rtpx.NewPool(64 << 20), wire: &wire{}}
		r.s = New(Config{Now: clock, WriteRTCP: r.wire.writeRTCP})
		ann := r.publisher("ann")
		n := 0
		steps := []func(){func() { // keyframes come by the clock, whoever asks
			ann.frame(0, n%50 == 0, 375)
			ann.frame(1, n%50 == 25, 1250)
			ann.speak()
			n++
		}, r.wire.through(newBottleneck(5_000_000), r.s)}
		other := &wire{forget: true}
		s2 := New(Config{Now: clock, WriteRTCP: other.writeRTCP, Wheel: r.s.cfg.Wheel})
		for _, v := range []struct {
			s *Sender
			w *wire
		}{{r.s, r.wire}, {s2, other}} {
			v.s.SetSeat(0, v.w.audioOut(0), v.w.numberedOut(0))
			if v.s == r.s || bad {
				v.s.Assign(0, Assignment{Audio: ann.mic(), Video: ann.camera(), Width: 640, Height: 360})
			}
		}
		narrow := newBottleneck(120_000)
		narrow.loss = 0.05
		steps = append(steps, other.through(narrow, s2), func() { s2.Tick(clock()) })
		r.tick(6*time.Second, steps...)
		r.wire.take()
		for range 500 {
			r.tick(20*time.Millisecond, steps...)
			for _, p := range r.wire.take() {
				if p.SSRC != 3 { // probes
					got = append(got, r.sight(p, time.Since(start)))
				}
			}
		}
		// Which of two that come at once goes first is the scheduler's choice.
		slices.SortStableFunc(got, func(a, b sight) int { return cmp.Compare(a.SSRC, b.SSRC) })
		path = r.s.Snapshot().Path.State.String()
		loser = s2.Snapshot()
		r.s.Close()
		s2.Close()
		ann.in.Close()
	})
	return got, path, loser
}

// sight numbers p from the first of its SSRC that was seen.
func (r *rig) sight(p rtp.Packet, at time.Duration) sight {
	if r.first == nil {
		r.first = map[uint32]rtp.Header{}
	}
	first, ok := r.first[p.SSRC]
	if !ok {
		first = p.Header
		r.first[p.SSRC] = first
	}
	payload := p.Payload
	if p.SSRC%100 == 2 {
		payload = payload[6:]
	}
	return sight{p.SSRC, p.SequenceNumber - first.SequenceNumber, p.Timestamp - first.Timestamp, p.Marker, string(payload), at}
}

// TestAViewerOnABadLinkIsNobodyElsesProblem: two viewers of one camera; what the good
// one is sent, and when, does not depend on the other.
func TestAViewerOnABadLinkIsNobodyElsesProblem(t *testing.T) {
	alone, _, _ := sees(t, false)
	together, path, loser := sees(t, true)
	if len(alone) < 900 {
		t.Fatalf("%d packets in 10 s", len(alone))
	}
	if loser.Path.State.String() == "clear" && loser.Seats[0].Layer == 1 {
		t.Fatalf("the bad link is not bad: %+v", loser)
	}
	if diff := gocmp.Diff(alone, together); diff != "" {
		t.Errorf("the good viewer (-alone +beside one on a bad link):\n%.2000s", diff)
	}
	if path != "clear" {
		t.Errorf("the good viewer's path is %s", path)
	}
}
