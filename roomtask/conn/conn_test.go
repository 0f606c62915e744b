package conn

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/datachannel"
	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/logging"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sctp"

	"mayfly/roomtask/transport"
)

// connected makes both ends, with ICE and DTLS done.
func connected(t testing.TB, network ice.NetworkType, profile dtls.SRTPProtectionProfile) (*end, *client) {
	t.Helper()
	e, c := newEnd(t), newClient(t, network)
	l, err := e.Negotiate(c.remote())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.connect(e, l, profile); err != nil {
		t.Fatal(err)
	}
	eventually(t, "connected", func() bool { return e.State() == Connected })
	return e, c
}

func picture(seq int) (*rtp.Header, []byte) {
	return &rtp.Header{Version: 2, SSRC: 7, SequenceNumber: uint16(seq), Timestamp: uint32(seq), PayloadType: 96}, []byte{1, 2, 3}
}

// TestBothWays sends RTP and RTCP each way over several roll-overs, with every profile and
// by UDP and TCP: each packet is opened once, what is forged or comes again never is, and
// both ends count the same bytes.
func TestBothWays(t *testing.T) {
	for name, v := range map[string]struct {
		network ice.NetworkType
		profile dtls.SRTPProtectionProfile
		via     string
	}{
		"AES-128-GCM":      {ice.NetworkTypeUDP4, dtls.SRTP_AEAD_AES_128_GCM, "udp"},
		"AES-256-GCM":      {ice.NetworkTypeUDP4, dtls.SRTP_AEAD_AES_256_GCM, "udp"},
		"AES-CM":           {ice.NetworkTypeUDP4, dtls.SRTP_AES128_CM_HMAC_SHA1_80, "udp"},
		"AES-GCM over TCP": {ice.NetworkTypeTCP4, dtls.SRTP_AEAD_AES_128_GCM, "tcp"},
		"AES-CM over TCP":  {ice.NetworkTypeTCP4, dtls.SRTP_AES128_CM_HMAC_SHA1_80, "tcp"},
	} {
		t.Run(name, func(t *testing.T) {
			e, c := connected(t, v.network, v.profile)
			eventually(t, "the round trip of the path is told", func() bool {
				e.mu.Lock()
				defer e.mu.Unlock()
				return e.rtt > 0
			})
			if e.Via() != v.via || (e.to.Load() != nil) != (v.via == "udp") {
				t.Errorf("via %q, straight to the socket: %v", e.Via(), e.to.Load() != nil)
			}
			up(t, e, c)
			down(t, e, c)
			eventually(t, "both ends count the same", func() bool {
				in, out := e.Bytes()
				return in == int64(c.link.BytesSent()) && out == int64(c.link.BytesReceived())
			})
		})
	}
}

// up is what the client sends.
func up(t *testing.T, e *end, c *client) {
	t.Helper()
	report, err := (&rtcp.PictureLossIndication{SenderSSRC: 7, MediaSSRC: 9}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	const packets = 30
	for n := range packets {
		h, payload := picture(65520 + n) // over a roll-over
		plain, err := (&rtp.Packet{Header: *h, Payload: payload}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		media, err := c.seals.EncryptRTP(nil, plain, nil)
		if err != nil {
			t.Fatal(err)
		}
		control, err := c.seals.EncryptRTCP(nil, report, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{media, control} {
			forged := bytes.Clone(b)
			forged[len(forged)-1] ^= 1
			for _, sent := range [][]byte{forged, b, b} {
				c.write(sent)
			}
		}
		// Not faster than a small socket buffer takes.
		eventually(t, "all of it is opened", func() bool { m, r := e.got(); return m >= n+1 && r >= n+1 })
		e.mu.Lock()
		m, r := e.media[n], e.control[n]
		e.mu.Unlock()
		if !bytes.Equal(m, plain) || !bytes.Equal(r, report) {
			t.Fatalf("packet %d: %x and %x", n, m, r)
		}
	}
	if m, r := e.got(); m != packets || r != packets {
		t.Errorf("%d packets of media and %d of control, sent %d each", m, r, packets)
	}
}

// down is what the task sends.
func down(t *testing.T, e *end, c *client) {
	t.Helper()
	line := e.Line(7, 8)
	for n := range 30 {
		h, payload := picture(65520 + n)
		if n%3 == 0 {
			h.SSRC = 8
		}
		if _, err := line.WriteRTP(h, payload); err != nil {
			t.Fatal(err)
		}
		e.net.Flush()
		plain, err := c.opens.DecryptRTP(nil, c.next(), nil)
		if err != nil {
			t.Fatalf("packet %d: %v", n, err)
		}
		var p rtp.Packet
		if err := p.Unmarshal(plain); err != nil || p.SequenceNumber != h.SequenceNumber || !bytes.Equal(p.Payload, payload) {
			t.Fatalf("packet %d came as %v, %v", n, p, err)
		}
		sent := []rtcp.Packet{&rtcp.ReceiverReport{SSRC: 5}, &rtcp.PictureLossIndication{SenderSSRC: 5, MediaSSRC: uint32(n)}}
		if err := e.WriteRTCP(sent); err != nil {
			t.Fatal(err)
		}
		got, err := c.opens.DecryptRTCP(nil, c.next(), nil)
		if err != nil {
			t.Fatalf("report %d: %v", n, err)
		}
		if want, _ := rtcp.Marshal(sent); !bytes.Equal(got, want) {
			t.Fatalf("report %d: %x, want %x", n, got, want)
		}
	}
	for _, ssrc := range []uint32{0, 99} {
		h, _ := picture(1)
		h.SSRC = ssrc
		if _, err := e.Line(7, 0).WriteRTP(h, nil); !errors.Is(err, errSSRC) {
			t.Errorf("SSRC %d, which is not the line's: %v", ssrc, err)
		}
	}
}

// TestRestart begins ICE anew: the credentials are others, the keys stay, and nothing
// breaks while there is no way to the client.
func TestRestart(t *testing.T) {
	e, c := connected(t, ice.NetworkTypeUDP4, dtls.SRTP_AEAD_AES_128_GCM)
	before := c.remote()
	first, err := e.Negotiate(before)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.agent.Restart("", ""); err != nil {
		t.Fatal(err)
	}
	c.gather()
	if c.remote() == before {
		t.Fatal("the client's credentials are the same")
	}
	second, err := e.Negotiate(c.remote())
	if err != nil || second == first || second.Ufrag == "" {
		t.Fatalf("credentials %v after %v, %v", second, first, err)
	}
	if again, err := e.Negotiate(c.remote()); err != nil || again != second {
		t.Errorf("an offer that restarts nothing: %v, want %v, %v", again, second, err)
	}
	if n, err := e.write([]byte{22, 1, 2}); n != 3 || err != nil {
		t.Errorf("DTLS without a way: %d, %v", n, err)
	}
	if n, err := e.send(make([]byte, 40)); n != 0 || err != nil {
		t.Errorf("media without a way: %d, %v", n, err)
	}
	if err := c.agent.SetRemoteCredentials(second.Ufrag, second.Pwd); err != nil {
		t.Fatal(err)
	}
	c.told(e)
	eventually(t, "another pair", func() bool { return e.State() == Connected && e.to.Load() != nil })
	down(t, e, c)
}

// TestMediaIsASignOfLife: while the agent misses checks, a client whose media comes is
// there, until that stays away too.
func TestMediaIsASignOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		var c *Conn
		var mu sync.Mutex
		var shown []State
		states := func() []State {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(shown)
		}
		c = &Conn{ctx: context.Background(), cfg: Config{Now: clock, Media: func([]byte) {}, Changed: func() {
			mu.Lock()
			defer mu.Unlock()
			looks++
			if s := c.State(); len(shown) == 0 || shown[len(shown)-1] != s {
				shown = append(shown, s)
			}
		}}}
		k, err := protect(dtls.SRTP_AEAD_AES_128_GCM, exported{})
		if err != nil {
			t.Fatal(err)
		}
		c.unlock(k)
		client := clientContext(t)
		c.follow(ice.ConnectionStateConnected)
		c.follow(ice.ConnectionStateDisconnected) // nothing has ever come
		c.follow(ice.ConnectionStateConnected)
		for n := range 10 {
			c.take(sealedBy(t, client, n))
			time.Sleep(time.Second)
		}
		c.follow(ice.ConnectionStateDisconnected)
		for n := range 10 {
			c.take(sealedBy(t, client, 10+n))
			time.Sleep(time.Second)
		}
		if got, want := states(), []State{Connected, Disconnected, Connected}; !slices.Equal(got, want) {
			t.Errorf("while media comes: %v, want %v", got, want)
		}
		time.Sleep(transport.DisconnectedTimeout)
		if got := states(); got[len(got)-1] != Disconnected {
			t.Errorf("without: %v", got)
		}
		c.follow(ice.ConnectionStateConnected)
		c.take(sealedBy(t, client, 100))
		c.follow(ice.ConnectionStateFailed)
		if want := []State{Connected, Disconnected, Connected, Disconnected, Connected, Failed}; !slices.Equal(states(), want) || looks > 12 {
			t.Errorf("%v, want %v; looked at %d times", states(), want, looks)
		}
	})
}

func TestGoodbye(t *testing.T) {
	e, c := connected(t, ice.NetworkTypeUDP4, dtls.SRTP_AEAD_AES_128_GCM)
	if err := c.session.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "closed", func() bool { return e.State() == Closed })
}

func TestOtherCertificate(t *testing.T) {
	e, c := newEnd(t), newClient(t, ice.NetworkTypeUDP4)
	r := c.remote()
	r.Fingerprint = "sha-256 " + strings.Repeat("AB:", 31) + "CD"
	l, err := e.Negotiate(r)
	if err != nil {
		t.Fatal(err)
	}
	if c.connect(e, l, dtls.SRTP_AEAD_AES_128_GCM) == nil {
		t.Error("the client is through")
	}
	eventually(t, "failed", func() bool { return e.State() == Failed })
	if e.keys.Load() != nil {
		t.Error("there are keys")
	}
}

func TestChannel(t *testing.T) {
	e, c := connected(t, ice.NetworkTypeUDP4, dtls.SRTP_AEAD_AES_128_GCM)
	loggers := logging.NewDefaultLoggerFactory()
	assoc, err := sctp.ClientWithOptions(sctp.WithNetConn(c.session), sctp.WithLoggerFactory(loggers))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := datachannel.Dial(assoc, 0, &datachannel.Config{Label: "x", LoggerFactory: loggers})
	if err != nil {
		t.Fatal(err)
	}
	ours := <-e.channels
	if ours.Label != "x" || ours.ChannelType != datachannel.ChannelTypeReliable {
		t.Errorf("channel %q of type %d", ours.Label, ours.ChannelType)
	}
	if _, err := ours.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	if n, err := theirs.Read(b); err != nil || string(b[:n]) != "hello" {
		t.Errorf("%q, %v", b[:n], err)
	}
}

// TestCloseAtAnyTime: nothing hangs, and what is done afterwards fails.
func TestCloseAtAnyTime(t *testing.T) {
	before := newEnd(t)
	before.Close()
	before.Close()
	if _, err := before.Negotiate(Remote{"ufrag", strings.Repeat("p", 22), ""}); err == nil {
		t.Error("negotiates after Close")
	}
	waiting := newEnd(t)
	if _, err := waiting.Negotiate(Remote{"ufrag", strings.Repeat("p", 22), ""}); err != nil {
		t.Fatal(err)
	}
	waiting.Close()
	e, c := connected(t, ice.NetworkTypeUDP4, dtls.SRTP_AEAD_AES_128_GCM)
	e.Close()
	if e.State() != Closed {
		t.Errorf("state %d", e.State())
	}
	h, payload := picture(1)
	if _, err := e.Line(7, 0).WriteRTP(h, payload); err == nil {
		t.Error("sends after Close")
	}
	if _, err := c.session.Read(make([]byte, 10)); err == nil {
		t.Error("the client was not told")
	}
}
