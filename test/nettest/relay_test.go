package nettest

import (
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"
)

var anyPort = netip.MustParseAddrPort("127.0.0.1:0")

// echo answers every packet with itself.
func echo(t *testing.T) netip.AddrPort {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(anyPort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 2000)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func open(t *testing.T, cfg Config) *Relay {
	t.Helper()
	cfg.Listen = anyPort
	r, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func dial(t *testing.T, r *Relay) net.Conn {
	t.Helper()
	c, err := net.Dial("udp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// take reads numbers until one does not come for a while.
func take(c net.Conn, patience time.Duration) (ns []uint32) {
	buf := make([]byte, 2000)
	for {
		c.SetReadDeadline(time.Now().Add(patience))
		if _, err := c.Read(buf); err != nil {
			return ns
		}
		ns = append(ns, binary.BigEndian.Uint32(buf))
	}
}

func number(n, size int) []byte {
	b := make([]byte, size)
	binary.BigEndian.PutUint32(b, uint32(n))
	return b
}

func TestRelayKeepsClientsApart(t *testing.T) {
	r := open(t, Config{Target: echo(t)})
	a, b := dial(t, r), dial(t, r)
	for n := range 50 {
		_, _ = a.Write(number(n, 100))
		_, _ = b.Write(number(1000+n, 100))
	}
	for i, c := range []net.Conn{a, b} {
		got := take(c, 500*time.Millisecond)
		if len(got) != 50 {
			t.Errorf("client %d got %d of 50 back", i, len(got))
		}
		for n, v := range got {
			if v != uint32(1000*i+n) {
				t.Fatalf("client %d got %d as number %d", i, v, n)
			}
		}
	}
	up, down := r.Counters()
	if up.In != 100 || up.Out != 100 || down.Out != 100 || up.InBytes != 10_000 || up.Held+down.Held != 0 {
		t.Errorf("up %+v, down %+v", up, down)
	}
}

// TestRelayImpairsEachDirection: loss on the way up is not loss on the way down, and a
// change at run time takes effect.
func TestRelayImpairsEachDirection(t *testing.T) {
	r := open(t, Config{Target: echo(t), Seed: 5, Up: Settings{Loss: 1}})
	c := dial(t, r)
	_, _ = c.Write(number(1, 100))
	if got := take(c, 100*time.Millisecond); len(got) != 0 {
		t.Errorf("%v passed", got)
	}
	if err := r.Set(Settings{Delay: 30 * time.Millisecond}, Settings{Delay: 20 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	_, _ = c.Write(number(2, 100))
	if got := take(c, 300*time.Millisecond); len(got) != 1 || got[0] != 2 {
		t.Errorf("%v passed", got)
	}
	if took := time.Since(begin) - 300*time.Millisecond; took < 50*time.Millisecond {
		t.Errorf("there and back in %v", took)
	}
	up, down := r.Counters()
	if up.Lost != 1 || up.Out != 1 || down.Out != 1 {
		t.Errorf("up %+v, down %+v", up, down)
	}
	if r.Set(Settings{Loss: 2}, Settings{}) == nil {
		t.Error("a loss of 200 % was accepted")
	}
}

// TestRelayIsNoFasterThanItsRate on real sockets. How much slower it is, is this
// machine's business; TestRate has the other bound.
func TestRelayIsNoFasterThanItsRate(t *testing.T) {
	r := open(t, Config{Target: echo(t), Up: Settings{Rate: 2_000_000}})
	c := dial(t, r)
	begin := time.Now()
	for n := range 101 {
		_, _ = c.Write(number(n, 1250)) // 5 ms each
	}
	got := take(c, 500*time.Millisecond)
	if took := time.Since(begin) - 500*time.Millisecond; len(got) != 101 || took < 495*time.Millisecond {
		t.Errorf("%d packets of 5 ms came in %v", len(got), took)
	}
}

func TestRelayBoundsItsClients(t *testing.T) {
	r := open(t, Config{Target: echo(t)})
	for range maxClients + 10 {
		c, err := net.Dial("udp", r.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(number(1, 10))
		defer c.Close()
	}
	end := time.Now().Add(5 * time.Second)
	for {
		r.mu.Lock()
		refused, clients := r.refused, len(r.clients)
		r.mu.Unlock()
		if refused == 10 && clients == maxClients {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d clients, %d refused", clients, refused)
		}
		runtime.Gosched()
	}
}

func TestRelayClosesCleanly(t *testing.T) {
	target := echo(t)
	before := runtime.NumGoroutine()
	for range 20 {
		r := open(t, Config{Target: target, Down: Settings{Delay: time.Second}})
		c := dial(t, r)
		_, _ = c.Write(number(1, 10))
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("closed again: %v", err)
		}
	}
	// One that has said that it is done may not be gone yet.
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines were left", runtime.NumGoroutine()-before)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	if _, err := Open(Config{Listen: anyPort, Down: Settings{Loss: -1}}); err == nil || !strings.Contains(err.Error(), "loss") {
		t.Errorf("%v", err)
	}
}

func TestThrough(t *testing.T) {
	sdp := "v=0\r\na=candidate:1 1 udp 2130706431 10.77.0.1 4000 typ host ufrag x\r\n" +
		"a=candidate:2 1 tcp 1671430143 10.77.0.1 4001 typ host tcptype passive\r\na=end-of-candidates\r\n"
	var target netip.AddrPort
	got, err := Through(sdp, func(a netip.AddrPort) (netip.AddrPort, error) {
		target = a
		return netip.MustParseAddrPort("10.77.0.2:5000"), nil
	})
	want := "v=0\r\na=candidate:1 1 udp 2130706431 10.77.0.2 5000 typ host ufrag x\r\na=end-of-candidates\r\n"
	if err != nil || got != want || target != netip.MustParseAddrPort("10.77.0.1:4000") {
		t.Errorf("%q for %v, %v", got, target, err)
	}
	if _, err := Through("a=candidate:1 1 udp 1 elsewhere.local 4000 typ host\r\n", nil); err == nil {
		t.Error("a name was taken for an address")
	}
}
