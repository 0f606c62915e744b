package rtpx

import (
	"encoding/binary"
	"errors"
)

// ErrTWCC says that bytes are no transport-wide feedback.
var ErrTWCC = errors.New("rtpx: malformed transport-wide feedback")

const (
	twccReference = 64_000_000 // ns, the unit of the reference time
	twccDelta     = 250_000    // ns, the unit of a delta
)

// TWCC reads one transport-wide feedback packet
// (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1) one status after the
// other, without a copy: the bytes must stay as they are until it is done with.
type TWCC struct {
	Base  uint16 // first transport-wide number it tells of
	Count uint16 // how many from there on

	chunks, deltas []byte
	word           uint16 // the present chunk
	left           int    // symbols of it that were not read
	todo           int    // statuses that were not read
	seq            uint16
	at             int64
}

// ParseTWCC checks that b, from its RTCP header on, is one feedback packet whose
// chunks cover all that it says to cover. Deltas may be missing: reading ends there.
func ParseTWCC(b []byte) (t TWCC, err error) {
	if len(b) < 20 || b[0]&0xDF != 0x80|15 || b[1] != 205 {
		return t, ErrTWCC
	}
	size := 4 * (1 + int(binary.BigEndian.Uint16(b[2:])))
	if size < 20 || size > len(b) {
		return t, ErrTWCC
	}
	b = b[:size]
	if b[0]&0x20 != 0 {
		pad := int(b[size-1])
		if pad == 0 || pad > size-20 {
			return t, ErrTWCC
		}
		b = b[:size-pad]
	}
	t.Base, t.Count = binary.BigEndian.Uint16(b[12:]), binary.BigEndian.Uint16(b[14:])
	t.seq, t.todo = t.Base, int(t.Count)
	t.at = int64(binary.BigEndian.Uint32(b[16:])>>8) * twccReference
	end := 20
	for n := 0; n < int(t.Count); end += 2 {
		if end+2 > len(b) {
			return TWCC{}, ErrTWCC
		}
		n += symbols(binary.BigEndian.Uint16(b[end:]))
	}
	t.chunks, t.deltas = b[20:end], b[end:]
	return t, nil
}

// symbols is how many statuses a chunk has.
func symbols(word uint16) int {
	switch {
	case word&0x8000 == 0:
		return int(word & 0x1FFF)
	case word&0x4000 == 0:
		return 14
	}
	return 7
}

// Next returns the next status: the number of a packet, whether it was received, and
// then its arrival in nanoseconds on the receiver's clock, whose origin is unknown.
func (t *TWCC) Next() (seq uint16, received bool, at int64, ok bool) {
	if t.todo == 0 {
		return 0, false, 0, false
	}
	for t.left == 0 { // a run may be empty; ParseTWCC has seen to the rest
		t.word = binary.BigEndian.Uint16(t.chunks)
		t.chunks = t.chunks[2:]
		t.left = symbols(t.word)
	}
	t.left--
	t.todo--
	seq = t.seq
	t.seq++
	switch t.symbol() {
	case 1:
		if len(t.deltas) < 1 {
			t.todo = 0
			return 0, false, 0, false
		}
		t.at += int64(t.deltas[0]) * twccDelta
		t.deltas = t.deltas[1:]
	case 2:
		if len(t.deltas) < 2 {
			t.todo = 0
			return 0, false, 0, false
		}
		t.at += int64(int16(binary.BigEndian.Uint16(t.deltas))) * twccDelta
		t.deltas = t.deltas[2:]
	default: // not received, or reserved, which has no delta
		return seq, false, 0, true
	}
	return seq, true, t.at, true
}

// symbol is that of the status that left counts down to.
func (t *TWCC) symbol() uint16 {
	switch {
	case t.word&0x8000 == 0:
		return t.word >> 13
	case t.word&0x4000 == 0:
		return t.word >> t.left & 1
	}
	return t.word >> (2 * t.left) & 3
}
