package rtpx

import (
	"encoding/binary"
	"errors"
)

// ErrVP8 says that a payload does not begin with a VP8 descriptor (RFC 7741 §4.2).
var ErrVP8 = errors.New("rtpx: malformed VP8 descriptor")

// VP8Descriptor is the parsed payload descriptor of RFC 7741 §4.2. Len is the
// number of bytes it takes at the front of the payload; 0 means not VP8.
type VP8Descriptor struct {
	Len          int8
	N, S         bool  // non-reference frame; start of a partition
	PID          uint8 // partition index
	HasPictureID bool
	Wide         bool // the picture id has 15 bits, else 7
	PictureID    uint16
	HasTL0       bool
	TL0PicIdx    uint8
	HasTID       bool
	TID          uint8
	Y            bool // layer sync: depends on TL0 frames only
	HasKeyIdx    bool
	KeyIdx       uint8 // 5 bits
}

// ParseVP8 reads the descriptor at the front of payload.
func ParseVP8(payload []byte) (d VP8Descriptor, err error) {
	if len(payload) < 1 {
		return d, ErrVP8
	}
	b0 := payload[0]
	d.N, d.S, d.PID = b0&0x20 != 0, b0&0x10 != 0, b0&0x07
	n := 1
	if b0&0x80 != 0 {
		if n, err = d.parseExtended(payload); err != nil {
			return VP8Descriptor{}, err
		}
	}
	d.Len = int8(n)
	return d, nil
}

// parseExtended reads what follows the X bit and returns the descriptor's length.
func (d *VP8Descriptor) parseExtended(b []byte) (int, error) {
	if len(b) < 2 {
		return 0, ErrVP8
	}
	x, n := b[1], 2
	if x&0x80 != 0 {
		if len(b) < n+1 {
			return 0, ErrVP8
		}
		d.HasPictureID = true
		if b[n]&0x80 != 0 {
			if len(b) < n+2 {
				return 0, ErrVP8
			}
			d.Wide = true
			d.PictureID = binary.BigEndian.Uint16(b[n:]) & 0x7FFF
			n += 2
		} else {
			d.PictureID = uint16(b[n])
			n++
		}
	}
	if x&0x40 != 0 {
		if len(b) < n+1 {
			return 0, ErrVP8
		}
		d.HasTL0, d.TL0PicIdx = true, b[n]
		n++
	}
	if x&0x30 != 0 { // T or K share one byte
		if len(b) < n+1 {
			return 0, ErrVP8
		}
		if x&0x20 != 0 {
			d.HasTID, d.TID, d.Y = true, b[n]>>6, b[n]&0x20 != 0
		}
		if x&0x10 != 0 {
			d.HasKeyIdx, d.KeyIdx = true, b[n]&0x1F
		}
		n++
	}
	return n, nil
}

// FrameStart says whether the packet is the first of a frame.
func (d *VP8Descriptor) FrameStart() bool { return d.Len > 0 && d.S && d.PID == 0 }

// VP8Key reads the frame header behind the descriptor of a frame's first packet
// (RFC 6386 §9.1): whether the frame is a keyframe, and its size in pixels. The
// size is 0×0 if the packet ends before it.
func VP8Key(payload []byte, d VP8Descriptor) (key bool, width, height uint16) {
	if !d.FrameStart() || len(payload) <= int(d.Len) {
		return false, 0, 0
	}
	f := payload[d.Len:]
	if f[0]&1 != 0 { // P bit: 1 is an interframe
		return false, 0, 0
	}
	if len(f) < 10 || f[3] != 0x9D || f[4] != 0x01 || f[5] != 0x2A {
		return true, 0, 0
	}
	return true, binary.LittleEndian.Uint16(f[6:]) & 0x3FFF, binary.LittleEndian.Uint16(f[8:]) & 0x3FFF
}

// RewriteVP8 copies payload to dst with the descriptor's numbers replaced, and
// returns the length. Only fields that d has are written: a forwarder cannot add
// one. A picture id is written with 15 bits always, so the copy is one byte longer
// than the original when that had 7; dst must have room for len(payload)+1 bytes.
// It returns 0 if dst is too short or d does not belong to payload.
func RewriteVP8(dst, payload []byte, d VP8Descriptor, pid uint16, tl0 uint8, keyidx uint8) (n int) {
	if d.Len < 1 || int(d.Len) > len(payload) || len(dst) < len(payload)+1 {
		return 0
	}
	dst[0] = payload[0]
	if d.Len == 1 {
		return copy(dst, payload)
	}
	dst[1] = payload[1]
	n = 2
	if d.HasPictureID {
		binary.BigEndian.PutUint16(dst[n:], pid|0x8000)
		n += 2
	}
	if d.HasTL0 {
		dst[n] = tl0
		n++
	}
	if d.HasTID || d.HasKeyIdx {
		b := payload[d.Len-1]
		if d.HasKeyIdx {
			b = b&0xE0 | keyidx&0x1F
		}
		dst[n] = b
		n++
	}
	return n + copy(dst[n:], payload[d.Len:])
}
