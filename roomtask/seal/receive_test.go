package seal

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

// TestReceivesWhatPionSeals opens two streams over several roll-overs, with packets that
// come late, twice and forged, and keeps step with Pion in what counts as a replay.
func TestReceivesWhatPionSeals(t *testing.T) {
	for size, profile := range map[int]srtp.ProtectionProfile{16: srtp.ProtectionProfileAeadAes128Gcm, 32: srtp.ProtectionProfileAeadAes256Gcm} {
		key, salt := bytes.Repeat([]byte{5}, size), bytes.Repeat([]byte{6}, saltSize)
		seals, err := srtp.CreateContext(key, salt, profile)
		if err != nil {
			t.Fatal(err)
		}
		judge, err := srtp.CreateContext(key, salt, profile, srtp.SRTPReplayProtection(streamSpan))
		if err != nil {
			t.Fatal(err)
		}
		r, err := NewReceiver(key, salt)
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(7, uint64(size)))
		next := [2]uint16{65_530, uint16(rng.UintN(1 << 15))}
		dst := make([]byte, 1500)
		var late [][]byte
		packets, replays := 0, 0
		for i := range 150_000 {
			n := min(1, rng.IntN(4))
			p := rtp.Packet{Header: rtp.Header{Version: 2, SSRC: uint32(1 + n), SequenceNumber: next[n], PayloadType: 96}, Payload: []byte{byte(i), 2, 3}}
			next[n] += uint16(1 + rng.UintN(3))
			if i%3 == 0 {
				if err := p.SetExtension(3, []byte{1, 2, 3}); err != nil {
					t.Fatal(err)
				}
			}
			want, err := p.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			b, err := seals.EncryptRTP(nil, want, nil)
			if err != nil {
				t.Fatal(err)
			}
			if i > 1000 && rng.UintN(20) == 0 {
				late = append(late, b)
				continue
			}
			if len(late) > 100 {
				b, late = late[0], late[1:]
				want = nil
			}
			again := 1 + rng.IntN(20)/19
			for range again {
				got, in, fresh, ok := r.Open(dst, b)
				plain, err := judge.DecryptRTP(nil, b, nil)
				if !ok || fresh != (err == nil) {
					t.Fatalf("packet %d: ok %v, fresh %v; Pion: %v", i, ok, fresh, err)
				}
				if !fresh {
					replays++
					continue
				}
				packets++
				if !bytes.Equal(got, plain) || want != nil && !bytes.Equal(got, want) || in.Packets == 0 {
					t.Fatalf("packet %d: %x, want %x", i, got, plain)
				}
			}
			if i%1000 == 0 {
				for _, at := range []int{1, 2, 5, 9, 12, len(b) - 1} {
					b[at] ^= 1
					if _, _, _, ok := r.Open(dst, b); ok && at != 2 {
						t.Fatalf("packet %d opens with byte %d changed", i, at)
					}
					b[at] ^= 1
				}
			}
		}
		if packets < 100_000 || replays < 1000 {
			t.Errorf("%d packets and %d replays: too few of one", packets, replays)
		}
		var sum uint64
		for _, in := range r.streams {
			sum += in.Packets
		}
		if sum != uint64(packets) {
			t.Errorf("%d counted, want %d", sum, packets)
		}
	}
}

func TestReceiveRefuses(t *testing.T) {
	key, salt := make([]byte, 16), make([]byte, saltSize)
	r, err := NewReceiver(key, salt)
	if err != nil {
		t.Fatal(err)
	}
	seals, err := srtp.CreateContext(key, salt, srtp.ProtectionProfileAeadAes128Gcm)
	if err != nil {
		t.Fatal(err)
	}
	sealed := func(ssrc uint32) []byte {
		b, err := seals.EncryptRTP(nil, []byte{0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, byte(ssrc >> 8), byte(ssrc), 9}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	dst := make([]byte, 100)
	for n := range 12 + 1 + tagSize {
		if _, _, _, ok := r.Open(dst, sealed(1)[:n]); ok {
			t.Errorf("%d bytes open", n)
		}
	}
	if _, _, _, ok := r.Open(dst[:20], sealed(1)); ok {
		t.Error("opens into too small a buffer")
	}
	for ssrc := range uint32(maxStreams + 3) {
		if _, _, _, ok := r.Open(dst, sealed(ssrc)); ok != (ssrc < maxStreams) {
			t.Errorf("SSRC %d: %v", ssrc, ok)
		}
	}
	b := sealed(1)
	if n := testing.AllocsPerRun(100, func() { r.Open(dst, b) }); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}

func FuzzReceive(f *testing.F) {
	f.Add(make([]byte, 40))
	f.Add([]byte{0x90, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0xbe, 0xde, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewReceiver(make([]byte, 16), make([]byte, saltSize))
		if err != nil {
			t.Fatal(err)
		}
		if plain, _, _, ok := r.Open(make([]byte, 2000), b); ok && len(plain) != len(b)-tagSize {
			t.Errorf("%d bytes of %d", len(plain), len(b))
		}
	})
}
