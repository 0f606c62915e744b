package transport

import (
	"net/netip"
	"strconv"

	"github.com/pion/webrtc/v4"
)

// Path is the way of one selected pair over a UDP socket of the task's. The zero value
// leads nowhere.
type Path struct {
	s  *socket
	to netip.AddrPort
}

// Path finds the way of a pair, nil for what does not go over one of the task's own UDP
// sockets: TCP, and the relay.
func (t *Transport) Path(pair *webrtc.ICECandidatePair) *Path {
	if pair == nil || pair.Remote == nil || pair.Local == nil || pair.Local.Protocol != webrtc.ICEProtocolUDP {
		return nil
	}
	local, err1 := netip.ParseAddr(pair.Local.Address)
	remote, err2 := netip.ParseAddr(pair.Remote.Address)
	if err1 != nil || err2 != nil || relayed(remote) {
		return nil
	}
	at := netip.AddrPortFrom(local.Unmap(), pair.Local.Port)
	for _, s := range t.udp {
		if t.shown(s.local) == at || s.local == at {
			return &Path{s, netip.AddrPortFrom(remote.Unmap(), pair.Remote.Port)}
		}
	}
	return nil
}

// Send sends a sealed RTP packet, as if Pion had written it to the socket, but that it
// may wait for the next Flush. It keeps nothing of b.
func (p *Path) Send(b []byte) (int, error) { return p.s.write(b, p.to, false) }

// Flush sends all that waits. Who calls Path.Send calls it when nothing more is to be
// sent at the moment.
func (t *Transport) Flush() {
	for _, s := range t.udp {
		if s.egress != nil {
			s.egress.flush()
		}
	}
}

// Divert offers take each SRTP and SRTCP packet that comes this way before Pion sees it,
// until remove is called, and perhaps one more. take runs on the socket's reader: it must not block, and not keep
// or change the packet. True means that it was for take alone.
func (p *Path) Divert(take func(b []byte) bool) (remove func()) {
	return p.s.diverts.add(p.to, take)
}

// Via is the way in of a pair, in the ledger's words.
func (t *Transport) Via(pair *webrtc.ICECandidatePair) string {
	if pair == nil || pair.Local == nil || pair.Remote == nil {
		return ""
	}
	if pair.Local.Protocol == webrtc.ICEProtocolTCP {
		return ViaTCP
	}
	if remote, err := netip.ParseAddr(pair.Remote.Address); err == nil && relayed(remote) {
		return t.exchange.via(remote)
	}
	return ViaUDP
}

// Grant makes a credential of the relay for a participant, until Revoke.
func (t *Transport) Grant(participant string) Credential { return t.relay.grant(participant) }

// Revoke ends a participant's credentials, and what was allocated with them.
func (t *Transport) Revoke(participant string) { t.relay.revoke(participant) }

// Servers are the URLs of the relay (RFC 7065) for clients: each way in once per
// family, by its first port. name is that of the certificate; without one there is no
// TLS.
func (t *Transport) Servers(name string) []string {
	var urls []string
	seen := map[string]bool{}
	add := func(scheme, host string, port uint16, protocol string, family bool) {
		if key := scheme + protocol + strconv.FormatBool(family); !seen[key] {
			seen[key] = true
			urls = append(urls, scheme+":"+host+":"+strconv.Itoa(int(port))+"?transport="+protocol)
		}
	}
	host := func(a netip.Addr) string {
		if a.Is6() {
			return "[" + a.String() + "]"
		}
		return a.String()
	}
	for _, s := range t.udp {
		at := t.shown(s.local)
		add("turn", host(at.Addr()), at.Port(), "udp", at.Addr().Is6())
	}
	for _, l := range t.tcp {
		at := t.shown(l.local)
		add("turn", host(at.Addr()), at.Port(), "tcp", at.Addr().Is6())
	}
	if name != "" && t.cfg.Certificate != nil && len(t.tcp) > 0 {
		add("turns", name, t.tcp[0].local.Port(), "tcp", false)
	}
	return urls
}
