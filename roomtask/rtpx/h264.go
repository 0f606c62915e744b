package rtpx

import (
	"encoding/binary"
	"errors"
)

// ErrH264 says that a payload is not of RFC 6184 in packetization mode 1.
var ErrH264 = errors.New("rtpx: malformed H.264 payload")

// NAL unit types (H.264 table 7-1, RFC 6184 table 1).
const (
	nalIDR   = 5
	nalSPS   = 7
	nalAUD   = 9
	nalSTAPA = 24
	nalFUA   = 28
)

// H264Packet is what one payload says of its frame.
type H264Packet struct {
	Head          bool // has a parameter set or a delimiter, which stand before a frame's slices
	Key           bool // has a sequence parameter set, or the beginning of a slice of an IDR picture
	Width, Height uint16
}

// ParseH264 looks at the NAL units of a payload (RFC 6184 §5): a single one, a STAP-A,
// or a part of one, FU-A.
func ParseH264(payload []byte) (h H264Packet, err error) {
	if len(payload) < 1 || payload[0]&0x80 != 0 {
		return h, ErrH264
	}
	switch payload[0] & 0x1F {
	case nalSTAPA:
		b := payload[1:]
		if len(b) < 3 {
			return h, ErrH264
		}
		for len(b) >= 2 {
			n := int(binary.BigEndian.Uint16(b))
			if n == 0 || len(b) < 2+n {
				return H264Packet{}, ErrH264
			}
			h.nal(b[2]&0x1F, b[3:2+n])
			b = b[2+n:]
		}
	case nalFUA:
		if len(payload) < 2 {
			return h, ErrH264
		}
		if payload[1]&0x80 != 0 {
			h.nal(payload[1]&0x1F, payload[2:])
		}
	case 0, 25, 26, 27, 29, 30, 31:
		return h, ErrH264
	default:
		h.nal(payload[0]&0x1F, payload[1:])
	}
	return h, nil
}

// nal takes in one NAL unit, or the beginning of one, without its first byte.
func (h *H264Packet) nal(kind uint8, b []byte) {
	switch kind {
	case nalIDR:
		h.Key = true
	case nalSPS:
		h.Key, h.Head = true, true
		if w, ht, ok := parseSPS(b); ok {
			h.Width, h.Height = w, ht
		}
	case nalAUD:
		h.Head = true
	}
}

// maxSPS is how much of a sequence parameter set is looked at: the size stands within
// the first 20 bytes, unless there are scaling lists.
const maxSPS = 128

// parseSPS reads the picture's size from a sequence parameter set (H.264 §7.3.2.1.1).
func parseSPS(b []byte) (width, height uint16, ok bool) {
	var raw [maxSPS]byte
	n, zeros := 0, 0
	for _, c := range b { // without the emulation prevention bytes (§7.4.1)
		if zeros >= 2 && c == 3 {
			zeros = 0
			continue
		}
		if n == maxSPS {
			break
		}
		if raw[n] = c; c == 0 {
			zeros++
		} else {
			zeros = 0
		}
		n++
	}
	r := bitReader{b: raw[:n]}
	profile := r.bits(8)
	r.bits(16) // constraints, level
	r.golomb() // seq_parameter_set_id
	chroma := uint32(1)
	if hasChroma(profile) {
		chroma = r.chroma()
	}
	r.golomb() // log2_max_frame_num_minus4
	r.orderCount()
	r.golomb() // max_num_ref_frames
	r.bit()    // gaps_in_frame_num_value_allowed_flag
	w, h := (uint64(r.golomb())+1)*16, (uint64(r.golomb())+1)*16
	frames := uint64(1)
	if !r.bit() { // frame_mbs_only_flag
		frames = 2
		r.bit() // mb_adaptive_frame_field_flag
	}
	h *= frames
	r.bit() // direct_8x8_inference_flag
	if r.bit() {
		left, right, top, bottom := uint64(r.golomb()), uint64(r.golomb()), uint64(r.golomb()), uint64(r.golomb())
		x, y := uint64(1), frames
		if chroma == 1 || chroma == 2 {
			x = 2
		}
		if chroma == 1 {
			y *= 2
		}
		if (left+right)*x >= w || (top+bottom)*y >= h {
			return 0, 0, false
		}
		w, h = w-(left+right)*x, h-(top+bottom)*y
	}
	if r.short || w > 0xFFFF || h > 0xFFFF {
		return 0, 0, false
	}
	return uint16(w), uint16(h), true
}

// hasChroma says whether a profile's parameter set tells the chroma format.
func hasChroma(profile uint32) bool {
	switch profile {
	case 100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135:
		return true
	}
	return false
}

// chroma reads what the high profiles have, and returns chroma_format_idc.
func (r *bitReader) chroma() uint32 {
	chroma, lists := r.golomb(), 8
	if chroma == 3 {
		r.bit() // separate_colour_plane_flag
		lists = 12
	}
	r.golomb() // bit_depth_luma_minus8
	r.golomb() // bit_depth_chroma_minus8
	r.bit()    // qpprime_y_zero_transform_bypass_flag
	if !r.bit() {
		return chroma
	}
	for i := range lists {
		if !r.bit() {
			continue
		}
		size := 16
		if i >= 6 {
			size = 64
		}
		last, next := int64(8), int64(8)
		for j := 0; j < size && !r.short; j++ {
			if next != 0 {
				next = (last + r.signed() + 256) & 0xFF
			}
			if next != 0 {
				last = next
			}
		}
	}
	return chroma
}

// orderCount skips what is said of the picture order count.
func (r *bitReader) orderCount() {
	switch r.golomb() {
	case 0:
		r.golomb()
	case 1:
		r.bit()
		r.signed()
		r.signed()
		for n := r.golomb(); n > 0 && !r.short; n-- {
			r.signed()
		}
	}
}
