package rtpx

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
)

func TestHeaderParse(t *testing.T) {
	base := []byte{0x80, 0xE0 | 0x10, 0x12, 0x34, 0, 0, 0, 9, 0, 0, 0, 7}
	with := func(first byte, rest ...byte) []byte {
		b := append(bytes.Clone(base), rest...)
		b[0] = first
		return b
	}
	for _, tt := range []struct {
		name    string
		in      []byte
		err     error
		payload []byte
		padding int
	}{
		{"empty", nil, ErrShort, nil, 0},
		{"eleven bytes", base[:11], ErrShort, nil, 0},
		{"version 1", with(0x40), ErrVersion, nil, 0},
		{"no payload", base, nil, []byte{}, 0},
		{"payload", with(0x80, 1, 2), nil, []byte{1, 2}, 0},
		{"csrc", with(0x81, 0, 0, 0, 1, 5), nil, []byte{5}, 0},
		{"csrc cut off", with(0x82, 0, 0, 0, 1, 5), ErrShort, nil, 0},
		{"extension", with(0x90, 0xBE, 0xDE, 0, 1, 0x10, 0xAA, 0, 0, 5), nil, []byte{5}, 0},
		{"extension header cut off", with(0x90, 0xBE, 0xDE), ErrShort, nil, 0},
		{"extension cut off", with(0x90, 0xBE, 0xDE, 0, 2, 0x10, 0xAA, 0, 0, 5), ErrShort, nil, 0},
		{"padding", with(0xA0, 5, 0, 2), nil, []byte{5}, 2},
		{"padding only", with(0xA0, 0, 0, 3), nil, []byte{}, 3},
		{"padding of nothing", with(0xA0), ErrPadding, nil, 0},
		{"padding of zero", with(0xA0, 1, 0), ErrPadding, nil, 0},
		{"padding too long", with(0xA0, 1, 3), ErrPadding, nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var h Header
			err := h.Parse(tt.in)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err != nil {
				return
			}
			if !bytes.Equal(h.Payload, tt.payload) || h.Padding != tt.padding {
				t.Errorf("payload %v padding %d, want %v %d", h.Payload, h.Padding, tt.payload, tt.padding)
			}
			if !h.Marker || h.PT != 0x70 || h.Seq != 0x1234 || h.TS != 9 || h.SSRC != 7 {
				t.Errorf("fixed header %+v", h)
			}
		})
	}
}

func TestExtensions(t *testing.T) {
	for _, tt := range []struct {
		name    string
		profile uint16
		ext     []byte
		want    map[uint8]string
	}{
		{"one byte", 0xBEDE, []byte("\x10a\x31bc\x00\x00"), map[uint8]string{1: "a", 3: "bc"}},
		{"one byte, id 15 stops", 0xBEDE, []byte("\x10a\xF0b\x20c\x00"), map[uint8]string{1: "a"}},
		{"one byte, cut off", 0xBEDE, []byte("\x10a\x37"), map[uint8]string{1: "a"}},
		{"two byte", 0x1000, []byte("\x01\x01a\x10\x00\x00\x03\x02bc"), map[uint8]string{1: "a", 16: "", 3: "bc"}},
		{"two byte with application bits", 0x100F, []byte("\x01\x01a"), map[uint8]string{1: "a"}},
		{"two byte, cut off", 0x1000, []byte("\x01\x01a\x02"), map[uint8]string{1: "a"}},
		{"two byte, too long", 0x1000, []byte("\x01\x09a"), map[uint8]string{}},
		{"another profile", 0x1234, []byte("\x10a"), map[uint8]string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := Header{profile: tt.profile, ext: tt.ext}
			got := map[uint8]string{}
			for id, val, pos, ok := h.NextExt(0); ok; id, val, pos, ok = h.NextExt(pos) {
				got[id] = string(val)
				if string(h.Ext(id)) != string(val) {
					t.Errorf("Ext(%d) differs from the walk", id)
				}
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
			if h.Ext(9) != nil {
				t.Error("an absent extension was found")
			}
		})
	}
}

func TestVP8AgainstPion(t *testing.T) {
	for _, in := range [][]byte{
		{0x10, 0x00}, {0x00, 1}, {0x20 | 0x05, 1},
		{0x80, 0x80, 0x55, 1}, {0x90, 0x80, 0x95, 0x55, 1},
		{0x90, 0xF0, 0x95, 0x55, 7, 0xBF, 1, 2}, {0x80, 0x20, 0x40, 1}, {0x80, 0x10, 0x1F, 1}, {0x80, 0x40, 9, 1},
	} {
		d, err := ParseVP8(in)
		if err != nil {
			t.Fatalf("%x: %v", in, err)
		}
		var p codecs.VP8Packet
		rest, err := p.Unmarshal(in)
		if err != nil {
			t.Fatal(err)
		}
		if int(d.Len) != len(in)-len(rest) || d.PictureID != p.PictureID || d.TL0PicIdx != p.TL0PICIDX ||
			d.TID != p.TID || d.KeyIdx != p.KEYIDX || d.S != (p.S == 1) || d.N != (p.N == 1) || d.PID != p.PID || d.Y != (p.Y == 1) {
			t.Errorf("%x: %+v, Pion %+v", in, d, p)
		}
	}
	for _, in := range [][]byte{nil, {0x80}, {0x80, 0x80}, {0x80, 0x80, 0x80}, {0x80, 0x40}, {0x80, 0x20}, {0x80, 0xC0, 1}} {
		if d, err := ParseVP8(in); err == nil {
			t.Errorf("%x: got %+v, want an error", in, d)
		}
	}
}

func TestVP8Key(t *testing.T) {
	key := []byte{0x10, 0x50, 0, 0, 0x9D, 0x01, 0x2A, 0x80, 0x42, 0xE0, 0x81}
	for _, tt := range []struct {
		name string
		in   []byte
		key  bool
		w, h uint16
	}{
		{"keyframe, scaling bits cut off", key, true, 640, 480},
		{"keyframe, size cut off", key[:6], true, 0, 0},
		{"interframe", []byte{0x10, 0x51, 0, 0}, false, 0, 0},
		{"later partition", []byte{0x11, 0x50, 0, 0}, false, 0, 0},
		{"continuation", []byte{0x00, 0x50}, false, 0, 0},
		{"descriptor only", []byte{0x10}, false, 0, 0},
	} {
		d, err := ParseVP8(tt.in)
		if err != nil {
			t.Fatal(err)
		}
		if k, w, h := VP8Key(tt.in, d); k != tt.key || w != tt.w || h != tt.h {
			t.Errorf("%s: %v %dx%d, want %v %dx%d", tt.name, k, w, h, tt.key, tt.w, tt.h)
		}
	}
}

func TestRewriteVP8(t *testing.T) {
	dst := make([]byte, 64)
	for _, tt := range []struct {
		name     string
		in, want []byte
	}{
		{"no extension", []byte{0x10, 1, 2}, []byte{0x10, 1, 2}},
		{"7 bits grow to 15", []byte{0x90, 0x80, 0x05, 1, 2}, []byte{0x90, 0x80, 0x92, 0x34, 1, 2}},
		{"everything", []byte{0x90, 0xF0, 0x80, 0x05, 3, 0x7F, 1, 2}, []byte{0x90, 0xF0, 0x92, 0x34, 0x56, 0x60 | 0x15, 1, 2}},
		{"temporal id only", []byte{0x90, 0x20, 0x7F, 1}, []byte{0x90, 0x20, 0x7F, 1}},
		{"tl0 and key index", []byte{0x90, 0x50, 3, 0x01, 1}, []byte{0x90, 0x50, 0x56, 0x15, 1}},
	} {
		d, err := ParseVP8(tt.in)
		if err != nil {
			t.Fatal(err)
		}
		n := RewriteVP8(dst, tt.in, d, 0x1234, 0x56, 0x35)
		if !bytes.Equal(dst[:n], tt.want) {
			t.Errorf("%s: %x, want %x", tt.name, dst[:n], tt.want)
		}
	}
	d, _ := ParseVP8([]byte{0x90, 0x80, 5, 1})
	if n := RewriteVP8(dst[:4], []byte{0x90, 0x80, 5, 1}, d, 1, 1, 1); n != 0 {
		t.Errorf("wrote %d bytes into too short a buffer", n)
	}
	if n := RewriteVP8(dst, []byte{0x90}, d, 1, 1, 1); n != 0 {
		t.Errorf("wrote %d bytes of a foreign payload", n)
	}
}

func TestRED(t *testing.T) {
	// One redundant block of 3 bytes, 960 ticks old, then the primary.
	word := uint32(960)<<10 | 3
	in := []byte{0x80 | 111, byte(word >> 16), byte(word >> 8), byte(word), 111, 1, 2, 3, 9, 8}
	var blocks [MaxREDBlocks]REDBlock
	n, err := ParseRED(in, &blocks)
	want := []REDBlock{{PT: 111, TSOffset: 960, Data: []byte{1, 2, 3}}, {PT: 111, Data: []byte{9, 8}}}
	if d := cmp.Diff(want, blocks[:n]); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
	if n, err := ParseRED([]byte{111}, &blocks); err != nil || n != 1 || blocks[0].PT != 111 || len(blocks[0].Data) != 0 {
		t.Errorf("empty primary: %d blocks, %+v %v", n, blocks[0], err)
	}
	for _, bad := range [][]byte{nil, {0x80}, in[:4], in[:7], bytes.Repeat([]byte{0x80, 0, 0, 0}, 9)} {
		if _, err := ParseRED(bad, &blocks); err == nil {
			t.Errorf("%x: want an error", bad)
		}
	}
}

func TestDecapRTX(t *testing.T) {
	if seq, rest, ok := DecapRTX([]byte{0x12, 0x34, 5}); !ok || seq != 0x1234 || !bytes.Equal(rest, []byte{5}) {
		t.Errorf("got %x %v %v", seq, rest, ok)
	}
	if _, _, ok := DecapRTX([]byte{1}); ok {
		t.Error("one byte is no retransmission")
	}
}

func TestUnwrapper16(t *testing.T) {
	var u Unwrapper16
	if _, ok := u.Peek(1); ok {
		t.Error("Peek before the first value")
	}
	const base = 1 << 16
	for _, tt := range []struct {
		in   uint16
		want uint64
	}{
		{65534, base + 65534}, {65535, base + 65535}, {0, 2 * base}, {65533, base + 65533}, {2, 2*base + 2},
		{1, 2*base + 1}, {32769, 2*base + 32769}, {65535, 2*base + 65535}, {10, 3*base + 10},
	} {
		if p, ok := u.Peek(tt.in); ok && p != tt.want {
			t.Errorf("Peek(%d) = %d, want %d", tt.in, p, tt.want)
		}
		if got := u.Unwrap(tt.in); got != tt.want {
			t.Errorf("Unwrap(%d) = %d, want %d", tt.in, got, tt.want)
		}
	}
	if got := u.Restart(7); got != 5*base+7 {
		t.Errorf("Restart = %d, want %d", got, 5*base+7)
	}
	var early Unwrapper16
	early.Unwrap(0)
	if got := early.Unwrap(65535); got != base-1 {
		t.Errorf("before the first: %d, want %d", got, base-1)
	}
}

func TestUnwrapper32(t *testing.T) {
	var u Unwrapper32
	const base = uint64(1) << 32
	for _, tt := range []struct {
		in   uint32
		want uint64
	}{{0xFFFFFFF0, base + 0xFFFFFFF0}, {0x10, 2*base + 0x10}, {0xFFFFFFFF, 2*base - 1}, {5, 2*base + 5}} {
		if got := u.Unwrap(tt.in); got != tt.want {
			t.Errorf("Unwrap(%#x) = %#x, want %#x", tt.in, got, tt.want)
		}
	}
}

func FuzzHeader(f *testing.F) {
	h := rtp.Header{Version: 2, SequenceNumber: 5, Extension: true, ExtensionProfile: 0xBEDE}
	_ = h.SetExtension(1, []byte("0"))
	b, _ := (&rtp.Packet{Header: h, Payload: []byte{1, 2, 3}}).Marshal()
	f.Add(b)
	f.Add([]byte{0xB2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 0x10, 0x00, 0, 1, 1, 2, 3, 4, 5, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var h Header
		if h.Parse(b) != nil {
			return
		}
		size := 0
		for _, val, pos, ok := h.NextExt(0); ok; _, val, pos, ok = h.NextExt(pos) {
			size += len(val)
		}
		if size+len(h.Payload)+h.Padding+12 > len(b) {
			t.Errorf("parts are longer than the packet of %d bytes", len(b))
		}
	})
}

func FuzzVP8(f *testing.F) {
	f.Add([]byte{0x90, 0xF0, 0x95, 0x55, 7, 0xBF, 0x50, 0, 0, 0x9D, 0x01, 0x2A, 0x80, 0x02, 0xE0, 0x01})
	f.Add([]byte{0x80, 0x80, 5})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseVP8(b)
		if err != nil {
			return
		}
		VP8Key(b, d)
		dst := make([]byte, len(b)+1)
		n := RewriteVP8(dst, b, d, 0x7ABC, 0xDE, 0x1B)
		if n == 0 {
			t.Fatal("a parsed payload could not be rewritten")
		}
		got, err := ParseVP8(dst[:n])
		if err != nil {
			t.Fatal(err)
		}
		want := d
		if d.HasPictureID {
			if !d.Wide {
				want.Len++
			}
			want.Wide, want.PictureID = true, 0x7ABC
		}
		if d.HasTL0 {
			want.TL0PicIdx = 0xDE
		}
		if d.HasKeyIdx {
			want.KeyIdx = 0x1B
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if !bytes.Equal(b[d.Len:], dst[got.Len:n]) {
			t.Error("the frame's bytes changed")
		}
	})
}

func FuzzRED(f *testing.F) {
	f.Add([]byte{0x80 | 111, 0x0F, 0, 3, 111, 1, 2, 3, 9, 8})
	f.Add([]byte{111, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var blocks [MaxREDBlocks]REDBlock
		n, err := ParseRED(b, &blocks)
		if err != nil {
			return
		}
		size := 4*(n-1) + 1
		for _, block := range blocks[:n] {
			size += len(block.Data)
		}
		if size != len(b) {
			t.Errorf("blocks cover %d of %d bytes", size, len(b))
		}
		if again := make([]byte, len(b)); WriteRED(again, blocks[:n]) != len(b) || !bytes.Equal(again, b) {
			t.Errorf("written back as %x", again)
		}
	})
}

func FuzzDecapRTX(f *testing.F) {
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		seq, rest, ok := DecapRTX(b)
		if ok && !bytes.Equal(binary.BigEndian.AppendUint16(nil, seq), b[:2]) || ok && len(rest) != len(b)-2 {
			t.Errorf("%x split into %x %x", b, seq, rest)
		}
	})
}
