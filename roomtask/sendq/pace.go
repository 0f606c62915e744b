package sendq

import "mayfly/roomtask/bwe"

const (
	// Packets are paced from this share of the estimate on. Below it, and while no limit
	// is known, each is written as it comes: nothing waits, and there is no timer.
	paceShareNum, paceShareDen = 70, 100
	// headerRoom is what a packet has beside its payload: RTP header with extensions,
	// and SRTP's tag.
	headerRoom = 44
	resendSize = 1200 // of a retransmission, until it is read
)

// paced is a packet that waits for its time: one of a line, or with p nil one to be
// sent again.
type paced struct {
	entry
	out uint64
}

// pacing holds what may not be sent yet. It is owned by the sender's goroutine.
type pacing struct {
	queue   pacer[paced]
	on      bool // video goes through the queue
	wanted  bool // the path asks for it
	waiting bool // on the wheel
	thin    bool // temporal layers are left out, because the queue is long
}

// adjust follows the estimate.
func (p *pacing) adjust(e *bwe.Snapshot, granted, now int64) {
	p.wanted = e.Bps != 0 && (e.State == bwe.Congested || e.SentBps*paceShareDen > e.Bps*paceShareNum)
	if p.wanted && !p.on {
		p.on = true
		p.queue.at, p.queue.tokens = now, p.queue.burst()
	}
	if e.Bps != 0 {
		p.queue.setRate(max(e.Bps, granted))
	}
}

// mustWait says that something waits that may not go now. When the queue has run
// empty and nothing asks for it, it is left.
func (p *pacing) mustWait(now int64) bool {
	if !p.on {
		return false
	}
	if p.queue.count == 0 {
		p.on = p.wanted
		return false
	}
	return p.queue.wait(now) >= 0
}

func (p *pacing) await(s *Sender) {
	if !p.waiting {
		p.waiting = true
		s.cfg.Wheel.await(s)
	}
}

// take gives out a packet that waits, whether its time has come or not.
func (p *pacing) take() (w waiting[paced], class queueClass, ok bool) {
	if p.queue.count == 0 {
		return w, 0, false
	}
	return p.queue.pick(true)
}

// sendPaced lets new video and retransmissions wait in line, and sends what may go.
func (s *Sender) sendPaced(now int64) {
	q := &s.work.video
	if s.next == 0 {
		q.straighten()
	}
	for ; s.next < len(q.slots); s.next++ {
		s.enqueue(&q.slots[s.next])
		q.slots[s.next] = entry{}
		s.thinOut()
	}
	q.slots, s.next = q.slots[:0], 0
	for i, r := range s.videoRTX {
		s.pace.queue.push(queueVideoRTX, paced{entry: entry{line: r.line}, out: r.out}, resendSize, -1, 0)
		s.videoRTX[i] = resend{}
	}
	s.videoRTX = s.videoRTX[:0]
	for {
		w, class, ok := s.pace.queue.next(now)
		if !ok {
			return
		}
		s.sendWaiting(&w, class, now)
		s.thinOut()
	}
}

// sendWaiting sends what the pacer gave out.
func (s *Sender) sendWaiting(w *waiting[paced], class queueClass, now int64) {
	n := 0
	if class == queueVideoRTX {
		n = s.resend(resend{w.item.line, w.item.out}, now)
	} else {
		w.item.line.queued--
		n = s.send(&w.item.entry, kindVideo, now)
	}
	s.pace.queue.settle(class, w.size, n)
}

// enqueue lets one packet wait. The class of a line changes only while none of it
// waits, so that its packets stay in order.
func (s *Sender) enqueue(e *entry) {
	l := e.line
	if l.queued == 0 {
		l.class = queueOf(l)
	}
	class := l.class
	if class == queueScreen && e.p.Key && l.queued == 0 {
		class, l.class = queueScreenKey, queueScreenKey
	} else if class == queueScreenKey && !e.p.Key {
		class = queueScreen
		l.class = class
	}
	l.queued++
	size := len(e.p.Payload()) + headerRoom
	if l.thin && e.p.TID > 0 {
		size = 0 // it must pass the forwarder, which closes the gap, and is not sent
	}
	s.pace.queue.push(class, paced{entry: *e}, size, l.num, e.p.TS)
}

// dropped is told of what the pacer gave up. A stream that lost a packet starts again
// at a keyframe.
func (s *Sender) dropped(p paced) {
	if p.p == nil {
		s.count.resendBudget++
		return
	}
	p.line.queued--
	p.tap.Lost.Store(true)
	p.p.Release()
	s.count.paced++
}

// thinOut leaves out the upper temporal layers of the least valuable lines while half
// of the room is taken, long before whole streams must stop.
func (s *Sender) thinOut() {
	p := &s.pace
	used := p.queue.videoBytes()
	switch {
	case !p.thin && used > p.queue.room()/2:
		p.thin = true
	case p.thin && used < p.queue.room()/8:
		p.thin = false
	default:
		return
	}
	least := queueScreenKey
	for _, l := range s.all {
		if l.queued > 0 {
			least = max(least, l.class)
		}
	}
	for _, l := range s.all {
		if thin := p.thin && l.queued > 0 && l.class == least; thin != l.thin {
			l.thin = thin
			s.setTID(l)
			if thin {
				p.queue.lighten(l.num, func(w paced) bool { return w.p != nil && w.p.TID > 0 })
			}
		}
	}
}

// setTID limits the temporal layers to those that are granted, or to the base alone.
func (s *Sender) setTID(l *line) {
	tid := l.tid
	if l.thin {
		tid = 0
	}
	l.f.SetMaxTID(tid)
}

// queueOf is the queue of a line's video.
func queueOf(l *line) queueClass {
	if l.seat.a.Video == nil {
		return queueOther
	}
	return queueScreen + queueClass(classOf(&l.seat.a))
}
