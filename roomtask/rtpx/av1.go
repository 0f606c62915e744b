package rtpx

import "errors"

// ErrAV1 says that a payload is not of the AV1 RTP payload format.
var ErrAV1 = errors.New("rtpx: malformed AV1 payload")

const (
	obuSequence = 1 // OBU_SEQUENCE_HEADER (AV1 §6.2.2)
	maxOBUs     = 8 // that are looked at: a sequence header is the first or second
)

// AV1Packet is what one payload says of its frame.
type AV1Packet struct {
	Continues     bool // begins with a part of an OBU whose beginning came before (Z)
	Key           bool // is the first of a coded video sequence (N), which a keyframe begins
	Width, Height uint16
}

// ParseAV1 reads the aggregation header (AV1 RTP payload format §4.4) and, on the
// first packet of a coded video sequence, the sequence header.
func ParseAV1(payload []byte) (a AV1Packet, err error) {
	if len(payload) < 2 {
		return a, ErrAV1
	}
	head := payload[0]
	a.Continues, a.Key = head&0x80 != 0, head&0x08 != 0
	if a.Key && a.Continues {
		return AV1Packet{}, ErrAV1
	}
	if !a.Key {
		return a, nil
	}
	count, b := int(head>>4&3), payload[1:]
	for i := 1; i <= maxOBUs && len(b) > 0; i++ {
		obu := b
		if count == 0 || i < count {
			size, n := leb128(b)
			if n == 0 || size > uint32(len(b)-n) {
				return AV1Packet{}, ErrAV1
			}
			obu, b = b[n:n+int(size)], b[n+int(size):]
		} else {
			b = nil
		}
		if w, h, ok := sequenceSize(obu); ok {
			a.Width, a.Height = w, h
			return a, nil
		}
	}
	return a, nil
}

// leb128 reads a little-endian base-128 number of at most 32 bits (AV1 §4.10.5). n is
// its length, 0 if it is cut off or too large.
func leb128(b []byte) (v uint32, n int) {
	for i := range min(len(b), 5) {
		part := uint64(b[i]&0x7F) << (7 * i)
		if part > 0xFFFFFFFF {
			return 0, 0
		}
		v |= uint32(part)
		if b[i]&0x80 == 0 {
			return v, i + 1
		}
	}
	return 0, 0
}

// sequenceSize reads max_frame_width and max_frame_height of a sequence header
// (AV1 §5.5.1).
func sequenceSize(obu []byte) (width, height uint16, ok bool) {
	if len(obu) < 2 || obu[0]>>3&0xF != obuSequence {
		return 0, 0, false
	}
	skip := 1
	if obu[0]&0x04 != 0 { // obu_extension_flag
		skip++
	}
	if obu[0]&0x02 != 0 { // obu_has_size_field
		_, n := leb128(obu[min(skip, len(obu)):])
		if n == 0 {
			return 0, 0, false
		}
		skip += n
	}
	r := bitReader{b: obu[min(skip, len(obu)):]}
	r.bits(4) // seq_profile, still_picture
	if r.bit() {
		r.bits(5)
	} else {
		r.operatingPoints()
	}
	wBits, hBits := int(r.bits(4))+1, int(r.bits(4))+1
	w, h := r.bits(wBits)+1, r.bits(hBits)+1
	if r.short || w > 0xFFFF || h > 0xFFFF {
		return 0, 0, false
	}
	return uint16(w), uint16(h), true
}

// operatingPoints skips from timing_info_present_flag to the last operating point.
func (r *bitReader) operatingPoints() {
	delayBits, decoderModel := 0, false
	if r.bit() { // timing_info_present_flag
		r.bits(32)
		r.bits(32)
		if r.bit() { // equal_picture_interval: num_ticks_per_picture is coded as uvlc
			r.golomb()
		}
		if decoderModel = r.bit(); decoderModel {
			delayBits = int(r.bits(5)) + 1
			r.bits(32)
			r.bits(10)
		}
	}
	display := r.bit() // initial_display_delay_present_flag
	for n := r.bits(5) + 1; n > 0 && !r.short; n-- {
		r.bits(12)
		if r.bits(5) > 7 {
			r.bit()
		}
		if decoderModel && r.bit() {
			r.bits(delayBits)
			r.bits(delayBits)
			r.bit()
		}
		if display && r.bit() {
			r.bits(4)
		}
	}
}
