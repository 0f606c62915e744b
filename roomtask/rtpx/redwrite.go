package rtpx

import "encoding/binary"

// Limits of one redundant block: its size has ten bits, its age fourteen (RFC 2198 §3).
const (
	MaxREDSize   = 1<<10 - 1
	MaxREDOffset = 1<<14 - 1
)

// WriteRED writes the blocks to dst as one RED payload: oldest first, the last one
// is the primary. It returns the size, or 0 when dst is too small, a redundant block
// does not fit its header, or there is no block.
func WriteRED(dst []byte, blocks []REDBlock) int {
	if len(blocks) == 0 {
		return 0
	}
	size := 1
	for i := range blocks {
		b := &blocks[i]
		size += len(b.Data)
		if i < len(blocks)-1 {
			size += 4
			if len(b.Data) > MaxREDSize || b.TSOffset > MaxREDOffset {
				return 0
			}
		}
	}
	if size > len(dst) {
		return 0
	}
	pos := 0
	for i := range blocks[:len(blocks)-1] {
		b := &blocks[i]
		binary.BigEndian.PutUint32(dst[pos:], uint32(b.PT|0x80)<<24|uint32(b.TSOffset)<<10|uint32(len(b.Data)))
		pos += 4
	}
	dst[pos] = blocks[len(blocks)-1].PT & 0x7F
	pos++
	for i := range blocks {
		pos += copy(dst[pos:], blocks[i].Data)
	}
	return pos
}
