package sendq

import (
	"github.com/pion/rtp"
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
	for i := range s.work.audio {
		s.send(&s.work.audio[i], now)
	}
	s.work.audio = s.work.audio[:0]
}

// sendVideo sends up to videoRun packets and returns whether more wait.
func (s *Sender) sendVideo(now int64) (more bool) {
	end := min(s.next+videoRun, len(s.work.video))
	for ; s.next < end; s.next++ {
		s.send(&s.work.video[s.next], now)
	}
	if s.next < len(s.work.video) {
		return true
	}
	full := len(s.work.video) > 0
	s.work.video, s.next = s.work.video[:0], 0
	return full // the inbox may have filled meanwhile
}

// send rewrites and writes one packet, and gives back the inbox's reference.
func (s *Sender) send(e *entry, now int64) {
	f := e.line.f
	if h, payload, ok := f.Rewrite(e.tap, e.p, now); ok {
		kind := kindAudio
		if e.line.out.video {
			kind = kindVideo
		}
		if !s.write(e.line, h, payload, kind, now) && e.line.out.video {
			f.Resync(now) // the receiver could not decode what follows
		}
	}
	e.p.Release()
	*e = entry{}
}

// sendResends answers NACKs, video only within its budget; what does not fit is
// dropped, for the receiver asks again if it still matters.
func (s *Sender) sendResends(queue *[]resend, now int64) {
	video := queue == &s.videoRTX
	if video && len(*queue) > 0 {
		s.budget.refill(now, s.est.Snapshot(now).SentBps)
	}
	for i, r := range *queue {
		if video && s.budget.bytes <= 0 {
			s.count.resendBudget.Add(int64(len(*queue) - i))
			break
		}
		h, payload, ok := r.line.f.Resend(r.out)
		if !ok {
			continue
		}
		if video {
			s.budget.bytes -= int64(len(payload))
		}
		s.write(r.line, h, payload, kindRTX, now)
	}
	*queue = (*queue)[:0]
}

// write stamps, writes and counts one packet. It returns false if it did not go out.
func (s *Sender) write(l *line, h *rtp.Header, payload []byte, k kind, now int64) bool {
	stamped := l.f.StampTWCC(s.twcc + 1)
	n, err := l.out.W.WriteRTP(h, payload)
	if n <= 0 {
		if err != nil {
			s.count.writeErrors.Add(1)
		} else {
			s.count.notConnected.Add(1)
		}
		return false
	}
	if stamped {
		s.twcc++
		s.est.OnSent(s.twcc, n, now, 0)
	} else {
		s.est.OnSentPlain(n, now)
	}
	s.count.bytes[k].Add(int64(n))
	s.count.packets[k].Add(1)
	return true
}

func (s *Sender) sendReports(now int64) {
	for _, l := range s.all {
		pkts := l.f.Report(now)
		if pkts == nil {
			continue
		}
		if err := s.cfg.WriteRTCP(pkts); err != nil {
			s.count.writeErrors.Add(1)
		}
	}
}
