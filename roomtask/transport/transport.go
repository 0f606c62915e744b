package transport

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/logging"
	"github.com/pion/transport/v4/stdnet"
	"github.com/pion/webrtc/v4"
)

// ICE timeouts. Our own check goes out every 2 s of silence, so "disconnected"
// is three unanswered checks: long enough for a lost one, short enough that the
// client's ICE restart (which browsers start after about 5 s) is expected. Together
// they make the 30 s after which consent to send expires (RFC 7675 §5.1).
const (
	KeepaliveInterval   = 2 * time.Second
	DisconnectedTimeout = 6 * time.Second
	FailedTimeout       = 24 * time.Second // after disconnected
)

// Config makes a Transport.
type Config struct {
	// IP is the local address to bind, the task's own: never unspecified, since
	// every address of the machine would become a candidate.
	IP netip.Addr
	// UDPPort and TCPPort are local ports; 0 takes any free one. A negative TCPPort
	// goes without TCP.
	UDPPort, TCPPort int
	// PublicIP replaces IP in candidates when it is valid and differs.
	PublicIP netip.Addr
	Log      *slog.Logger
}

// Transport is the open sockets. All fields are set once, by Open.
type Transport struct {
	cfg      Config
	udp      *socket
	tcp      *listener // nil without TCP
	udpMux   *ice.UDPMuxDefault
	tcpMux   *ice.TCPMuxDefault // nil without TCP
	net      *stdnet.Net        // one look at the interfaces for all participants
	loggers  *LoggerFactory
	rewrites []webrtc.ICEAddressRewriteRule
	counters counters
}

// Open binds the sockets.
func Open(cfg Config) (*Transport, error) {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	cfg.IP, cfg.PublicIP = cfg.IP.Unmap(), cfg.PublicIP.Unmap()
	t := &Transport{cfg: cfg, loggers: NewLoggerFactory(cfg.Log)}
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	var err error
	if t.net, err = stdnet.NewNet(); err != nil {
		return nil, fmt.Errorf("transport: list interfaces: %w", err)
	}
	if t.udp, err = listenUDP(netip.AddrPortFrom(cfg.IP, uint16(cfg.UDPPort)), &t.counters); err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	if cfg.TCPPort >= 0 {
		if t.tcp, err = listenTCP(netip.AddrPortFrom(cfg.IP, uint16(cfg.TCPPort)), &t.counters); err != nil {
			return nil, errors.Join(fmt.Errorf("transport: %w", err), t.udp.Close())
		}
	}
	t.mux(t.loggers.NewLogger("ice"))
	return t, nil
}

func (t *Transport) check() error {
	c := t.cfg
	switch {
	case !c.IP.IsValid() || c.IP.IsUnspecified() || c.IP.IsMulticast():
		return fmt.Errorf("local address %q cannot be bound", c.IP)
	case c.UDPPort < 0 || c.UDPPort > 65535 || c.TCPPort > 65535:
		return fmt.Errorf("ports %d (UDP) and %d (TCP): not in 0–65535", c.UDPPort, c.TCPPort)
	case c.PublicIP.IsValid() && (c.PublicIP.IsUnspecified() || c.PublicIP.Is4() != c.IP.Is4()):
		return fmt.Errorf("public address is not of the local address's family")
	}
	if c.PublicIP.IsValid() && c.PublicIP != c.IP {
		t.rewrites = []webrtc.ICEAddressRewriteRule{{
			External: []string{c.PublicIP.String()}, Local: c.IP.String(),
			AsCandidateType: webrtc.ICECandidateTypeHost, Mode: webrtc.ICEAddressRewriteReplace,
		}}
	}
	var probe webrtc.SettingEngine
	return probe.SetICEAddressRewriteRules(t.rewrites...)
}

func (t *Transport) mux(log logging.LeveledLogger) {
	t.udpMux = ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: t.udp, Logger: log, Net: t.net})
	if t.tcp == nil {
		return
	}
	t.tcpMux = ice.NewTCPMuxDefault(ice.TCPMuxParams{
		Listener: t.tcp, Logger: log,
		ReadBufferSize:  32,
		WriteBufferSize: tcpWriteBuffer,
		// A connection that does not begin with a STUN check is not a client's.
		FirstStunBindTimeout: 5 * time.Second,
		// A user fragment is known before the answer that tells it has left the task,
		// so a check for an unknown one never becomes valid.
		AliveDurationForConnFromStun: 5 * time.Second,
	})
}

// SettingEngine applies sockets, candidates, timeouts and logging.
func (t *Transport) SettingEngine(se *webrtc.SettingEngine) {
	se.LoggerFactory = t.loggers
	se.SetNet(t.net)
	se.SetICEUDPMux(t.udpMux)
	types := []webrtc.NetworkType{webrtc.NetworkTypeUDP4}
	if t.cfg.IP.Is6() {
		types[0] = webrtc.NetworkTypeUDP6
	}
	if t.tcpMux != nil {
		se.SetICETCPMux(t.tcpMux)
		tcp := webrtc.NetworkTypeTCP4
		if t.cfg.IP.Is6() {
			tcp = webrtc.NetworkTypeTCP6
		}
		types = append(types, tcp)
	}
	se.SetNetworkTypes(types)
	se.DisableActiveTCP(true)
	se.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	se.SetIncludeLoopbackCandidate(t.cfg.IP.IsLoopback())
	se.SetIPFilter(func(ip net.IP) bool {
		addr, ok := netip.AddrFromSlice(ip)
		return ok && addr.Unmap() == t.cfg.IP
	})
	se.SetRemoteIPFilter(t.remoteAllowed)
	_ = se.SetICEAddressRewriteRules(t.rewrites...) // Open has tried them
	se.SetICETimeouts(DisconnectedTimeout, FailedTimeout, KeepaliveInterval)
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

// Send sends a sealed RTP packet to an address that ICE has selected, as if Pion had
// written it to the socket. It keeps nothing of b.
func (t *Transport) Send(b []byte, to netip.AddrPort) (int, error) {
	return t.udp.WriteToAddrPort(b, to)
}

// Divert offers take each SRTCP packet from an address before Pion sees it, until
// remove is called. take runs on the socket's reader: it must not block, and not keep
// or change the packet. True means that it was for take alone.
func (t *Transport) Divert(from netip.AddrPort, take func(b []byte) bool) (remove func()) {
	return t.udp.diverts.add(from, take)
}

// UDPAddr is the bound UDP address.
func (t *Transport) UDPAddr() netip.AddrPort { return t.udp.local }

// TCPAddr is the bound TCP address; not valid without TCP.
func (t *Transport) TCPAddr() netip.AddrPort {
	if t.tcp == nil {
		return netip.AddrPort{}
	}
	return t.tcp.local
}

// Counters tells what went through the sockets so far.
func (t *Transport) Counters() Counters { return t.counters.snapshot() }

// Close closes the sockets and waits until nothing reads them any more.
// PeerConnections should be closed first.
func (t *Transport) Close() error {
	// The socket goes first: its reader, the mux's, then surely meets the end.
	err := t.udp.Close()
	<-t.udp.ended
	err = errors.Join(err, t.udpMux.Close())
	if t.tcpMux != nil {
		err = errors.Join(err, t.tcpMux.Close())
	}
	if err != nil {
		return fmt.Errorf("transport: close: %w", err)
	}
	return nil
}

// OutboundIP is the address that the machine uses towards the public internet. It
// sends nothing: connecting a UDP socket only asks the routing table.
func OutboundIP() (netip.Addr, error) {
	c, err := net.Dial("udp4", "192.0.2.1:9") // TEST-NET-1, RFC 5737
	if err != nil {
		return netip.Addr{}, fmt.Errorf("transport: outbound address: %w", err)
	}
	defer func() { _ = c.Close() }()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}
