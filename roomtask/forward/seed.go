package forward

import "mayfly/roomtask/rtpx"

// seedSqueeze is how much faster than it came a seed is shown: its pictures are of the
// past, and only the newest is of the present. A receiver that saw the true distances
// would lag behind by the age of the keyframe until its clock had adapted. 256 leaves
// an interval of 33 ms, 2970 ticks, with 11: each picture keeps a time of its own.
const seedSqueeze = 256

// seedTap adds the tap of a line that shows nothing yet together with what the layer
// has sent since its newest keyframe. It returns false if there is no such seed; then
// the tap was not added.
func (f *Forwarder) seedTap(t *Tap, now int64) bool {
	if !f.line.Video || f.cur.tap != nil {
		return false
	}
	seed, ok := t.src.AddSeeded(t.layer, t)
	if !ok {
		f.askKeyframe(t, now)
		return true
	}
	t.seed, f.askedAt = seed, now
	return true
}

// startOffset is what to take from the source's timestamps in the stint that p begins.
// The newest packet of a seed is placed as if it were the first, and those before it
// right in front.
func (f *Forwarder) startOffset(t *Tap, p *rtpx.Packet) uint32 {
	s := &t.seed
	if p.ExtSeq < s.First || p.ExtSeq > s.Last {
		return p.TS - f.startTS(t, p.SSRC, p.TS, p.Arrival)
	}
	ts := f.startTS(t, p.SSRC, s.TS, s.At)
	if lead := squeezed(s.TS - p.TS); f.begun && int32(ts-lead-f.ts) <= 0 {
		ts = f.ts + 1 + lead
	}
	return s.TS - ts
}

// ts is the timestamp under which a packet of the stint is sent.
func (c *stint) ts(p *rtpx.Packet) uint32 {
	ts := p.TS - c.tsOff
	if age := c.seed.TS - p.TS; c.seeded(p) && age < 1<<31 {
		ts = c.seed.TS - c.tsOff - squeezed(age)
	}
	return ts
}

// arrival is when the moment that a packet's timestamp stands for came to us.
func (c *stint) arrival(p *rtpx.Packet) int64 {
	if c.seeded(p) {
		return c.seed.At
	}
	return p.Arrival
}

func (c *stint) seeded(p *rtpx.Packet) bool {
	return p.ExtSeq <= c.seed.Last && p.ExtSeq >= c.seed.First
}

// squeezed is the distance that is left of age, both in ticks.
func squeezed(age uint32) uint32 { return age / seedSqueeze }
