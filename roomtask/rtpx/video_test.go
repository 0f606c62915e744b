package rtpx

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseVP9(t *testing.T) {
	for _, c := range []struct {
		name    string
		payload []byte
		want    VP9Descriptor
		ss      VP9Structure
		err     bool
	}{
		{"nothing but a payload", []byte{0x0C, 1}, VP9Descriptor{Len: 1, Begin: true, End: true}, VP9Structure{}, false},
		{"7-bit picture id, layers, TL0PICIDX", []byte{0x80 | 0x40 | 0x20 | 0x08, 0x11, 2<<5 | 0x10 | 1<<1 | 1, 7, 9},
			VP9Descriptor{Len: 4, HasPictureID: true, PictureID: 0x11, Inter: true, Begin: true, HasLayers: true,
				TID: 2, SID: 1, Up: true, InterLayer: true, HasTL0: true, TL0PicIdx: 7}, VP9Structure{}, false},
		{"15 bits, flexible, two references", []byte{0x80 | 0x40 | 0x20 | 0x10, 0x81, 0x02, 1 << 5, 1<<1 | 1, 3 << 1, 9},
			VP9Descriptor{Len: 6, HasPictureID: true, Wide: true, PictureID: 0x102, Inter: true, Flexible: true, HasLayers: true, TID: 1, Refs: [3]uint8{1, 3}}, VP9Structure{}, false},
		{"structure with sizes and a group", []byte{0x02 | 0x08, 1<<5 | 0x10 | 0x08, 1, 64, 0, 180, 2, 128, 1, 104, 2, 0x04, 1, 0x20, 9},
			VP9Descriptor{Len: 14, Begin: true, HasSS: true}, VP9Structure{Layers: 2, Width: [8]uint16{320, 640}, Height: [8]uint16{180, 360}}, false},
		{"empty", nil, VP9Descriptor{}, VP9Structure{}, true},
		{"picture id cut off", []byte{0x80, 0x81}, VP9Descriptor{}, VP9Structure{}, true},
		{"layers cut off", []byte{0x20, 0}, VP9Descriptor{}, VP9Structure{}, true},
		{"four references", []byte{0x50, 3, 3, 3, 3, 2}, VP9Descriptor{}, VP9Structure{}, true},
		{"a reference to itself", []byte{0x50, 0, 1}, VP9Descriptor{}, VP9Structure{}, true},
		{"sizes cut off", []byte{0x02, 2<<5 | 0x10, 1, 64, 0, 180}, VP9Descriptor{}, VP9Structure{}, true},
		{"group cut off", []byte{0x02, 0x08, 2, 0x0C, 1}, VP9Descriptor{}, VP9Structure{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var ss VP9Structure
			d, err := ParseVP9(c.payload, &ss)
			if (err != nil) != c.err {
				t.Fatalf("error %v", err)
			}
			if diff := cmp.Diff(c.want, d); diff != "" {
				t.Errorf("descriptor (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.ss, ss); diff != "" {
				t.Errorf("structure (-want +got):\n%s", diff)
			}
		})
	}
}

// vp9Key is a keyframe's descriptor and the beginning of its own header: 640×360.
var vp9Key = []byte{0x88, 0x05, 0x82, 0x49, 0x83, 0x42, 0x20, 0x27, 0xF0, 0x16, 0x70, 0x00}

func TestVP9Size(t *testing.T) {
	d, err := ParseVP9(vp9Key, nil)
	if w, h := VP9Size(vp9Key, d); err != nil || w != 640 || h != 360 {
		t.Errorf("%d×%d, %v", w, h, err)
	}
	if w, h := VP9Size(vp9Key[:9], d); w != 0 || h != 0 {
		t.Errorf("%d×%d of a header that is cut off", w, h)
	}
}

func TestRewriteVP9(t *testing.T) {
	for _, p := range [][]byte{
		{0xA8, 0x11, 0x24, 7, 1, 2, 3}, {0xA8, 0x81, 0x11, 0x24, 7, 1, 2, 3}, {0xF0, 0x11, 0x24, 2, 1, 2}, {0x28, 0x24, 7, 5}, {0x0C, 5},
	} {
		d, err := ParseVP9(p, nil)
		if err != nil {
			t.Fatal(err)
		}
		dst := make([]byte, len(p)+1)
		n := RewriteVP9(dst, p, d, 0x7ABC, 99)
		got, err := ParseVP9(dst[:n], nil)
		if err != nil {
			t.Fatal(err)
		}
		want := d
		if d.HasPictureID {
			want.PictureID, want.Wide, want.Len = 0x7ABC, true, d.Len+1
			if d.Wide {
				want.Len = d.Len
			}
		}
		if d.HasTL0 {
			want.TL0PicIdx = 99
		}
		if diff := cmp.Diff(want, got); diff != "" || !bytes.Equal(dst[got.Len:n], p[d.Len:]) {
			t.Errorf("%x became %x (-want +got):\n%s", p, dst[:n], diff)
		}
	}
}

// sps640 is of Constrained Baseline, 640×360 with cropping, as OpenH264 writes it.
var sps640 = []byte{0x67, 0x42, 0xC0, 0x1F, 0x8C, 0x8D, 0x40, 0x50, 0x17, 0xFC, 0xB0, 0x0F, 0x08, 0x84, 0x6A}

func TestParseH264(t *testing.T) {
	stap := append([]byte{24, 0, byte(len(sps640))}, sps640...)
	stap = append(stap, 0, 4, 0x68, 0xCE, 0x3C, 0x80)
	for _, c := range []struct {
		name    string
		payload []byte
		want    H264Packet
		err     bool
	}{
		{"parameter sets", stap, H264Packet{Head: true, Key: true, Width: 640, Height: 360}, false},
		{"a set of its own", sps640, H264Packet{Head: true, Key: true, Width: 640, Height: 360}, false},
		{"a set cut short has no size", sps640[:6], H264Packet{Head: true, Key: true}, false},
		{"begin of an IDR slice", []byte{0x7C, 0x85, 0x88}, H264Packet{Key: true}, false},
		{"middle of one", []byte{0x7C, 0x05, 0x88}, H264Packet{}, false},
		{"begin of another slice", []byte{0x5C, 0x81, 0x9A}, H264Packet{}, false},
		{"single IDR", []byte{0x65, 0x88}, H264Packet{Key: true}, false},
		{"delimiter", []byte{0x09, 0xF0}, H264Packet{Head: true}, false},
		{"empty", nil, H264Packet{}, true},
		{"forbidden bit", []byte{0xE5, 0x88}, H264Packet{}, true},
		{"STAP-A longer than it is", []byte{24, 0, 9, 0x65}, H264Packet{}, true},
		{"STAP-A with an empty unit", []byte{24, 0, 0, 0x65}, H264Packet{}, true},
		{"FU-A without a header", []byte{0x7C}, H264Packet{}, true},
		{"FU-B, of mode 2", []byte{29, 0x85, 1}, H264Packet{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseH264(c.payload)
			if diff := cmp.Diff(c.want, got); diff != "" || (err != nil) != c.err {
				t.Errorf("error %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// av1Key is the first packet of a coded video sequence as libaom makes it: a sequence
// header of 640×480, without a size field, then the begin of a frame.
var av1Key = []byte{0x28, 0x0A, 0x08, 0x00, 0x00, 0x00, 0x24, 0xC4, 0xFF, 0xDF, 0x3F, 0x40, 0x30, 0x10}

func TestParseAV1(t *testing.T) {
	for _, c := range []struct {
		name    string
		payload []byte
		want    AV1Packet
		err     bool
	}{
		{"a sequence", av1Key, AV1Packet{Key: true, Width: 640, Height: 480}, false},
		{"within a frame", []byte{0x90, 0x30, 1}, AV1Packet{Continues: true}, false},
		{"begin of a frame", []byte{0x10, 0x30, 1}, AV1Packet{}, false},
		{"a sequence without its header", []byte{0x18, 0x30, 1}, AV1Packet{Key: true}, false},
		{"empty", []byte{0x10}, AV1Packet{}, true},
		{"continues and begins", []byte{0x98, 0x30, 1}, AV1Packet{}, true},
		{"an element longer than the packet", []byte{0x08, 0x7F, 0x08}, AV1Packet{}, true},
		{"a length without end", []byte{0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, AV1Packet{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseAV1(c.payload)
			if diff := cmp.Diff(c.want, got); diff != "" || (err != nil) != c.err {
				t.Errorf("error %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// ddL1T2 is a descriptor with a structure of one spatial and two temporal layers:
// offset 3, two targets, templates T0 and T1, of which T1 refers to the frame before.
func ddL1T2() []byte {
	var b [16]byte
	w := bitWriter{b: b[:]}
	for _, f := range [][2]uint32{
		{1, 1}, {0, 1}, {3, 6}, {0x1234, 16}, // first packet of its frame, template 3
		{1, 1}, {0, 1}, {0, 3}, // structure, no mask
		{3, 6}, {1, 5}, {1, 2}, {3, 2}, // templates T0, T1
		{2, 2}, {2, 2}, {0, 2}, {1, 2}, // T0 is of both targets, T1 of the second
		{0, 1}, {1, 1}, {0, 4}, {0, 1}, // T1 refers one back
		{0, 1}, {1, 1}, {639, 16}, {359, 16}, // no chains; sizes
	} {
		w.bits(f[0], int(f[1]))
	}
	return b[:(w.at+7)/8]
}

func TestDDReader(t *testing.T) {
	var q DDReader
	if _, err := q.Parse([]byte{0x83, 0, 1}, true); err == nil {
		t.Error("a descriptor without a structure was read")
	}
	raw := ddL1T2()
	key, err := q.Parse(raw, true)
	if err != nil || !key.First || key.Last || key.Frame != 0x1234 || key.TID != 0 || key.Refs != 0 || key.Active != 3 ||
		key.S.Targets != 2 || key.S.Spatial != 1 || key.S.Width[0] != 640 || key.S.Height[0] != 360 {
		t.Fatalf("%+v, %v", key, err)
	}
	next, err := q.Parse([]byte{0xC4, 0x12, 0x35}, true) // template 4
	if err != nil || next.TID != 1 || next.Refs != 1 || !next.Last || next.S != key.S {
		t.Errorf("%+v, %v", next, err)
	}
	if _, err := q.Parse([]byte{0xC5, 0x12, 0x36}, true); err == nil {
		t.Error("a template beyond the structure was read")
	}
	again, err := q.Parse(raw, true)
	if err != nil || again.S != key.S {
		t.Errorf("the same structure was taken for another, %v", err)
	}
	// References of the frame's own: 3 back in 4 bits, 40 back in 8, 300 back in 12.
	var b [9]byte
	w := bitWriter{b: b[:]}
	for _, f := range [][2]uint32{{3, 2}, {3, 6}, {9, 16}, {0b00010, 5}, {1, 2}, {2, 4}, {2, 2}, {39, 8}, {3, 2}, {299, 12}, {0, 2}} {
		w.bits(f[0], int(f[1]))
	}
	own, err := q.Parse(b[:(w.at+7)/8], true)
	if err != nil || own.Refs != 1<<2|1<<39 || !own.Far {
		t.Errorf("%+v, %v", own, err)
	}
	if key.Mask(0, 0) != 1 || key.Mask(0, 1) != 3 {
		t.Errorf("masks %b, %b", key.Mask(0, 0), key.Mask(0, 1))
	}
}

func TestRewriteDD(t *testing.T) {
	for _, raw := range [][]byte{ddL1T2(), {0xC4, 0x12, 0x35}} {
		for _, mask := range []uint32{0, 1} {
			var q, again DDReader
			if _, err := q.Parse(ddL1T2(), true); err != nil {
				t.Fatal(err)
			}
			again = q
			d, err := q.Parse(raw, true)
			if err != nil {
				t.Fatal(err)
			}
			var dst [MaxDD]byte
			n := RewriteDD(dst[:], raw, &d, 0xBEEF, mask)
			got, err := again.Parse(dst[:n], true)
			if err != nil || binary.BigEndian.Uint16(dst[1:]) != 0xBEEF || got.Frame != 0xBEEF {
				t.Fatalf("%x became %x: %+v, %v", raw, dst[:n], got, err)
			}
			if got.SID != d.SID || got.TID != d.TID || got.Refs != d.Refs || got.HasMask != (mask != 0) || mask != 0 && got.Active != mask {
				t.Errorf("%+v became %+v", d, got)
			}
			if twice := RewriteDD(make([]byte, MaxDD), dst[:n], &got, 1, 2); twice < n {
				t.Errorf("a second rewrite has %d bytes, the first %d", twice, n)
			}
		}
	}
}

func FuzzVP9(f *testing.F) {
	f.Add(vp9Key)
	f.Add([]byte{0x0A, 0x38, 1, 64, 0, 180, 2, 128, 1, 104, 2, 0x04, 1, 0x20, 9})
	f.Add([]byte{0xF0, 0x81, 0x02, 0x20, 0x03, 0x06, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		var ss VP9Structure
		d, err := ParseVP9(b, &ss)
		if err != nil {
			return
		}
		if d.Len < 1 || int(d.Len) > len(b) || ss.Layers > 8 {
			t.Fatalf("%+v %+v of %d bytes", d, ss, len(b))
		}
		VP9Size(b, d)
		dst := make([]byte, len(b)+1)
		n := RewriteVP9(dst, b, d, 0x5555, 3)
		again, err := ParseVP9(dst[:n], nil)
		if err != nil || again.SID != d.SID || again.TID != d.TID || !bytes.Equal(dst[again.Len:n], b[d.Len:]) {
			t.Fatalf("%x became %x: %+v, %v", b, dst[:n], again, err)
		}
	})
}

func FuzzH264(f *testing.F) {
	f.Add(sps640)
	f.Add(append([]byte{24, 0, byte(len(sps640))}, sps640...))
	f.Add([]byte{0x7C, 0x85, 0x88})
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := ParseH264(b); err != nil && h != (H264Packet{}) {
			t.Fatalf("%+v beside an error", h)
		}
	})
}

func FuzzAV1(f *testing.F) {
	f.Add(av1Key)
	f.Add([]byte{0x90, 0x30, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := ParseAV1(b); err != nil && a != (AV1Packet{}) {
			t.Fatalf("%+v beside an error", a)
		}
	})
}

// FuzzDD parses two descriptors, one after the other, and what becomes of them.
func FuzzDD(f *testing.F) {
	f.Add(ddL1T2(), []byte{0xC4, 0x12, 0x35}, uint32(1))
	f.Add([]byte{0x80, 0, 1, 0x40}, ddL1T2(), uint32(0))
	f.Fuzz(func(t *testing.T, a, b []byte, mask uint32) {
		var q DDReader
		_, _ = q.Parse(a, true)
		before := q
		d, err := q.Parse(b, true)
		if err != nil {
			return
		}
		if int(d.Len) != len(b) || d.SID >= MaxSpatial || d.S == nil || d.S.Targets > 32 {
			t.Fatalf("%+v", d)
		}
		mask &= uint32(1)<<d.S.Targets - 1
		var dst [MaxDD]byte
		n := RewriteDD(dst[:], b, &d, 0xBEEF, mask)
		if n == 0 {
			return
		}
		got, err := before.Parse(dst[:n], true)
		if err != nil || got.Frame != 0xBEEF || got.SID != d.SID || got.TID != d.TID || got.Refs != d.Refs || mask != 0 && got.Active != mask {
			t.Fatalf("%x with mask %b became %x: %+v, was %+v, %v", b, mask, dst[:n], got, d, err)
		}
	})
}
