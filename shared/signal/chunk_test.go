package signal

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestSplitAndAssemble(t *testing.T) {
	tests := []struct {
		name   string
		text   string
		chunks int
	}{
		{"short", `{"type":"view"}`, 1},
		{"exactly one", strings.Repeat("a", MaxChunkBytes), 1},
		{"one byte more", strings.Repeat("a", MaxChunkBytes+1), 2},
		{"never inside a character", "a" + strings.Repeat("€", MaxChunkBytes), 4},
		{"the longest", strings.Repeat("\"", MaxDataBytes), 43},
		{"the longest of four-byte characters", strings.Repeat("🙂", MaxDataBytes/4), 43},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			chunks, err := Split(5, []byte(tt.text))
			if err != nil || len(chunks) != tt.chunks {
				t.Fatalf("%d chunks, %v, want %d", len(chunks), err, tt.chunks)
			}
			var a Assembler
			for i, c := range chunks {
				if !utf8.ValidString(c.Data) || len(c.Data) > MaxChunkBytes {
					t.Fatalf("chunk %d: %d bytes, valid %v", i, len(c.Data), utf8.ValidString(c.Data))
				}
				whole, err := a.Push(c)
				if err != nil {
					t.Fatal(err)
				}
				if last := i == len(chunks)-1; last != (whole != nil) {
					t.Fatalf("chunk %d: whole %v", i, whole != nil)
				}
				if whole != nil && string(whole) != tt.text {
					t.Fatal("another text came out")
				}
			}
		})
	}
}

func TestSplitRefuses(t *testing.T) {
	if _, err := Split(1, bytes.Repeat([]byte("a"), MaxDataBytes+1)); code(err) != CodeTooLarge {
		t.Errorf("too long: %v", err)
	}
	if _, err := Split(1, []byte{0xff}); err == nil {
		t.Error("text that is not UTF-8 was split")
	}
}

func TestAssemblerRefuses(t *testing.T) {
	begun := []Chunk{{ID: 1, Index: 0, Count: 3, Data: "a"}, {ID: 1, Index: 1, Count: 3, Data: "b"}}
	tests := []struct {
		name string
		bad  Chunk
		want string
	}{
		{"repeated", Chunk{ID: 1, Index: 1, Count: 3, Data: "b"}, CodeBadMessage},
		{"another frame", Chunk{ID: 2, Index: 2, Count: 3, Data: "c"}, CodeBadMessage},
		{"another count", Chunk{ID: 1, Index: 2, Count: 4, Data: "c"}, CodeBadMessage},
		{"begun again", Chunk{ID: 2, Index: 0, Count: 1, Data: "c"}, CodeBadMessage},
		{"negative", Chunk{ID: 1, Index: -1, Count: 3, Data: "c"}, CodeBadMessage},
		{"no count", Chunk{ID: 1, Index: 2, Count: 0, Data: "c"}, CodeTooLarge},
		{"endless", Chunk{ID: 1, Index: 2, Count: 1 << 40, Data: "c"}, CodeTooLarge},
		{"empty", Chunk{ID: 1, Index: 2, Count: 3}, CodeTooLarge},
		{"too long", Chunk{ID: 1, Index: 2, Count: 3, Data: strings.Repeat("c", MaxChunkBytes+1)}, CodeTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var a Assembler
			for _, c := range begun {
				if _, err := a.Push(c); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := a.Push(tt.bad); code(err) != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			// What was begun is dropped, and the next frame is taken.
			whole, err := a.Push(Chunk{ID: 9, Index: 0, Count: 1, Data: "{}"})
			if err != nil || string(whole) != "{}" {
				t.Errorf("after a refusal: %q, %v", whole, err)
			}
		})
	}
}

func FuzzAssembler(f *testing.F) {
	f.Add([]byte{1, 0, 2, 3, 1, 1, 2, 200})
	f.Fuzz(func(t *testing.T, in []byte) {
		var a Assembler
		for len(in) >= 4 {
			c := Chunk{ID: uint64(in[0]), Index: int(int8(in[1])), Count: int(int8(in[2])), Data: strings.Repeat("x", int(in[3])*60)}
			whole, err := a.Push(c)
			if a.text.Len() > MaxDataBytes || (err != nil && a.text.Len() != 0) || (whole != nil && c.Index != c.Count-1) {
				t.Fatalf("holds %d bytes after %v", a.text.Len(), err)
			}
			in = in[4:]
		}
	})
}
