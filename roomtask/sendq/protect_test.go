package sendq

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"mayfly/roomtask/forward"
	"mayfly/roomtask/rtpx"
)

// lossy answers what was written with transport-wide feedback after 20 ms, in which of
// ten packets the first lost ones are missing.
func (r *rig) lossy(got []rtp.Packet, lost int) {
	r.lose(got, func() bool { r.count++; return r.count%10 < lost }, func(*rtp.Packet, bool) {})
}

// lose answers likewise for a path that loses what drop says, and tells each packet's
// fate. Copies of audio are lost as others are, and are not in the feedback.
func (r *rig) lose(got []rtp.Packet, drop func() bool, fate func(p *rtp.Packet, arrived bool)) {
	first, n := uint16(0), 0
	at := clock() + 20*ms
	var chunks []uint16
	var deltas []byte
	for i := range got {
		lost := drop()
		fate(&got[i], !lost)
		e := got[i].GetExtension(4)
		number := uint16(e[0])<<8 | uint16(e[1])
		if n > 0 && number != first+uint16(n) || n == 0 && r.known && int16(number-r.answered) <= 0 {
			continue // a copy
		}
		if n == 0 {
			first = number
		}
		n++
		r.answered, r.known = number, true
		if lost {
			chunks = append(chunks, 1) // a run of one that is missing
			continue
		}
		chunks = append(chunks, 1<<13|1)
		deltas = append(deltas, 0)
		deltas[0] = byte(at % (64 * ms) / (250_000)) // the first counts from the reference time
	}
	if n == 0 {
		return
	}
	fb := twcc(first, uint16(n), chunks, deltas...)
	fb[16], fb[17], fb[18] = byte(at/(64*ms)>>16), byte(at/(64*ms)>>8), byte(at/(64*ms))
	r.s.TransportFeedback(fb)
}

// TestAudioIsProtectedByTheLossOfItsPath: the distance follows the feedback within a
// second or two, and each subscriber's is its own.
func TestAudioIsProtectedByTheLossOfItsPath(t *testing.T) {
	for _, c := range []struct {
		lost, blocks int
		pt           uint8
	}{{0, 1, ptOpus}, {3, 3, 63}} {
		inBubble(t, func(t *testing.T, r *rig) {
			ann := r.publisher("ann")
			out := r.wire.audioOut(0)
			out.REDPT = 63
			r.s.SetSeat(0, out, nil)
			r.assign(0, Assignment{Audio: ann.mic()})
			var last rtp.Packet
			redundant := int64(0) // bytes beyond the four of what was spoken
			for range 125 {       // 2.5 s
				ann.speak()
				got := r.wire.take()
				if len(got) > 0 {
					last = got[len(got)-1]
				}
				for _, p := range got {
					redundant += int64(len(p.Payload) - 4)
				}
				r.lossy(got, c.lost)
				r.tick(20 * time.Millisecond)
			}
			var blocks [rtpx.MaxREDBlocks]rtpx.REDBlock
			n := 1
			if last.PayloadType == 63 {
				n, _ = rtpx.ParseRED(last.Payload, &blocks)
			}
			if fec := r.s.Snapshot().FECBytes; fec != redundant || fec > 0 != (c.lost > 0) {
				t.Errorf("%d of 10 lost: counted %d bytes of former packets, sent %d", c.lost, fec, redundant)
			}
			if last.PayloadType != c.pt || n != c.blocks {
				t.Errorf("%d of 10 lost: payload type %d with %d blocks, want %d with %d", c.lost, last.PayloadType, n, c.pt, c.blocks)
			}
		})
	}
}

// TestEncoderHearsOfAReceiverWithoutRED: its loss is in the reports to the publisher,
// and that of a receiver that has RED is not.
func TestEncoderHearsOfAReceiverWithoutRED(t *testing.T) {
	for _, c := range []struct{ red, want uint8 }{{0, 12}, {63, 0}} { // of 256: 5 %
		inBubble(t, func(t *testing.T, r *rig) {
			ann := r.publisher("ann")
			out := r.wire.audioOut(0)
			out.REDPT = c.red
			r.s.SetSeat(0, out, nil)
			r.assign(0, Assignment{Audio: ann.mic()})
			for i := range 300 {
				ann.speak()
				r.lose(r.wire.take(), func() bool { return i%20 == 0 }, func(*rtp.Packet, bool) {})
				r.tick(20 * time.Millisecond)
			}
			r.pass(0)
			ann.mu.Lock()
			defer ann.mu.Unlock()
			if got := ann.told[ann.base()+8]; got < c.want || got > c.want+4 {
				t.Errorf("receiver with RED %d: the encoder was told of %d/256, want %d", c.red, got, c.want)
			}
		})
	}
}

// note keeps the fraction lost of the last report about each stream.
func (p *publisher) note(k rtcp.Packet) {
	if rr, ok := k.(*rtcp.ReceiverReport); ok {
		for _, b := range rr.Reports {
			p.told[b.SSRC] = b.FractionLost
		}
	}
}

// TestResidualLossOfSound loses packets at random, and counts what a receiver that
// reads the redundancy still misses once the protection has settled: p³ with two
// packets repeated, p² with one. One without RED has copies where much is lost.
func TestResidualLossOfSound(t *testing.T) {
	for _, c := range []struct {
		red        uint8
		loss, most float64
	}{{63, 0, 0}, {63, 0.05, 0.006}, {63, 0.15, 0.008}, {63, 0.30, 0.035}, {0, 0, 0}, {0, 0.05, 0.06}, {0, 0.15, 0.008}, {0, 0.30, 0.035}} {
		inBubble(t, func(t *testing.T, r *rig) {
			ann := r.publisher("ann")
			out := r.wire.audioOut(0)
			out.REDPT = c.red
			r.s.SetSeat(0, out, nil)
			r.assign(0, Assignment{Audio: ann.mic()})
			rng := rand.New(rand.NewPCG(1, 2))
			sent, heard := map[uint32]bool{}, map[uint32]bool{}
			first := map[uint16][]byte{} // by sequence number
			for i := range 3000 {        // a minute, of which the first 3 s do not count
				ann.speak()
				got := r.wire.take()
				r.lose(got, func() bool { return rng.Float64() < c.loss }, func(p *rtp.Packet, arrived bool) {
					raw, err := p.Marshal()
					if err != nil {
						t.Fatal(err)
					}
					if of, again := first[p.SequenceNumber]; !again {
						first[p.SequenceNumber] = raw
					} else if diff := cmp.Diff(of, raw); diff != "" {
						t.Fatalf("a copy differs, which SRTP must not be given:\n%s", diff)
					}
					if i >= 150 {
						sent[p.Timestamp] = true
					}
					var blocks [rtpx.MaxREDBlocks]rtpx.REDBlock
					n := 1
					if p.PayloadType == 63 {
						n, _ = rtpx.ParseRED(p.Payload, &blocks)
					}
					for _, b := range blocks[:n] {
						if arrived {
							heard[p.Timestamp-uint32(b.TSOffset)] = true
						}
					}
				})
				r.tick(20 * time.Millisecond)
			}
			missed := 0
			for ts := range sent {
				if !heard[ts] {
					missed++
				}
			}
			ratio := float64(missed) / float64(len(sent))
			t.Logf("RED %d: %.0f %% lost on the way, %.2f %% of the sound is missing", c.red, 100*c.loss, 100*ratio)
			if len(sent) < 2800 || ratio > c.most {
				t.Errorf("%d of %d missing with %.0f %% lost, want at most %.1f %%", missed, len(sent), 100*c.loss, 100*c.most)
			}
		})
	}
}

// TestCopiesWaitForTheQueue: what a full queue loses is not made more.
func TestCopiesWaitForTheQueue(t *testing.T) {
	for _, c := range []struct {
		loss, before float64
		crowded      bool
		want         int
	}{
		{0, 0, false, 0}, {0.05, 0.05, false, 0}, {0.15, 0, false, 0}, {0, 0.15, false, 0},
		{0.15, 0.15, false, forward.MaxRED}, {0.15, 0.15, true, 0},
	} {
		l := &line{lossBefore: c.before}
		if got := l.copiesFor(c.loss, c.crowded, second); got != c.want {
			t.Errorf("loss %v after %v, crowded %v: %d copies, want %d", c.loss, c.before, c.crowded, got, c.want)
		}
	}
	for _, repeat := range []int{0, 1, 2} {
		if got := pathLoss(missedOf(0.15, repeat), repeat); math.Abs(got-0.15) > 1e-9 {
			t.Errorf("15 %% lost with %d copies is told as %v", repeat, got)
		}
	}
}

// TestCopiesDoNotAllocate, once they are wanted.
func TestCopiesDoNotAllocate(t *testing.T) {
	var c copies
	h := &rtp.Header{Version: 2, SSRC: 7, Extension: true, ExtensionProfile: rtp.ExtensionProfileOneByte}
	if err := h.SetExtension(4, []byte{1, 2}); err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, 160)
	for range 4 {
		c.keep(h, payload, 1, 1)
	}
	if n := testing.AllocsPerRun(1000, func() { c.keep(h, payload, 2, 2) }); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
	if c.keep(h, make([]byte, maxCopied), 3, 3); c.before(1).payload != nil {
		t.Error("a packet larger than the room was kept")
	}
}
