package transport

import (
	"net/netip"
	"testing"
)

// TestDivert offers datagrams of every kind from two addresses: only SRTP and SRTCP of an
// address that somebody asked for are shown, and only what is taken is kept from Pion.
func TestDivert(t *testing.T) {
	s := &socket{}
	a, b := netip.MustParseAddrPort("192.0.2.1:9"), netip.MustParseAddrPort("192.0.2.2:9")
	packet := func(first, second byte) []byte { return append([]byte{first, second}, make([]byte, 30)...) }
	rtcp := packet(0x8f, 205)
	if s.diverted(rtcp, a) {
		t.Error("taken by nobody")
	}
	shown, takes := 0, true
	take := func([]byte) bool { shown++; return takes }
	remove := s.diverts.add(a, take)
	for name, p := range map[string][]byte{
		"STUN": packet(0, 1), "DTLS": packet(22, 254), "short": rtcp[:11],
	} {
		if s.diverted(p, a) || shown != 0 {
			t.Errorf("%s was shown", name)
		}
	}
	if !s.diverted(rtcp, a) || s.diverted(rtcp, b) || shown != 1 {
		t.Errorf("shown %d times", shown)
	}
	if rtp := packet(0x80, 0x80|96); !s.diverted(rtp, a) || s.diverted(rtp, b) || shown != 2 {
		t.Errorf("RTP: shown %d times", shown)
	}
	shown = 1
	takes = false
	if s.diverted(rtcp, a) || shown != 2 {
		t.Error("what was not taken is Pion's")
	}
	other := 0
	removeOther := s.diverts.add(a, func([]byte) bool { other++; return true })
	remove() // the address is somebody else's since
	if !s.diverted(rtcp, a) || other != 1 || shown != 2 {
		t.Errorf("the newer one was shown %d, the older %d", other, shown)
	}
	removeOther()
	if s.diverted(rtcp, a) || other != 1 {
		t.Error("shown after it was removed")
	}
	if n := testing.AllocsPerRun(100, func() { s.diverted(rtcp, a) }); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}
