package sendq

import (
	"encoding/binary"

	"github.com/pion/rtcp"

	"mayfly/roomtask/bwe"
	"mayfly/roomtask/forward"
	"mayfly/roomtask/rtpx"
)

// maxStatuses bounds what one report may tell of: two bytes can claim 2^13 losses.
// Receivers report at least four times a second.
const maxStatuses = 4096

// handleAll takes in all feedback of the batch.
func (s *Sender) handleAll(now int64) {
	for i := range s.work.feedback {
		s.handle(&s.work.feedback[i], now)
		s.work.feedback[i] = feedback{}
	}
	s.work.feedback = s.work.feedback[:0]
	if len(s.work.twcc) == 0 {
		return
	}
	if !s.path.heard || s.probe.padding.state == flying {
		s.tickAt = now // probes may begin
	}
	s.path.heard = true
	for b := s.work.twcc; len(b) >= 4; {
		size := min(4*(1+int(binary.BigEndian.Uint16(b[2:]))), len(b))
		s.onTWCC(b[:size], now)
		b = b[size:]
	}
	s.work.twcc = s.work.twcc[:0]
	s.look(now)
}

// handle takes in what a subscriber says about one of our streams.
func (s *Sender) handle(f *feedback, now int64) {
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
		l.loss = pathLoss(float64(r.FractionLost)/256, l.repeat)
		sent := l.f.Stats().Packets
		weight := float64(sent - l.lossBase)
		l.lossBase = sent
		s.path.heard = true
		s.path.lossSum += l.loss * weight
		s.path.lossPkts += weight
		if rtt, ok := roundTrip(r, now); ok {
			if s.path.rtt == 0 {
				s.path.rtt = rtt
			}
			s.path.rtt += (rtt - s.path.rtt) / 8
			s.path.newRTT = rtt
			s.path.est.OnRTT(now, rtt)
			s.cfg.Wheel.trips.add(s.path.trip(), now)
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
	p := &s.path
	if now-p.lossAt < second {
		return
	}
	p.lossAt = now
	for _, l := range s.all {
		l.f.SetRTT(p.trip())
	}
	if p.lossPkts > 0 {
		p.est.OnLoss(now, uint8(min(255, 256*p.lossSum/p.lossPkts)))
	}
	p.lossSum, p.lossPkts = 0, 0
}

func (s *Sender) onNack(l *line, p *rtcp.TransportLayerNack, now int64) {
	queue := &s.audioRTX
	if l.out.video {
		queue = &s.videoRTX
	}
	ask := func(seq uint16) bool {
		if len(*queue) >= maxResends {
			s.count.resendBudget++
			return false
		}
		if out, ok := l.f.CanResend(seq, now, s.path.rtt); ok {
			*queue = append(*queue, resend{l, out})
		}
		return true
	}
	for _, pair := range p.Nacks {
		pair.Range(ask)
	}
}

// onTWCC unpacks transport-wide feedback for the estimator. The numbers in it come
// from outside: the loop is bounded by its 16-bit packet count.
func (s *Sender) onTWCC(b []byte, now int64) {
	t, err := rtpx.ParseTWCC(b)
	if err != nil || t.Count > maxStatuses {
		return
	}
	acks := s.worker.acks[:0]
	for {
		seq, received, at, ok := t.Next()
		if !ok {
			break
		}
		acks = append(acks, bwe.Ack{Seq: seq, Received: received, Arrival: at})
		if received {
			s.probe.padding.told(seq)
			s.probe.again.told(seq)
		}
	}
	s.path.acked.add(acks, s.copying)
	s.path.est.OnFeedback(now, acks)
	s.worker.acks = acks
}
