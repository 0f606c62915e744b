package transport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/turn/v5"
)

const turnName = "relay.test.invalid"

// testCA makes a certificate of turnName, and the pool that trusts it.
func testCA(t testing.TB) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{turnName}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }, pool
}

// echoing is a relay whose peer, the task's media, sends everything back: relay and
// sockets are the real ones, the echo stands where the mux is.
func echoing(t testing.TB) (*Transport, *x509.CertPool) {
	t.Helper()
	certificate, pool := testCA(t)
	tr := &Transport{cfg: Config{IP: loopback, Certificate: certificate}, loggers: NewLoggerFactory(discard())}
	if err := tr.bind(); err != nil {
		t.Fatal(err)
	}
	x := newExchange(&tr.counters)
	x.deliver = func(b []byte, from netip.AddrPort) { _, _ = x.send(b, from) }
	tr.exchange = x
	tr.relay = newRelay(tr.exchange, []netip.AddrPort{tr.udp[0].local})
	s := tr.udp[0]
	s.turn = newTURNPort(s)
	tr.mux = newMux(s, func(netip.Addr) bool { return true }, &tr.counters.unread)
	tr.front = newFront(&tr.counters, tr.relay, tr.mux, certificate, tr.tcp[0].Addr())
	tr.front.serve(tr.tcp[0])
	if err := tr.relay.serve([]*turnPort{s.turn}, tr.front.turn, tr.front.secure, tr.loggers); err != nil {
		t.Fatal(err)
	}
	tr.readers.Go(func() { s.serve(tr.mux) })
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	return tr, pool
}

// dialRelay opens a TURN client over one of the ways in.
func dialRelay(t testing.TB, tr *Transport, pool *x509.CertPool, via string, c Credential) *turn.Client {
	t.Helper()
	var conn net.PacketConn
	server := tr.tcp[0].local.String()
	switch via {
	case ViaTURNUDP:
		udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		conn, server = udp, tr.udp[0].local.String()
	case ViaTURNTCP:
		tcp, err := net.Dial("tcp", server)
		if err != nil {
			t.Fatal(err)
		}
		conn = turn.NewSTUNConn(tcp)
	case ViaTURNTLS:
		secure, err := tls.Dial("tcp", server, &tls.Config{RootCAs: pool, ServerName: turnName})
		if err != nil {
			t.Fatal(err)
		}
		conn = turn.NewSTUNConn(secure)
	}
	client, err := turn.NewClient(&turn.ClientConfig{
		STUNServerAddr: server, TURNServerAddr: server, Conn: conn, Username: c.Username, Password: c.Password, Realm: realm,
		LoggerFactory: NewLoggerFactory(discard()), RTO: 50 * time.Millisecond,
	})
	if err == nil {
		err = client.Listen()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); _ = conn.Close() })
	return client
}

// TestRelayed sends over every way in to the task's media and back.
func TestRelayed(t *testing.T) {
	tr, pool := echoing(t)
	cred := tr.Grant("p_1")
	peer := net.UDPAddrFromAddrPort(tr.udp[0].local)
	for _, via := range []string{ViaTURNUDP, ViaTURNTCP, ViaTURNTLS} {
		t.Run(via, func(t *testing.T) {
			conn, err := dialRelay(t, tr, pool, via, cred).Allocate()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 2000)
			for _, size := range []int{20, 21, 22, 23, 1200} { // the first as indications, later ones over a channel, padded
				for i := range 3 {
					out := []byte(strings.Repeat(string(rune('a'+i)), size))
					if _, err := conn.WriteTo(out, peer); err != nil {
						t.Fatal(err)
					}
					n, from, err := conn.ReadFrom(buf)
					if err != nil || string(buf[:n]) != string(out) || from.String() != peer.String() {
						t.Fatalf("%d bytes from %v, %v; sent %d", n, from, err, size)
					}
				}
			}
			tr.exchange.mu.RLock()
			defer tr.exchange.mu.RUnlock()
			for addr, c := range tr.exchange.allocations {
				if c.via != via || !relayed(addr) || tr.relay.users["p_1"] == nil {
					t.Errorf("allocation %v of %q, want %q", addr, c.via, via)
				}
			}
		})
		eventually(t, "the allocation is gone with its client", func() bool { return tr.Counters().RelayAllocations == 0 })
	}
}

// inward are addresses that a relay must not reach: the task's own services and
// neighbours, in all their spellings.
var inward = []string{
	"127.0.0.1", "127.0.0.2", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.64.0.2", "100.64.0.1", "172.16.0.1", "172.31.255.254",
	"192.168.0.1", "169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.1.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1",
	"203.0.113.1", "192.88.99.1", "224.0.0.1", "224.0.0.251", "239.255.255.250", "240.0.0.1", "255.255.255.255", "8.8.8.8", "1.1.1.1",
	"::", "::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
	"64:ff9b:1::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::", "fd00:ec2::254", "fc00::1", "fe80::1", "fe80::6d61:7966:6c79", "ff02::1", "100::1",
	"2001::1", "2001:db8::1", "2600::1",
}

// TestNoOtherPeer asks the relay for each of those, by each of TURN's three ways: the
// permission is refused, and nothing that is sent anyway reaches a socket that listens.
func TestNoOtherPeer(t *testing.T) {
	canary, err := net.ListenPacket("udp4", "127.0.0.1:0") // a service of the task's own, beside its media
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = canary.Close() }()
	tr, pool := echoing(t)
	port := canary.LocalAddr().(*net.UDPAddr).Port
	client := dialRelay(t, tr, pool, ViaTURNTCP, tr.Grant("p_1"))
	conn, err := client.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	refused := 0
	for _, text := range inward {
		peer := &net.UDPAddr{IP: net.ParseIP(text), Port: port}
		err := client.CreatePermission(peer)
		own := netip.MustParseAddr(text).Unmap() == loopback // the media's address, but not its port
		if (err == nil) != own {
			t.Errorf("permission for %s: %v", text, err)
		}
		if err != nil {
			refused++
		}
		for range 3 { // as indications, and once bound over a channel
			_, _ = conn.WriteTo([]byte("inward"), peer)
		}
	}
	if refused < len(inward)-2 {
		t.Errorf("%d of %d refused", refused, len(inward))
	}
	// A permission is for an address; the port is refused with each packet.
	before := tr.Counters().RelayRefused
	media := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(tr.udp[0].local.Port())}
	if err := client.CreatePermission(media); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, err := conn.WriteTo([]byte("inward"), &net.UDPAddr{IP: media.IP, Port: port}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "packets for another port are refused", func() bool { return tr.Counters().RelayRefused >= before+10 })
	silent(t, canary)
}

func TestNoTCPAllocation(t *testing.T) {
	tr, pool := echoing(t)
	client := dialRelay(t, tr, pool, ViaTURNTCP, tr.Grant("p_1"))
	if conn, err := client.AllocateTCP(); err == nil {
		_ = conn.Close()
		t.Error("a TCP allocation was made (RFC 6062)")
	}
}

// TestCredentials tries credentials that are wrong, old, or somebody's who has left.
func TestCredentials(t *testing.T) {
	tr, pool := echoing(t)
	var ahead atomic.Int64 // of the relay's clock; set before the first client, and moved while it serves
	tr.relay.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	good := tr.Grant("p_1")
	tr.Grant("p_2")
	tr.Revoke("p_2")
	_, rest, _ := strings.Cut(good.Username, ":")
	at := func(name string) Credential { return Credential{name, tr.relay.password(name)} }
	soon := fmt.Sprint(time.Now().Add(time.Minute).Unix())
	for name, c := range map[string]Credential{
		"wrong password": {good.Username, "x"}, "another's password": {soon + ":p_9", good.Password}, "later expiry": {"9" + good.Username, good.Password},
		"expired": at("1:" + rest), "left": at(soon + ":p_2"), "never here": at(soon + ":p_3"), "no expiry": at(rest), "nobody": at(soon + ":"), "empty": at(":"),
	} {
		t.Run(name, func(t *testing.T) {
			if conn, err := dialRelay(t, tr, pool, ViaTURNTCP, c).Allocate(); err == nil {
				_ = conn.Close()
				t.Error("allocated")
			}
		})
	}
	// Forged are those of who is here, with a password that is not theirs; a later expiry is
	// another name, with another password. Strangers are the other six.
	if n := tr.Counters(); n.RelayForged < 2 || n.RelayExpired < 1 || n.RelayStrangers < 6 {
		t.Errorf("%d requests with another's password, %d with an old credential, %d of strangers", n.RelayForged, n.RelayExpired, n.RelayStrangers)
	}
	client := dialRelay(t, tr, pool, ViaTURNTCP, good)
	conn, err := client.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	// What was allocated in time outlives the credential …
	ahead.Store(int64(2 * CredentialTTL))
	if err := client.CreatePermission(net.UDPAddrFromAddrPort(tr.udp[0].local)); err != nil {
		t.Errorf("an allocation's permission after the credential's expiry: %v", err)
	}
	// … but not the participant.
	tr.Revoke("p_1")
	eventually(t, "the allocation ends with the participant", func() bool { return tr.Counters().RelayAllocations == 0 })
	_ = conn.Close()
}
