package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/stun/v4"
)

// agent is an ICE agent's end of the mux, as Pion holds it.
func agent(t testing.TB, m *mux, user string) *session {
	t.Helper()
	c, err := m.GetConn(user, m.first.LocalAddr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*session)
}

// got reads a datagram, which must be there already or on its way.
func (s *session) got(t testing.TB) (string, netip.AddrPort) {
	t.Helper()
	b := make([]byte, receiveLimit)
	n, from, err := s.ReadFromAddrPort(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n]), from
}

// nothing tells that no datagram waits.
func (s *session) nothing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue) == 0
}

// client is a UDP socket of a client's.
func client(t testing.TB) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func checkOf(user string) []byte { return stunMessage(bindingRequest, 1, user+":client") }

var (
	rtpPacket = append([]byte{0x80, 96}, make([]byte, 30)...)
	answer    = stunMessage(bindingSuccess, 1, "")
)

// remoteAt is the remote candidate of a pair.
func remoteAt(t *testing.T, at netip.AddrPort) ice.Candidate {
	t.Helper()
	c, err := ice.NewCandidatePeerReflexive(&ice.CandidatePeerReflexiveConfig{
		Network: "udp", Address: at.Addr().String(), Port: int(at.Port()), Component: ice.ComponentRTP,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSTUNAloneIsTheAgents: of what a client sends after its check has been answered, the
// agent reads checks, and whoever made it takes the rest.
func TestSTUNAloneIsTheAgents(t *testing.T) {
	tr := open(t, Config{IP: loopback})
	first := tr.udp[0]
	var taken [][]byte
	conn, err := (&agentMux{tr.mux, func(b []byte) { taken = append(taken, bytes.Clone(b)) }}).GetConn("a", first.LocalAddr())
	if err != nil {
		t.Fatal(err)
	}
	s := conn.(*session)
	from := netip.MustParseAddrPort("127.0.0.1:9")
	if tr.mux.deliver(first, rtpPacket, from) || len(taken) != 0 {
		t.Error("RTP of an address that has not checked was taken")
	}
	tr.mux.deliver(first, checkOf("a"), from)
	if _, err := s.WriteToAddrPort(answer, from); err != nil {
		t.Fatal(err)
	}
	dtls := append([]byte{22, 254, 253}, make([]byte, 30)...)
	for _, b := range [][]byte{rtpPacket, dtls, checkOf("a")} {
		tr.mux.deliver(first, b, from)
	}
	if len(taken) != 2 || !bytes.Equal(taken[0], rtpPacket) || !bytes.Equal(taken[1], dtls) {
		t.Errorf("taken: %x", taken)
	}
	in := make([]byte, 200)
	for range 2 {
		if n, _, err := s.ReadFromAddrPort(in); err != nil || !bytes.Equal(in[:n], checkOf("a")) {
			t.Errorf("the agent read %x, %v", in[:n], err)
		}
	}
	_ = s.Close()
	if tr.mux.deliver(first, rtpPacket, from) || len(taken) != 2 {
		t.Error("taken after the session's end")
	}
}

// TestMuxRoutes has one client check over each way in, from the same address where it can:
// each is another client to the agent, is answered where it came from, and counts once it
// is answered.
func TestMuxRoutes(t *testing.T) {
	tr := open(t, Config{IP: loopback, MoreUDP: []int{0}})
	first, second := tr.udp[0], tr.udp[1]
	a, other := agent(t, tr.mux, "a"), agent(t, tr.mux, "other")
	c, at := client(t)
	for _, way := range []struct {
		by   *socket
		seen netip.AddrPort
	}{{first, at}, {second, netip.AddrPortFrom(netip.MustParseAddr("240.0.0.1"), 1)}} {
		for _, b := range [][]byte{rtpPacket, checkOf("nobody"), checkOf("a")} {
			if _, err := c.WriteToUDPAddrPort(b, way.by.local); err != nil {
				t.Fatal(err)
			}
		}
		b, from := a.got(t) // nothing of what comes before a check
		if b != string(checkOf("a")) || from != way.seen {
			t.Fatalf("%x from %s, want the check from %s", b, from, way.seen)
		}
		if _, err := a.WriteToAddrPort(answer, from); err != nil {
			t.Fatal(err)
		}
		in := make([]byte, 100)
		if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, by, err := c.ReadFromUDPAddrPort(in)
		for err == nil && by != way.by.local { // for whoever had the port before
			n, by, err = c.ReadFromUDPAddrPort(in)
		}
		if err != nil || by != way.by.local || !bytes.Equal(in[:n], answer) {
			t.Fatalf("the client got %x from %s (%v), want the answer from %s", in[:n], by, err, way.by.local)
		}
		if _, err := c.WriteToUDPAddrPort(rtpPacket, way.by.local); err != nil {
			t.Fatal(err)
		}
		if b, from := a.got(t); b != string(rtpPacket) || from != way.seen {
			t.Fatalf("%x from %s, want RTP from %s", b, from, way.seen)
		}
		pair := remoteAt(t, way.seen)
		if p := tr.Path(pair); p == nil || p.s != way.by || p.to != at || tr.Via(pair) != ViaUDP {
			t.Errorf("path %+v, via %q", p, tr.Via(pair))
		}
	}
	if !other.nothing() {
		t.Error("another agent got something")
	}
	unknown := remoteAt(t, netip.MustParseAddrPort("240.0.0.1:9"))
	if p, via := tr.Path(unknown), tr.Via(unknown); p != nil || via != "" {
		t.Errorf("an alias of nobody: path %+v, via %q", p, via)
	}
	room := make([]byte, 100)
	if n := testing.AllocsPerRun(100, func() {
		if !tr.mux.deliver(second, rtpPacket, at) {
			t.Fatal("not delivered")
		}
		if _, _, err := a.ReadFromAddrPort(room); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a datagram in", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := a.WriteToAddrPort(rtpPacket, at); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a datagram out", n)
	}
}

// TestMuxRefusesTakeover has an agent, whose client is anybody in the room, answer at an
// address that is another's: nothing changes for that one. When it ends, the address is
// free; so is it for the same client after an ICE restart.
func TestMuxRefusesTakeover(t *testing.T) {
	tr := open(t, Config{IP: loopback, MoreUDP: []int{0}})
	m := tr.mux
	for i, by := range tr.udp {
		a, b := agent(t, m, fmt.Sprint("a", i)), agent(t, m, fmt.Sprint("b", i))
		_, at := client(t)
		m.deliver(by, checkOf(a.user), at)
		m.deliver(by, checkOf(b.user), at) // before anybody is answered, both get theirs
		_, ofA := a.got(t)
		_, ofB := b.got(t)
		if _, err := a.WriteToAddrPort(answer, ofA); err != nil {
			t.Fatal(err)
		}
		sent := tr.Counters().UDPPacketsOut
		if n, err := b.WriteToAddrPort(answer, ofB); n != len(answer) || err != nil {
			t.Error(n, err)
		}
		if now := tr.Counters().UDPPacketsOut; now != sent {
			t.Error("the other agent's answer was sent")
		}
		for _, p := range [][]byte{rtpPacket, checkOf(b.user)} { // the second is refused by its agent, which did not write its name
			if m.deliver(by, p, at); !b.nothing() {
				t.Fatal("the other agent got what is not its own")
			}
			if got, from := a.got(t); got != string(p) || from != ofA {
				t.Errorf("%x from %s", got, from)
			}
		}
		m.RemoveConnByUfrag(a.user)
		if m.deliver(by, rtpPacket, at) {
			t.Error("a datagram of a session that has ended was delivered")
		}
		m.deliver(by, checkOf(b.user), at)
		if got, _ := b.got(t); got != string(checkOf(b.user)) {
			t.Errorf("%x", got)
		}
	}
	if len(m.routes) != 0 {
		t.Errorf("%d routes are left", len(m.routes))
	}
}

// TestMuxEnds ends sessions while their agents read, one by its name and one by Close.
func TestMuxEnds(t *testing.T) {
	tr := open(t, Config{IP: loopback})
	m := tr.mux
	reads := make(chan error, 2)
	one, two := agent(t, m, "one"), agent(t, m, "two")
	for _, s := range []*session{one, two} {
		go func() {
			_, _, err := s.ReadFromAddrPort(make([]byte, 100))
			reads <- err
		}()
	}
	m.RemoveConnByUfrag("one")
	if err := <-reads; !errors.Is(err, io.EOF) {
		t.Errorf("read of a session that was removed: %v", err)
	}
	if _, err := one.WriteToAddrPort(answer, netip.MustParseAddrPort("127.0.0.1:9")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("write of a session that was removed: %v", err)
	}
	agent(t, m, "one") // the name is free
	if _, err := m.GetConn("two", m.first.LocalAddr()); err == nil {
		t.Error("an agent got a second connection")
	}
	if _, err := m.GetConn("three", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}); err == nil {
		t.Error("an agent got a connection of another address")
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-reads; !errors.Is(err, io.EOF) {
		t.Errorf("read of a closed mux: %v", err)
	}
	if _, err := m.GetConn("late", m.first.LocalAddr()); err == nil {
		t.Error("a closed mux made a connection")
	}
}

// TestMuxIsBounded floods one agent with datagrams, with addresses that only claim to be
// its client, and with addresses that are.
func TestMuxIsBounded(t *testing.T) {
	tr := open(t, Config{IP: loopback, MoreUDP: []int{0}})
	m, second := tr.mux, tr.udp[1]
	a := agent(t, m, "a")
	port := func(n int) netip.AddrPort { return netip.AddrPortFrom(loopback, uint16(n)) }
	m.deliver(second, checkOf("a"), port(1))
	_, mine := a.got(t)
	meet := func(n int) {
		m.deliver(second, checkOf("a"), port(n))
		_, seen := a.got(t)
		if _, err := a.WriteToAddrPort(answer, seen); err != nil {
			t.Fatal(err)
		}
		if _, err := a.WriteToAddrPort(answer, mine); err != nil {
			t.Fatal(err)
		}
	}
	meet(1)
	for n := range 10 * maxPending {
		m.deliver(second, checkOf("a"), port(1000+n))
		a.got(t)
	}
	if w, k := len(a.those(false)), len(a.those(true)); w != maxPending || k != 1 {
		t.Errorf("%d addresses wait for an answer and %d are known, want %d and 1", w, k, maxPending)
	}
	for n := range 3 * maxRemotes {
		meet(3000 + n)
	}
	if k := len(a.those(true)); k != maxRemotes || len(m.routes) != maxRemotes || a.find(mine) == nil {
		t.Errorf("%d addresses and %d routes are known, want %d, with the one in use: %v", k, len(m.routes), maxRemotes, a.find(mine) != nil)
	}
	for n := range sessionQueue + 10 {
		m.deliver(second, append([]byte{0x80, 96, byte(n >> 8), byte(n)}, make([]byte, 20)...), port(1))
	}
	if n := tr.Counters().Unread; n != 10 {
		t.Errorf("%d datagrams were dropped, want 10", n)
	}
	for n := range sessionQueue {
		if b, _ := a.got(t); b[2] != byte(n>>8) || b[3] != byte(n) {
			t.Fatalf("datagram %d is %x", n, b[:4])
		}
	}
	if !a.nothing() {
		t.Error("more than was asked for")
	}
}

// TestMuxAsksWhoMayBe tells addresses where no client can be, and those that stand for
// something else, which nobody can have.
func TestMuxAsksWhoMayBe(t *testing.T) {
	first, err := listenUDP(netip.AddrPortFrom(loopback, 0), &counters{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Close() }()
	onLAN := &Transport{cfg: Config{IP: netip.MustParseAddr("10.0.0.7"), PublicIP: netip.MustParseAddr("203.0.113.1")}}
	if err := onLAN.check(); err != nil {
		t.Fatal(err)
	}
	m := newMux(first, func(a netip.Addr) bool { return onLAN.remoteAllowed(a.AsSlice()) }, new(atomic.Uint64))
	agent(t, m, "a")
	by := newExchange(&counters{}) // any way but the first
	for at, want := range map[string]bool{"198.51.100.1:9": true, "169.254.169.254:80": false, "127.0.0.1:9": false, "[fe80::1]:9": false, "[100::5]:1": true} {
		if got := m.deliver(by, checkOf("a"), netip.MustParseAddrPort(at)); got != want {
			t.Errorf("a check from %s is delivered: %v", at, got)
		}
	}
	s := &socket{counters: &counters{}, guard: newGuard(), in: &script{{rtpPacket, netip.MustParseAddrPort("240.0.0.1:1")},
		{rtpPacket, netip.MustParseAddrPort("[100::1]:1")}, {rtpPacket, netip.MustParseAddrPort("192.0.2.1:1")}}}
	if _, from, err := s.next(); err != nil || from.String() != "192.0.2.1:1" || s.counters.udpRefused.Load() != 2 {
		t.Errorf("from %s, %v, %d refused", from, err, s.counters.udpRefused.Load())
	}
}

// script is what a socket receives.
type script []datagram

type datagram struct {
	p    []byte
	from netip.AddrPort
}

func (s *script) next() ([]byte, netip.AddrPort, error) {
	if len(*s) == 0 {
		return nil, netip.AddrPort{}, io.EOF
	}
	d := (*s)[0]
	*s = (*s)[1:]
	return d.p, d.from, nil
}

// FuzzMux: of an unknown address only a check that names a session goes to that session,
// as Pion's parser reads it.
func FuzzMux(f *testing.F) {
	f.Add(checkOf("one"))
	f.Add(checkOf("two"))
	f.Add(checkOf("three"))
	f.Add(append(checkOf("one"), checkOf("two")...))
	f.Add(rtpPacket)
	first, err := listenUDP(netip.AddrPortFrom(loopback, 0), &counters{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = first.Close() })
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > receiveLimit {
			return
		}
		m := newMux(first, func(netip.Addr) bool { return true }, new(atomic.Uint64))
		sessions := []*session{agent(t, m, "one"), agent(t, m, "two")}
		delivered := m.deliver(newExchange(&counters{}), b, netip.MustParseAddrPort("[100::1]:1"))
		var users []string
		for _, s := range sessions {
			if !s.nothing() {
				if got, _ := s.got(t); got != string(b) {
					t.Fatalf("%x became %x", b, got)
				}
				users = append(users, s.user)
			}
		}
		if delivered != (len(users) == 1) || len(users) > 1 {
			t.Fatalf("delivered: %v, to %v", delivered, users)
		}
		msg := &stun.Message{Raw: b}
		if !delivered || msg.Decode() != nil {
			return
		}
		if name, err := msg.Get(stun.AttrUsername); err != nil || !bytes.HasPrefix(name, []byte(users[0]+":")) {
			t.Fatalf("a check of %q went to %s", name, users[0])
		}
	})
}
