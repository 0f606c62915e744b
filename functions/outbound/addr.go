package outbound

import (
	"fmt"
	"net/netip"
)

// refused are ranges that are not the internet's: nobody outside has an address in
// them, and somebody inside may (IANA's special-purpose registries, RFC 6890 and its
// updates). Addresses that carry an IPv4 address are judged by that one, below.
var refused = func() (list []netip.Prefix) {
	for _, text := range []string{
		"0.0.0.0/8",        // this network: reaches this host on some systems
		"10.0.0.0/8",       // private
		"100.64.0.0/10",    // carrier-grade NAT; 100.100.100.200 is a metadata service
		"127.0.0.0/8",      // loopback
		"169.254.0.0/16",   // link-local: .169.254 and .170.2 are AWS's metadata and credentials
		"172.16.0.0/12",    // private
		"192.0.0.0/24",     // protocol assignments; 192.0.0.192 is a metadata service
		"192.0.2.0/24",     // documentation
		"192.31.196.0/24",  // AS112
		"192.52.193.0/24",  // AMT
		"192.88.99.0/24",   // 6to4 relays
		"192.168.0.0/16",   // private
		"192.175.48.0/24",  // AS112
		"198.18.0.0/15",    // benchmarks
		"198.51.100.0/24",  // documentation
		"203.0.113.0/24",   // documentation
		"224.0.0.0/4",      // multicast
		"240.0.0.0/4",      // reserved, and broadcast
		"168.63.129.16/32", // a cloud's inner services

		"::/96",          // unspecified, loopback, and IPv4-compatible (deprecated)
		"64:ff9b:1::/48", // NAT64 of a network's own
		"100::/64",       // discard
		"100:0:0:1::/64", // dummy
		"2001::/23",      // protocol assignments: Teredo, ORCHID, benchmarks, AMT
		"2001:db8::/32",  // documentation
		"3fff::/20",      // documentation
		"5f00::/16",      // segment routing
		"fc00::/7",       // unique local: fd00:ec2::254 is AWS's metadata
		"fe80::/10",      // link-local
		"fec0::/10",      // site-local (deprecated)
		"ff00::/8",       // multicast
	} {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}()

var (
	nat64  = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052: the last 32 bits
	sixTo4 = netip.MustParsePrefix("2002::/16")    // RFC 3056: bits 16 to 48
	global = netip.MustParsePrefix("2000::/3")     // all that is given to anybody
)

// CheckAddr says why an address is not one of the internet; nil if it is.
func CheckAddr(a netip.Addr) error {
	a = a.Unmap() // ::ffff:127.0.0.1 reaches what 127.0.0.1 does
	if !a.IsValid() || a.Zone() != "" {
		return fmt.Errorf("address %v is not allowed", a)
	}
	for _, p := range refused {
		if p.Contains(a) {
			return fmt.Errorf("address in %v is not allowed", p)
		}
	}
	if a.Is4() {
		return nil
	}
	b := a.As16()
	switch {
	case nat64.Contains(a):
		return CheckAddr(netip.AddrFrom4([4]byte(b[12:])))
	case sixTo4.Contains(a):
		return CheckAddr(netip.AddrFrom4([4]byte(b[2:6])))
	case !global.Contains(a):
		return fmt.Errorf("address outside %v is not allowed", global)
	}
	return nil
}
