package sendq

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"mayfly/roomtask/rtpx"
)

// lossy answers what was written with transport-wide feedback after 20 ms, in which of
// ten packets the first lost ones are missing.
func (r *rig) lossy(got []rtp.Packet, lost int) {
	r.lose(got, func() bool { r.count++; return r.count%10 < lost }, func(*rtp.Packet, bool) {})
}

// lose answers likewise for a path that loses what drop says, and tells each packet's fate.
func (r *rig) lose(got []rtp.Packet, drop func() bool, fate func(p *rtp.Packet, arrived bool)) {
	if len(got) == 0 {
		return
	}
	e := got[0].GetExtension(4)
	at := clock() + 20*ms
	var chunks []uint16
	var deltas []byte
	for i := range got {
		lost := drop()
		fate(&got[i], !lost)
		if lost {
			chunks = append(chunks, 1) // a run of one that is missing
			continue
		}
		chunks = append(chunks, 1<<13|1)
		deltas = append(deltas, 0)
		deltas[0] = byte(at % (64 * ms) / (250_000)) // the first counts from the reference time
	}
	fb := twcc(uint16(e[0])<<8|uint16(e[1]), uint16(len(got)), chunks, deltas...)
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
	for _, red := range []uint8{0, 63} {
		inBubble(t, func(t *testing.T, r *rig) {
			ann := r.publisher("ann")
			out := r.wire.audioOut(0)
			out.REDPT = red
			r.s.SetSeat(0, out, nil)
			r.assign(0, Assignment{Audio: ann.mic()})
			for range 150 {
				ann.speak()
				r.lossy(r.wire.take(), 3)
				r.tick(20 * time.Millisecond)
			}
			r.pass(0)
			want := uint8(0)
			if red == 0 {
				want = 60 // of 256, a little less than 30 %
			}
			ann.mu.Lock()
			defer ann.mu.Unlock()
			if got := ann.told[ann.base()+8]; got < want || got > want+30 {
				t.Errorf("receiver with RED %d: the encoder was told of %d/256", red, got)
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
// packets repeated, p² with one.
func TestResidualLossOfSound(t *testing.T) {
	for _, c := range []struct{ loss, most float64 }{{0, 0}, {0.05, 0.006}, {0.15, 0.008}, {0.30, 0.035}} {
		inBubble(t, func(t *testing.T, r *rig) {
			ann := r.publisher("ann")
			out := r.wire.audioOut(0)
			out.REDPT = 63
			r.s.SetSeat(0, out, nil)
			r.assign(0, Assignment{Audio: ann.mic()})
			rng := rand.New(rand.NewPCG(1, 2))
			sent, heard := map[uint32]bool{}, map[uint32]bool{}
			for i := range 3000 { // a minute, of which the first 3 s do not count
				ann.speak()
				got := r.wire.take()
				r.lose(got, func() bool { return rng.Float64() < c.loss }, func(p *rtp.Packet, arrived bool) {
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
			t.Logf("%.0f %% lost on the way, %.2f %% of the sound is missing", 100*c.loss, 100*ratio)
			if len(sent) < 2800 || ratio > c.most {
				t.Errorf("%d of %d missing with %.0f %% lost, want at most %.1f %%", missed, len(sent), 100*c.loss, 100*c.most)
			}
		})
	}
}
