package transport

import (
	"bytes"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// TestQuickSend sends datagrams that do not wait from several goroutines, over sockets of
// both families, and what it must leave to the net package.
func TestQuickSend(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		c := &counters{}
		s, err := listenUDP(netip.MustParseAddrPort(at), c)
		if err != nil {
			t.Skipf("%s: %v", at, err)
		}
		to, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
		if err != nil {
			t.Fatal(err)
		}
		addr := to.LocalAddr().(*net.UDPAddr).AddrPort()
		const writers, each = 4, 25
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				for range each {
					p := bytes.Repeat([]byte{0x80 + byte(w)}, 20+w)
					if !s.quick.send(p, addr) {
						t.Error("not sent")
					}
				}
			})
		}
		all.Wait()
		got, buf := [writers]int{}, make([]byte, 100)
		_ = to.SetReadDeadline(time.Now().Add(30 * time.Second))
		for left := writers * each; left > 0; {
			n, from, err := to.ReadFromUDPAddrPort(buf)
			if err == nil && from.Port() != s.local.Port() {
				continue // for whoever had the port before
			}
			left--
			if err != nil || n < 20 || n >= 20+writers || !bytes.Equal(buf[:n], bytes.Repeat([]byte{0x80 + byte(n-20)}, n)) {
				t.Fatalf("%s: %x from %v, %v", at, buf[:n], from, err)
			}
			got[n-20]++
		}
		if got != [writers]int{each, each, each, each} {
			t.Errorf("%s: %v", at, got)
		}
		other := netip.MustParseAddrPort("127.0.0.1:9")
		if addr.Addr().Is4() {
			other = netip.MustParseAddrPort("[::1]:9")
		}
		zoned := netip.AddrPortFrom(netip.MustParseAddr("fe80::1%lo"), 9)
		for name, sent := range map[string]bool{
			"another family": s.quick.send([]byte{1}, other), "a zone": s.quick.send([]byte{1}, zoned), "nothing": s.quick.send(nil, addr),
			"too much": s.quick.send(make([]byte, 70_000), addr),
		} {
			if sent {
				t.Errorf("%s: %s was sent", at, name)
			}
		}
		if n := testing.AllocsPerRun(100, func() { s.quick.send(buf[:20], addr) }); n != 0 {
			t.Errorf("%v allocations a datagram", n)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if s.quick.send([]byte{1}, addr) {
			t.Error("sent on a closed socket")
		}
		_ = to.Close()
	}
}
