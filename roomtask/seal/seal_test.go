package seal

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestKeyDerivation is RFC 3711, appendix B.3: its salt has all 112 bits.
func TestKeyDerivation(t *testing.T) {
	master, err := aes.NewCipher(unhex(t, "E1F97A0D3E018BE0D64FA32C06DE4139"))
	if err != nil {
		t.Fatal(err)
	}
	salt := unhex(t, "0EC675AD498AFEEBB6960B3AABE6")
	if got, want := derive(master, salt, labelKey, 16), unhex(t, "C61E7A93744F39EE10734AFE3FF7A087"); !bytes.Equal(got, want) {
		t.Errorf("key %X, want %X", got, want)
	}
	if got, want := derive(master, salt, labelSalt, 14), unhex(t, "30CBBC08863D8C85D49DB34A9AE1"); !bytes.Equal(got, want) {
		t.Errorf("salt %X, want %X", got, want)
	}
}

// TestVectors is RFC 7714 §16.1.1 and §16.2.1, whose keys are session keys.
func TestVectors(t *testing.T) {
	payload := unhex(t, "47616c6c696120657374206f6d6e69732064697669736120696e207061727465732074726573")
	h := &rtp.Header{Version: 2, SequenceNumber: 0xf17b, Timestamp: 0x8041f8d3, SSRC: 0x5501a0b2}
	for _, v := range []struct{ name, key, want string }{
		{"AES-128", "000102030405060708090a0b0c0d0e0f",
			"8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833899d7f27beb16a9152cf765ee4390cce"},
		{"AES-256", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
			"8040f17b8041f8d35501a0b232b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b7aa3db36dfffd6b0f9bb7878d7a76c13"},
	} {
		gcm, err := newGCM(unhex(t, v.key))
		if err != nil {
			t.Fatal(err)
		}
		s := &Sealer{gcm: gcm, salt: [saltSize]byte(unhex(t, "517569642070726f2071756f"))}
		h.PayloadType = 64
		dst := make([]byte, 100)
		n, err := s.Seal(dst, h, payload, 0xf17b)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(dst[:n]); got != v.want {
			t.Errorf("%s: %s\nwant %s", v.name, got, v.want)
		}
	}
}

// TestPionOpens seals with every kind of header that is sent, over several roll-overs
// and with packets out of order, and has Pion open it.
func TestPionOpens(t *testing.T) {
	for _, v := range []struct {
		name    string
		key     int
		profile srtp.ProtectionProfile
	}{{"AES-128", 16, srtp.ProtectionProfileAeadAes128Gcm}, {"AES-256", 32, srtp.ProtectionProfileAeadAes256Gcm}} {
		t.Run(v.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, uint64(v.key)))
			random := func(n int) []byte {
				b := make([]byte, n)
				for i := range b {
					b[i] = byte(rng.Uint32())
				}
				return b
			}
			key, salt := random(v.key), random(saltSize)
			s, err := NewSealer(key, salt)
			if err != nil {
				t.Fatal(err)
			}
			open, err := srtp.CreateContext(key, salt, v.profile)
			if err != nil {
				t.Fatal(err)
			}
			var streams [2]Stream
			seq := [2]uint16{uint16(rng.UintN(1 << 15)), 0}
			dst := make([]byte, 1500)
			for i := range 60_000 {
				n := i % 2
				seq[n] += uint16(1 + rng.UintN(9))
				now := seq[n]
				if rng.UintN(10) == 0 && i > 10_000 {
					now -= uint16(3000) // repaired late: never sealed before, for the steps are not all taken
				}
				h := &rtp.Header{Version: 2, SSRC: uint32(77 + n), SequenceNumber: now, Timestamp: rng.Uint32(), PayloadType: 96, Marker: i%7 == 0}
				if i%3 > 0 {
					if err := h.SetExtension(uint8(i%3), random(i%3)); err != nil {
						t.Fatal(err)
					}
				}
				payload := random(rng.IntN(60))
				size, err := s.Seal(dst, h, payload, streams[n].Index(now))
				if err != nil {
					t.Fatal(err)
				}
				plain, err := open.DecryptRTP(nil, dst[:size], nil)
				if err != nil {
					t.Fatalf("packet %d, sequence %d: %v", i, now, err)
				}
				var p rtp.Packet
				if err := p.Unmarshal(plain); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(p.Payload, payload) || p.SequenceNumber != now || p.Timestamp != h.Timestamp || p.Marker != h.Marker {
					t.Fatalf("packet %d came out as %v", i, p)
				}
			}
		})
	}
}

// TestSameAsPion seals what Pion's writer seals, to the byte: either may send.
func TestSameAsPion(t *testing.T) {
	key, salt := bytes.Repeat([]byte{7}, 16), bytes.Repeat([]byte{9}, saltSize)
	s, err := NewSealer(key, salt)
	if err != nil {
		t.Fatal(err)
	}
	pion, err := srtp.CreateContext(key, salt, srtp.ProtectionProfileAeadAes128Gcm)
	if err != nil {
		t.Fatal(err)
	}
	var stream Stream
	dst := make([]byte, 1500)
	for i := range 200_000 { // three roll-overs
		h := &rtp.Header{Version: 2, SSRC: 5, SequenceNumber: uint16(30_000 + i), Timestamp: uint32(i), PayloadType: 96}
		payload := []byte{byte(i), 2, 3}
		if i%5 == 0 {
			h.Padding, h.PaddingSize = true, uint8(1+i%255)
		}
		index := stream.Index(h.SequenceNumber)
		if want := uint64(30_000 + i); index != want {
			t.Fatalf("index %d, want %d", index, want)
		}
		n, err := s.Seal(dst, h, payload, index)
		if err != nil {
			t.Fatal(err)
		}
		plain := make([]byte, 1000)
		size, err := (&rtp.Packet{Header: *h, Payload: payload}).MarshalTo(plain)
		if err != nil {
			t.Fatal(err)
		}
		want, err := pion.EncryptRTP(nil, plain[:size], nil)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(dst[:n], want) {
			t.Fatalf("packet %d is %x, Pion's %x", i, dst[:n], want)
		}
	}
}

func TestIndex(t *testing.T) {
	for _, v := range []struct {
		name string
		seqs []uint16
		want []uint64
	}{
		{"wraps", []uint16{65534, 65535, 0, 1}, []uint64{65534, 65535, 65536, 65537}},
		{"late across the wrap", []uint16{65535, 1, 65534, 2, 0}, []uint64{65535, 65537, 65534, 65538, 65536}},
		{"late before the first", []uint16{3, 65530, 4}, []uint64{3, 65530, 4}},
		{"a jump", []uint16{10, 30_000, 62_000, 20_000}, []uint64{10, 30_000, 62_000, 65536 + 20_000}},
	} {
		var s Stream
		var got []uint64
		for _, seq := range v.seqs {
			got = append(got, s.Index(seq))
		}
		if d := cmp.Diff(v.want, got); d != "" {
			t.Errorf("%s: %s", v.name, d)
		}
	}
}

// exported stands for a handshake: its bytes count from 0.
type exported struct{ label string }

func (e *exported) ExportKeyingMaterial(label string, _ []byte, n int) ([]byte, error) {
	e.label = label
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b, nil
}

// TestServer compares with Pion, told the keys in the order of RFC 5764 §4.2.
func TestServer(t *testing.T) {
	for profile, size := range map[Profile]int{AES128GCM: 16, AES256GCM: 32} {
		from := &exported{}
		k, err := Server(profile, from)
		if err != nil || from.label != "EXTRACTOR-dtls_srtp" {
			t.Fatal(from.label, err)
		}
		m, _ := from.ExportKeyingMaterial("", nil, 2*size+2*saltSize)
		pion := srtp.ProtectionProfileAeadAes128Gcm
		if size == 32 {
			pion = srtp.ProtectionProfileAeadAes256Gcm
		}
		client, err := srtp.CreateContext(m[:size], m[2*size:2*size+saltSize], pion)
		if err != nil {
			t.Fatal(err)
		}
		server, err := srtp.CreateContext(m[size:2*size], m[2*size+saltSize:], pion)
		if err != nil {
			t.Fatal(err)
		}
		dst := make([]byte, 200)
		n, err := k.RTP.Seal(dst, &rtp.Header{Version: 2, SSRC: 9}, []byte("picture"), 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := server.DecryptRTP(nil, dst[:n], nil); err != nil {
			t.Errorf("our RTP: %v", err)
		}
		if n, err = k.RTCP.Seal(dst, feedback(1)); err != nil {
			t.Fatal(err)
		}
		if got, err := server.DecryptRTCP(nil, dst[:n], nil); err != nil || !bytes.Equal(got, feedback(1)) {
			t.Errorf("our RTCP: %v", err)
		}
		plain, err := (&rtp.Packet{Header: rtp.Header{Version: 2, SSRC: 9}, Payload: []byte("picture")}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		b, err := client.EncryptRTP(nil, plain, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, _, _, ok := k.Media.Open(dst, b); !ok || !bytes.Equal(got, plain) {
			t.Error("the client's RTP")
		}
		if b, err = client.EncryptRTCP(nil, feedback(2), nil); err != nil {
			t.Fatal(err)
		}
		if got, ok := k.Control.Open(dst, b); !ok || !bytes.Equal(got, feedback(2)) {
			t.Error("the client's RTCP")
		}
	}
}

// TestPionOpensControl seals what is sent of RTCP, from several senders.
func TestPionOpensControl(t *testing.T) {
	for size, profile := range map[int]srtp.ProtectionProfile{16: srtp.ProtectionProfileAeadAes128Gcm, 32: srtp.ProtectionProfileAeadAes256Gcm} {
		key, salt := bytes.Repeat([]byte{5}, size), bytes.Repeat([]byte{6}, saltSize)
		opens, err := srtp.CreateContext(key, salt, profile, srtp.SRTCPReplayProtection(64))
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewControlSealer(key, salt)
		if err != nil {
			t.Fatal(err)
		}
		dst := make([]byte, 1500)
		for n := range 1000 {
			want := feedback(n)
			size, err := s.Seal(dst, want)
			if err != nil || size != len(want)+ControlOverhead {
				t.Fatal(size, err)
			}
			if got, err := opens.DecryptRTCP(nil, dst[:size], nil); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("packet %d: %v, %x, want %x", n, err, got, want)
			}
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = s.Seal(dst, dst[1000:1100]) }); n != 0 {
			t.Errorf("%v allocations a packet", n)
		}
		for name, plain := range map[string][]byte{"short": make([]byte, 7), "long": make([]byte, 1500-ControlOverhead+1)} {
			if _, err := s.Seal(dst, plain); !errors.Is(err, ErrRoom) {
				t.Errorf("%s: %v", name, err)
			}
		}
		s.next = maxControlIndex
		if _, err := s.Seal(dst, feedback(0)); err != nil {
			t.Errorf("the last index: %v", err)
		}
		if _, err := s.Seal(dst, feedback(0)); !errors.Is(err, ErrIndex) {
			t.Errorf("behind the last index: %v", err)
		}
	}
}

func TestRefusals(t *testing.T) {
	if _, err := Server(1, &exported{}); !errors.Is(err, ErrProfile) {
		t.Errorf("AES-CM: %v", err)
	}
	s, err := NewSealer(make([]byte, 16), make([]byte, saltSize))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Seal(make([]byte, 12+10+tagSize-1), &rtp.Header{Version: 2}, make([]byte, 10), 0); !errors.Is(err, ErrRoom) {
		t.Errorf("a buffer that is a byte short: %v", err)
	}
	if _, err := s.Seal(make([]byte, 4), &rtp.Header{Version: 2}, nil, 0); err == nil {
		t.Error("a header fits into four bytes")
	}
}

func TestSealAllocatesNothing(t *testing.T) {
	s, err := NewSealer(make([]byte, 16), make([]byte, saltSize))
	if err != nil {
		t.Fatal(err)
	}
	h := &rtp.Header{Version: 2, SSRC: 1}
	payload, dst := make([]byte, 1100), make([]byte, 1500)
	var stream Stream
	if n := testing.AllocsPerRun(1000, func() {
		h.SequenceNumber++
		if _, err := s.Seal(dst, h, payload, stream.Index(h.SequenceNumber)); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}

func BenchmarkSeal(b *testing.B) {
	s, err := NewSealer(make([]byte, 16), make([]byte, saltSize))
	if err != nil {
		b.Fatal(err)
	}
	h := &rtp.Header{Version: 2, SSRC: 1}
	payload, dst := make([]byte, 1100), make([]byte, 1500)
	var stream Stream
	for b.Loop() {
		h.SequenceNumber++
		if _, err := s.Seal(dst, h, payload, stream.Index(h.SequenceNumber)); err != nil {
			b.Fatal(err)
		}
	}
}
