package forward

import "mayfly/roomtask/rtpx"

// av1Munger selects the layers of AV1 by the dependency descriptor, which names the
// references of each frame: a frame within the limit is sent if none of them was left
// out. So temporal layers come and go with the next picture that lets them. Spatial
// layers go with the next picture, and come with a keyframe, since the last frame of a
// picture must be known when it is sent. Frame numbers are moved by one offset for each
// stint; within one, a dropped frame leaves a hole, for references are distances.
type av1Munger struct {
	done  decisions // by frame: each has the bit of layer 0
	off   uint64    // source's extended frame number − ours
	frame uint64    // newest frame number sent, extended
	ts    uint32    // source's timestamp of the newest picture
	lim   limit     // that applies to it
	sid   int8      // highest spatial layer that is being sent
}

func (m *av1Munger) begin(p *rtpx.Packet, lim limit) {
	id := 1<<16 + uint64(p.DD.Frame)
	m.done.begin(id)
	m.off = id - (m.frame + 1)
	m.lim, m.sid, m.ts = lim, lim.sid, p.TS
}

func (m *av1Munger) jumped(p *rtpx.Packet) bool {
	id := m.unwrap(p.DD.Frame)
	return id <= m.done.high || id > m.done.high+maxPictures
}

func (m *av1Munger) unwrap(frame uint16) uint64 {
	return m.done.high + uint64(int64(int16(frame-uint16(m.done.high))))
}

func (m *av1Munger) keep(p *rtpx.Packet, lim limit) bool {
	d := &p.DD
	if d.Len == 0 {
		return false // of a structure that is not known
	}
	id, before := m.unwrap(d.Frame), m.done.high
	same := p.TS == m.ts
	if id > before {
		m.done.advance(id, m.sid, m.lim.tid)
		if !same {
			m.ts, m.lim = p.TS, lim
			m.sid = min(m.sid, lim.sid)
			if p.Key {
				m.sid = lim.sid
			}
		}
		// Lower layers that were passed over are of this picture, too.
		for i := id; i > before && i+uint64(d.SID) >= id; i-- {
			now := m.done.at(i)
			now.top, now.tid = m.sid, m.lim.tid
		}
	}
	was := m.done.at(id)
	switch {
	case was == nil || was.dropped != 0:
		return false
	case was.kept != 0:
		return true
	case !m.admit(d, id, was):
		was.dropped = 1
		if same && m.done.lost(before, 0) {
			// Frames of which nothing came, between two of a picture that were left
			// out, are left out with them, as their place in the sequence is.
			for i := max(before+1, id-min(id, decided-1)); i < id; i++ {
				m.done.at(i).dropped = 1
			}
		}
		return false
	}
	was.kept = 1
	return true
}

func (m *av1Munger) admit(d *rtpx.DD, id uint64, was *decision) bool {
	if int8(d.SID) > was.top || int8(d.TID) > was.tid {
		return false
	}
	for refs, back := d.Refs, uint64(1); refs != 0; refs, back = refs>>1, back+1 {
		if refs&1 != 0 && m.done.lost(id-back, 0) {
			return false
		}
	}
	return true
}

func (m *av1Munger) numbers(p *rtpx.Packet) (n numbers, ok bool) {
	id := m.unwrap(p.DD.Frame)
	was := m.done.at(id)
	if was == nil || was.kept == 0 {
		return n, false
	}
	frame := id - m.off
	n.pid = uint16(frame)
	m.frame = max(m.frame, frame)
	if mask := p.DD.Mask(uint8(was.top), uint8(max(0, m.lim.tid))); mask != p.DD.Active {
		n.mask = mask
	}
	return n, true
}

func (m *av1Munger) write(_ []byte, p *rtpx.Packet, _ numbers) []byte { return p.Payload() }

func (m *av1Munger) ends(p *rtpx.Packet) bool {
	was := m.done.at(m.unwrap(p.DD.Frame))
	return p.DD.Last && was != nil && int8(p.DD.SID) == was.top
}

func (m *av1Munger) spatial() int8 { return m.sid }
