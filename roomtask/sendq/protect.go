package sendq

import (
	"mayfly/roomtask/alloc"
	"mayfly/roomtask/bwe"
	"mayfly/roomtask/forward"
)

// protectEvery is how often the redundancy of audio is decided.
const protectEvery = second

// lossMeter is what transport-wide feedback says about loss: it comes ten times as
// often as receiver reports about audio, and covers all that was sent.
type lossMeter struct {
	known, lost int     // since the last roll
	loss        float64 // of the last interval that had enough packets
}

// lossSample is how many packets make a ratio worth something.
const lossSample = 20

func (m *lossMeter) add(acks []bwe.Ack) {
	for i := range acks {
		m.known++
		if !acks[i].Received {
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

// protect chooses for each audio line how much of the past each packet repeats. When
// the path has no room for that, none does.
func (s *Sender) protect(now int64) {
	if now-s.protectAt < protectEvery {
		return
	}
	s.protectAt = now
	path := s.path.acked.roll()
	for _, l := range s.all {
		if l.out.video || l.f.State() == forward.Off {
			continue
		}
		distance := l.red.Next(max(l.loss, path), now)
		if s.alloc.audio != alloc.AudioFull {
			distance = 0
		}
		l.f.SetRED(distance)
	}
}
