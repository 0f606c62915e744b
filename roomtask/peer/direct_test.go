package peer

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/protocol/extension"
	"github.com/pion/dtls/v3/pkg/protocol/handshake"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/pion/webrtc/v4"

	"mayfly/roomtask/seal"
	"mayfly/roomtask/sendq"
	"mayfly/shared/signal"
)

// receiver opens what either way sends, with Pion, and counts.
type receiver struct {
	t       *testing.T
	opens   *srtp.Context // the receiver's
	seals   *srtp.Context // of Pion's writer
	buf     []byte
	direct  int
	viaPion int
	refuse  bool // Pion is not connected
}

func (r *receiver) open(b []byte) {
	if _, err := r.opens.DecryptRTP(nil, b, nil); err != nil {
		r.t.Fatalf("packet %d (%d direct): %v", r.direct+r.viaPion, r.direct, err)
	}
}

// Send implements path.
func (r *receiver) Send(b []byte) (int, error) {
	r.open(b)
	r.direct++
	return len(b), nil
}

func (r *receiver) Divert(func([]byte) bool) func() { return func() {} }

// WriteRTP stands where Pion's writer is, and seals as it does.
func (r *receiver) WriteRTP(h *rtp.Header, payload []byte) (int, error) {
	if r.refuse {
		return 0, nil
	}
	size, err := (&rtp.Packet{Header: *h, Payload: payload}).MarshalTo(r.buf)
	if err != nil {
		r.t.Fatal(err)
	}
	b, err := r.seals.EncryptRTP(nil, r.buf[:size], nil)
	if err != nil {
		r.t.Fatal(err)
	}
	r.open(b)
	r.viaPion++
	return len(b), nil
}

func newReceiver(t *testing.T) (*receiver, *seal.Sealer) {
	key, salt := bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 12)
	r := &receiver{t: t, buf: make([]byte, 1500)}
	var err error
	if r.opens, err = srtp.CreateContext(key, salt, srtp.ProtectionProfileAeadAes128Gcm, srtp.SRTPReplayProtection(1<<13)); err != nil {
		t.Fatal(err)
	}
	if r.seals, err = srtp.CreateContext(key, salt, srtp.ProtectionProfileAeadAes128Gcm); err != nil {
		t.Fatal(err)
	}
	s, err := seal.NewSealer(key, salt)
	if err != nil {
		t.Fatal(err)
	}
	return r, s
}

// TestBothWaysAreOneStream sends many roll-overs of a media and an RTX stream, with
// late packets, while the path comes and goes at random: the receiver, which counts
// roll-overs by itself, opens all of it.
func TestBothWaysAreOneStream(t *testing.T) {
	r, s := newReceiver(t)
	d := &direct{}
	d.sealer.Store(s)
	to := path(r)
	w := d.writer(r, 10, 11)
	rng := rand.New(rand.NewPCG(3, 4))
	r.refuse = true
	if n, err := w.WriteRTP(&rtp.Header{Version: 2, SSRC: 10, SequenceNumber: 9}, []byte{1}); n != 0 || err != nil {
		t.Fatalf("before the connection: %d, %v", n, err)
	}
	r.refuse = false
	next := [2]uint64{10, uint64(rng.UintN(1 << 15))} // each counts in twos, so that something is left out
	sent := map[[2]uint64]bool{}
	for range 300_000 {
		if rng.UintN(40_000) == 0 { // for long, and for short
			d.to.Store(nil)
		}
		if rng.UintN(20_000) == 0 {
			d.to.Store(&to)
		}
		n := min(1, rng.UintN(6)/5)
		index := next[n]
		if index > 1<<15 && rng.UintN(5) == 0 {
			index -= uint64(1 + 2*rng.UintN(200)) // repaired late
		} else {
			next[n] += 2
		}
		if sent[[2]uint64{uint64(n), index}] {
			continue // forward never does that
		}
		sent[[2]uint64{uint64(n), index}] = true
		h := &rtp.Header{Version: 2, SSRC: uint32(10 + n), SequenceNumber: uint16(index), PayloadType: 96}
		if size, err := w.WriteRTP(h, []byte{1, 2, 3}); err != nil || size != 12+3+seal.Overhead {
			t.Fatalf("%d, %v", size, err)
		}
	}
	if r.direct < 50_000 || r.viaPion < 50_000 {
		t.Errorf("%d packets went the short way and %d Pion's: both were to be tried", r.direct, r.viaPion)
	}
	if n, err := w.WriteRTP(&rtp.Header{Version: 2, SSRC: 12}, nil); n == 0 || err != nil {
		t.Errorf("an SSRC that is not the line's: %d, %v", n, err)
	}
}

// TestPionIsKeptInformed goes the short way for long: Pion must get a packet often
// enough to go on by itself.
func TestPionIsKeptInformed(t *testing.T) {
	r, s := newReceiver(t)
	d := &direct{}
	d.sealer.Store(s)
	to := path(r)
	d.to.Store(&to)
	w := d.writer(r, 10, 0)
	const sent = 300_000
	for i := range sent {
		if _, err := w.WriteRTP(&rtp.Header{Version: 2, SSRC: 10, SequenceNumber: uint16(i)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if least := sent / (1 << 15); r.viaPion < least || r.viaPion > 2*sent/viaPion {
		t.Errorf("%d packets went through Pion, want %d to %d", r.viaPion, least, 2*sent/viaPion)
	}
	d.to.Store(nil)
	if _, err := w.WriteRTP(&rtp.Header{Version: 2, SSRC: 10, SequenceNumber: uint16(sent % (1 << 16))}, nil); err != nil {
		t.Fatal(err)
	}
}

func TestWriteAllocatesNothing(t *testing.T) {
	_, s := newReceiver(t)
	d := &direct{}
	d.sealer.Store(s)
	to := path(sink{})
	d.to.Store(&to)
	w := d.writer(sink{}, 10, 0)
	h := &rtp.Header{Version: 2, SSRC: 10}
	if err := h.SetExtension(3, []byte{1, 2}); err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, 1100)
	if n := testing.AllocsPerRun(20_000, func() {
		h.SequenceNumber++
		_, _ = w.WriteRTP(h, payload)
	}); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}

type sink struct{}

func (sink) Divert(func([]byte) bool) func() { return func() {} }

func (sink) Send(b []byte) (int, error)                          { return len(b), nil }
func (sink) WriteRTP(_ *rtp.Header, payload []byte) (int, error) { return len(payload), nil }

// TestKeyLog feeds handshakes that do not lead to a sealer.
func TestKeyLog(t *testing.T) {
	suite := uint16(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
	unknown := uint16(0x1234)
	line := []byte("CLIENT_RANDOM " + hex.EncodeToString(make([]byte, 32)) + " " + hex.EncodeToString(make([]byte, 48)) + "\n")
	for _, v := range []struct {
		name    string
		suite   *uint16
		profile extension.SRTPProtectionProfile
		line    []byte
		want    bool
	}{
		{"good", &suite, dtls.SRTP_AEAD_AES_128_GCM, line, true},
		{"AES-256", &suite, dtls.SRTP_AEAD_AES_256_GCM, line, true},
		{"AES-CM", &suite, dtls.SRTP_AES128_CM_HMAC_SHA1_80, line, false},
		{"unknown suite", &unknown, dtls.SRTP_AEAD_AES_128_GCM, line, false},
		{"no suite", nil, dtls.SRTP_AEAD_AES_128_GCM, line, false},
		{"another label", &suite, dtls.SRTP_AEAD_AES_128_GCM, bytes.Replace(line, []byte("CLIENT_"), []byte("SERVER_"), 1), false},
		{"short random", &suite, dtls.SRTP_AEAD_AES_128_GCM, bytes.Replace(line, []byte(" 0000"), []byte(" "), 1), false},
		{"no hex", &suite, dtls.SRTP_AEAD_AES_128_GCM, bytes.Replace(line, []byte(" 00"), []byte(" zz"), 2), false},
		{"empty", &suite, dtls.SRTP_AEAD_AES_128_GCM, nil, false},
	} {
		d := &direct{}
		m := handshake.MessageServerHello{CipherSuiteID: v.suite, Extensions: []extension.Extension{
			&extension.UseSRTP{ProtectionProfiles: []extension.SRTPProtectionProfile{v.profile}},
		}}
		if _, err := d.Write(v.line); err != nil || d.sealer.Load() != nil {
			t.Errorf("%s: a sealer before the hello, %v", v.name, err)
		}
		d.serverHello(m)
		if n, err := d.Write(v.line); n != len(v.line) || err != nil {
			t.Errorf("%s: %d, %v", v.name, n, err)
		}
		if got := d.sealer.Load() != nil; got != v.want {
			t.Errorf("%s: sealer %v", v.name, got)
		}
	}
}

// TestFeedbackIsTaken seals feedback as a client does: what comes alone and is fresh is
// taken, what is not ours to judge is left to Pion.
func TestFeedbackIsTaken(t *testing.T) {
	key, salt := bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 12)
	client, err := srtp.CreateContext(key, salt, srtp.ProtectionProfileAeadAes128Gcm)
	if err != nil {
		t.Fatal(err)
	}
	var got [][]byte
	d := &direct{twcc: func(b []byte) { got = append(got, bytes.Clone(b)) }}
	sealed := func(plain []byte) []byte {
		b, err := client.EncryptRTCP(nil, plain, nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	twcc := []byte{0x8f, 205, 0, 5, 0, 0, 0, 7, 0, 0, 0, 8, 0, 1, 0, 1, 0, 0, 0, 0, 0x20, 1, 4, 0}
	pli := []byte{0x81, 206, 0, 2, 0, 0, 0, 7, 0, 0, 0, 8}
	b := sealed(twcc)
	if d.take(b) {
		t.Error("taken before the handshake")
	}
	o, err := seal.NewOpener(key, salt)
	if err != nil {
		t.Fatal(err)
	}
	d.opener.Store(o)
	if !d.take(b) || len(got) != 1 || !bytes.Equal(got[0], twcc) {
		t.Errorf("feedback: %x", got)
	}
	if !d.take(b) || len(got) != 1 {
		t.Error("feedback that came before must be dropped")
	}
	forged := bytes.Clone(sealed(twcc))
	forged[len(forged)-6] ^= 1
	for name, b := range map[string][]byte{
		"PLI": sealed(pli), "feedback with more": sealed(append(bytes.Clone(twcc), pli...)), "forged": forged,
		"long": append([]byte{0x8f, 205}, make([]byte, maxOpened)...),
	} {
		if d.take(b) || len(got) != 1 {
			t.Errorf("%s was taken", name)
		}
	}
	if want := int64(2 * len(b)); d.in.Load() != want {
		t.Errorf("%d bytes counted, want %d", d.in.Load(), want)
	}
	if n := testing.AllocsPerRun(100, func() { d.take(b) }); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}

// TestMediaIsTaken seals a publisher's packets over two roll-overs: the first ones and
// some of the later ones go Pion's way, all others only the short one, each once; what is
// forged is left to Pion, and Pion could go on alone at any time.
func TestMediaIsTaken(t *testing.T) {
	key, salt := bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 12)
	client, err := srtp.CreateContext(key, salt, srtp.ProtectionProfileAeadAes128Gcm)
	if err != nil {
		t.Fatal(err)
	}
	pion, err := srtp.CreateContext(key, salt, srtp.ProtectionProfileAeadAes128Gcm, srtp.SRTPReplayProtection(replayWindow))
	if err != nil {
		t.Fatal(err)
	}
	var known bool
	got := map[uint32]int{} // by timestamp, which is never the same
	d := &direct{media: func(b []byte) bool {
		if known {
			got[binary.BigEndian.Uint32(b[4:])]++
		}
		return known
	}}
	sealed := func(n int) []byte {
		p := rtp.Packet{Header: rtp.Header{Version: 2, SSRC: 7, SequenceNumber: uint16(65_000 + n), Timestamp: uint32(n), PayloadType: 96}, Payload: []byte{1, 2, 3}}
		plain, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		b, err := client.EncryptRTP(nil, plain, nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if d.take(sealed(0)) {
		t.Error("taken before the handshake")
	}
	r, err := seal.NewReceiver(key, salt)
	if err != nil {
		t.Fatal(err)
	}
	d.receiver.Store(r)
	const sent, unknownTo = 140_000, 100
	viaPion, bytes := 0, 0
	for n := 1; n <= sent; n++ {
		known = n > unknownTo
		b := sealed(n)
		if d.take(b) {
			bytes += len(b)
			if !d.take(b) {
				t.Fatal("what came before must be kept from Pion")
			}
			continue
		}
		viaPion++
		if n > unknownTo && n%keptInformed != 0 {
			t.Fatalf("packet %d was not taken", n)
		}
		if _, err := pion.DecryptRTP(nil, b, nil); err != nil {
			t.Fatalf("packet %d: Pion: %v", n, err)
		}
	}
	if want := unknownTo + sent/keptInformed; viaPion != want {
		t.Errorf("%d packets went Pion's way, want %d", viaPion, want)
	}
	if len(got) != sent-unknownTo || int64(bytes) != d.in.Load() {
		t.Errorf("%d packets were taken, want %d; %d bytes counted, want %d", len(got), sent-unknownTo, d.in.Load(), bytes)
	}
	for ts, n := range got {
		if n != 1 {
			t.Fatalf("packet %d was taken %d times", ts, n)
		}
	}
	forged := sealed(sent + 1)
	forged[len(forged)-1] ^= 1
	if d.take(forged) || d.take(append([]byte{0x80, 96}, make([]byte, maxOpened)...)) {
		t.Error("what is not authentic was taken")
	}
	b := sealed(sent + 2)
	if n := testing.AllocsPerRun(100, func() { d.take(b) }); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}

// TestSeatsGoDirect has browsers' stand-ins receive a camera: over UDP with AES-GCM
// the short way, otherwise through Pion, and all of it arrives.
func TestSeatsGoDirect(t *testing.T) {
	for _, v := range []struct {
		name     string
		direct   bool
		networks []webrtc.NetworkType
		profile  dtls.SRTPProtectionProfile
	}{
		{"AES-128-GCM", true, nil, dtls.SRTP_AEAD_AES_128_GCM},
		{"AES-256-GCM", true, nil, dtls.SRTP_AEAD_AES_256_GCM},
		{"AES-CM", false, nil, dtls.SRTP_AES128_CM_HMAC_SHA1_80},
		{"TCP", false, []webrtc.NetworkType{webrtc.NetworkTypeTCP4}, dtls.SRTP_AEAD_AES_128_GCM},
	} {
		t.Run(v.name, func(t *testing.T) {
			k := newTask(t)
			alice, ac := publishing(t, k, "f")
			defer stream(ac, map[string]int{"f": 640})()
			bob := k.peer(t, "bob")
			bc := newClientWith(t, func(se *webrtc.SettingEngine) { se.SetSRTPProtectionProfiles(v.profile) }, v.networks...)
			bc.addSeats(1)
			bc.join(bob)
			source := alice.Publisher().Source(signal.KindCamera)
			bob.Sender().Assign(0, sendq.Assignment{Video: source, Width: 640, Height: 360})
			limit := time.After(10 * time.Second)
			for n := range 30 {
				select {
				case <-bc.packets:
				case <-limit:
					t.Fatalf("%d packets within 10 s", n)
				}
			}
			if got := bob.direct.bytes.Load(); (got > 0) != v.direct {
				t.Errorf("%d bytes went the short way", got)
			}
			ours, theirs := int64(0), bc.pc.SCTP().Transport().ICETransport()
			eventually(t, "both ends count the same", func() bool {
				_, ours = bob.Bytes()
				return ours == int64(theirs.Stats().BytesReceived)
			})
			eventually(t, "media is taken", func() bool { return alice.direct.in.Load() > 0 })
			eventually(t, "both ends count the same of the publisher", func() bool {
				in, _ := alice.Bytes()
				return in == int64(ac.pc.SCTP().Transport().ICETransport().Stats().BytesSent)
			})
			if v.direct {
				eventually(t, "feedback is taken", func() bool { return bob.direct.in.Load() > 0 })
				eventually(t, "both ends count the same", func() bool {
					in, _ := bob.Bytes()
					return in == int64(theirs.Stats().BytesSent)
				})
			}
		})
	}
}
