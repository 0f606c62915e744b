package transport

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// TestReceivesInBatches sends more datagrams than one call takes, of every length from
// nothing to too long, from two addresses of each family.
func TestReceivesInBatches(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		c := &counters{}
		s, err := listenUDP(netip.MustParseAddrPort(at), c)
		if err != nil {
			t.Skipf("%s: %v", at, err)
		}
		calls, taken := 0, 0
		k := s.in.(*kernelReceiver)
		k.recvmmsg = func(fd uintptr, m []unix.Mmsghdr) (int, unix.Errno) {
			n, errno := recvmmsg(fd, m)
			if errno == 0 {
				calls, taken = calls+1, max(taken, n)
			}
			return n, errno
		}
		var want []datagram
		var from [2]*net.UDPConn
		for i := range from {
			if from[i], err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(s.local)); err != nil {
				t.Fatal(err)
			}
		}
		for i, size := range []int{1, 0, 12, receiveBytes + 1, 1200, receiveBytes, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21} {
			p := bytes.Repeat([]byte{0x80 + byte(i)}, size) // as RTP
			if _, err := from[i%2].Write(p); err != nil {
				t.Fatal(err)
			}
			if size <= receiveBytes {
				want = append(want, datagram{p, from[i%2].LocalAddr().(*net.UDPAddr).AddrPort()})
			}
		}
		for i, w := range want {
			got, addr, err := s.next()
			if err != nil || addr != w.from || !bytes.Equal(got, w.p) {
				t.Fatalf("%s, datagram %d: %d bytes from %v, %v; want %d from %v", at, i, len(got), addr, err, len(w.p), w.from)
			}
		}
		if calls != 2 || taken != receiveBatch {
			t.Errorf("%s: %d calls, of up to %d datagrams", at, calls, taken)
		}
		if got := c.snapshot(); got.UDPPacketsIn != uint64(len(want)) {
			t.Errorf("%s: %d counted, want %d", at, got.UDPPacketsIn, len(want))
		}
		if n := testing.AllocsPerRun(100, func() {
			if _, err := from[0].Write(want[0].p); err != nil {
				t.Fatal(err)
			}
			if _, _, err := s.next(); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%v allocations a datagram", n)
		}
		if err := errors.Join(s.Close(), from[0].Close(), from[1].Close()); err != nil {
			t.Error(err)
		}
	}
}

// TestReceiveGoesOn has the call fail in between: a late ICMP error is no end.
func TestReceiveGoesOn(t *testing.T) {
	c := &counters{}
	s, err := listenUDP(netip.MustParseAddrPort("127.0.0.1:0"), c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	failures := []unix.Errno{unix.ECONNREFUSED, unix.ENOBUFS, unix.ECONNREFUSED}
	k := s.in.(*kernelReceiver)
	k.recvmmsg = func(fd uintptr, m []unix.Mmsghdr) (int, unix.Errno) {
		if len(failures) > 0 {
			errno := failures[0]
			failures = failures[1:]
			return -1, errno
		}
		return recvmmsg(fd, m)
	}
	from, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(s.local))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = from.Close() }()
	if _, err := from.Write([]byte("\x80after")); err != nil {
		t.Fatal(err)
	}
	got, _, err := s.next()
	if err != nil || string(got) != "\x80after" {
		t.Fatalf("%q, %v", got, err)
	}
	if got := c.snapshot().UDPReadErrors; got != 3 {
		t.Errorf("%d errors counted, want 3", got)
	}
}
