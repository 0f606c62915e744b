package rtpx

import (
	"encoding/binary"
	"errors"
)

// ErrDD says that a dependency descriptor is malformed, or speaks of a structure that
// has not come.
var ErrDD = errors.New("rtpx: malformed dependency descriptor")

const (
	ddTemplates = 64
	ddTargets   = 32
	ddFlags     = 29 // bits before the structure of an extended descriptor
	// MaxDD is the longest dependency descriptor: what an element of the two-byte form
	// of header extensions holds (RFC 8285 §4.3).
	MaxDD = 255
)

// ddTemplate is what frames have in common (AV1 RTP payload format §A.8.4).
type ddTemplate struct {
	sid, tid uint8
	refs     uint64
}

// DDStructure is a template dependency structure, which a keyframe carries and all
// frames up to the next one refer to. It is not changed once a packet points to it.
type DDStructure struct {
	Targets   int // decode targets
	Chains    int
	Spatial   int // layers
	TargetSID [ddTargets]uint8
	TargetTID [ddTargets]uint8
	HasSizes  bool
	Width     [MaxSpatial]uint16
	Height    [MaxSpatial]uint16

	offset    uint8
	count     int
	templates [ddTemplates]ddTemplate
}

// DD is the parsed dependency descriptor of one packet. Len is the length of the
// extension's value; 0 means that the packet has none.
type DD struct {
	Len          uint8
	SID, TID     uint8
	First, Last  bool // packet of its frame
	HasStructure bool // the packet carries the structure
	HasMask      bool // and which decode targets are active
	Far          bool // the frame refers to one more than 64 back
	Frame        uint16
	maskAt       uint16 // bit at which the mask is, or would be
	Active       uint32 // decode targets that the publisher sends
	Refs         uint64 // bit i: the frame refers to the one 1+i before it
	S            *DDStructure
}

// DDReader parses the dependency descriptors of one stream, in the order in which
// they come. The zero value is ready.
type DDReader struct {
	s       *DDStructure
	at      uint16 // frame that brought it
	active  uint32
	scratch DDStructure
}

// Reset forgets the structure, as when another stream begins.
func (q *DDReader) Reset() { q.s, q.active = nil, 0 }

// Parse reads the descriptor b; newest says that no later packet came before. The
// structure of the latest frame that had one holds for others. A structure that has changed is the one thing that is
// allocated.
func (q *DDReader) Parse(b []byte, newest bool) (d DD, err error) {
	if len(b) < 3 || len(b) > MaxDD {
		return d, ErrDD
	}
	r := bitReader{b: b}
	d.Len, d.First, d.Last = uint8(len(b)), r.bit(), r.bit()
	template := uint8(r.bits(6))
	d.Frame = uint16(r.bits(16))
	d.S, d.Active = q.s, q.active
	var dtis, diffs, chains bool
	if len(b) > 3 {
		d.HasStructure, d.HasMask = r.bit(), r.bit()
		dtis, diffs, chains = r.bit(), r.bit(), r.bit()
		if d.HasStructure {
			if !q.scratch.parse(&r) {
				return DD{}, ErrDD
			}
			if d.S = q.s; d.S == nil || *d.S != q.scratch {
				s := q.scratch
				d.S = &s
			}
			d.Active = uint32(1)<<d.S.Targets - 1
		}
	}
	if d.S == nil {
		return DD{}, ErrDD
	}
	d.maskAt = uint16(r.at)
	if d.HasMask {
		d.Active = r.bits(d.S.Targets)
	}
	i := int(template-d.S.offset) & 63
	if i >= d.S.count {
		return DD{}, ErrDD
	}
	t := &d.S.templates[i]
	d.SID, d.TID, d.Refs = t.sid, t.tid, t.refs
	if dtis {
		r.at += 2 * d.S.Targets
	}
	if diffs {
		d.diffs(&r)
	}
	if chains {
		r.at += 8 * d.S.Chains
	}
	if r.short || r.at > 8*len(b) {
		return DD{}, ErrDD
	}
	// What comes late may have been overtaken by its own frame only.
	if d.HasStructure && (newest || q.s == nil || int16(d.Frame-q.at) > 0) {
		q.s, q.at, q.active = d.S, d.Frame, d.Active
	} else if newest {
		q.active = d.Active
	}
	return d, nil
}

// diffs reads a frame's own list of references.
func (d *DD) diffs(r *bitReader) {
	d.Refs = 0
	for size := r.bits(2); size > 0 && !r.short; size = r.bits(2) {
		if n := r.bits(4 * int(size)); n < 64 {
			d.Refs |= 1 << n
		} else {
			d.Far = true
		}
	}
}

// parse reads a template dependency structure (§A.8.4); false if it is malformed or
// has more layers than are handled.
func (s *DDStructure) parse(r *bitReader) bool {
	*s = DDStructure{}
	s.offset, s.Targets = uint8(r.bits(6)), int(r.bits(5))+1
	if !s.parseLayers(r) {
		return false
	}
	for i := range s.count {
		for t := range s.Targets {
			if r.bits(2) == 0 {
				continue
			}
			s.TargetSID[t] = max(s.TargetSID[t], s.templates[i].sid)
			s.TargetTID[t] = max(s.TargetTID[t], s.templates[i].tid)
		}
	}
	for i := range s.count {
		for r.bit() {
			s.templates[i].refs |= 1 << r.bits(4)
		}
	}
	if s.Chains = int(r.nonSymmetric(uint32(s.Targets) + 1)); s.Chains > 0 {
		for range s.Targets {
			r.nonSymmetric(uint32(s.Chains))
		}
		r.at += 4 * s.Chains * s.count
	}
	if s.HasSizes = r.bit(); s.HasSizes {
		for i := range s.Spatial {
			w, h := r.bits(16)+1, r.bits(16)+1
			s.Width[i], s.Height[i] = uint16(min(w, 0xFFFF)), uint16(min(h, 0xFFFF))
		}
	}
	return !r.short && r.at <= 8*len(r.b)
}

// parseLayers reads the layers of the templates, and how many templates there are.
func (s *DDStructure) parseLayers(r *bitReader) bool {
	var sid, tid uint8
	for {
		if s.count == ddTemplates || sid >= MaxSpatial || tid > 7 || r.short {
			return false
		}
		s.templates[s.count] = ddTemplate{sid: sid, tid: tid}
		s.count++
		switch r.bits(2) {
		case 1:
			tid++
		case 2:
			sid, tid = sid+1, 0
		case 3:
			s.Spatial = int(sid) + 1
			return true
		}
	}
}

// Mask are the active decode targets for one who is sent the layers up to sid and tid.
func (d *DD) Mask(sid, tid uint8) (mask uint32) {
	for t := range d.S.Targets {
		if d.S.TargetSID[t] <= sid && d.S.TargetTID[t] <= tid {
			mask |= 1 << t
		}
	}
	return mask & d.Active
}

// RewriteDD copies the descriptor raw to dst with another frame number and, if mask
// is not 0, with mask as the active decode targets, which may make it up to five
// bytes longer. It returns the length, 0 if d does not belong to raw or dst is too short.
func RewriteDD(dst, raw []byte, d *DD, frame uint16, mask uint32) int {
	if d.Len < 3 || int(d.Len) != len(raw) || len(dst) < len(raw) {
		return 0
	}
	if mask == 0 {
		n := copy(dst, raw)
		binary.BigEndian.PutUint16(dst[1:], frame)
		return n
	}
	flags, rest := uint32(0), bitReader{b: raw, at: 24}
	if d.Len > 3 {
		flags = rest.bits(5)
	}
	extra := 0
	if d.Len == 3 {
		extra = 5
	}
	if !d.HasMask {
		extra += d.S.Targets
	}
	size := len(raw) + (extra+7)/8
	if size > MaxDD || size > len(dst) {
		return 0
	}
	clear(dst[:size])
	w := bitWriter{b: dst[:size]}
	w.bits(uint32(raw[0]), 8)
	w.bits(uint32(frame), 16)
	w.bits(flags|0x08, 5)
	for d.Len > 3 && rest.at < int(d.maskAt) {
		w.bits(rest.bits(1), 1)
	}
	w.bits(mask, d.S.Targets)
	if d.HasMask {
		rest.at += d.S.Targets
	}
	for rest.at < 8*len(raw) {
		w.bits(rest.bits(1), 1)
	}
	return size
}
