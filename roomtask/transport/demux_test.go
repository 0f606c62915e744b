package transport

import (
	"encoding/binary"
	"testing"

	"github.com/pion/stun/v4"
)

// stunHead is a STUN header of a type.
func stunHead(kind uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, kind)
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint32(b, stunCookie)
	return append(b, make([]byte, 12)...)
}

// framed is RFC 4571's length before a frame.
func framed(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }

func TestClassifyUDP(t *testing.T) {
	for name, c := range map[string]struct {
		b    []byte
		want class
	}{
		"nothing": {nil, classMedia}, "RTP": {[]byte{0x80, 96}, classMedia}, "DTLS": {[]byte{22, 254, 253}, classMedia},
		"check": {stunHead(0x0001), classMedia}, "its answer": {stunHead(0x0101), classMedia}, "its error": {stunHead(0x0111), classMedia}, "keepalive": {stunHead(0x0011), classMedia},
		"Allocate": {stunHead(0x0003), classControl}, "Refresh": {stunHead(0x0004), classControl}, "CreatePermission": {stunHead(0x0008), classControl},
		"ChannelBind": {stunHead(0x0009), classControl}, "Send": {stunHead(0x0016), classData}, "ChannelData": {[]byte{0x40, 0, 0, 4, 1, 2, 3, 4}, classData},
		"highest channel": {[]byte{0x4f, 0xff, 0, 0}, classData}, "coturn's": {[]byte{0x7f, 0xff, 0, 0}, classData}, "RTP's first": {[]byte{0x80, 0, 0, 0}, classMedia},
		"Connect": {stunHead(0x000a), classNone}, "ConnectionBind": {stunHead(0x000b), classNone}, "Data": {stunHead(0x0017), classNone},
		"Allocate's answer": {stunHead(0x0103), classNone}, "cut off": {stunHead(0x0003)[:19], classNone},
	} {
		if got := classifyUDP(c.b); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// TestClassifyTCP also feeds each beginning byte by byte: what is decided with fewer
// bytes may not change with more.
func TestClassifyTCP(t *testing.T) {
	hello := []byte{0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0, 0, 0, 0}
	for name, c := range map[string]struct {
		b    []byte
		want class
	}{
		"ICE": {framed(append(stunHead(0x0001), make([]byte, 80)...)), classMedia}, "TURN": {stunHead(0x0003), classControl}, "TLS": {hello, classTLS},
		"HTTP": {[]byte("GET / HTTP/1.1\r\n"), classNone}, "SSH": {[]byte("SSH-2.0-x\r\n"), classNone}, "zeros": {make([]byte, 20), classNone},
		"bare check": {stunHead(0x0001), classNone}, "framed Allocate": {framed(stunHead(0x0003)), classNone},
		"frame too long": {append([]byte{0x02, 0x01}, stunHead(0x0001)...), classNone}, "another cookie": {framed(make([]byte, 60)), classNone},
		"TLS alert": {[]byte{0x15, 0x03, 0x01, 0, 2, 2, 40, 0, 0, 0}, classNone}, "TLS ServerHello": {[]byte{0x16, 0x03, 0x03, 0, 80, 2, 0, 0, 0, 0}, classNone},
	} {
		b := c.b[:min(len(c.b), sniffBytes)]
		if got := classifyTCP(b); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
		checkPrefixes(t, b)
	}
}

// checkPrefixes holds the classes of all beginnings together.
func checkPrefixes(t *testing.T, b []byte) {
	t.Helper()
	last := classMore
	for n := range len(b) + 1 {
		got := classifyTCP(b[:n])
		if last != classMore && got != last {
			t.Errorf("%x: %d after %d bytes, %d after %d", b, last, n-1, got, n)
		}
		if n >= sniffBytes && got == classMore {
			t.Errorf("%x: not decided after %d bytes", b, n)
		}
		last = got
	}
}

func FuzzClassifyTCP(f *testing.F) {
	for _, b := range [][]byte{stunHead(0x0003), framed(append(stunHead(0x0001), make([]byte, 80)...)), {0x16, 3, 1, 2, 0, 1}, []byte("GET / HTTP")} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) { checkPrefixes(t, b[:min(len(b), sniffBytes)]) })
}

// FuzzTURNFrame: whatever a stream begins with, a frame is decided by its first four
// bytes, and is within bounds.
func FuzzTURNFrame(f *testing.F) {
	for _, b := range [][]byte{stunHead(0x0003), {0x40, 0, 0, 3, 1, 2, 3, 0}, {0x40, 0, 0xff, 0xff}, {0, 3}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		size, ok := turnFrame(b)
		if len(b) < 4 && (size != 0 || !ok) {
			t.Errorf("%x: %d %v before it can be told", b, size, ok)
		}
		if len(b) >= 4 && ok && (size < 4 || size > maxTURNFrame) {
			t.Errorf("%x: a frame of %d bytes", b, size)
		}
		unauthenticated(b)
		classifyUDP(b)
	})
}

func TestUnauthenticated(t *testing.T) {
	build := func(setters ...stun.Setter) []byte {
		m, err := stun.Build(append([]stun.Setter{stun.TransactionID}, setters...)...)
		if err != nil {
			t.Fatal(err)
		}
		return m.Raw
	}
	refused := stun.NewType(stun.MethodAllocate, stun.ClassErrorResponse)
	for name, c := range map[string]struct {
		b    []byte
		want bool
	}{
		"401":              {build(refused, stun.CodeUnauthorized, stun.NewRealm("x"), stun.NewNonce("y")), true},
		"400":              {build(refused, stun.CodeBadRequest), true},
		"signed error":     {build(refused, stun.CodeForbidden, stun.MessageIntegrity("key")), false},
		"success":          {build(stun.NewType(stun.MethodAllocate, stun.ClassSuccessResponse), stun.MessageIntegrity("key")), false},
		"Data":             {build(stun.NewType(stun.MethodData, stun.ClassIndication)), false},
		"ChannelData":      {[]byte{0x41, 0x11, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, false},
		"cut off in a 401": {build(refused, stun.CodeUnauthorized)[:22], true},
	} {
		if got := unauthenticated(c.b); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
