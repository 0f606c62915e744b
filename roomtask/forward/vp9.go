package forward

import "mayfly/roomtask/rtpx"

// vp9Munger selects the layers of VP9 (RFC 9628), scalable ones included, and moves
// picture ids and TL0PICIDX by one offset for each stint, so that they go on at a
// switch. Within a stint a dropped picture leaves a hole in the ids: receivers find
// the references of a picture by the distance between them.
//
// Spatial layers: those up to the limit are sent, which goes down at any picture, as
// the lower ones are there. It goes up at a keyframe, or where the next layer is
// predicted from the one below alone. Temporal layers: in flexible mode each picture
// names its references, and is sent if none of them was left out; else the U bit
// says where to go up.
type vp9Munger struct {
	done     decisions
	bits     uint   // width of the source's picture id: 7 or 15
	off      uint64 // source's extended picture id − ours
	pid      uint64 // newest picture id sent, extended
	tl0      uint8  // newest TL0PICIDX sent
	tl0Off   uint8
	sid, tid int8 // highest layers that are being sent
}

func (m *vp9Munger) begin(p *rtpx.Packet, lim limit) {
	d := &p.VP9
	m.sid, m.tid = lim.sid, lim.tid
	m.bits = 15
	if d.HasPictureID && !d.Wide {
		m.bits = 7
	}
	id := uint64(1)<<m.bits + uint64(d.PictureID) // one cycle up, so that unwrapping stays above zero
	m.done.begin(id)
	m.off = id - (m.pid + 1)
	m.tl0Off = d.TL0PicIdx - (m.tl0 + 1)
}

func (m *vp9Munger) jumped(p *rtpx.Packet) bool {
	d := &p.VP9
	if !d.HasPictureID {
		return false
	}
	id := m.unwrap(d.PictureID)
	return d.Wide != (m.bits == 15) || id <= m.done.high || id > m.done.high+maxPictures
}

// unwrap extends a picture id to the one nearest to the newest.
func (m *vp9Munger) unwrap(id uint16) uint64 {
	mask, half := uint64(1)<<m.bits-1, uint64(1)<<(m.bits-1)
	up := (uint64(id) - m.done.high) & mask
	if up < half {
		return m.done.high + up
	}
	return m.done.high - (mask + 1 - up)
}

func (m *vp9Munger) keep(p *rtpx.Packet, lim limit) bool {
	d := &p.VP9
	if d.Len == 0 || d.SID >= rtpx.MaxSpatial {
		return false
	}
	if !d.HasPictureID {
		m.limit(p, lim)
		return int8(d.SID) <= m.sid
	}
	id := m.unwrap(d.PictureID)
	newest := id > m.done.high
	if newest {
		m.done.advance(id, m.sid, m.tid)
		m.limit(p, lim)
		m.climb(d, lim)
		now := m.done.at(id)
		now.top, now.tid = m.sid, m.tid
	}
	was := m.done.at(id)
	bit := uint8(1) << d.SID
	switch {
	case was == nil || was.dropped&bit != 0:
		return false
	case was.kept&bit != 0:
		return true
	case !m.admit(d, id, was, lim):
		// Layers of which nothing came, between two that were left out, are left out
		// with them, as their place in the sequence is.
		for low := bit >> 1; was.dropped&(bit-1) != 0 && low != 0 && (was.kept|was.dropped)&low == 0; low >>= 1 {
			was.dropped |= low
		}
		was.dropped |= bit
		return false
	}
	was.kept |= bit
	was.top = max(was.top, int8(d.SID))
	return true
}

// limit applies lim to a new picture, whose first packet is p.
func (m *vp9Munger) limit(p *rtpx.Packet, lim limit) {
	m.sid, m.tid = min(m.sid, lim.sid), min(m.tid, lim.tid)
	if p.VP9.Flexible {
		m.tid = lim.tid // the references decide
	}
	if p.Key {
		m.sid, m.tid = lim.sid, lim.tid
	}
}

// climb goes up in temporal layers at a picture that lets one, outside of flexible mode.
func (m *vp9Munger) climb(d *rtpx.VP9Descriptor, lim limit) {
	if d.Flexible || !d.Up {
		return
	}
	switch tid := int8(d.TID); {
	case tid <= m.tid:
		m.tid = lim.tid // what follows does not depend on what came before (RFC 9628 §4.2)
	case tid == m.tid+1 && tid <= lim.tid:
		m.tid = tid
	}
}

// admit decides about a layer frame of picture id, of which was tells what is sent.
func (m *vp9Munger) admit(d *rtpx.VP9Descriptor, id uint64, was *decision, lim limit) bool {
	switch sid := int8(d.SID); {
	case sid > was.top && (sid > was.top+1 || sid > lim.sid || d.Inter || !d.InterLayer || id != m.done.high):
		return false
	case sid > 0 && d.InterLayer && m.done.lost(id, d.SID-1):
		return false
	case int8(d.TID) > was.tid:
		return false
	}
	if d.Flexible && d.Inter {
		for _, back := range d.Refs {
			if back != 0 && m.done.lost(id-uint64(back), d.SID) {
				return false
			}
		}
	}
	if id == m.done.high {
		m.sid = max(m.sid, int8(d.SID))
	}
	return true
}

func (m *vp9Munger) numbers(p *rtpx.Packet) (n numbers, ok bool) {
	d := &p.VP9
	if d.HasPictureID {
		id := m.unwrap(d.PictureID)
		was := m.done.at(id)
		if was == nil || was.kept&(1<<(d.SID&7)) == 0 {
			return n, false
		}
		pid := id - m.off
		n.pid = uint16(pid & 0x7FFF)
		m.pid = max(m.pid, pid)
	}
	if d.HasTL0 {
		n.tl0 = d.TL0PicIdx - m.tl0Off
		if int8(n.tl0-m.tl0) > 0 {
			m.tl0 = n.tl0
		}
	}
	return n, true
}

func (m *vp9Munger) write(dst []byte, p *rtpx.Packet, n numbers) []byte {
	return dst[:rtpx.RewriteVP9(dst, p.Payload(), p.VP9, n.pid, n.tl0)]
}

func (m *vp9Munger) ends(p *rtpx.Packet) bool {
	top := m.sid
	if was := m.done.at(m.unwrap(p.VP9.PictureID)); p.VP9.HasPictureID && was != nil {
		top = was.top
	}
	return p.VP9.End && int8(p.VP9.SID) == top
}

func (m *vp9Munger) spatial() int8 { return m.sid }
