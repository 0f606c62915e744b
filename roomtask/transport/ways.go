package transport

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/pion/ice/v4"
)

// Path is the way of one selected pair over a UDP socket of the task's. The zero value
// leads nowhere.
type Path struct {
	s  *socket
	to netip.AddrPort
}

// Path finds the way to a pair's remote candidate, nil for what does not go over one of
// the task's own UDP sockets: TCP, and the relay.
func (t *Transport) Path(remote ice.Candidate) *Path {
	o, ok := t.where(remote)
	if s, udp := o.by.(*socket); ok && udp {
		return &Path{s, o.from}
	}
	return nil
}

// where is the way to a pair's remote candidate, and its client's address there.
func (t *Transport) where(remote ice.Candidate) (o origin, ok bool) {
	addr, err := netip.ParseAddr(remote.Address())
	if err != nil {
		return o, false
	}
	return t.mux.where(netip.AddrPortFrom(addr.Unmap(), uint16(remote.Port())))
}

// Send sends a datagram, as if the agent had written it to the socket, but that sealed RTP
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

// Via is the way in of a pair's remote candidate, in the ledger's words.
func (t *Transport) Via(remote ice.Candidate) string {
	if o, ok := t.where(remote); ok {
		return o.by.via(o.from)
	}
	return ""
}

// Candidates are the ways in, as attributes of an answer (RFC 8839 §5.1) without the
// attribute's name.
func (t *Transport) Candidates() []string { return t.candidates }

// candidate makes one of them. Its priority is what Pion gives a host candidate.
func (t *Transport) candidate(network string, at netip.AddrPort) (string, error) {
	at = t.shown(at)
	c := ice.CandidateHostConfig{Network: network, Address: at.Addr().String(), Port: int(at.Port()), Component: ice.ComponentRTP}
	if network == "tcp" {
		c.TCPType = ice.TCPTypePassive
	}
	host, err := ice.NewCandidateHost(&c)
	if err != nil {
		return "", fmt.Errorf("candidate: %w", err)
	}
	return host.Marshal(), nil
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
