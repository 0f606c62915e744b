package transport

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/pion/ice/v4"
	"github.com/pion/transport/v4/stdnet"
)

// Config makes a Transport.
type Config struct {
	// IP is the local address to bind, the task's own: never unspecified, since
	// every address of the machine would become a candidate.
	IP netip.Addr
	// IP6 is another one, of the other family; the zero value goes without.
	IP6 netip.Addr
	// UDPPort and TCPPort are local ports; 0 takes any free one. A negative TCPPort
	// goes without TCP.
	UDPPort, TCPPort int
	// MoreUDP and MoreTCP are further ports of the same.
	MoreUDP, MoreTCP []int
	// PublicIP replaces IP in candidates when it is valid and differs.
	PublicIP netip.Addr
	// Certificate is of the name under which clients reach the relay by TLS; nil goes
	// without. It is asked for with each handshake.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Log         *slog.Logger
}

// Transport is the open sockets. All fields are set once, by Open.
type Transport struct {
	cfg      Config
	udp      []*socket // the first is of IP and UDPPort
	tcp      []*listener
	exchange *exchange
	relay    *relay
	front    *front // nil without TCP
	mux      *mux
	net      *stdnet.Net // one look at the interfaces for all participants
	loggers  *LoggerFactory
	rewrites []ice.AddressRewriteRule
	counters counters
	readers  sync.WaitGroup // of the UDP sockets

	candidates []string // of all sockets, the first one's first
}

// Open binds the sockets.
func Open(cfg Config) (*Transport, error) {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	cfg.IP, cfg.IP6, cfg.PublicIP = cfg.IP.Unmap(), cfg.IP6.Unmap(), cfg.PublicIP.Unmap()
	t := &Transport{cfg: cfg, loggers: NewLoggerFactory(cfg.Log)}
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	var err error
	if t.net, err = stdnet.NewNet(); err != nil {
		return nil, fmt.Errorf("transport: list interfaces: %w", err)
	}
	if err := t.bind(); err != nil {
		return nil, errors.Join(fmt.Errorf("transport: %w", err), t.unbind())
	}
	if err := t.join(); err != nil {
		return nil, errors.Join(fmt.Errorf("transport: %w", err), t.Close())
	}
	return t, nil
}

// addresses are those that are bound.
func (t *Transport) addresses() []netip.Addr {
	if t.cfg.IP6.IsValid() {
		return []netip.Addr{t.cfg.IP, t.cfg.IP6}
	}
	return []netip.Addr{t.cfg.IP}
}

// bind opens all sockets.
func (t *Transport) bind() error {
	for _, ip := range t.addresses() {
		for _, port := range append([]int{t.cfg.UDPPort}, t.cfg.MoreUDP...) {
			s, err := listenUDP(netip.AddrPortFrom(ip, uint16(port)), &t.counters)
			if err != nil {
				return err
			}
			t.udp = append(t.udp, s)
		}
		if t.cfg.TCPPort < 0 {
			continue
		}
		for _, port := range append([]int{t.cfg.TCPPort}, t.cfg.MoreTCP...) {
			l, err := listenTCP(netip.AddrPortFrom(ip, uint16(port)), &t.counters)
			if err != nil {
				return err
			}
			t.tcp = append(t.tcp, l)
		}
	}
	return nil
}

// unbind closes what bind has opened, when nothing reads it yet.
func (t *Transport) unbind() error {
	var err error
	for _, s := range t.udp {
		err = errors.Join(err, s.Close())
	}
	for _, l := range t.tcp {
		err = errors.Join(err, l.Close())
	}
	return err
}

func (t *Transport) check() error {
	c := t.cfg
	switch {
	case !c.IP.IsValid() || c.IP.IsUnspecified() || c.IP.IsMulticast():
		return fmt.Errorf("local address %q cannot be bound", c.IP)
	case c.IP6.IsValid() && (c.IP6.IsUnspecified() || c.IP6.IsMulticast() || c.IP6.Is4() == c.IP.Is4()):
		return fmt.Errorf("second address %q cannot be bound, or is of the first one's family", c.IP6)
	case c.UDPPort < 0 || c.UDPPort > 65535 || c.TCPPort > 65535:
		return fmt.Errorf("ports %d (UDP) and %d (TCP): not in 0–65535", c.UDPPort, c.TCPPort)
	case slices.ContainsFunc(slices.Concat(c.MoreUDP, c.MoreTCP), func(p int) bool { return p < 0 || p > 65535 }):
		return fmt.Errorf("ports %v (UDP) and %v (TCP): not in 0–65535", c.MoreUDP, c.MoreTCP)
	case c.PublicIP.IsValid() && (c.PublicIP.IsUnspecified() || c.PublicIP.Is4() != c.IP.Is4()):
		return fmt.Errorf("public address is not of the local address's family")
	}
	if c.PublicIP.IsValid() && c.PublicIP != c.IP {
		t.rewrites = []ice.AddressRewriteRule{{
			External: []string{c.PublicIP.String()}, Local: c.IP.String(),
			AsCandidateType: ice.CandidateTypeHost, Mode: ice.AddressRewriteReplace,
		}}
	}
	return nil
}

// shown is a bound address as candidates tell it.
func (t *Transport) shown(a netip.AddrPort) netip.AddrPort {
	if len(t.rewrites) > 0 && a.Addr() == t.cfg.IP {
		return netip.AddrPortFrom(t.cfg.PublicIP, a.Port())
	}
	return a
}

// join puts the mux and the relay onto the sockets, and begins to read.
func (t *Transport) join() error {
	own := make([]netip.AddrPort, 0, len(t.udp))
	for _, s := range t.udp {
		own = append(own, t.shown(s.local))
	}
	t.mux = newMux(t.udp[0], func(a netip.Addr) bool { return t.remoteAllowed(a.AsSlice()) }, &t.counters.unread)
	t.exchange = newExchange(&t.counters)
	t.exchange.deliver = func(b []byte, from netip.AddrPort) { t.mux.deliver(t.exchange, b, from) }
	t.relay = newRelay(t.exchange, own)
	if err := t.advertise(); err != nil {
		return err
	}
	var ports []*turnPort
	for _, s := range t.udp {
		s.turn = newTURNPort(s)
		ports = append(ports, s.turn)
	}
	var bare, secure net.Listener
	if len(t.tcp) > 0 {
		t.front = newFront(&t.counters, t.relay, t.mux, t.cfg.Certificate, t.tcp[0].Addr())
		bare, secure = t.front.turn, t.front.secure
	}
	if err := t.relay.serve(ports, bare, secure, t.loggers); err != nil {
		return err
	}
	for _, l := range t.tcp {
		t.front.serve(l)
	}
	for _, s := range t.udp {
		t.readers.Go(func() { s.serve(t.mux) })
	}
	return nil
}

// advertise makes the candidates, of which every agent knows the first.
func (t *Transport) advertise() error {
	for _, s := range t.udp {
		c, err := t.candidate("udp", s.local)
		if err != nil {
			return err
		}
		t.candidates = append(t.candidates, c)
	}
	for _, l := range t.tcp {
		c, err := t.candidate("tcp", l.local)
		if err != nil {
			return err
		}
		t.candidates = append(t.candidates, c)
	}
	return nil
}

// remoteAllowed refuses peers at addresses where no client can be: link-local ones
// are the task's metadata and credentials services, and behind a public address
// loopback ones are the task itself.
func (t *Transport) remoteAllowed(ip net.IP) bool {
	addr, ok := netip.AddrFromSlice(ip)
	addr = addr.Unmap()
	return ok && !addr.IsUnspecified() && !addr.IsMulticast() && !addr.IsLinkLocalUnicast() &&
		(!addr.IsLoopback() || len(t.rewrites) == 0)
}

// UDPAddr is the first bound UDP address.
func (t *Transport) UDPAddr() netip.AddrPort { return t.udp[0].local }

// TCPAddr is the first bound TCP address; not valid without TCP.
func (t *Transport) TCPAddr() netip.AddrPort {
	if len(t.tcp) == 0 {
		return netip.AddrPort{}
	}
	return t.tcp[0].local
}

// Counters tells what went through the sockets so far.
func (t *Transport) Counters() Counters { return t.counters.snapshot() }

// Close closes the sockets and waits until nothing reads them any more.
// Agents should be closed first.
func (t *Transport) Close() error {
	err := t.relay.close()
	for _, s := range t.udp {
		err = errors.Join(err, s.Close())
	}
	t.readers.Wait()
	for _, l := range t.tcp {
		err = errors.Join(err, l.Close())
	}
	err = errors.Join(err, t.mux.Close())
	if t.front != nil {
		t.front.close()
	}
	if err != nil {
		return fmt.Errorf("transport: close: %w", err)
	}
	return nil
}

// OutboundIP and OutboundIP6 are the addresses that the machine uses towards the
// public internet; invalid if it has no way there. They send nothing: connecting a UDP
// socket only asks the routing table.
func OutboundIP() netip.Addr { return outbound("udp4", "192.0.2.1:9") } // TEST-NET-1, RFC 5737

// OutboundIP6 is OutboundIP of the other family.
func OutboundIP6() netip.Addr { return outbound("udp6", "[2001:db8::1]:9") } // RFC 3849

func outbound(network, to string) netip.Addr {
	c, err := net.Dial(network, to)
	if err != nil {
		return netip.Addr{}
	}
	defer func() { _ = c.Close() }()
	a := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	if a.IsLinkLocalUnicast() {
		return netip.Addr{} // no client can name its interface
	}
	return a
}
