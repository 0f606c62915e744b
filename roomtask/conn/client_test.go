package conn

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/pion/datachannel"
	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/selfsign"
	"github.com/pion/ice/v4"
	"github.com/pion/srtp/v3"

	"mayfly/roomtask/transport"
)

var srtpProfiles = map[dtls.SRTPProtectionProfile]srtp.ProtectionProfile{
	dtls.SRTP_AEAD_AES_128_GCM:       srtp.ProtectionProfileAeadAes128Gcm,
	dtls.SRTP_AEAD_AES_256_GCM:       srtp.ProtectionProfileAeadAes256Gcm,
	dtls.SRTP_AES128_CM_HMAC_SHA1_80: srtp.ProtectionProfileAes128CmHmacSha1_80,
}

func clock() int64 { return time.Now().UnixNano() }

// end is a Conn with what it was told.
type end struct {
	*Conn
	net *transport.Transport

	mu       sync.Mutex
	media    [][]byte      // guarded by mu
	control  [][]byte      // guarded by mu
	faults   []string      // guarded by mu
	rtt      time.Duration // guarded by mu: of the pair that was selected last
	channels chan *datachannel.DataChannel
	panics   bool // guarded by mu: Media does
}

func newEnd(t testing.TB) *end {
	t.Helper()
	tr, err := transport.Open(transport.Config{IP: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := NewCertificate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	e := &end{net: tr, channels: make(chan *datachannel.DataChannel, 4)}
	note := func(to *[][]byte) func(b []byte) {
		return func(b []byte) {
			e.mu.Lock()
			defer e.mu.Unlock()
			if e.panics {
				panic("a bug")
			}
			*to = append(*to, append([]byte(nil), b...))
		}
	}
	if e.Conn, err = New(Config{
		Net: tr, Cert: cert, Log: slog.New(slog.DiscardHandler), Now: clock, Media: note(&e.media), Control: note(&e.control),
		Changed: func() {}, Channel: func(ch *datachannel.DataChannel) { e.channels <- ch },
		Moved: func(rtt time.Duration) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.rtt = rtt
		},
		Fault: func(where string, _ any) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.faults = append(e.faults, where)
		},
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.Close()
		_ = tr.Close()
	})
	return e
}

// got is how much media and control has come.
func (e *end) got() (media, control int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.media), len(e.control)
}

// client is the other end, made of the same parts of Pion's without a PeerConnection.
type client struct {
	t       testing.TB
	agent   *ice.Agent
	link    *ice.Conn
	pipe    *pipe
	session *dtls.Conn
	cert    tls.Certificate
	sealed  chan []byte // SRTP and SRTCP as it came
	// keys, once the handshake is done
	seals, opens *srtp.Context
}

func newClient(t testing.TB, network ice.NetworkType) *client {
	t.Helper()
	cert, err := selfsign.GenerateSelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, cert: cert, sealed: make(chan []byte, 1<<12)}
	c.agent, err = ice.NewAgentWithOptions(ice.WithNetworkTypes([]ice.NetworkType{network}), ice.WithIncludeLoopback(),
		ice.WithIPFilter(net.IP.IsLoopback), ice.WithMulticastDNSMode(ice.MulticastDNSModeDisabled))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	c.gather()
	return c
}

func (c *client) gather() {
	c.t.Helper()
	done := make(chan struct{})
	if err := c.agent.OnCandidate(func(own ice.Candidate) {
		if own == nil {
			close(done)
		}
	}); err != nil {
		c.t.Fatal(err)
	}
	if err := c.agent.GatherCandidates(); err != nil {
		c.t.Fatal(err)
	}
	<-done
}

func (c *client) close() {
	if c.session != nil {
		_ = c.session.Close()
	}
	_ = c.agent.GracefulClose()
}

// remote is what the client's offer would say.
func (c *client) remote() Remote {
	c.t.Helper()
	ufrag, pwd, err := c.agent.GetLocalUserCredentials()
	if err != nil {
		c.t.Fatal(err)
	}
	return Remote{ufrag, pwd, fingerprint(c.cert.Certificate[0])}
}

// told adds those of the end's candidates that the client can use.
func (c *client) told(e *end) {
	c.t.Helper()
	for _, text := range e.net.Candidates() {
		candidate, err := ice.UnmarshalCandidate(text)
		if err != nil {
			c.t.Fatal(err)
		}
		if err := c.agent.AddRemoteCandidate(candidate); err != nil {
			c.t.Fatal(err)
		}
	}
}

// connect does ICE and DTLS. It returns DTLS's error.
func (c *client) connect(e *end, l Local, profile dtls.SRTPProtectionProfile) error {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c.told(e)
	var err error
	if c.link, err = c.agent.Dial(ctx, l.Ufrag, l.Pwd); err != nil {
		c.t.Fatal(err)
	}
	c.pipe = newPipe(c.link.Write, func() {})
	go c.read()
	if c.session, err = dtls.ClientWithOptions(c.pipe, there, dtls.WithCertificates(c.cert), dtls.WithInsecureSkipVerify(true),
		dtls.WithSRTPProtectionProfiles(profile)); err != nil {
		c.t.Fatal(err)
	}
	if err := c.session.HandshakeContext(ctx); err != nil {
		return err
	}
	state, ok := c.session.ConnectionState()
	if !ok {
		c.t.Fatal("no state")
	}
	cfg := srtp.Config{Profile: srtpProfiles[profile]}
	if err := cfg.ExtractSessionKeysFromDTLS(&state, true); err != nil {
		c.t.Fatal(err)
	}
	if c.seals, err = srtp.CreateContext(cfg.Keys.LocalMasterKey, cfg.Keys.LocalMasterSalt, cfg.Profile); err != nil {
		c.t.Fatal(err)
	}
	c.opens, err = srtp.CreateContext(cfg.Keys.RemoteMasterKey, cfg.Keys.RemoteMasterSalt, cfg.Profile,
		srtp.SRTPReplayProtection(replayWindow), srtp.SRTCPReplayProtection(replayWindow))
	if err != nil {
		c.t.Fatal(err)
	}
	return nil
}

// read hands on what comes until ICE ends.
func (c *client) read() {
	b := make([]byte, maxDatagram)
	for {
		n, err := c.link.Read(b)
		if err != nil {
			_ = c.pipe.Close()
			return
		}
		if b[0] < 64 {
			c.pipe.put(b[:n])
			continue
		}
		select {
		case c.sealed <- append([]byte(nil), b[:n]...):
		default: // the test reads only as much as it needs
		}
	}
}

// next is what came next of media or control.
func (c *client) next() []byte {
	c.t.Helper()
	select {
	case b := <-c.sealed:
		return b
	case <-time.After(20 * time.Second):
		c.t.Fatal("nothing within 20 s")
	}
	return nil
}

func (c *client) write(b []byte) {
	c.t.Helper()
	if _, err := c.link.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// eventually polls what real sockets bring about; it fails after 20 s.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		runtime.Gosched()
	}
}
