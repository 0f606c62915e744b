package forward

import (
	"encoding/binary"

	"github.com/pion/rtp"
)

// minResendGap is the time within which one packet is not sent a second time, where
// the round trip is shorter or unknown.
const minResendGap = 20 * second / 1000

// CanResend decides about one sequence number of a NACK (RFC 4585 §6.2.1), and
// notes that it will be sent. The number it returns is for Resend. It refuses what
// was asked for within a round trip, what lies before the newest keyframe, which
// the decoder does not need any more, and what is not to be had.
func (f *Forwarder) CanResend(seq uint16, now, rtt int64) (out uint64, ok bool) {
	if f.line.RTXSSRC == 0 || f.types.RTX == 0 || f.cur.tap == nil || !f.begun {
		return 0, false
	}
	out = f.sent.unwrap(seq)
	if out < f.keyOut {
		return 0, false
	}
	s := f.sent.find(out)
	if s == nil {
		s = f.recover(out)
	}
	if s == nil || s.tries >= maxResends {
		f.stats.Unrepaired++
		return 0, false
	}
	if s.within(max(rtt, minResendGap), now) {
		return 0, false
	}
	s.resent(now)
	s.tries++
	return out, true
}

// SetRTT tells the round trip to the receiver, in nanoseconds; 0 = it is not known. What is
// sent is remembered for as long as it may be asked for.
func (f *Forwarder) SetRTT(rtt int64) {
	if rtt > 0 {
		f.sent.life = int32(ticks(min(max(sentTrips*rtt, sentLeast), sentLife), f.line.ClockRate))
	}
}

// recover makes good for a packet that never passed here although the source has it:
// it came before the tap was there, as when the first packet of a keyframe is late, or
// fell out of a full inbox. It is noted as if it had been sent as out. If it does come,
// it is a duplicate.
func (f *Forwarder) recover(out uint64) *sentPacket {
	c := &f.cur
	ext, ok := c.seqs.inverse(out)
	if !ok || out >= f.out || ext < c.first || f.sent.tooOld(out) {
		return nil
	}
	p := c.tap.src.Lookup(c.tap.layer, ext)
	if p == nil {
		return nil
	}
	defer p.Release()
	if p.SSRC != c.ssrc || p.ExtSeq != ext {
		return nil
	}
	s := sentPacket{ext: uint32(ext), ts: c.ts(p), is: is(p.Marker, len(p.Payload()) == 0)}
	if m := f.munger; m != nil && !s.empty() {
		if !m.keep(p, c.lim) {
			return nil
		}
		if s.nums, ok = m.numbers(p); !ok {
			return nil
		}
		if m.ends(p) {
			s.mark()
		}
	}
	f.sent.put(out, s)
	return f.sent.find(out)
}

// Resend builds the retransmission (RFC 4588) of the packet that was sent as out:
// the original sequence number, then the very bytes that were sent, on the RTX SSRC
// with a count of its own. The payload is read again from the source's ring and
// rewritten again. It never goes out on the media SSRC: SRTP must not encrypt two
// different packets under one number.
func (f *Forwarder) Resend(out uint64) (h *rtp.Header, payload []byte, ok bool) {
	s := f.sent.find(out)
	if s == nil || f.cur.tap == nil || out < f.keyOut {
		return nil, nil, false
	}
	h = f.head.forRTX()
	binary.BigEndian.PutUint16(f.scratch(), uint16(out))
	n := 2
	if !s.empty() {
		size, ok := f.reread(s, h, f.scratch()[2:])
		if !ok {
			f.stats.Unrepaired++
			return nil, nil, false
		}
		n += size
	}
	f.rtxSeq++
	f.stats.Resent++
	h.SequenceNumber, h.Timestamp, h.Marker = f.rtxSeq, s.ts, s.marker()
	return h, f.scratch()[:n], true
}

// reread writes the payload of s as it was sent to dst, and to h what the header had
// of it.
func (f *Forwarder) reread(s *sentPacket, h *rtp.Header, dst []byte) (n int, ok bool) {
	t := f.cur.tap
	ext := f.cur.full(s.ext)
	p := t.src.Lookup(t.layer, ext)
	if p == nil {
		return 0, false
	}
	defer p.Release()
	if p.SSRC != f.cur.ssrc || p.ExtSeq != ext {
		return 0, false
	}
	f.head.describe(h, &f.line, p, &s.nums)
	if f.munger == nil {
		return copy(dst, p.Payload()), true
	}
	b := f.munger.write(dst, p, s.nums)
	return copy(dst, b), len(b) > 0
}
