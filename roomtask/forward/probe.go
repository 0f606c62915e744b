package forward

import "github.com/pion/rtp"

const (
	againDepth = 64     // of the newest packets, those that Again looks at
	againGap   = second // between two retransmissions of one packet for a probe
	paddingMax = 255    // bytes of padding in one packet (RFC 3550 §5.1)
)

// Fresh says that a stint has begun that no sender report told of.
func (f *Forwarder) Fresh() bool { return f.reportAt == 0 && f.cur.tap != nil }

// Again builds a retransmission of a recent packet of at most size bytes that nobody
// asked for, to probe the path with something that may be of use. The results are as
// for Resend.
func (f *Forwarder) Again(now int64, size int) (h *rtp.Header, payload []byte, ok bool) {
	if f.line.RTXSSRC == 0 || f.types.RTX == 0 || f.cur.tap == nil || !f.begun || f.sent.slots == nil {
		return nil, nil, false
	}
	for out := f.sent.high; out+againDepth > f.sent.high && out >= f.keyOut; out-- {
		s := f.sent.find(out)
		if s == nil || s.empty() || s.within(againGap, now) || f.size(s) > size {
			continue
		}
		s.resent(now)
		if h, payload, ok = f.Resend(out); ok {
			return h, payload, true
		}
	}
	return nil, nil, false
}

// size is that of s's payload, about; 0 when it is not to be had any more.
func (f *Forwarder) size(s *sentPacket) int {
	t := f.cur.tap
	p := t.src.Lookup(t.layer, f.cur.full(s.ext))
	if p == nil {
		return 0
	}
	defer p.Release()
	return len(p.Payload())
}

// Padding builds a packet of padding alone on the RTX SSRC, in that stream's own
// sequence. A receiver throws it away, but reports its arrival.
func (f *Forwarder) Padding() (h *rtp.Header, ok bool) {
	if f.line.RTXSSRC == 0 || f.types.RTX == 0 || !f.begun {
		return nil, false
	}
	f.rtxSeq++
	h = f.head.forPadding()
	h.SequenceNumber, h.Timestamp = f.rtxSeq, f.ts
	return h, true
}
