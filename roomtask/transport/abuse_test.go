package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/pion/stun/v4"
)

// TestAmplification sends requests without credentials from one source, of every size
// that a request may have: what comes back is at most one and a half times as much, and
// a client that repeats itself is answered.
func TestAmplification(t *testing.T) {
	tr, _ := echoing(t)
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(tr.udp[0].local))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	in, out, answers := 0, 0, 0
	receive := func(wait time.Duration) bool {
		if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(make([]byte, 2000))
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		out += n
		if n > 0 {
			answers++
		}
		return n > 0
	}
	requests := [][]byte{stunHead(typeAllocate), stunHead(typeRefresh), stunHead(typePermission), stunHead(typeChannelBind), stunHead(typeSend), stunHead(bindingRequest)}
	for _, pad := range []int{0, 8, 24, 100, 600, 1300} {
		m, err := stun.Build(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest), stun.RawAttribute{Type: stun.AttrSoftware, Value: make([]byte, pad)})
		if err != nil {
			t.Fatal(err)
		}
		requests = append(requests, m.Raw)
	}
	for range 20 {
		for _, b := range requests {
			if _, err := conn.Write(b); err != nil {
				t.Fatal(err)
			}
			in += len(b)
			for receive(2 * time.Millisecond) {
			}
			if out*2 > in*3 {
				t.Fatalf("%d bytes out for %d in", out, in)
			}
		}
	}
	for receive(50 * time.Millisecond) {
	}
	t.Logf("%d bytes in, %d bytes out in %d answers", in, out, answers)
	if answers < 20 || out*2 > in*3 {
		t.Errorf("%d answers, %d bytes out for %d in", answers, out, in)
	}
}

// TestManyAllocates has one credential allocate ten thousand times, from as many
// connections as it gets: its quota holds, and somebody else allocates meanwhile.
func TestManyAllocates(t *testing.T) {
	tr, pool := echoing(t)
	greedy := tr.Grant("greedy")
	client := dialRelay(t, tr, pool, ViaTURNUDP, greedy)
	first, err := client.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Close() }()
	const all = 10_000
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		for range all { // straight to the gate that each request comes to
			if _, err := tr.relay.allocate("greedy", ViaTURNUDP); err == nil {
				continue
			}
		}
	}()
	for range maxAllocations { // and as clients do
		c := dialRelay(t, tr, pool, ViaTURNTCP, greedy)
		if conn, err := c.Allocate(); err == nil {
			defer func() { _ = conn.Close() }()
		}
	}
	<-asked
	if n := tr.Counters().RelayAllocations; n > maxAllocations {
		t.Errorf("one participant has %d allocations", n)
	}
	conn, err := dialRelay(t, tr, pool, ViaTURNTCP, tr.Grant("modest")).Allocate()
	if err != nil {
		t.Fatal("another participant:", err)
	}
	_ = conn.Close()
	tr.Revoke("greedy")
	eventually(t, "nothing is left", func() bool { return tr.Counters().RelayAllocations <= 1 })
}

// TestHalfOpen opens more connections than may be undecided, which say nothing or a
// part: an honest client is served all the same, and what is nobody's is closed.
func TestHalfOpen(t *testing.T) {
	tr, pool := echoing(t)
	dial := func(say string) net.Conn {
		c, err := net.Dial("tcp", tr.tcp[0].local.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if _, err := c.Write([]byte(say)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	var idle []net.Conn
	for i := range maxHalfOpen + 20 {
		idle = append(idle, dial([]string{"", "\x00", "\x16\x03", "\x00\x64\x00\x01"}[i%4]))
	}
	conn, err := dialRelay(t, tr, pool, ViaTURNTLS, tr.Grant("p_1")).Allocate()
	if err != nil {
		t.Fatal("among half-open connections:", err)
	}
	_ = conn.Close()
	closed := func(c net.Conn) bool {
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
		_, err := c.Read(make([]byte, 1))
		return errors.Is(err, io.EOF) || err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
	}
	if !closed(idle[0]) {
		t.Error("the oldest is still open")
	}
	for _, say := range []string{"GET / HTTP/1.1\r\n\r\n", "\xff\xff\xff\xff", string(stunHead(bindingRequest))} {
		if !closed(dial(say)) {
			t.Errorf("%q is served", say)
		}
	}
	eventually(t, "they are counted", func() bool { return tr.Counters().TCPUnknown >= 3 })
}
