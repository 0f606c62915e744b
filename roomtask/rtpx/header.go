package rtpx

import (
	"encoding/binary"
	"errors"
)

// Errors of the parsers. They carry no detail: the bytes come from strangers, and
// the caller counts failures without logging each.
var (
	ErrShort   = errors.New("rtpx: packet too short")
	ErrVersion = errors.New("rtpx: not RTP version 2")
	ErrPadding = errors.New("rtpx: padding longer than payload")
)

// Profiles of the two header extension forms of RFC 8285. The two-byte form
// leaves its low four bits to the application.
const (
	profileOneByte     = 0xBEDE
	profileTwoByte     = 0x1000
	profileTwoByteMask = 0xFFF0
)

// Header is a parsed RTP packet. Its slices point into the parsed bytes.
type Header struct {
	Marker  bool
	PT      uint8
	Seq     uint16
	TS      uint32
	SSRC    uint32
	Payload []byte // without padding
	Padding int    // bytes of padding that were cut off, including the count byte

	profile uint16
	ext     []byte
}

// Parse reads the packet b into h (RFC 3550 §5.1) without allocating.
func (h *Header) Parse(b []byte) error {
	if len(b) < 12 {
		return ErrShort
	}
	if b[0]>>6 != 2 {
		return ErrVersion
	}
	h.Marker = b[1]&0x80 != 0
	h.PT = b[1] & 0x7F
	h.Seq = binary.BigEndian.Uint16(b[2:])
	h.TS = binary.BigEndian.Uint32(b[4:])
	h.SSRC = binary.BigEndian.Uint32(b[8:])
	h.profile, h.ext, h.Padding = 0, nil, 0

	n := 12 + 4*int(b[0]&0x0F)
	if b[0]&0x10 != 0 {
		if len(b) < n+4 {
			return ErrShort
		}
		h.profile = binary.BigEndian.Uint16(b[n:])
		size := 4 * int(binary.BigEndian.Uint16(b[n+2:]))
		n += 4
		if len(b) < n+size {
			return ErrShort
		}
		h.ext = b[n : n+size]
		n += size
	}
	if len(b) < n {
		return ErrShort
	}
	h.Payload = b[n:]
	if b[0]&0x20 != 0 {
		if len(h.Payload) == 0 {
			return ErrPadding
		}
		h.Padding = int(h.Payload[len(h.Payload)-1])
		if h.Padding == 0 || h.Padding > len(h.Payload) {
			return ErrPadding
		}
		h.Payload = h.Payload[:len(h.Payload)-h.Padding]
	}
	return nil
}

// NextExt walks the header extensions, one per call, in either form of RFC 8285.
// Start with pos 0 and pass the returned position on; ok is false at the end.
// A malformed element ends the walk.
//
//	for id, val, pos, ok := h.NextExt(0); ok; id, val, pos, ok = h.NextExt(pos) {
func (h *Header) NextExt(pos int) (id uint8, val []byte, next int, ok bool) {
	oneByte := h.profile == profileOneByte
	if !oneByte && h.profile&profileTwoByteMask != profileTwoByte {
		return 0, nil, 0, false
	}
	b := h.ext
	for pos < len(b) {
		if b[pos] == 0 { // padding byte
			pos++
			continue
		}
		var size int
		if oneByte {
			id, size = b[pos]>>4, int(b[pos]&0x0F)+1
			pos++
			if id == 15 || id == 0 { // 15 stops the walk (§4.2); 0 with a length is not allowed
				return 0, nil, 0, false
			}
		} else {
			if pos+2 > len(b) {
				return 0, nil, 0, false
			}
			id, size = b[pos], int(b[pos+1])
			pos += 2
		}
		if pos+size > len(b) {
			return 0, nil, 0, false
		}
		return id, b[pos : pos+size], pos + size, true
	}
	return 0, nil, 0, false
}

// Ext returns the value of the extension with that id, or nil.
func (h *Header) Ext(id uint8) []byte {
	for got, val, pos, ok := h.NextExt(0); ok; got, val, pos, ok = h.NextExt(pos) {
		if got == id {
			return val
		}
	}
	return nil
}

// ParseAudioLevel reads the value of the client-to-mixer audio level extension
// (RFC 6464): level in −dBov and the voice flag.
func ParseAudioLevel(val []byte) (level uint8, voice, ok bool) {
	if len(val) < 1 {
		return 0, false, false
	}
	return val[0] & 0x7F, val[0]&0x80 != 0, true
}

// ParseTransportSeq reads the value of the transport-wide sequence number extension.
func ParseTransportSeq(val []byte) (seq uint16, ok bool) {
	if len(val) < 2 {
		return 0, false
	}
	return binary.BigEndian.Uint16(val), true
}

// DecapRTX splits the payload of a retransmission (RFC 4588 §4): the original
// sequence number, then the original payload. ok is false for a packet that is
// too short, as a probe made of padding is.
func DecapRTX(payload []byte) (seq uint16, original []byte, ok bool) {
	if len(payload) < 2 {
		return 0, nil, false
	}
	return binary.BigEndian.Uint16(payload), payload[2:], true
}
