package sendq

import (
	"github.com/pion/rtcp"

	"mayfly/roomtask/bwe"
	"mayfly/roomtask/forward"
)

// twccReference is the unit of the reference time in transport-wide feedback
// (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).
const twccReference = 64 * ms

// handle takes in what a subscriber says about one of our streams.
func (s *Sender) handle(f *feedback, now int64) {
	if twcc, ok := f.p.(*rtcp.TransportLayerCC); ok {
		s.onTWCC(twcc, now)
		return
	}
	l := s.lines[f.ssrc]
	if l == nil {
		return
	}
	switch p := f.p.(type) {
	case *rtcp.ReceiverReport:
		s.onReports(l, f.ssrc, p.Reports, now)
	case *rtcp.SenderReport:
		s.onReports(l, f.ssrc, p.Reports, now)
	case *rtcp.TransportLayerNack:
		if p.MediaSSRC == l.out.SSRC {
			s.onNack(l, p, now)
		}
	case *rtcp.PictureLossIndication:
		if p.MediaSSRC == l.out.SSRC {
			l.f.Keyframe()
		}
	case *rtcp.FullIntraRequest:
		for _, e := range p.FIR {
			if e.SSRC == l.out.SSRC {
				l.f.Keyframe()
			}
		}
	}
}

func (s *Sender) onReports(l *line, ssrc uint32, reports []rtcp.ReceptionReport, now int64) {
	for i := range reports {
		r := &reports[i]
		if r.SSRC != ssrc || ssrc != l.out.SSRC {
			continue
		}
		l.f.MidLearnt()
		l.loss = float64(r.FractionLost) / 256
		sent := l.f.Stats().Packets
		weight := float64(sent - l.lossBase)
		l.lossBase = sent
		s.lossSum += l.loss * weight
		s.lossPkts += weight
		if rtt, ok := roundTrip(r, now); ok {
			if s.rtt == 0 {
				s.rtt = rtt
			}
			s.rtt += (rtt - s.rtt) / 8
		}
	}
}

// roundTrip is now − LSR − DLSR (RFC 3550 §6.4.1), all in units of 1/65536 s. False
// if the receiver had no report of ours yet, or the numbers make no sense.
func roundTrip(r *rtcp.ReceptionReport, now int64) (rtt int64, ok bool) {
	if r.LastSenderReport == 0 {
		return 0, false
	}
	d := int32(uint32(forward.NTP(now)>>16) - r.LastSenderReport - r.Delay)
	if d < 0 || d > 10<<16 {
		return 0, false
	}
	return int64(d) * second >> 16, true
}

// reportLoss passes the receiver reports of the last second on to the estimator as
// one, each line weighted by its packets.
func (s *Sender) reportLoss(now int64) {
	if now-s.lossAt < second {
		return
	}
	s.lossAt = now
	if s.lossPkts > 0 {
		s.est.OnLoss(now, uint8(min(255, 256*s.lossSum/s.lossPkts)))
	}
	s.lossSum, s.lossPkts = 0, 0
}

func (s *Sender) onNack(l *line, p *rtcp.TransportLayerNack, now int64) {
	queue := &s.audioRTX
	if l.out.video {
		queue = &s.videoRTX
	}
	ask := func(seq uint16) bool {
		if len(*queue) >= maxResends {
			s.count.resendBudget.Add(1)
			return false
		}
		if out, ok := l.f.CanResend(seq, now, s.rtt); ok {
			*queue = append(*queue, resend{l, out})
		}
		return true
	}
	for _, pair := range p.Nacks {
		pair.Range(ask)
	}
}

// onTWCC unpacks transport-wide feedback for the estimator. The numbers in it come
// from outside: the loops are bounded by its 16-bit packet count.
func (s *Sender) onTWCC(p *rtcp.TransportLayerCC, now int64) {
	s.acks = s.acks[:0]
	seq, left := p.BaseSequenceNumber, int(p.PacketStatusCount)
	at := int64(p.ReferenceTime) * twccReference
	deltas := p.RecvDeltas
	add := func(symbol uint16) {
		if left == 0 {
			return
		}
		left--
		a := bwe.Ack{Seq: seq}
		seq++
		if symbol == rtcp.TypeTCCPacketReceivedSmallDelta || symbol == rtcp.TypeTCCPacketReceivedLargeDelta {
			if len(deltas) == 0 {
				left = 0 // cut short: what remains is not known
				return
			}
			at += deltas[0].Delta * 1000 // Pion has them in microseconds
			deltas = deltas[1:]
			a.Received, a.Arrival = true, at
		}
		s.acks = append(s.acks, a)
	}
	for _, c := range p.PacketChunks {
		switch c := c.(type) {
		case *rtcp.RunLengthChunk:
			for range c.RunLength {
				add(c.PacketStatusSymbol)
			}
		case *rtcp.StatusVectorChunk:
			for _, symbol := range c.SymbolList {
				add(symbol)
			}
		}
	}
	s.acked.add(s.acks)
	s.est.OnFeedback(now, s.acks)
}
