package room

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"time"

	"mayfly/roomtask/conn"
	"mayfly/roomtask/rtpx"
	"mayfly/roomtask/sendq"
	"mayfly/roomtask/transport"
	"mayfly/shared/signal"
)

// Open binds the sockets, as soon as the control plane has told the public address.
func (f *Peers) Open(m signal.Registered) error {
	var err error
	if f.cert, err = conn.NewCertificate(time.Now()); err != nil {
		return err
	}
	public, _ := netip.ParseAddr(m.PublicIP)
	found := addresses{public: public.Unmap()}
	if len(f.IPs) > 0 {
		found.given = f.IPs
	} else if !public.IsLoopback() {
		found.out4, found.out6 = transport.OutboundIP(), transport.OutboundIP6()
	}
	cfg, err := found.choose()
	if err != nil {
		return err
	}
	cfg.UDPPort, cfg.MoreUDP = first(f.UDPPorts)
	cfg.TCPPort, cfg.MoreTCP = first(f.TCPPorts)
	cfg.Log = f.Log
	f.Renewed(m)
	cfg.Certificate = f.relayCertificate // the name may come later
	f.pool, f.wheel = rtpx.NewPool(maxPoolBytes), sendq.NewWheel()
	if f.net, err = transport.Open(cfg); err != nil {
		return err
	}
	f.wheel.Flush = f.net.Flush
	f.wheel.Overloaded = f.overloaded
	f.opened.Store(f.net)
	f.Log.Info("media open", "udp_port", f.net.UDPAddr().Port(), "tcp_port", f.net.TCPAddr().Port(),
		"inet4", cfg.IP.Is4() || cfg.IP6.Is4(), "inet6", cfg.IP.Is6() || cfg.IP6.Is6(), "tls", f.relayName() != "")
	return nil
}

// first is the first of some ports, and the rest.
func first(ports []int) (port int, rest []int) {
	if len(ports) == 0 {
		return 0, nil
	}
	return ports[0], ports[1:]
}

// addresses are what is known of where the task can be reached.
type addresses struct {
	given      []netip.Addr // by configuration
	public     netip.Addr   // as the gateway sees the task; invalid: unknown
	out4, out6 netip.Addr   // towards the internet; invalid: no way there
}

// choose decides what to bind and what to tell.
func (a addresses) choose() (c transport.Config, err error) {
	switch {
	case len(a.given) > 0:
		c.IP = a.given[0]
		if len(a.given) > 1 {
			c.IP6 = a.given[1]
		}
	case a.public.IsLoopback(): // the gateway is on this machine, and so are the clients
		c.IP = a.public
	case a.out4.IsValid():
		c.IP, c.IP6 = a.out4, a.out6
	case a.out6.IsValid():
		c.IP = a.out6
	default:
		return c, errors.New("this machine has no address towards the internet")
	}
	// Loopback says where the gateway is, not where clients reach the media, and an
	// address of the other family needs no translation.
	if a.public.Is4() == c.IP.Is4() && (!a.public.IsLoopback() || c.IP.IsLoopback()) {
		c.PublicIP = a.public
	}
	return c, nil
}

// relayTLS is how clients reach the relay by TLS.
type relayTLS struct {
	name string
	cert *tls.Certificate
}

// Renewed takes the relay's newest certificate. It is a Room's Renewed.
func (f *Peers) Renewed(m signal.Registered) {
	if m.RelayTLS == nil {
		return
	}
	cert, err := tls.X509KeyPair([]byte(m.RelayTLS.Chain), []byte(m.RelayTLS.Key))
	if err != nil {
		f.Log.Error("the relay's certificate is of no use", "err", err)
		return
	}
	f.relay.Store(&relayTLS{m.RelayTLS.Name, &cert})
}

// errNameless ends a TLS handshake for which there is no certificate.
var errNameless = errors.New("the relay has no name")

func (f *Peers) relayCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if r := f.relay.Load(); r != nil {
		return r.cert, nil
	}
	return nil, errNameless
}

// Named says whether the relay is reached by TLS. It is a Room's Named.
func (f *Peers) Named() bool { return f.relayName() != "" }

func (f *Peers) relayName() string {
	if r := f.relay.Load(); r != nil {
		return r.name
	}
	return ""
}

// Servers makes a participant's credentials of the relay, until its media closes.
func (f *Peers) Servers(participant string) []signal.ICEServer {
	c := f.net.Grant(participant)
	return []signal.ICEServer{{URLs: f.net.Servers(f.relayName()), Username: c.Username, Credential: c.Password}}
}
