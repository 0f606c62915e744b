package sendq

import (
	"math"

	"github.com/pion/rtp"

	"mayfly/roomtask/forward"
)

// maxCopied bounds a packet that is sent again, header and payload, in bytes: Opus at
// 128 kbit/s takes 320 of payload. What is larger is sent once.
const maxCopied = 512

// copyAge is how long after its packet a copy is worth something, in ns: after a pause
// of the encoder (DTX) it would come too late to be played.
const copyAge = 150 * ms

// copies protect the audio of a receiver that does not understand RED (RFC 2198) as RED
// protects that of others: with each packet go those before it, as packets of
// their own. A copy is the former packet to the bit, its transport-wide number included,
// so that SRTP makes the same bytes of it: a nonce that is used again for anything else
// would give the key away (RFC 7714 §8.4). The receiver drops what it has already, by its
// replay list (RFC 3711 §3.3.2), and takes what it has not for a packet that came late.
type copies struct {
	kept [forward.MaxRED]kept // a ring
	next int                  // index of the oldest, which the next packet takes the place of
}

// kept is a packet as it was sent.
type kept struct {
	header  rtp.Header // its extensions point into bytes
	payload []byte     // in bytes; empty: nothing is kept
	at      int64      // when it was sent, ns
	number  uint16     // transport-wide
	bytes   [maxCopied]byte
}

// keep takes a copy of what was sent.
func (c *copies) keep(h *rtp.Header, payload []byte, number uint16, now int64) {
	k := &c.kept[c.next]
	k.of(h, payload)
	k.number, k.at = number, now
	c.next = (c.next + 1) % len(c.kept)
}

// before returns what was kept n packets ago, from 1 on.
func (c *copies) before(n int) *kept {
	return &c.kept[(c.next+len(c.kept)-n)%len(c.kept)]
}

func (k *kept) of(h *rtp.Header, payload []byte) {
	k.payload = nil
	if len(payload) == 0 || h.MarshalSize()+len(payload) > len(k.bytes) {
		return
	}
	n, err := h.MarshalTo(k.bytes[:])
	if err != nil {
		return
	}
	if _, err := k.header.Unmarshal(k.bytes[:n]); err != nil {
		return
	}
	k.payload = k.bytes[n : n+copy(k.bytes[n:], payload)]
}

// copiesFor returns how often each packet should go out again: not at all, or as often as
// is possible where much is lost. Copies take up to three times the room, headers and
// all, so a little loss is left to the encoder's own correction, what was lost for once
// may have been a queue that nobody has seen yet, and none are sent while one stood
// lately (crowded).
func (l *line) copiesFor(loss float64, crowded bool, now int64) int {
	lasting := min(loss, l.lossBefore)
	l.lossBefore = loss
	if crowded {
		l.red = forward.REDPolicy{}
	} else if l.red.Next(lasting, now) == forward.MaxRED {
		return forward.MaxRED
	}
	return 0
}

// setCopies makes every packet of the line go out once more with each of the n after it.
func (l *line) setCopies(n int) {
	l.repeat = n
	switch {
	case n == 0:
		l.copies = nil
	case l.copies == nil:
		l.copies = &copies{}
	}
}

// sendCopies sends what the line kept, after the packet that was just sent, which it
// keeps in turn. It returns the bytes that went out.
func (s *Sender) sendCopies(l *line, h *rtp.Header, payload []byte, now int64) (sent int) {
	for ago := 1; ago <= l.repeat; ago++ {
		k := l.copies.before(ago)
		if len(k.payload) == 0 || now-k.at > copyAge {
			continue
		}
		n, err := l.out.W.WriteRTP(&k.header, k.payload)
		if n <= 0 {
			if err != nil {
				s.count.writeErrors++
			}
			continue
		}
		if l.out.TWCCExt != 0 {
			s.path.est.OnCopied(k.number, n, now)
		} else {
			s.path.est.OnSentPlain(n, now)
		}
		s.count.bytes[kindAudio] += int64(n)
		s.count.packets[kindAudio]++
		s.count.fec += int64(n)
		sent += n
	}
	l.copies.keep(h, payload, s.twcc, now)
	return sent
}

// pathLoss is how much of what was sent is lost, 0…1, by a receiver report that says
// that the fraction missed is missing although each packet was sent 1+repeat times.
// Losses that do not depend on each other are taken for granted, since a burst needs as
// much protection.
func pathLoss(missed float64, repeat int) float64 {
	return math.Pow(missed, 1/float64(1+repeat))
}

// missedOf is the inverse of pathLoss.
func missedOf(loss float64, repeat int) float64 {
	return math.Pow(loss, float64(1+repeat))
}

// redundancy is how many former packets each packet brings again, or should.
func (l *line) redundancy() int {
	if l.out.REDPT == 0 {
		return l.repeat
	}
	return l.red.Distance()
}
