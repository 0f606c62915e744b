package transport

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// stunMessage makes a STUN message with a USERNAME, if there is one.
func stunMessage(kind uint16, transaction byte, user string) []byte {
	b := make([]byte, stunHeader)
	binary.BigEndian.PutUint16(b, kind)
	binary.BigEndian.PutUint32(b[4:], stunCookie)
	b[8], b[19] = transaction, transaction
	if user != "" {
		b = binary.BigEndian.AppendUint16(b, 0x0024) // PRIORITY before it
		b = binary.BigEndian.AppendUint16(b, 4)
		b = append(b, 1, 2, 3, 4)
		b = binary.BigEndian.AppendUint16(b, attrUsername)
		b = binary.BigEndian.AppendUint16(b, uint16(len(user)))
		b = append(b, user...)
		b = append(b, make([]byte, (4-len(b)%4)%4)...)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)-stunHeader))
	return b
}

// record makes a DTLS 1.2 record.
func record(kind byte, epoch uint16, body []byte) []byte {
	b := []byte{kind, 0xfe, 0xfd}
	b = binary.BigEndian.AppendUint16(b, epoch)
	b = append(b, 0, 0, 0, 0, 0, 1)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

// message makes a fragment of a handshake message that is 200 bytes long.
func message(kind byte, offset int, body []byte) []byte {
	b := []byte{kind, 0, 0, 200, 0, 0, byte(offset >> 16), byte(offset >> 8), byte(offset)}
	return append(append(b, byte(len(body)>>16), byte(len(body)>>8), byte(len(body))), body...)
}

// hello makes a ClientHello with a random of one byte's repetition.
func hello(random byte) []byte {
	body := append([]byte{0xfe, 0xfd}, slices.Repeat([]byte{random}, helloRandom)...)
	return record(recordHandshake, 0, message(messageHello, 0, append(body, make([]byte, 60)...)))
}

// passCheck lets a path pass a connectivity check of a user.
func passCheck(t *testing.T, g *guard, at netip.AddrPort, transaction byte, user string) {
	t.Helper()
	if !g.in(stunMessage(bindingRequest, transaction, user+":client"), at) {
		t.Fatal("a check was refused")
	}
	g.out(stunMessage(bindingSuccess, transaction, ""), at)
}

func TestGuardPassesNothingUnchecked(t *testing.T) {
	at, other := netip.MustParseAddrPort("192.0.2.1:1000"), netip.MustParseAddrPort("192.0.2.1:1001")
	ccs, finished := record(recordCCS, 0, []byte{1}), record(recordHandshake, 1, make([]byte, 40))
	cases := []struct {
		name      string
		packet    []byte
		unchecked bool // passes from an address without a check
		checked   bool
	}{
		{"ClientHello", hello(1), false, true},
		{"the same again", hello(1), false, true},
		{"ClientHello with another random", hello(2), false, false},
		{"a later fragment of one", record(recordHandshake, 0, message(messageHello, 100, make([]byte, 60))), false, true},
		{"a first fragment without the random", record(recordHandshake, 0, message(messageHello, 0, make([]byte, 20))), false, false},
		{"another one behind a harmless message", record(recordHandshake, 0, append(message(16, 0, make([]byte, 30)), hello(2)[recordHeader:]...)), false, false},
		{"the last flight", slices.Concat(record(recordHandshake, 0, message(16, 0, make([]byte, 66))), ccs, finished), false, true},
		{"plaintext alert", record(recordAlert, 0, []byte{2, 40}), false, false},
		{"plaintext alert behind a good record", slices.Concat(ccs, record(recordAlert, 0, []byte{1, 0})), false, false},
		{"alert of epoch 1", record(recordAlert, 1, make([]byte, 26)), false, true},
		{"plaintext data", record(recordData, 0, make([]byte, 20)), false, false},
		{"data", record(recordData, 1, make([]byte, 30)), false, true},
		{"a record that is longer than the datagram", hello(1)[:60], false, false},
		{"half a header", hello(1)[:8], false, false},
		{"DTLS 1.3", record(0x2f, 1, make([]byte, 30)), false, false},
		{"connection id record", record(25, 1, make([]byte, 30)), false, false},
		{"RTP", append([]byte{0x80, 96}, make([]byte, 30)...), true, true},
		{"RTCP", append([]byte{0x80, 200}, make([]byte, 30)...), true, true},
		{"TURN channel data", []byte{0x40, 0, 0, 0}, true, true},
		{"ZRTP", []byte{0x10, 0, 0, 0}, false, false},
		{"STUN success response", stunMessage(bindingSuccess, 9, ""), true, true},
		{"check without a user", stunMessage(bindingRequest, 9, ""), false, false},
		{"check whose user has no receiver", stunMessage(bindingRequest, 9, ":client"), false, false},
		{"check whose user is cut off", stunMessage(bindingRequest, 9, "server:client")[:stunHeader+14], false, false},
		{"nothing", nil, true, true},
	}
	g := newGuard()
	for _, c := range cases {
		if got := g.in(c.packet, at); got != c.unchecked {
			t.Errorf("%s passes an address without a check: %v", c.name, got)
		}
	}
	g.out(stunMessage(0x0111, 1, ""), at) // an error response is no proof
	if g.in(hello(1), at) {
		t.Error("an error response made a path")
	}
	passCheck(t, g, at, 1, "server")
	for _, c := range cases {
		if got := g.in(c.packet, at); got != c.checked {
			t.Errorf("%s passes a checked path: %v", c.name, got)
		}
		if got := g.in(c.packet, other); got != c.unchecked {
			t.Errorf("%s passes another port: %v", c.name, got)
		}
	}
	first := hello(1)
	if n := testing.AllocsPerRun(100, func() { g.in(first, at) }); n != 0 {
		t.Errorf("%v allocations a datagram", n)
	}
	check := stunMessage(bindingRequest, 3, "server:client")
	if n := testing.AllocsPerRun(100, func() { g.in(check, at) }); n != 0 {
		t.Errorf("%v allocations a check", n)
	}
}

// TestGuardKnowsSessionsApart joins twice from one address: the second PeerConnection
// has a ClientHello of its own, and nobody else can say that there is one.
func TestGuardKnowsSessionsApart(t *testing.T) {
	at, other := netip.MustParseAddrPort("[2001:db8::1]:1000"), netip.MustParseAddrPort("[2001:db8::2]:1000")
	g := newGuard()
	passCheck(t, g, at, 1, "first")
	if !g.in(hello(1), at) || g.in(hello(2), at) {
		t.Fatal("the first ClientHello is not the only one")
	}
	passCheck(t, g, at, 2, "first") // consent
	if g.in(hello(2), at) {
		t.Error("a further check opens the path to another ClientHello")
	}
	// A request that is never answered, as every forged one, says nothing.
	g.in(stunMessage(bindingRequest, 7, "forged:client"), at)
	passCheck(t, g, at, 3, "first")
	if g.in(hello(2), at) {
		t.Error("an unanswered request opens the path")
	}
	passCheck(t, g, other, 4, "second")
	if g.in(hello(2), at) {
		t.Error("somebody else's check opens the path")
	}
	passCheck(t, g, at, 5, "second")
	if !g.in(hello(2), at) || g.in(hello(1), at) {
		t.Error("the second session's ClientHello is refused")
	}
}

// TestGuardIsBounded lets one user check from ever new addresses, and then very many.
func TestGuardIsBounded(t *testing.T) {
	now := int64(1)
	g := newGuard()
	g.now = func() int64 { return now }
	port := func(n int) netip.AddrPort { return netip.AddrPortFrom(loopback, uint16(n)) }
	check := func(n int, user string) bool {
		ok := g.in(stunMessage(bindingRequest, byte(n), user+":client"), port(n))
		if ok {
			g.out(stunMessage(bindingSuccess, byte(n), ""), port(n))
		}
		return ok
	}
	passed := 0
	for n := range 1000 {
		if check(1+n, "one") {
			passed++
		}
	}
	if passed != maxUserPaths {
		t.Errorf("one user has %d paths, want %d", passed, maxUserPaths)
	}
	if !check(1, "one") {
		t.Error("a path that is known is refused")
	}
	if !check(2000, "two") {
		t.Error("another user is refused")
	}
	for n := range 2 * maxPaths {
		check(3000+n, fmt.Sprint("user", n))
	}
	if len(g.paths) != maxPaths || len(g.users) != maxPaths-maxUserPaths+1 {
		t.Errorf("%d paths and %d users are remembered", len(g.paths), len(g.users))
	}
	now += int64(pathLifetime) + int64(time.Second)
	if !check(60_000, "late") || !g.in(hello(1), port(60_000)) {
		t.Error("no path is free a minute later")
	}
	if len(g.paths) != 1 || len(g.users) != 1 {
		t.Errorf("%d paths and %d users are left of the old ones", len(g.paths)-1, len(g.users)-1)
	}
}

// FuzzGuard feeds it first bytes as anybody may send them.
func FuzzGuard(f *testing.F) {
	for _, seed := range [][]byte{
		hello(1), hello(2), record(recordAlert, 0, []byte{2, 40}), record(recordData, 1, make([]byte, 20)),
		stunMessage(bindingRequest, 1, "server:client"), stunMessage(bindingSuccess, 1, ""), {0x80, 96}, {22}, nil,
		slices.Concat(record(recordCCS, 0, []byte{1}), hello(1)),
	} {
		f.Add(seed)
	}
	unchecked, checked := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:1")
	f.Fuzz(func(t *testing.T, b []byte) {
		g := newGuard()
		if g.in(b, unchecked) && len(b) > 0 && b[0] >= 4 && b[0] < 64 {
			t.Error("DTLS passes without a check")
		}
		g.in(stunMessage(bindingRequest, 1, "server:client"), checked)
		g.out(stunMessage(bindingSuccess, 1, ""), checked)
		g.in(hello(1), checked)
		g.in(b, checked)
		if g.in(hello(2), checked) {
			t.Error("a second random passes")
		}
		g.out(b, checked)
		if len(g.paths) != 1 {
			t.Errorf("%d paths", len(g.paths))
		}
	})
}
