package firewall

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"
)

func init() { roles["capture"] = capture }

// kinds of packets, from this machine (out) and to it.
const (
	synOut    = "out: TCP SYN"
	stunOut   = "out: STUN"
	stunIn    = "in: STUN"
	mediaIn   = "in: media"
	mediaOut  = "out: media"
	ethAll    = 0x0300 // ETH_P_ALL in network order
	fromHere  = 4      // PACKET_OUTGOING of packet(7)
	protoTCP  = 6
	protoUDP  = 17
	tcpSYN    = 2
	stunLimit = 4 // RFC 7983 §7: STUN begins with 0 to 3, SRTP with 128 to 191
)

// capture prints the first packet of each kind with one of this machine's addresses. It
// reads all interfaces, so that one which comes up later is among them.
func capture(addresses string) {
	here := map[netip.Addr]bool{}
	for a := range strings.FieldsSeq(addresses) {
		here[netip.MustParseAddr(a)] = true
	}
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_DGRAM, ethAll)
	if err != nil {
		fmt.Fprintln(os.Stderr, "capture:", err)
		os.Exit(1)
	}
	out := json.NewEncoder(os.Stdout)
	_ = out.Encode(seen{}) // it is ready
	known := map[string]bool{}
	buf := make([]byte, 2048)
	for {
		n, from, err := syscall.Recvfrom(fd, buf, 0)
		if err != nil {
			continue
		}
		link, ok := from.(*syscall.SockaddrLinklayer)
		if !ok {
			continue
		}
		if kind := kindOf(buf[:n], here, link.Pkttype == fromHere); kind != "" && !known[kind] {
			known[kind] = true
			_ = out.Encode(seen{kind, time.Now().UnixMicro()})
		}
	}
}

// kindOf tells what a packet is; "" if it has another address, or is nothing that is
// looked for. IPv6 has no extension headers here.
func kindOf(b []byte, here map[netip.Addr]bool, outgoing bool) string {
	var from, to []byte
	var proto byte
	var body []byte
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		proto, from, to, body = b[9], b[12:16], b[16:20], b[min(len(b), int(b[0]&15)*4):]
	case len(b) >= 40 && b[0]>>4 == 6:
		proto, from, to, body = b[6], b[8:24], b[24:40], b[40:]
	default:
		return ""
	}
	mine, _ := netip.AddrFromSlice(pick(outgoing, from, to))
	switch {
	case !here[mine] || len(body) < 20:
		return ""
	case proto == protoTCP && outgoing && body[13]&tcpSYN != 0:
		return synOut
	case proto != protoUDP:
		return ""
	case body[8] < stunLimit:
		return pick(outgoing, stunOut, stunIn)
	case body[8] >= 128 && body[8] < 192:
		return pick(outgoing, mediaOut, mediaIn)
	}
	return ""
}

func pick[T any](yes bool, a, b T) T {
	if yes {
		return a
	}
	return b
}
