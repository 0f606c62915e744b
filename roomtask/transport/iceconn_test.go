package transport

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestICEOverTCP has a client check over TCP: it is answered on its connection, which
// ends with the session. A connection for nobody is closed at once.
func TestICEOverTCP(t *testing.T) {
	tr := open(t, Config{IP: loopback, MoreTCP: []int{0}})
	a := agent(t, tr.mux, "a")
	dial := func(l *listener) net.Conn {
		c, err := net.Dial("tcp", l.local.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	write := func(c net.Conn, frames ...[]byte) {
		for _, b := range frames {
			if _, err := c.Write(framed(b)); err != nil {
				t.Fatal(err)
			}
		}
	}
	stranger := dial(tr.tcp[0])
	write(stranger, checkOf("nobody"))
	if _, err := stranger.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a check for nobody: %v, want it closed", err)
	}
	eventually(t, "the stranger is counted", func() bool { return tr.Counters().TCPUnknown == 1 })
	var conns []net.Conn
	for i, l := range tr.tcp { // both at once: they are two clients to the agent
		c := dial(l)
		write(c, checkOf("a"))
		b, from := a.got(t)
		if b != string(checkOf("a")) || from.Addr() != netip.MustParseAddr("240.0.0.1") || int(from.Port()) != i+1 {
			t.Fatalf("%x from %s", b, from)
		}
		if n, err := a.WriteToAddrPort(answer, from); n != len(answer) || err != nil {
			t.Fatal(n, err)
		}
		in := make([]byte, len(framed(answer)))
		if _, err := io.ReadFull(c, in); err != nil || !bytes.Equal(in, framed(answer)) {
			t.Fatalf("%x, %v", in, err)
		}
		write(c, rtpPacket, rtpPacket)
		for range 2 {
			if b, again := a.got(t); b != string(rtpPacket) || again != from {
				t.Fatalf("%x from %s", b, again)
			}
		}
		conns = append(conns, c)
	}
	write(conns[1], make([]byte, receiveLimit+1))
	if _, err := conns[1].Read(make([]byte, 1)); err == nil {
		t.Error("a frame that is too long was taken")
	}
	eventually(t, "what ended is forgotten", func() bool {
		tr.mux.mu.RLock()
		defer tr.mux.mu.RUnlock()
		return len(a.remotes) == 1 && len(tr.mux.routes) == 1
	})
	_ = a.Close()
	if _, err := conns[0].Read(make([]byte, 1)); err == nil {
		t.Error("the connection outlives its session")
	}
	eventually(t, "all are closed", func() bool { return tr.Counters().TCPOpen == 0 })
}

// TestSlowTCPClient sends to a client that reads nothing: what is kept for it is bounded,
// and whole frames are dropped.
func TestSlowTCPClient(t *testing.T) {
	tr := open(t, Config{IP: loopback})
	a := agent(t, tr.mux, "a")
	c, err := net.Dial("tcp", tr.TCPAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write(framed(checkOf("a"))); err != nil {
		t.Fatal(err)
	}
	_, from := a.got(t)
	sent, b := 0, append([]byte{0x80, 96}, make([]byte, 1198)...)
	for tr.Counters().TCPDropped < 10 {
		b[2], b[3], b[4] = byte(sent>>16), byte(sent>>8), byte(sent)
		if n, err := a.WriteToAddrPort(b, from); n != len(b) || err != nil {
			t.Fatal(n, err)
		}
		if sent++; sent*len(b) > 1<<28 {
			t.Fatal("a client that reads nothing was given everything")
		}
	}
	tr.mux.mu.RLock()
	w := a.find(from).by.(*iceConn)
	tr.mux.mu.RUnlock()
	w.mu.Lock()
	kept := cap(w.out)
	w.mu.Unlock()
	if kept > 2*tcpWriteBuffer {
		t.Errorf("%d bytes are kept", kept)
	}
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	in, last := make([]byte, len(framed(b))), -1
	for got := 0; got < sent-int(tr.Counters().TCPDropped); got++ {
		if _, err := io.ReadFull(c, in); err != nil {
			t.Fatalf("frame %d: %v", got, err)
		}
		n := int(in[4])<<16 | int(in[5])<<8 | int(in[6])
		if !bytes.Equal(in[:4], framed(b)[:4]) || n <= last {
			t.Fatalf("frame %d is %x, after %d", got, in[:7], last)
		}
		last = n
	}
}
