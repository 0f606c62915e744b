package sendq

import (
	"github.com/pion/rtp"

	"mayfly/roomtask/rtpx"
)

const (
	// videoRun is how many packets of video are written before looking for audio again.
	videoRun = 32
	// maxResends is how many retransmissions may wait; a receiver asks again.
	maxResends = 512
)

// resend is one packet that a receiver asked for again.
type resend struct {
	line *line
	out  uint64
}

// rtxBudget limits retransmissions of video to a quarter of what is sent, because on
// a congested path they take room from what is new.
type rtxBudget struct {
	bytes int64
	at    int64
}

const (
	rtxShare   = 4
	rtxMinRate = 300_000 // bits per second, so that a slow stream can be repaired as well
	rtxBurst   = 64 << 10
)

// refill adds what the time since the last call allows at the present rate.
func (b *rtxBudget) refill(now, sentBps int64) {
	rate := max(sentBps/rtxShare, rtxMinRate)
	b.bytes = min(rtxBurst, b.bytes+rate/8*min(now-b.at, second)/second)
	b.at = now
}

func (s *Sender) sendAudio(now int64) {
	q := &s.work.audio
	q.straighten()
	for i := range q.slots {
		n := s.send(&q.slots[i], kindAudio, now)
		if s.pace.on && n > 0 {
			s.pace.queue.spend(n, now)
		}
	}
	q.slots = q.slots[:0]
}

// sendVideo sends up to videoRun packets and returns whether more wait.
func (s *Sender) sendVideo(now int64) (more bool) {
	q := &s.work.video
	if s.next == 0 {
		q.straighten()
	}
	end := min(s.next+videoRun, len(q.slots))
	for ; s.next < end; s.next++ {
		s.send(&q.slots[s.next], kindVideo, now)
	}
	if s.next < len(q.slots) {
		return true
	}
	q.slots, s.next = q.slots[:0], 0
	return false
}

// send rewrites and writes one packet, and gives back the inbox's reference. It
// returns the bytes that went out.
func (s *Sender) send(e *entry, k kind, now int64) (n int) {
	f := e.line.f
	if h, payload, ok := f.Rewrite(e.tap, e.p, now); ok {
		n = s.write(e.line, h, payload, k, now)
		if n > 0 && k == kindVideo && e.line.screen {
			s.count.screen += int64(n)
		} else if n > 0 && k == kindAudio {
			s.count.fec += int64(max(0, len(payload)-len(e.p.Payload())))
			if e.line.repeat > 0 {
				n += s.sendCopies(e.line, h, payload, now)
			}
		}
		s.timed(e.p)
		if n == 0 && k == kindVideo {
			f.Resync(now) // the receiver could not decode what follows
		}
		s.fresh = s.fresh || f.Fresh()
	}
	e.p.Release()
	*e = entry{}
	return n
}

// timedEvery is how many packets there are to one whose time through the task is told:
// reading a clock for each would be felt.
const timedEvery = 16

func (s *Sender) timed(p *rtpx.Packet) {
	if s.timing++; s.timing%timedEvery == 0 && s.cfg.Forwarded != nil {
		s.cfg.Forwarded(s.cfg.Now() - p.Arrival)
	}
}

// sendResends answers NACKs, video only within its budget; what does not fit is
// dropped, for the receiver asks again if it still matters.
func (s *Sender) sendResends(queue *[]resend, now int64) {
	if len(*queue) == 0 {
		return
	}
	video := queue == &s.videoRTX
	if video {
		s.budget.refill(now, s.path.now.SentBps)
	}
	for i, r := range *queue {
		if video && s.budget.bytes <= 0 {
			s.count.resendBudget += int64(len(*queue) - i)
			break
		}
		n := s.resend(r, now)
		if video {
			s.budget.bytes -= int64(n)
		} else if s.pace.on {
			s.pace.queue.spend(n, now)
		}
	}
	clear(*queue)
	*queue = (*queue)[:0]
}

func (s *Sender) resend(r resend, now int64) (n int) {
	if h, payload, ok := r.line.f.Resend(r.out); ok {
		return s.write(r.line, h, payload, kindRTX, now)
	}
	return 0
}

// write stamps, writes and counts one packet. It returns the bytes that went out.
func (s *Sender) write(l *line, h *rtp.Header, payload []byte, k kind, now int64) int {
	stamped := l.f.StampTWCC(s.twcc + 1)
	n, err := l.out.W.WriteRTP(h, payload)
	if n <= 0 {
		if err != nil {
			s.count.writeErrors++
		} else {
			s.count.notConnected++
		}
		return 0
	}
	if stamped {
		s.twcc++
		s.path.est.OnSent(s.twcc, n, now, s.probe.take(n, now))
	} else {
		s.path.est.OnSentPlain(n, now)
	}
	s.count.bytes[k] += int64(n)
	s.count.packets[k]++
	return n
}

func (s *Sender) sendReports(now int64) {
	s.fresh = false
	for _, l := range s.all {
		pkts := l.f.Report(now)
		if pkts == nil {
			continue
		}
		if err := s.cfg.WriteRTCP(pkts); err != nil {
			s.count.writeErrors++
		}
	}
}
