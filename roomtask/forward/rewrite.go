package forward

import (
	"encoding/binary"

	"github.com/pion/rtp"

	"mayfly/roomtask/ingest"
	"mayfly/roomtask/rtpx"
)

// forward sends a packet of the current stint, or finds that it must not be sent.
func (f *Forwarder) forward(p *rtpx.Packet) (*rtp.Header, []byte, bool) {
	c := &f.cur
	if p.ExtSeq < c.first || p.SSRC != c.ssrc {
		f.stats.Stale++ // from before the switch
		return nil, nil, false
	}
	if p.ExtSeq > c.high {
		if !f.inOrder(p) {
			f.stats.Swallowed++
			return nil, nil, false
		}
		if f.state == Switch && f.next == nil && !f.climbs() {
			f.state = Live
		}
		out, _ := c.seqs.get(p.ExtSeq)
		return f.emit(p, out, len(p.Payload()) == 0)
	}
	out, ok := c.seqs.get(p.ExtSeq)
	if !ok || f.sent.tooOld(out) {
		f.stats.Stale++
		return nil, nil, false
	}
	if f.sent.find(out) != nil {
		f.stats.Duplicate++
		return nil, nil, false
	}
	// A hole was left for this number, so something must fill it, even when there is
	// nothing to show: the receiver would ask for it again and again.
	empty := len(p.Payload()) == 0 || (f.munger != nil && !f.munger.keep(p, c.lim))
	return f.emit(p, out, empty)
}

// inOrder takes note of the newest packet so far. It returns false when the packet
// is left out, and its number closed up.
func (f *Forwarder) inOrder(p *rtpx.Packet) bool {
	c := &f.cur
	prev := c.high
	c.high = p.ExtSeq
	if len(p.Payload()) == 0 {
		c.seqs.drop(p.ExtSeq, p.ExtSeq)
		return false
	}
	if p.TS != c.newTS {
		c.newTS, c.lim = p.TS, f.want
	}
	if m := f.munger; m != nil {
		if c.codec == rtpx.CodecAV1 && p.DD.Len == 0 {
			c.dropping = false
			return false // of a structure that came later: a hole, for nobody knows what is missing
		}
		if p.Key && p.Start && p.ExtSeq != c.first && m.jumped(p) {
			m.begin(p, c.lim)
		}
		if !m.keep(p, c.lim) {
			lo := p.ExtSeq
			if c.dropping && c.dropTS == p.TS {
				lo = prev + 1 // a hole within a dropped picture is dropped with it
			}
			c.seqs.drop(lo, p.ExtSeq)
			c.dropping, c.dropTS = true, p.TS
			return false
		}
	}
	c.dropping = false
	if p.Key && p.Start && f.line.Video {
		f.keyOut, _ = c.seqs.get(p.ExtSeq)
	}
	return true
}

// emit builds the packet that is sent as out, and remembers how.
func (f *Forwarder) emit(p *rtpx.Packet, out uint64, empty bool) (*rtp.Header, []byte, bool) {
	s := sentPacket{ext: uint32(p.ExtSeq), ts: f.cur.ts(p), is: is(p.Marker && !empty, empty)}
	payload, pt := p.Payload(), f.types.PT
	switch {
	case empty:
		payload = nil
	case f.munger != nil:
		n, ok := f.munger.numbers(p)
		if !ok {
			f.stats.Stale++
			return nil, nil, false
		}
		if s.nums = n; f.munger.ends(p) {
			s.mark()
		}
		payload = f.munger.write(f.scratch(), p, n)
	case f.red > 0 && out > f.out: // what comes late was carried by its successors
		if size := f.protect(p); size > 0 {
			payload, pt = f.scratch()[:size], f.line.REDPT
		}
	}
	if out > f.out {
		f.out, f.marker = out, s.marker()
	}
	if !f.begun || int32(s.ts-f.ts) > 0 {
		f.ts, f.tsAt = s.ts, f.cur.arrival(p)
		f.arrived(f.ts, f.tsAt)
	}
	f.begun = true
	f.sent.put(out, s)
	f.stats.Packets++
	f.stats.Octets += uint32(len(payload))

	h := f.head.forMedia(!f.line.Video && p.HasLevel, p.Level, p.Voice)
	h.SequenceNumber, h.Timestamp, h.Marker, h.PayloadType = uint16(out), s.ts, s.marker(), pt
	if !empty {
		f.head.describe(h, &f.line, p, &s.nums)
	}
	return h, payload, true
}

// StampTWCC writes the transport-wide sequence number into the header that Rewrite
// or Resend returned last, and says whether the line has the extension. The Sender
// counts, because the numbers run over all its lines in the order of the wire.
func (f *Forwarder) StampTWCC(n uint16) bool {
	if f.line.TWCCExt == 0 {
		return false
	}
	binary.BigEndian.PutUint16(f.head.twcc[:], n)
	return true
}

// startTS is the timestamp of the first packet of a stint. Within one stream it just
// goes on; between two layers of a source both sender reports tell the distance;
// otherwise the time that passed does.
func (f *Forwarder) startTS(t *Tap, ssrc, srcTS uint32, at int64) uint32 {
	if !f.begun {
		return f.ts
	}
	elapsed := ticks(max(0, at-f.tsAt), f.line.ClockRate)
	ahead := elapsed
	if ts, ok := f.mappedTS(t, ssrc, srcTS); ok {
		// Compared near the expected value, because 32 bits are 13 h of video only.
		d := int64(int32(ts - (f.ts + uint32(elapsed))))
		if rate := int64(f.line.ClockRate); -rate < d && d < rate {
			ahead = elapsed + d // else a report is out of date
		}
	}
	ahead = max(1, min(ahead, elapsed+ticks(maxLead, f.line.ClockRate)))
	return f.ts + uint32(ahead)
}

func (f *Forwarder) mappedTS(t *Tap, ssrc, srcTS uint32) (ts uint32, ok bool) {
	l := &f.last
	switch {
	case l.src == t.src && l.layer == t.layer && l.ssrc == ssrc:
		return srcTS - l.tsOff, true
	case l.src != t.src || l.layer == t.layer:
		return f.continued(t, srcTS)
	}
	to, ok1 := t.src.SenderReport(t.layer)
	from, ok2 := t.src.SenderReport(l.layer)
	if !ok1 || !ok2 || f.line.ClockRate == 0 {
		return 0, false
	}
	since := int64(int32(srcTS-to.RTP)) * second / int64(f.line.ClockRate)
	at := ingest.NTPNanos(to.NTP) + since
	return from.RTP + uint32(ticks(at-ingest.NTPNanos(from.NTP), f.line.ClockRate)) - l.tsOff, true
}
