package nettest

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestRebind: the target sees the client come from another port, and answers there.
func TestRebind(t *testing.T) {
	target, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(anyPort))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = target.Close() }()
	r := open(t, Config{Target: target.LocalAddr().(*net.UDPAddr).AddrPort()})
	c := dial(t, r)
	seen := func(n int) (from netip.AddrPort) {
		t.Helper()
		if _, err := c.Write(number(n, 100)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 2000)
		_ = target.SetReadDeadline(time.Now().Add(10 * time.Second))
		size, from, err := target.ReadFromUDPAddrPort(buf)
		for err == nil && !bytes.Equal(buf[:size], number(n, 100)) { // for whoever had the port before
			size, from, err = target.ReadFromUDPAddrPort(buf)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := target.WriteToUDPAddrPort(buf[:size], from); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(buf); err != nil {
			t.Fatal("no answer:", err)
		}
		return from
	}
	before := seen(1)
	if again := seen(2); again != before {
		t.Errorf("shown at %v and then at %v", before, again)
	}
	if err := r.Rebind(); err != nil {
		t.Fatal(err)
	}
	if after := seen(3); after == before {
		t.Error("shown at the same port")
	}
}
