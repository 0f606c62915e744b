package peer

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// never fails when the connection comes up: the wrong client must be kept out for as
// long as a right one takes many times over.
func never(t *testing.T, e *endpoint, why string) {
	t.Helper()
	limit := time.After(1500 * time.Millisecond)
	for {
		select {
		case ev := <-e.events:
			switch ev.(type) {
			case Connected, DataOpen:
				t.Fatalf("connected: %s", why)
			case Failed:
				return
			}
		case <-limit:
			return
		}
	}
}

// TestForeignCertificateIsRefused signals the fingerprint of another certificate than
// the one that the handshake then shows, as who sits between a client and the room
// would have to: no media flows (RFC 8827 §6.5).
func TestForeignCertificateIsRefused(t *testing.T) {
	k := newTask(t)
	e, c := k.peer(t, "a"), newClient(t)
	c.addSeats(1)
	o := c.offer(nil)
	_, now, _ := strings.Cut(o.SDP, "a=fingerprint:sha-256 ")
	now, _, _ = strings.Cut(now, "\r\n")
	other := strings.Repeat("AB:", 31) + "CD"
	o.SDP = strings.ReplaceAll(o.SDP, now, other)
	e.Offer(o)
	c.answer(next[Answered](t, e).SDP)
	never(t, e, "the certificate is not the one that was signalled")
}

// TestWeakProtectionIsRefused has clients that can do nothing better than what the room
// does not accept: SRTP with a tag of four bytes, and a cipher suite without AEAD.
func TestWeakProtectionIsRefused(t *testing.T) {
	k := newTask(t)
	for name, weak := range map[string]func(*webrtc.SettingEngine){
		"SRTP with HMAC-SHA1-32":      func(se *webrtc.SettingEngine) { se.SetSRTPProtectionProfiles(dtls.SRTP_AES128_CM_HMAC_SHA1_32) },
		"DTLS with CBC":               func(se *webrtc.SettingEngine) { se.SetDTLSCipherSuites(dtls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA) },
		"DTLS with an eight byte tag": func(se *webrtc.SettingEngine) { se.SetDTLSCipherSuites(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8) },
	} {
		t.Run(name, func(t *testing.T) {
			e, c := k.peer(t, "a"), newClientWith(t, weak)
			c.addSeats(1)
			c.negotiate(e, nil)
			never(t, e, name)
		})
	}
	t.Run("AES-256", func(t *testing.T) {
		e, c := k.peer(t, "a"), newClientWith(t, func(se *webrtc.SettingEngine) {
			se.SetDTLSCipherSuites(dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384)
			se.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_256_GCM)
		})
		c.addSeats(1)
		c.join(e)
	})
}

// TestKeysAreTheTasksOwn: each task makes its DTLS key when it starts, of a curve that
// every browser takes, and it is in no answer.
func TestKeysAreTheTasksOwn(t *testing.T) {
	a, b := newTask(t), newTask(t)
	fa, fb := a.cert.Fingerprint(), b.cert.Fingerprint()
	if !strings.HasPrefix(fa, "sha-256 ") || fa == fb {
		t.Errorf("fingerprints %v and %v", fa, fb)
	}
	e, c := a.peer(t, "a"), newClient(t)
	c.addSeats(1)
	answer := c.negotiate(e, nil)
	if !strings.Contains(answer, fa) || strings.Contains(answer, "PRIVATE KEY") {
		t.Error("the answer tells another certificate, or too much")
	}
}

// TestForgedAndRepeatedMediaIsDropped injects RTP from the client's exact address and
// port while the client publishes: made up, with the client's own SSRC and sequence; and
// packets of the client again, as they were and with one bit changed. The room counts
// what the client sent, and nothing else.
func TestForgedAndRepeatedMediaIsDropped(t *testing.T) {
	k := newTask(t)
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	spy := &spy{PacketConn: conn, seen: make(chan []byte, 64)}
	mux := ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: spy, Logger: quiet.NewLogger("ice")})
	t.Cleanup(func() { _ = mux.Close() })
	e, c := k.peer(t, "a"), newClientWith(t, func(se *webrtc.SettingEngine) { se.SetICEUDPMux(mux) })
	c.publishMic()
	c.addSeats(1)
	c.join(e)
	next[DataOpen](t, e)
	publish := func(from, n int) {
		for i := range n {
			p := &rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: uint16(from + i), Timestamp: uint32(960 * (from + i))}, Payload: make([]byte, 60)}
			if err := c.mic.WriteRTP(p); err != nil {
				t.Fatal(err)
			}
		}
	}
	received := func() uint64 { return e.Publisher().Stats().Packets }
	publish(0, 50)
	eventually(t, "what the client sends is counted", func() bool { return received() == 50 })
	real := <-spy.seen
	for n := range 300 {
		forged := bytes.Clone(real) // with the client's header: its SSRC, its payload type
		binary.BigEndian.PutUint16(forged[2:], uint16(1000+n))
		_, _ = rand.Read(forged[12:]) // never fails (crypto/rand)
		flipped := bytes.Clone(real)
		flipped[len(flipped)-1-n%16] ^= 1
		for _, b := range [][]byte{forged, real, flipped} {
			if _, err := conn.WriteToUDPAddrPort(b, k.net.UDPAddr()); err != nil {
				t.Fatal(err)
			}
		}
	}
	publish(50, 50) // behind them in the socket's queue
	eventually(t, "the client goes on", func() bool { return received() >= 100 })
	if n := received(); n != 100 {
		t.Errorf("%d packets were taken for the client's, it sent 100", n)
	}
}

// spy is a client's socket that shows what is sent over it of RTP.
type spy struct {
	net.PacketConn
	seen chan []byte
}

func (s *spy) WriteTo(b []byte, to net.Addr) (int, error) {
	if len(b) > 12 && b[0]&0xc0 == 0x80 && (b[1] < 192 || b[1] > 223) { // RFC 5761 §4
		select {
		case s.seen <- bytes.Clone(b):
		default:
		}
	}
	return s.PacketConn.WriteTo(b, to)
}
