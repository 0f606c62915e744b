package transport

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/stun/v4"
)

// stream is one end of a TCP connection in memory, which gives its bytes in pieces of at
// most step.
type stream struct {
	net.Conn
	rest []byte // owned by the reader
	step int

	head     []byte        // owned by the reader: comes before rest …
	answered chan struct{} // … which waits for this; nil = it does not
}

func (s *stream) Read(b []byte) (int, error) {
	if len(s.head) > 0 {
		n := copy(b, s.head[:min(len(s.head), s.step)])
		s.head = s.head[n:]
		return n, nil
	}
	if s.answered != nil {
		<-s.answered
	}
	if len(s.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.rest[:min(len(s.rest), s.step)])
	s.rest = s.rest[n:]
	return n, nil
}

func (s *stream) Write(b []byte) (int, error)      { return len(b), nil }
func (s *stream) Close() error                     { return nil }
func (s *stream) SetReadDeadline(time.Time) error  { return nil }
func (s *stream) SetWriteDeadline(time.Time) error { return nil }
func (s *stream) SetDeadline(time.Time) error      { return nil }
func (s *stream) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443} }
func (s *stream) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 4711} }

// FuzzTURNStream: the relay gets the frames of a stream whole, one at a time and in
// order, however its bytes come, and nothing of what follows bytes that are no frame.
func FuzzTURNStream(f *testing.F) {
	channel := []byte{0x40, 0, 0, 3, 1, 2, 3, 0}
	f.Add(append(stunHead(typeAllocate), channel...), byte(1))
	f.Add(append(channel, channel...), byte(5))
	f.Add(append(channel, 0xff, 0xff), byte(3))
	f.Add(append(stunHead(typeRefresh), 0x7f, 0xff, 0xff, 0xff), byte(255))
	f.Fuzz(func(t *testing.T, b []byte, step byte) {
		var want [][]byte
		for rest := b; ; {
			size, ok := turnFrame(rest)
			if !ok || size == 0 || size > len(rest) {
				break
			}
			want, rest = append(want, rest[:size]), rest[size:]
		}
		c := &turnConn{Conn: &stream{rest: b, step: int(step) + 1}, r: &relay{now: time.Now}, opened: time.Now(), buf: make([]byte, 2*maxTURNFrame)}
		buf := make([]byte, maxTURNFrame+1)
		for i := 0; ; i++ {
			n, err := c.Read(buf)
			if err != nil {
				if i != len(want) {
					t.Fatalf("%d frames, want %d: %v", i, len(want), err)
				}
				return
			}
			if i >= len(want) || !bytes.Equal(buf[:n], want[i]) {
				t.Fatalf("frame %d is %x", i, buf[:n])
			}
		}
	})
}

// FuzzICETCP: a connection that begins with a check is ICE's, and ICE gets the packets of
// its RFC 4571 frames whole and in order, however its bytes come, up to a frame that is
// cut off or too long.
func FuzzICETCP(f *testing.F) {
	f.Add(framed([]byte{0x80, 1, 2, 3}), byte(0))
	f.Add(append(framed(nil), framed(bytes.Repeat([]byte{0x80}, 1200))...), byte(7))
	f.Add([]byte{0xff, 0xff, 1, 2, 3}, byte(255))
	f.Add(append(framed(stunHead(bindingRequest)), 0), byte(1))
	check, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername("room:client"))
	if err != nil {
		f.Fatal(err)
	}
	first, err := listenUDP(netip.AddrPortFrom(loopback, 0), &counters{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = first.Close() })
	f.Fuzz(func(t *testing.T, b []byte, step byte) {
		want := [][]byte{check.Raw}
		for rest := b; len(rest) >= 2 && len(want) < 64; {
			size := int(binary.BigEndian.Uint16(rest))
			if rest = rest[2:]; size > receiveLimit || size > len(rest) {
				break
			}
			want, rest = append(want, rest[:size]), rest[size:]
		}
		mux := newMux(first, func(netip.Addr) bool { return true }, new(atomic.Uint64))
		client, err := mux.GetConn("room", first.LocalAddr())
		if err != nil {
			t.Fatal(err)
		}
		front := newFront(&counters{}, nil, mux, nil, first.LocalAddr())
		in := &stream{rest: b, step: int(step) + 1, head: framed(check.Raw), answered: make(chan struct{})}
		front.running.Go(func() { front.admit(in) })
		defer front.close()
		defer func() { _ = mux.Close() }()
		buf := make([]byte, receiveLimit)
		for i, w := range want {
			n, from, err := client.(*session).ReadFromAddrPort(buf)
			if err != nil || !bytes.Equal(buf[:n], w) {
				t.Fatalf("packet %d of %d is %x, want %x: %v", i, len(want), buf[:n], w, err)
			}
			if i == 0 {
				if _, err := client.(*session).WriteToAddrPort([]byte("answer"), from); err != nil {
					t.Fatal(err)
				}
				close(in.answered)
			}
		}
	})
}
