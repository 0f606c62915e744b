package sendq

import "mayfly/roomtask/bwe"

const (
	// headroom is how much more than is sent now the estimate should allow, so that
	// packets need not be paced; it is asked for once in a while only.
	headroomNum, headroomDen = 8, 5
	headroomFirst            = 4 * second
	headroomMax              = 64 * second
	probePatience            = second // for the packets of one probe to leave
)

// probing is the probe that is being sent, if any. It is owned by the sender's
// goroutine.
type probing struct {
	bwe.Probe
	left  int   // bytes that are still to leave; 0 = none is being sent
	count int   // packets that left
	begun int64 // when the first was due
	sent  int64 // bytes that left

	roomAt    int64 // when headroom is asked for next
	roomEvery int64
	roomFor   int64 // the rate for which it was asked
}

// take counts a packet of n bytes that leaves, and returns the probe it belongs to.
func (p *probing) take(n int) int32 {
	if p.left <= 0 {
		return 0
	}
	p.left = max(0, p.left-n)
	p.sent += int64(n)
	p.count++
	if p.count < p.Packets && p.left == 0 {
		p.left = 1 // fewer packets than it takes to tell a rate
	}
	return p.ID
}

// nextProbe asks the estimator for a probe. There is none before the subscriber has
// reported on something, because until then nobody may be there, and none without a
// line that can carry it.
func (s *Sender) nextProbe(now int64) {
	p := &s.probe
	if p.left > 0 || !s.path.heard || s.probeLine() == nil {
		return
	}
	step, want := s.alloc.step, s.alloc.want
	if step == 0 {
		step = s.headroom(now)
		want = max(step, want)
	}
	if want == 0 {
		return
	}
	next, ok := s.path.est.NextProbe(now, step, want)
	if !ok {
		return
	}
	p.Probe, p.left, p.count, p.sent, p.begun = next, max(next.Bytes, 1), 0, 0, now
}

// headroom is the rate that the estimate should be raised to when all that is wanted
// is sent, 0 if none or not at present.
func (s *Sender) headroom(now int64) int64 {
	p, e := &s.probe, &s.path.now
	if e.Bps == 0 || s.alloc.used == 0 {
		return 0
	}
	room := s.alloc.used * headroomNum / headroomDen
	if e.Bps >= room {
		return 0
	}
	if room > p.roomFor*5/4 || room < p.roomFor*4/5 {
		p.roomFor, p.roomEvery, p.roomAt = room, headroomFirst, now
	}
	if now < p.roomAt {
		return 0
	}
	p.roomAt = now + p.roomEvery
	p.roomEvery = min(2*p.roomEvery, headroomMax)
	return room
}

// sendProbe sends what is due of the probe by its rate: new video if some waits, else
// packets of the last second again, which may repair something, else padding.
func (s *Sender) sendProbe(now int64) {
	p := &s.probe
	l := s.probeLine()
	for p.left > 0 && l != nil && p.sent <= (now-p.begun)*p.Bps/8/second {
		before := p.sent
		if s.pace.on {
			if w, class, ok := s.pace.queue.pick(true); ok {
				s.sendWaiting(&w, class, now)
				continue
			}
		}
		if h, payload, ok := l.f.Again(now, p.Size+p.Size/4); ok {
			s.write(l, h, payload, kindProbe, now)
		} else if h, ok := l.f.Padding(); ok {
			s.write(l, h, nil, kindPadding, now)
		}
		if p.sent == before {
			break // nothing goes out
		}
	}
	if p.left == 0 || l == nil || now-p.begun > probePatience {
		p.left = 0
		s.path.est.ProbeSent(p.ID, now)
	}
}

// mayProbe says that a line's RTX stream can carry probes, once media was sent.
func (l *line) mayProbe() bool { return l.out.video && l.out.RTXSSRC != 0 && l.out.TWCCExt != 0 }

// probeLine is a line whose RTX stream can carry probes: video that is being sent.
// Nothing but media is ever sent on a line of audio.
func (s *Sender) probeLine() *line {
	for _, l := range s.all {
		if l.mayProbe() && l.f.Stats().Packets > 0 {
			return l
		}
	}
	return nil
}
