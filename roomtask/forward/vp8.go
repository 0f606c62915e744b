package forward

import "mayfly/roomtask/rtpx"

// vp8Munger keeps the numbers in VP8 payload descriptors (RFC 7741 §4.2) continuous
// for one subscriber: the picture id grows by one per picture over all sources,
// layers and dropped pictures, TL0PICIDX and KEYIDX go on where they were. The
// picture id is always sent with 15 bits, so that the descriptor's length does not
// change in mid-stream. Fields that a source does not send are not invented: a
// receiver then orders its frames by sequence number.
type vp8Munger struct {
	pids   ranges
	done   pictures
	bits   uint   // width of the source's picture id: 7 or 15
	high   uint64 // newest picture of the source, extended
	pid    uint64 // newest picture id sent, extended
	tl0    uint8  // newest TL0PICIDX sent
	key    uint8  // newest KEYIDX sent (5 bits)
	tl0Off uint8
	keyOff uint8
	tid    int8 // highest temporal layer that is being sent
}

// vp8Numbers are the fields as they are sent.
type vp8Numbers struct {
	pid      uint16
	tl0, key uint8
}

// pictures remembers what was decided about the newest pictures of a stint, as decisions
// does for streams with spatial layers. There is one for each camera that a viewer sees, so
// it has a byte for each picture: the highest temporal layer that is sent, and whether the
// picture is.
type pictures struct {
	of   [decided]uint8
	high uint64 // newest picture
}

const pictureKept = 0x80

func (d *pictures) begin(id uint64) { *d = pictures{high: id - 1} }

// advance makes id the newest picture. Those that were passed over may come late, and are
// judged by the layer that was sent at this time.
func (d *pictures) advance(id uint64, tid int8) {
	for i := max(d.high+1, id-min(id, decided-1)); i <= id; i++ {
		d.of[i%decided] = uint8(max(tid, 0))
	}
	d.high = id
}

// keep notes that the newest picture is sent.
func (d *pictures) keep(id uint64) { d.of[id%decided] |= pictureKept }

// above says whether id was left out, and temporal layer tid with it. Nothing is held against
// a picture that is forgotten.
func (d *pictures) above(id uint64, tid int8) bool {
	if id > d.high || d.high-id >= decided {
		return false
	}
	was := d.of[id%decided]
	return was&pictureKept == 0 && tid > int8(was)
}

// begin continues with another source or layer, whose first packet, of a keyframe,
// carries d. maxTID is the wanted temporal layer: a keyframe allows all of them.
func (m *vp8Munger) begin(d *rtpx.VP8Descriptor, maxTID int8) {
	m.tid = maxTID
	if d.HasPictureID {
		m.bits = 7
		if d.Wide {
			m.bits = 15
		}
		// One cycle up, so that unwrapping never goes below zero.
		m.high = 1<<m.bits + uint64(d.PictureID)
		m.pids.reset(m.high, m.pid+1)
		m.done.begin(m.high)
		m.done.advance(m.high, m.tid)
		m.done.keep(m.high)
	}
	m.tl0Off = d.TL0PicIdx - (m.tl0 + 1)
	m.keyOff = d.KeyIdx - (m.key + 1)
}

// jumped says that d, of a keyframe that came in order, does not follow the
// picture ids before it: the encoder began anew under the same SSRC.
func (m *vp8Munger) jumped(d *rtpx.VP8Descriptor) bool {
	if !d.HasPictureID {
		return false
	}
	id := m.unwrap(d.PictureID)
	return m.bits == 0 || d.Wide != (m.bits == 15) || id <= m.high || id > m.high+64
}

// unwrap extends a picture id to the one nearest to the newest.
func (m *vp8Munger) unwrap(id uint16) uint64 {
	mask, half := uint64(1)<<m.bits-1, uint64(1)<<(m.bits-1)
	up := (uint64(id) - m.high) & mask
	if up < half {
		return m.high + up
	}
	return m.high - (mask + 1 - up)
}

// keep decides whether the picture of d is sent, and notes the decision: it holds
// for all packets of the picture. A new picture is dropped when its temporal layer
// is above maxTID, or above what is being sent and no point to switch up (the Y
// bit: it depends on the base layer only). key says that it is a keyframe.
func (m *vp8Munger) keep(d *rtpx.VP8Descriptor, key bool, maxTID int8) bool {
	if !d.HasPictureID {
		return true
	}
	id, tid := m.unwrap(d.PictureID), int8(d.TID)
	if id <= m.high {
		_, ok := m.pids.get(id)
		if d.HasTID && m.done.above(id, tid) {
			return false // all of it is late, and what it depends on was left out
		}
		return ok
	}
	m.high = id
	m.done.advance(id, m.tid)
	m.tid = min(m.tid, maxTID)
	switch {
	case key:
		m.tid = maxTID
	case !d.HasTID || tid <= m.tid:
	case tid == m.tid+1 && tid <= maxTID && d.Y:
		m.tid = tid
	default:
		m.pids.drop(id, id)
		return false
	}
	m.done.keep(id)
	return true
}

// numbers are what the packet with d is sent with; false if its picture was
// dropped or is forgotten. keep must have seen the picture.
func (m *vp8Munger) numbers(d *rtpx.VP8Descriptor) (n vp8Numbers, ok bool) {
	if d.HasPictureID {
		pid, ok := m.pids.get(m.unwrap(d.PictureID))
		if !ok {
			return n, false
		}
		n.pid = uint16(pid & 0x7FFF)
		m.pid = max(m.pid, pid)
	}
	if d.HasTL0 {
		n.tl0 = d.TL0PicIdx - m.tl0Off
		if int8(n.tl0-m.tl0) > 0 {
			m.tl0 = n.tl0
		}
	}
	if d.HasKeyIdx {
		n.key = (d.KeyIdx - m.keyOff) & 0x1F
		if (n.key-m.key)&0x1F < 0x10 {
			m.key = n.key
		}
	}
	return n, true
}
