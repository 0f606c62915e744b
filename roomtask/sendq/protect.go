package sendq

import (
	"mayfly/roomtask/alloc"
	"mayfly/roomtask/bwe"
	"mayfly/roomtask/forward"
)

// protectEvery is how often the redundancy of audio is decided.
const protectEvery = second

// redQueue is the standing queue above which redundancy gives way.
const redQueue = 50 * ms

// copiesHold is for how long after a standing queue no packet of audio is sent twice: what
// a full queue lost, more packets would not bring.
const copiesHold = 3 * second

// lossMeter is what transport-wide feedback says about loss: it comes ten times as
// often as receiver reports about audio, and covers all that was sent.
type lossMeter struct {
	known, lost int     // since the last roll
	loss        float64 // of the last interval that had enough packets
}

// lossSample is how many packets make a ratio worth something.
const lossSample = 20

// add takes in a report. Where copies are sent, one that came in place of its packet comes
// after a packet with a later number (repeats).
func (m *lossMeter) add(acks []bwe.Ack, repeats bool) {
	for i := range acks {
		m.known++
		if !acks[i].Received || repeats && bwe.Overtaken(acks, i) {
			m.lost++
		}
	}
}

// roll ends an interval, unless there was too little in it, and returns the loss.
func (m *lossMeter) roll() float64 {
	if m.known >= lossSample {
		m.loss = float64(m.lost) / float64(m.known)
		m.known, m.lost = 0, 0
	}
	return m.loss
}

// protect chooses for each audio line how much of the past goes out again with each
// packet: within it to a receiver that has RED, beside it to one that has not. When
// the path has no room for that, nothing does; but only a standing queue proves that the
// room is missing: a path that loses at random is what redundancy is for, though it makes
// the estimate small. What a receiver without RED misses in spite of it only the
// publisher's encoder can help, so it is told.
func (s *Sender) protect(now int64) {
	if now-s.protectAt < protectEvery {
		return
	}
	s.protectAt = now
	path := s.path.acked.roll()
	queued := s.path.now.Queue > redQueue
	if queued {
		s.queuedAt = now
	}
	s.copying = false
	for _, st := range s.seats {
		l := st.audio
		if l == nil || st.a.Audio == nil || l.f.State() == forward.Off {
			continue
		}
		loss := max(l.loss, path)
		if l.out.REDPT == 0 {
			l.setCopies(l.copiesFor(loss, now-s.queuedAt < copiesHold, now))
			s.copying = s.copying || l.repeat > 0
			st.a.Audio.SubscriberLoss(missedOf(loss, l.repeat))
			continue
		}
		distance := l.red.Next(loss, now)
		if queued && s.alloc.audio != alloc.AudioFull {
			distance = 0
		}
		l.f.SetRED(distance)
	}
}
