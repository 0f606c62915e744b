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
	on    bool  // some of it is still to leave
	done  bool  // all has left, and the estimator is to be told
	count int   // packets that left
	sent  int64 // bytes that left
	begun int64 // when the first was due
	last  int64 // when the newest left

	padding, again canary // what the receiver reports on

	roomAt    int64 // when headroom is asked for next
	roomEvery int64
	roomFor   int64 // the rate for which it was asked
}

func (p *probing) begin(next bwe.Probe, now int64) {
	p.Probe, p.on, p.count, p.sent, p.begun, p.last = next, true, 0, 0, now, 0
}

// take counts a packet of n bytes that leaves, and returns the probe it belongs to.
func (p *probing) take(n int, now int64) int32 {
	if !p.on {
		return 0
	}
	p.done = p.filled() && now > p.last
	p.on = !p.done
	p.count++
	p.sent += int64(n)
	p.last = now
	return p.ID
}

// filled says that all but the last packet have left. Packets may be smaller than the
// probe's, and then there are more.
func (p *probing) filled() bool {
	return p.count >= p.Packets-1 && p.sent >= int64(p.Bytes-p.Size)
}

// due says that the next packet may leave by the probe's rate. The last leaves alone:
// the time between the first and the last, here and at the receiver, is what tells the
// rate, and what leaves at once does not arrive at once.
func (p *probing) due(now int64) bool {
	switch {
	case !p.on:
		return false
	case p.filled():
		return now > p.last && now-p.begun+int64(wheelStep)/2 >= p.sent*8*second/p.Bps
	}
	return p.sent < (now-p.begun+int64(wheelStep))*p.Bps/8/second
}

// nextProbe asks the estimator for a probe. There is none before the subscriber has
// reported on something, because until then nobody may be there, and none without a
// line that can carry it.
func (s *Sender) nextProbe(now int64) {
	p := &s.probe
	s.path.est.Probes = s.mayProbe()
	step, want := s.alloc.step, s.alloc.want
	if step == 0 {
		step = s.headroom(now)
		want = max(step, want)
	}
	if l := s.probeLine(); l != nil && s.path.heard && !p.on && (step > 0 || p.padding.state == dead) {
		s.test(l, now)
	}
	if p.on || p.padding.state != sound {
		step = 0
	}
	// Without a step, the estimator only learns that there will be probes.
	if next, ok := s.path.est.NextProbe(now, step, want); ok {
		p.begin(next, now)
	}
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
	for l != nil && p.due(now) {
		before := p.count
		if w, class, ok := s.pace.take(); ok {
			s.sendWaiting(&w, class, now)
			continue
		}
		s.sendFiller(l, now)
		if p.count == before {
			break // nothing goes out
		}
	}
	if p.on && (l == nil || now-p.begun > probePatience) {
		p.on, p.done = false, true
	}
	if p.done {
		p.done = false
		s.path.est.ProbeSent(p.ID, now)
	}
}

// sendFiller sends something over l that nobody asked for.
func (s *Sender) sendFiller(l *line, now int64) {
	p := &s.probe
	if p.again.state == sound {
		// Much larger ones would make a longer queue on a narrow path than is needed.
		if h, payload, ok := l.f.Again(now, p.Size*3/2); ok {
			s.write(l, h, payload, kindProbe, now)
			return
		}
	}
	if p.padding.state == sound {
		if h, ok := l.f.Padding(); ok {
			s.write(l, h, nil, kindPadding, now)
		}
	}
}

// carriesProbes says that a line's RTX stream can carry probes, once media was sent.
func (l *line) carriesProbes() bool { return l.out.video && l.out.RTXSSRC != 0 && l.out.TWCCExt != 0 }

// probeLine is a line whose RTX stream can carry probes: video that is being sent.
// Nothing but media is ever sent on a line of audio.
func (s *Sender) probeLine() *line {
	for _, l := range s.all {
		if l.carriesProbes() && l.f.Stats().Packets > 0 {
			return l
		}
	}
	return nil
}
