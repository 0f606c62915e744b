package rtpx

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWriteRED(t *testing.T) {
	block := func(pt uint8, age uint16, size int) REDBlock {
		return REDBlock{PT: pt, TSOffset: age, Data: bytes.Repeat([]byte{byte(size)}, size)}
	}
	for _, c := range []struct {
		name   string
		blocks []REDBlock
		room   int
		want   int
	}{
		{"nothing", nil, 100, 0},
		{"primary alone", []REDBlock{block(111, 0, 7)}, 8, 8},
		{"no room", []REDBlock{block(111, 0, 7)}, 7, 0},
		{"two before it", []REDBlock{block(111, 1920, 3), block(111, 960, 5), block(111, 0, 7)}, 100, 24},
		{"largest block and age", []REDBlock{block(127, MaxREDOffset, MaxREDSize), block(111, 0, 1)}, 1100, 1029},
		{"a byte too many", []REDBlock{block(111, 960, MaxREDSize+1), block(111, 0, 1)}, 1100, 0},
		{"a tick too old", []REDBlock{block(111, MaxREDOffset+1, 1), block(111, 0, 1)}, 1100, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dst := make([]byte, c.room)
			n := WriteRED(dst, c.blocks)
			if n != c.want {
				t.Fatalf("%d bytes, want %d", n, c.want)
			}
			if n == 0 {
				return
			}
			var got [MaxREDBlocks]REDBlock
			count, err := ParseRED(dst[:n], &got)
			if d := cmp.Diff(c.blocks, got[:count]); err != nil || d != "" {
				t.Errorf("read back: %v (-want +got):\n%s", err, d)
			}
		})
	}
}
