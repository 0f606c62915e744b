package seal

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/pion/srtp/v3"
)

// feedback is a packet of RTCP whose bytes n decides.
func feedback(n int) []byte {
	b := make([]byte, 20+4*(n%9))
	b[0], b[1] = 0x8f, 205
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)/4-1))
	binary.BigEndian.PutUint32(b[4:], uint32(1000+n%2))
	for i := 8; i < len(b); i++ {
		b[i] = byte(n + i)
	}
	return b
}

func TestOpensWhatPionSeals(t *testing.T) {
	for size, profile := range map[int]srtp.ProtectionProfile{16: srtp.ProtectionProfileAeadAes128Gcm, 32: srtp.ProtectionProfileAeadAes256Gcm} {
		key, salt := bytes.Repeat([]byte{5}, size), bytes.Repeat([]byte{6}, saltSize)
		seals, err := srtp.CreateContext(key, salt, profile)
		if err != nil {
			t.Fatal(err)
		}
		o, err := NewOpener(key, salt)
		if err != nil {
			t.Fatal(err)
		}
		dst := make([]byte, 1500)
		for n := range 1000 {
			want := feedback(n)
			b, err := seals.EncryptRTCP(nil, want, nil)
			if err != nil {
				t.Fatal(err)
			}
			sent := bytes.Clone(b)
			got, ok := o.Open(dst, b)
			if !ok || !bytes.Equal(got, want) {
				t.Fatalf("packet %d: %v, %x, want %x", n, ok, got, want)
			}
			if fresh, known := o.Fresh(b); !fresh || !known {
				t.Fatalf("packet %d: fresh %v, known %v", n, fresh, known)
			}
			if fresh, _ := o.Fresh(b); fresh {
				t.Fatalf("packet %d is fresh a second time", n)
			}
			if !bytes.Equal(b, sent) {
				t.Fatal("the packet was changed")
			}
			for _, i := range []int{0, 5, 9, len(b) - 20, len(b) - 1} { // every part is authenticated
				b[i] ^= 1
				if _, ok := o.Open(dst, b); ok {
					t.Fatalf("packet %d opens with byte %d changed", n, i)
				}
				b[i] ^= 1
			}
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	o, err := NewOpener(make([]byte, 16), make([]byte, saltSize))
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 60)
	b[56] = 0x80
	for n := range rtcpHeader + tagSize + rtcpIndex {
		if _, ok := o.Open(make([]byte, 100), b[60-n:]); ok {
			t.Errorf("%d bytes open", n)
		}
	}
	if _, ok := o.Open(make([]byte, 59), b); ok {
		t.Error("opens into too small a buffer")
	}
	b[56] = 0
	if _, ok := o.Open(make([]byte, 100), b); ok {
		t.Error("opens without the E flag")
	}
}

func TestReplayWindow(t *testing.T) {
	packet := func(ssrc, index uint32) []byte {
		b := make([]byte, 40)
		binary.BigEndian.PutUint32(b[4:], ssrc)
		binary.BigEndian.PutUint32(b[36:], index|1<<31)
		return b
	}
	var o Opener
	for _, v := range []struct {
		ssrc, index  uint32
		fresh, known bool
	}{
		{1, 100, true, true}, {1, 100, false, true}, {1, 99, true, true}, {1, 37, true, true}, {1, 36, false, true},
		{1, 102, true, true}, {1, 101, true, true}, {1, 101, false, true}, {1, 99, false, true},
		{1, 1000, true, true}, {1, 936, false, true}, {1, 937, true, true}, {1, 102, false, true},
		{2, 0, true, true}, {2, 0, false, true}, {3, 5, true, true}, {4, 5, true, true}, {4, 6, true, true},
	} {
		if fresh, known := o.Fresh(packet(v.ssrc, v.index)); fresh != v.fresh || known != v.known {
			t.Errorf("SSRC %d, index %d: fresh %v, known %v", v.ssrc, v.index, fresh, known)
		}
	}
}

func TestSendersAreBounded(t *testing.T) {
	var o Opener
	for n := range uint32(maxSenders + 3) {
		b := make([]byte, 40)
		binary.BigEndian.PutUint32(b[4:], n)
		if _, known := o.Fresh(b); known != (n < maxSenders) {
			t.Errorf("sender %d: known %v", n, known)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(make([]byte, 40))
	f.Add([]byte{0x8f, 205, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := NewOpener(make([]byte, 16), make([]byte, saltSize))
		if err != nil {
			t.Fatal(err)
		}
		if plain, ok := o.Open(make([]byte, 2000), b); ok && len(plain) != len(b)-tagSize-rtcpIndex {
			t.Errorf("%d bytes of %d", len(plain), len(b))
		}
	})
}
