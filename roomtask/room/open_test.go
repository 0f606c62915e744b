package room

import (
	"net/netip"
	"testing"

	"mayfly/roomtask/transport"
)

func TestChooseAddresses(t *testing.T) {
	ip := func(s string) netip.Addr {
		if s == "" {
			return netip.Addr{}
		}
		return netip.MustParseAddr(s)
	}
	list := func(texts ...string) (out []netip.Addr) {
		for _, s := range texts {
			out = append(out, ip(s))
		}
		return out
	}
	for _, c := range []struct {
		name                string
		a                   addresses
		ip, ip6, publicSeen string // "" = invalid; ip "" = an error
	}{
		{"nothing", addresses{}, "", "", ""},
		{"on this machine", addresses{public: ip("127.0.0.1")}, "127.0.0.1", "", "127.0.0.1"},
		{"behind translation", addresses{public: ip("203.0.113.7"), out4: ip("10.0.0.7")}, "10.0.0.7", "", "203.0.113.7"},
		{"both families", addresses{public: ip("203.0.113.7"), out4: ip("10.0.0.7"), out6: ip("2001:db8::7")}, "10.0.0.7", "2001:db8::7", "203.0.113.7"},
		{"gateway by IPv6", addresses{public: ip("2001:db8::7"), out4: ip("10.0.0.7"), out6: ip("2001:db8::7")}, "10.0.0.7", "2001:db8::7", ""},
		{"IPv6 alone", addresses{public: ip("2001:db8::7"), out6: ip("2001:db8::7")}, "2001:db8::7", "", "2001:db8::7"},
		{"given", addresses{given: list("192.0.2.1"), public: ip("203.0.113.7")}, "192.0.2.1", "", "203.0.113.7"},
		{"both given", addresses{given: list("2001:db8::7", "192.0.2.1"), public: ip("203.0.113.7")}, "2001:db8::7", "192.0.2.1", ""},
		{"given, gateway on this machine", addresses{given: list("192.0.2.1"), public: ip("127.0.0.1")}, "192.0.2.1", "", ""},
		{"gateway unknown", addresses{out4: ip("10.0.0.7")}, "10.0.0.7", "", ""},
	} {
		got, err := c.a.choose()
		if (err != nil) != (c.ip == "") {
			t.Errorf("%s: %v", c.name, err)
		}
		want := transport.Config{IP: ip(c.ip), IP6: ip(c.ip6), PublicIP: ip(c.publicSeen)}
		if got.IP != want.IP || got.IP6 != want.IP6 || got.PublicIP != want.PublicIP {
			t.Errorf("%s: %v %v shown as %v, want %v %v as %v", c.name, got.IP, got.IP6, got.PublicIP, want.IP, want.IP6, want.PublicIP)
		}
	}
}
