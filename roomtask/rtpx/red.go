package rtpx

import "errors"

// ErrRED says that a payload is not redundant audio (RFC 2198).
var ErrRED = errors.New("rtpx: malformed RED payload")

// REDBlock is one block of a RED payload.
type REDBlock struct {
	PT       uint8
	TSOffset uint16 // how much older than the packet's timestamp; 0 for the primary
	Data     []byte // points into the payload
}

// MaxREDBlocks bounds the blocks of one packet. Browsers send at most three.
const MaxREDBlocks = 8

// ParseRED splits a RED payload into blocks, oldest first, the primary last, and
// returns how many there are.
func ParseRED(payload []byte, blocks *[MaxREDBlocks]REDBlock) (int, error) {
	var sizes [MaxREDBlocks]int
	n, pos := 0, 0
	for {
		if pos >= len(payload) || n == MaxREDBlocks {
			return 0, ErrRED
		}
		b := payload[pos]
		if b&0x80 == 0 { // the primary: its size is what remains
			blocks[n] = REDBlock{PT: b & 0x7F}
			pos++
			n++
			break
		}
		if pos+4 > len(payload) {
			return 0, ErrRED
		}
		word := uint32(payload[pos+1])<<16 | uint32(payload[pos+2])<<8 | uint32(payload[pos+3])
		blocks[n] = REDBlock{PT: b & 0x7F, TSOffset: uint16(word >> 10)}
		sizes[n] = int(word & 0x3FF)
		pos += 4
		n++
	}
	for i := range n {
		size := sizes[i]
		if i == n-1 {
			size = len(payload) - pos
		}
		if size < 0 || pos+size > len(payload) {
			return 0, ErrRED
		}
		blocks[i].Data = payload[pos : pos+size]
		pos += size
	}
	return n, nil
}
