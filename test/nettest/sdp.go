package nettest

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Through sends a client through a relay: it replaces the address of the UDP candidates
// of an SDP answer by what relay returns for it, and takes the TCP candidates out, which
// would lead around the relay. An error of relay is returned as it is.
func Through(sdp string, relay func(target netip.AddrPort) (netip.AddrPort, error)) (string, error) {
	var out strings.Builder
	for line := range strings.Lines(sdp) {
		text := strings.TrimRight(line, "\r\n")
		if !strings.HasPrefix(text, "a=candidate:") {
			out.WriteString(line)
			continue
		}
		// foundation component transport priority address port typ … (RFC 8839 §5.1)
		f := strings.Fields(text)
		if len(f) < 8 || !strings.EqualFold(f[2], "udp") {
			continue
		}
		ip, err := netip.ParseAddr(f[4])
		if err != nil {
			return "", fmt.Errorf("nettest: candidate: %w", err)
		}
		port, err := strconv.ParseUint(f[5], 10, 16)
		if err != nil {
			return "", fmt.Errorf("nettest: candidate: %w", err)
		}
		to, err := relay(netip.AddrPortFrom(ip, uint16(port)))
		if err != nil {
			return "", err
		}
		f[4], f[5] = to.Addr().String(), strconv.Itoa(int(to.Port()))
		out.WriteString(strings.Join(f, " ") + "\r\n")
	}
	return out.String(), nil
}
