package sendq

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/rtcp"

	"mayfly/roomtask/bwe"
)

func TestFeedback(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ann := r.publisher("ann")
		r.s.SetSeat(0, nil, r.wire.videoOut(0))
		r.assign(0, Assignment{Video: ann.camera(), Width: 320, Height: 180})
		ann.frame(0, true, 100)
		r.tick(300*time.Millisecond, func() { ann.frame(0, true, 100) })
		var sr *rtcp.SenderReport
		for _, p := range r.wire.takeRTCP() {
			if p, ok := p.(*rtcp.SenderReport); ok {
				sr = p
			}
		}
		if sr == nil || sr.SSRC != 2 || sr.PacketCount == 0 {
			t.Fatalf("no sender report came with the first packet: %+v", sr)
		}
		sent := clock()
		r.pass(70 * time.Millisecond)
		delay := uint32((clock() - sent) * 65536 / 1e9)
		r.pass(50 * time.Millisecond) // the round trip proper, and what has passed since the report
		gone := clock() - sentAt(sr)
		r.s.Feedback(2, &rtcp.ReceiverReport{Reports: []rtcp.ReceptionReport{
			{SSRC: 2, FractionLost: 64, LastSenderReport: uint32(sr.NTPTime >> 16), Delay: delay},
			{SSRC: 99, FractionLost: 255, LastSenderReport: 5, Delay: 5},
		}})
		r.s.Feedback(2, &rtcp.ReceiverReport{Reports: []rtcp.ReceptionReport{{SSRC: 2, FractionLost: 64, LastSenderReport: ^uint32(0)}}}) // nonsense
		r.wire.take()
		r.tick(300*time.Millisecond, func() { ann.frame(0, false, 100) })
		snap := r.s.Snapshot()
		if want := gone - 70e6; snap.RTT < want-1e6 || snap.RTT > want+1e6 {
			t.Errorf("RTT %d ms, want %d", snap.RTT/1e6, want/1e6)
		}
		if snap.Loss != 0.25 || snap.Seats[0].Loss != 0.25 {
			t.Errorf("loss %v, seat %v; want 0.25", snap.Loss, snap.Seats[0].Loss)
		}
		got := r.wire.take()
		if len(got) == 0 || got[0].GetExtension(1) != nil {
			t.Error("the mid is still sent after a receiver report")
		}
		r.keyframeRequests(ann)
		r.resends(ann)
	})
}

// sentAt is the time at which sr was made, from its NTP time.
func sentAt(sr *rtcp.SenderReport) int64 {
	s, f := int64(sr.NTPTime>>32)-2208988800, int64(sr.NTPTime&0xFFFFFFFF)
	return s*1e9 + f*1e9>>32
}

func (r *rig) keyframeRequests(ann *publisher) {
	r.t.Helper()
	for _, p := range []rtcp.Packet{
		&rtcp.PictureLossIndication{MediaSSRC: 2},
		&rtcp.FullIntraRequest{FIR: []rtcp.FIREntry{{SSRC: 2}}},
	} {
		asked := ann.plis(ann.base())
		r.tick(2 * time.Second)
		ann.frame(0, true, 100)
		r.s.Feedback(2, p)
		r.tick(2*time.Second, func() { ann.frame(0, false, 100) })
		if ann.plis(ann.base()) == asked {
			r.t.Errorf("%T did not reach the publisher", p)
		}
		ann.frame(0, true, 100)
	}
}

func (r *rig) resends(ann *publisher) {
	r.t.Helper()
	r.wire.take()
	for range 10 {
		ann.frame(0, false, 1000)
	}
	got := r.wire.take()
	if len(got) != 10 {
		r.t.Fatalf("%d packets", len(got))
	}
	nack := &rtcp.TransportLayerNack{MediaSSRC: 2, Nacks: []rtcp.NackPair{{PacketID: got[2].SequenceNumber, LostPackets: 1 << 3}}}
	r.s.Feedback(2, nack)
	r.s.Feedback(2, nack)
	again := r.wire.take()
	if len(again) != 2 || again[0].SSRC != 3 || again[1].SSRC != 3 || again[1].SequenceNumber != again[0].SequenceNumber+1 {
		r.t.Fatalf("asked twice at once for two packets, got %d", len(again))
	}
	if diff := cmp.Diff(got[6].Payload, again[1].Payload[2:]); diff != "" {
		r.t.Errorf("payload (-sent +sent again):\n%s", diff)
	}
	if n := r.s.Snapshot().RTXPackets; n != 2 {
		r.t.Errorf("%d retransmissions counted", n)
	}
}

func TestResendsHaveABudget(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ann := r.publisher("ann")
		r.s.SetSeat(0, nil, r.wire.videoOut(0))
		r.assign(0, Assignment{Video: ann.camera(), Width: 320, Height: 180})
		ann.frame(0, true, 100)
		r.tick(300 * time.Millisecond)
		r.wire.take()
		ann.frame(0, true, 1000)
		for range 99 {
			ann.frame(0, false, 1000)
		}
		got := r.wire.take()
		nack := &rtcp.TransportLayerNack{MediaSSRC: 2}
		for _, p := range got {
			nack.Nacks = append(nack.Nacks, rtcp.NackPair{PacketID: p.SequenceNumber})
		}
		r.s.Feedback(2, nack)
		again := len(r.wire.take())
		if again*1000 > rtxBurst+2000 || again < 30 {
			t.Errorf("%d kB were sent again at once, the burst is %d kB", again, rtxBurst>>10)
		}
		if d := r.s.Snapshot().Drops.ResendBudget; d != int64(len(got)-again) {
			t.Errorf("%d dropped of %d − %d", d, len(got), again)
		}
	})
}

func TestTWCCFeedsTheEstimate(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ann := r.publisher("ann")
		r.s.SetSeat(0, nil, r.wire.numberedOut(0))
		r.assign(0, Assignment{Video: ann.camera(), Width: 320, Height: 180})
		ann.frame(0, true, 1000)
		r.tick(300 * time.Millisecond)
		r.wire.take()
		for range 40 {
			ann.frame(0, true, 1000)
			got := bySSRC(r.wire.take(), 2)
			if len(got) != 1 {
				t.Fatalf("%d packets", len(got))
			}
			e := got[0].GetExtension(4)
			seq := uint16(e[0])<<8 | uint16(e[1])
			r.s.TransportFeedback(twcc(seq, 1, []uint16{1<<13 | 1}, 4))
			// The same cut short, one that claims more than there is, and no feedback at all.
			r.s.TransportFeedback(twcc(seq, 9, []uint16{1<<13 | 9}, 4))
			r.s.TransportFeedback(twcc(seq, 2, []uint16{8191}))
			r.s.TransportFeedback([]byte{0x8F, 205, 0, 9})
			r.tick(20 * time.Millisecond)
		}
		r.tick(200 * time.Millisecond)
		if p := r.s.Snapshot().Path; p.State != bwe.Clear || p.AckedBps < 200_000 || p.AckedBps > 450_000 {
			t.Errorf("path %+v, sent about 400 kbit/s", p)
		}
	})
}

// twcc builds a transport-wide feedback packet.
func twcc(base, count uint16, chunks []uint16, deltas ...byte) []byte {
	b := []byte{0x8F, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, byte(base >> 8), byte(base), byte(count >> 8), byte(count), 0, 0, 5, 9}
	for _, c := range chunks {
		b = append(b, byte(c>>8), byte(c))
	}
	b = append(b, deltas...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	b[3] = byte(len(b)/4 - 1)
	return b
}
