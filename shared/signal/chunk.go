package signal

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxPlainBytes is the longest frame that travels whole on the data channel; a
// longer one is split. The smallest SCTP message limit met in practice is 64 KB.
const MaxPlainBytes = 15 << 10

// Split cuts a frame's JSON text into chunks of at most MaxChunkBytes, never
// inside a character: a JSON string cannot carry half of one. Ids of one sender
// and channel must differ.
func Split(id uint64, frame []byte) ([]Chunk, error) {
	if len(frame) > MaxDataBytes {
		return nil, Fault(CodeTooLarge, "frame of %d bytes, the limit is %d", len(frame), MaxDataBytes)
	}
	if !utf8.Valid(frame) {
		return nil, fmt.Errorf("signal: split: frame is not UTF-8")
	}
	var chunks []Chunk
	for len(frame) > 0 {
		n := min(MaxChunkBytes, len(frame))
		for n < len(frame) && !utf8.RuneStart(frame[n]) {
			n--
		}
		chunks = append(chunks, Chunk{ID: id, Index: len(chunks), Data: string(frame[:n])})
		frame = frame[n:]
	}
	for i := range chunks {
		chunks[i].Count = len(chunks)
	}
	return chunks, nil
}

// Assembler puts the chunks of one data channel together again. The channel is
// ordered, so the chunks of a frame come in order, and a new frame begins only
// when the last one is whole; other frames may come between. It holds at most
// MaxDataBytes. The zero value is ready; it has one owner and no lock.
type Assembler struct {
	id    uint64
	count int // 0 while no frame is begun
	index int // of the chunk expected next
	text  strings.Builder
}

// Push takes a chunk and returns the frame's JSON text when it is whole, else nil.
// A chunk that does not fit is refused with a *Error, and what was begun is dropped.
func (a *Assembler) Push(c Chunk) ([]byte, error) {
	if err := a.check(c); err != nil {
		a.reset()
		return nil, err
	}
	if c.Index == 0 {
		a.id, a.count = c.ID, c.Count
	}
	a.text.WriteString(c.Data)
	a.index++
	if a.index < a.count {
		return nil, nil
	}
	whole := []byte(a.text.String())
	a.reset()
	return whole, nil
}

func (a *Assembler) check(c Chunk) error {
	switch {
	case c.Data == "" || len(c.Data) > MaxChunkBytes:
		return Fault(CodeTooLarge, "chunk of %d bytes, the limit is %d", len(c.Data), MaxChunkBytes)
	// The bound on Count leaves room for cuts that fall short at a character.
	case c.Count < 1 || c.Count > MaxDataBytes/MaxChunkBytes+2:
		return Fault(CodeTooLarge, "chunk count %d", c.Count)
	case c.Index != a.index || c.Index >= c.Count:
		return Fault(CodeBadMessage, "chunk %d of %d where %d was expected", c.Index, c.Count, a.index)
	case a.count != 0 && (c.ID != a.id || c.Count != a.count):
		return Fault(CodeBadMessage, "chunk of another frame")
	case a.text.Len()+len(c.Data) > MaxDataBytes:
		return Fault(CodeTooLarge, "frame over %d bytes", MaxDataBytes)
	}
	return nil
}

func (a *Assembler) reset() {
	a.id, a.count, a.index = 0, 0, 0
	a.text.Reset()
}
