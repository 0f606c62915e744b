package transport

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/ice/v4"
)

var loopback = netip.MustParseAddr("127.0.0.1")

func open(t *testing.T, cfg Config) *Transport {
	t.Helper()
	tr, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

// eventually polls a real socket's effect; it fails after 30 s, for the machine may be
// busy.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
		runtime.Gosched()
	}
}

func TestOpenRefuses(t *testing.T) {
	cases := map[string]Config{
		"no address":         {},
		"unspecified":        {IP: netip.IPv4Unspecified()},
		"multicast":          {IP: netip.MustParseAddr("224.0.0.1")},
		"udp port":           {IP: loopback, UDPPort: 70000},
		"negative udp port":  {IP: loopback, UDPPort: -1},
		"tcp port":           {IP: loopback, TCPPort: 70000},
		"public family":      {IP: loopback, PublicIP: netip.MustParseAddr("2001:db8::1")},
		"unspecified public": {IP: loopback, PublicIP: netip.IPv4Unspecified()},
		"foreign address":    {IP: netip.MustParseAddr("192.0.2.1")},
	}
	for name, cfg := range cases {
		t.Run(name, func(t *testing.T) {
			if tr, err := Open(cfg); err == nil {
				_ = tr.Close()
				t.Fatal("opened")
			}
		})
	}
}

// gathered is an agent's own candidates, as a participant's would be.
func gathered(t *testing.T, tr *Transport) []ice.Candidate {
	t.Helper()
	a, err := tr.Agent(func([]byte) {})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.GracefulClose() }()
	done := make(chan struct{})
	if err := a.OnCandidate(func(c ice.Candidate) {
		if c == nil {
			close(done)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := a.GatherCandidates(); err != nil {
		t.Fatal(err)
	}
	<-done
	own, err := a.GetLocalCandidates()
	if err != nil {
		t.Fatal(err)
	}
	return own
}

// candidates are what clients are told. The first is what an agent has.
func candidates(t *testing.T, tr *Transport) []string {
	t.Helper()
	own := gathered(t, tr)
	if all := tr.Candidates(); len(own) != 1 || len(all) == 0 || !strings.HasPrefix(own[0].Marshal(), all[0]) {
		t.Errorf("an agent has %v, clients are told of %q", own, all)
	}
	var got []string
	for _, c := range tr.Candidates() {
		parsed, err := ice.UnmarshalCandidate(c)
		if err != nil {
			t.Fatal(err)
		}
		if udp := parsed.NetworkType().IsUDP(); udp && parsed.Priority() != 2130706431 || !udp && parsed.TCPType() != ice.TCPTypePassive {
			t.Errorf("candidate %s", c)
		}
		got = append(got, parsed.NetworkType().String()+" "+
			netip.AddrPortFrom(netip.MustParseAddr(parsed.Address()), uint16(parsed.Port())).String())
	}
	slices.Sort(got)
	return slices.Compact(got)
}

type candidatesCase struct {
	ip, public, shown string
	tcp               int
}

// globalIPv6 is an address of this machine, "" if it has none. ICE does not use
// the loopback address ::1.
func globalIPv6() string {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if ipnet, ok := a.(*net.IPNet); ok && ipnet.IP.To4() == nil && ipnet.IP.IsGlobalUnicast() {
			return ipnet.IP.String()
		}
	}
	return ""
}

func TestCandidatesAreOurAddressOnly(t *testing.T) {
	cases := map[string]candidatesCase{
		"loopback":       {ip: "127.0.0.1", shown: "127.0.0.1"},
		"public address": {ip: "127.0.0.1", public: "203.0.113.9", shown: "203.0.113.9"},
		"same public":    {ip: "127.0.0.1", public: "127.0.0.1", shown: "127.0.0.1"},
		"without TCP":    {ip: "127.0.0.1", shown: "127.0.0.1", tcp: -1},
	}
	if ip := globalIPv6(); ip != "" { // a machine without IPv6 has nothing to try here
		cases["IPv6"] = candidatesCase{ip: ip, shown: ip}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			cfg := Config{IP: netip.MustParseAddr(c.ip), TCPPort: c.tcp}
			if c.public != "" {
				cfg.PublicIP = netip.MustParseAddr(c.public)
			}
			tr := open(t, cfg)
			family := "4 "
			if cfg.IP.Is6() {
				family = "6 "
			}
			shown := netip.MustParseAddr(c.shown)
			want := []string{"udp" + family + netip.AddrPortFrom(shown, tr.UDPAddr().Port()).String()}
			if c.tcp >= 0 {
				want = append([]string{"tcp" + family + netip.AddrPortFrom(shown, tr.TCPAddr().Port()).String()}, want...)
			}
			if got := candidates(t, tr); !slices.Equal(got, want) {
				t.Errorf("candidates %q, want %q", got, want)
			}
		})
	}
}

func TestRemoteAllowed(t *testing.T) {
	onLoopback := &Transport{cfg: Config{IP: loopback}}
	onLAN := &Transport{cfg: Config{IP: netip.MustParseAddr("10.0.0.7"), PublicIP: netip.MustParseAddr("203.0.113.1")}}
	if err := onLAN.check(); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		t    *Transport
		ip   string
		want bool
	}{
		{onLAN, "203.0.113.7", true}, {onLAN, "10.0.0.8", true}, {onLAN, "2001:db8::7", true},
		{onLAN, "169.254.170.2", false}, {onLAN, "::ffff:169.254.170.2", false}, {onLAN, "fe80::1", false},
		{onLAN, "127.0.0.1", false}, {onLAN, "::1", false}, {onLAN, "0.0.0.0", false}, {onLAN, "224.0.0.1", false},
		{onLoopback, "127.0.0.1", true}, {onLoopback, "169.254.169.254", false},
	}
	for _, c := range cases {
		if got := c.t.remoteAllowed(net.ParseIP(c.ip)); got != c.want {
			t.Errorf("from %s, %s allowed: %v, want %v", c.t.cfg.IP, c.ip, got, c.want)
		}
	}
	if onLAN.remoteAllowed(net.IP{1, 2}) {
		t.Error("an address of two bytes is allowed")
	}
}

func TestUDPCountsAndDoesNotAllocate(t *testing.T) {
	var c counters
	a, err := listenUDP(netip.AddrPortFrom(loopback, 0), &c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	out := make([]byte, 1200)
	out[0], out[1] = 0x80, 200 // SRTCP: sent at once, and Pion's to read
	trip := func() {
		if _, err := a.WriteToAddrPort(out, a.local); err != nil {
			t.Fatal(err)
		}
		if in, from, err := a.next(); err != nil || len(in) != 1200 || from != a.local {
			t.Fatal(len(in), from, err)
		}
	}
	if allocs := testing.AllocsPerRun(100, trip); allocs != 0 {
		t.Errorf("%v allocations per packet sent and received", allocs)
	}
	got := c.snapshot()
	if got.UDPPacketsIn != 101 || got.UDPPacketsOut != 101 || got.UDPBytesIn != 101*1200 || got.UDPBytesOut != 101*1200 {
		t.Errorf("after 101 packets of 1200 bytes: %+v", got)
	}
	if _, err := a.WriteToAddrPort(make([]byte, 70000), a.local); err == nil {
		t.Error("a datagram of 70000 bytes was sent")
	}
	if got := c.snapshot(); got.UDPWriteErrors != 1 || got.UDPPacketsOut != 101 {
		t.Errorf("after a failed write: %+v", got)
	}
	_ = a.Close()
	if _, _, err := a.next(); !errors.Is(err, io.EOF) {
		t.Errorf("read of a closed socket: %v, want io.EOF", err)
	}
}

func TestTCPBounds(t *testing.T) {
	var c counters
	l, err := listenTCP(netip.AddrPortFrom(loopback, 0), &c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	l.mu.Lock()
	l.byIP[loopback] = maxTCPPerIP - 1 // as if so many were open
	l.mu.Unlock()
	accepted := make(chan net.Conn, 8)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- conn
		}
	}()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", l.local.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	dial()
	first := <-accepted
	over := dial()
	if _, err := over.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("connection over the bound: %v, want it closed", err)
	}
	_, _ = first.Close(), first.Close() // twice counts once
	eventually(t, "the place is free again", func() bool { return c.snapshot().TCPOpen == 0 })
	dial()
	_ = (<-accepted).Close()
	if got := c.snapshot(); got.TCPAccepted != 2 || got.TCPRefused != 1 {
		t.Errorf("counters %+v", got)
	}
	_ = l.Close()
	if _, ok := <-accepted; ok {
		t.Error("accepted after Close")
	}
}

// TestCloseReturns covers traffic that arrives while the sockets close.
func TestCloseReturns(t *testing.T) {
	for range 20 {
		tr, err := Open(Config{IP: loopback})
		if err != nil {
			t.Fatal(err)
		}
		out, err := net.Dial("udp", tr.UDPAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		idle, err := net.Dial("tcp", tr.TCPAddr().String()) // never sends a STUN check
		if err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = out.Write([]byte("noise"))
				}
			}
		}()
		eventually(t, "noise arrives", func() bool { return tr.Counters().UDPPacketsIn > 0 })
		_ = idle.Close()
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
		close(stop)
		<-gone
		_ = out.Close()
	}
}

func TestLoggerLimitsAndRedacts(t *testing.T) {
	var out bytes.Buffer
	f := NewLoggerFactory(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	now := time.Unix(1000, 0)
	f.now = func() time.Time { return now }
	l := f.NewLogger("ice")
	l.Debugf("password %s", "hunter2")
	l.Infof("ufrag %s", "hunter2")
	l.Warn("Failed to ping without candidate pairs. Connection is not possible yet.")
	for range 1000 {
		l.Warnf("discarded message from %s and %s", "203.0.113.77:5000", "2001:db8:1:2::77")
	}
	f.NewLogger("dtls").Error(strings.Repeat("x", 5000))
	now = now.Add(logPeriod)
	l.Warn("again")
	text := out.String()
	for _, secret := range []string{"hunter2", "Failed to ping", "203.0.113.77", "2::77", strings.Repeat("x", logLength+1)} {
		if strings.Contains(text, secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
	if n := strings.Count(text, "discarded message from 203.0.113.x:5000 and 2001:db8:x"); n != logBurst {
		t.Errorf("%d messages of a flood, want %d:\n%s", n, logBurst, text)
	}
	if !strings.Contains(text, "again") || !strings.Contains(text, "suppressed=990") {
		t.Errorf("what was suppressed is not told:\n%s", text)
	}
	if !strings.Contains(text, "level=WARN msg=\"pion message\" scope=dtls") {
		t.Error("another scope is limited too, or an error is no warning")
	}
	out.Reset()
	quiet := NewLoggerFactory(slog.New(slog.NewTextHandler(&out, nil))).NewLogger("ice")
	quiet.Warn("said for debugging only")
	if out.Len() != 0 {
		t.Errorf("at the usual level Pion's warnings are not shown: %s", out.String())
	}
}

func TestOutboundIP(t *testing.T) {
	tried := 0
	for _, ip := range []netip.Addr{OutboundIP(), OutboundIP6()} {
		if !ip.IsValid() {
			continue
		}
		tr, err := Open(Config{IP: ip})
		if err != nil {
			t.Fatalf("the outbound address %s cannot be bound: %v", ip, err)
		}
		_ = tr.Close()
		tried++
	}
	if tried == 0 {
		t.Skip("this machine has no route to the internet")
	}
}
