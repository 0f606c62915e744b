package rtpx

import (
	"encoding/binary"
	"errors"
)

// MaxSpatial and MaxTemporal bound the layers within one stream. Browsers send at
// most three of each; the fields have room for eight.
const (
	MaxSpatial  = 4
	MaxTemporal = 4
)

// ErrVP9 says that a payload does not begin with a VP9 descriptor (RFC 9628 §4.2).
var ErrVP9 = errors.New("rtpx: malformed VP9 descriptor")

// VP9Descriptor is the parsed payload descriptor of RFC 9628 §4.2. Len is the number
// of bytes it takes at the front of the payload; 0 means not VP9.
type VP9Descriptor struct {
	Len          uint16
	PictureID    uint16
	HasPictureID bool
	Wide         bool // the picture id has 15 bits, else 7
	Inter        bool // P: predicted from other pictures
	Flexible     bool // F: the references are told, below
	Begin, End   bool // B, E: first and last packet of a layer frame
	HasLayers    bool // L
	TID, SID     uint8
	Up           bool // U: a point to go to a higher temporal layer
	InterLayer   bool // D: predicted from the spatial layer below
	HasTL0       bool
	TL0PicIdx    uint8
	Refs         [3]uint8 // of flexible mode: how many pictures back; 0 ends the list
	HasSS        bool     // V: VP9Structure tells more
}

// VP9Structure is what a scalability structure (RFC 9628 §4.2.1) tells of the spatial
// layers. Sizes are 0 if it has none.
type VP9Structure struct {
	Layers        int // 1 to 8
	Width, Height [8]uint16
}

// ParseVP9 reads the descriptor at the front of payload. If it has a scalability
// structure, that goes to ss, which may be nil.
func ParseVP9(payload []byte, ss *VP9Structure) (d VP9Descriptor, err error) {
	if len(payload) < 1 {
		return d, ErrVP9
	}
	b0, n := payload[0], 1
	d.Inter, d.Flexible = b0&0x40 != 0, b0&0x10 != 0
	d.Begin, d.End = b0&0x08 != 0, b0&0x04 != 0
	if b0&0x80 != 0 { // I
		if n, err = d.parsePictureID(payload, n); err != nil {
			return VP9Descriptor{}, err
		}
	}
	if b0&0x20 != 0 { // L
		if n, err = d.parseLayers(payload, n); err != nil {
			return VP9Descriptor{}, err
		}
	}
	if d.Flexible && d.Inter {
		if n, err = d.parseRefs(payload, n); err != nil {
			return VP9Descriptor{}, err
		}
	}
	if b0&0x02 != 0 { // V
		if n, err = parseVP9Structure(payload, n, ss); err != nil {
			return VP9Descriptor{}, err
		}
		d.HasSS = true
	}
	d.Len = uint16(n)
	return d, nil
}

func (d *VP9Descriptor) parsePictureID(b []byte, n int) (int, error) {
	if len(b) < n+1 {
		return 0, ErrVP9
	}
	d.HasPictureID = true
	if b[n]&0x80 == 0 {
		d.PictureID = uint16(b[n])
		return n + 1, nil
	}
	if len(b) < n+2 {
		return 0, ErrVP9
	}
	d.Wide, d.PictureID = true, binary.BigEndian.Uint16(b[n:])&0x7FFF
	return n + 2, nil
}

func (d *VP9Descriptor) parseLayers(b []byte, n int) (int, error) {
	if len(b) < n+1 {
		return 0, ErrVP9
	}
	d.HasLayers = true
	d.TID, d.Up, d.SID, d.InterLayer = b[n]>>5, b[n]&0x10 != 0, b[n]>>1&7, b[n]&1 != 0
	n++
	if d.Flexible {
		return n, nil
	}
	if len(b) < n+1 {
		return 0, ErrVP9
	}
	d.HasTL0, d.TL0PicIdx = true, b[n]
	return n + 1, nil
}

// parseRefs reads up to three differences of picture ids. More, or one of 0, is not
// allowed.
func (d *VP9Descriptor) parseRefs(b []byte, n int) (int, error) {
	for i := range len(d.Refs) {
		if len(b) < n+1 || b[n]>>1 == 0 {
			return 0, ErrVP9
		}
		d.Refs[i] = b[n] >> 1
		n++
		if b[n-1]&1 == 0 {
			return n, nil
		}
	}
	return 0, ErrVP9
}

func parseVP9Structure(b []byte, n int, ss *VP9Structure) (int, error) {
	if len(b) < n+1 {
		return 0, ErrVP9
	}
	head := b[n]
	n++
	var s VP9Structure
	s.Layers = int(head>>5) + 1
	if head&0x10 != 0 { // Y
		if len(b) < n+4*s.Layers {
			return 0, ErrVP9
		}
		for i := range s.Layers {
			s.Width[i], s.Height[i] = binary.BigEndian.Uint16(b[n:]), binary.BigEndian.Uint16(b[n+2:])
			n += 4
		}
	}
	if head&0x08 != 0 { // G: the pictures of a group, of which only the length is needed
		if len(b) < n+1 {
			return 0, ErrVP9
		}
		pictures := int(b[n])
		n++
		for range pictures {
			if len(b) < n+1 {
				return 0, ErrVP9
			}
			n += 1 + int(b[n]>>2&3)
		}
	}
	if n > len(b) {
		return 0, ErrVP9
	}
	if ss != nil {
		*ss = s
	}
	return n, nil
}

// FrameStart says whether the packet is the first of a picture.
func (d *VP9Descriptor) FrameStart() bool { return d.Len > 0 && d.Begin && d.SID == 0 }

// Key says whether the packet is of the lowest spatial layer of a keyframe.
func (d *VP9Descriptor) Key() bool { return d.Len > 0 && !d.Inter && d.SID == 0 }

// VP9Size reads the size of a keyframe from the frame's own header (VP9 bitstream
// specification §6.2), which the first packet of the lowest layer has behind its
// descriptor. It is 0×0 for anything but a keyframe of profile 0.
func VP9Size(payload []byte, d VP9Descriptor) (width, height uint16) {
	if !d.FrameStart() || len(payload) < int(d.Len) {
		return 0, 0
	}
	r := bitReader{b: payload[d.Len:]}
	marker, profile, shown := r.bits(2), r.bits(2), r.bits(1)
	frameType := r.bits(1)
	r.bits(2) // show_frame, error_resilient_mode
	sync := r.bits(24)
	if marker != 2 || profile != 0 || shown != 0 || frameType != 0 || sync != 0x498342 {
		return 0, 0
	}
	if space := r.bits(3); space == 7 { // RGB is not of profile 0
		return 0, 0
	}
	r.bits(1) // color_range
	w, h := r.bits(16)+1, r.bits(16)+1
	if r.short || w > 0xFFFF || h > 0xFFFF {
		return 0, 0
	}
	return uint16(w), uint16(h)
}

// RewriteVP9 copies payload to dst with another picture id and TL0PICIDX, and returns
// the length. The picture id is written with 15 bits always, so the copy is one byte
// longer than the original when that had 7; dst must have room for len(payload)+1
// bytes. It returns 0 if dst is too short or d does not belong to payload.
func RewriteVP9(dst, payload []byte, d VP9Descriptor, pid uint16, tl0 uint8) (n int) {
	if d.Len < 1 || int(d.Len) > len(payload) || len(dst) < len(payload)+1 {
		return 0
	}
	dst[0] = payload[0]
	from, n := 1, 1
	if d.HasPictureID {
		binary.BigEndian.PutUint16(dst[1:], pid|0x8000)
		from, n = 2, 3
		if d.Wide {
			from = 3
		}
	}
	at := n + 1 // of TL0PICIDX, behind the layer indices
	n += copy(dst[n:], payload[from:])
	if d.HasTL0 {
		dst[at] = tl0
	}
	return n
}
