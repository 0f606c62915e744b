package ingest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
	"testing/synctest"

	"mayfly/shared/signal"
)

// vectors are frames that web/frame-crypto.js has encrypted.
type vectors struct {
	Key    string `json:"key"`
	ID     byte   `json:"id"`
	Frames []struct {
		Media  string `json:"media"`
		Plain  string `json:"plain"`
		Sealed string `json:"sealed"`
	} `json:"frames"`
}

// openFrame is what docs/protocol.md says of encrypted media, written down once more.
func openFrame(t *testing.T, key []byte, clear int, sealed []byte) []byte {
	t.Helper()
	const trailerSize, saltSize = 13, 8
	body, trailer := sealed[clear:len(sealed)-trailerSize], sealed[len(sealed)-trailerSize:]
	k, err := hkdf.Key(sha256.New, key, trailer[:saltSize], "mayfly-e2ee-frame", 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(k)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := append(make([]byte, 8), trailer[saltSize:saltSize+4]...)
	plain, err := gcm.Open(nil, nonce, body, append(bytes.Clone(sealed[:clear]), trailer...))
	if err != nil {
		t.Fatalf("the frame cannot be opened: %v", err)
	}
	return append(bytes.Clone(sealed[:clear]), plain...)
}

// TestEncryptedMediaStayEncrypted publishes frames that the page's code has encrypted:
// the room tells keyframes and sizes, and what it holds, of picture and sound, is the
// ciphertext and no word of what was said.
func TestEncryptedMediaStayEncrypted(t *testing.T) {
	text, err := os.ReadFile("testdata/e2ee.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(text, &v); err != nil || len(v.Frames) < 3 {
		t.Fatal("no vectors", err)
	}
	key, err := base64.RawURLEncoding.DecodeString(v.Key)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, micLine, cameraLine)
		var picture, sound catcher
		r.p.Source(signal.KindCamera).AddTap(0, &picture)
		r.p.Source(signal.KindMic).AddTap(0, &sound)
		for i, f := range v.Frames {
			plain, _ := hex.DecodeString(f.Plain)
			sealed, err := hex.DecodeString(f.Sealed)
			if err != nil {
				t.Fatal(err)
			}
			seq := uint16(100 + i)
			if f.Media == "audio" {
				if got := openFrame(t, key, 0, sealed); !bytes.Equal(got, plain) {
					t.Errorf("sound opens as %q", got)
				}
				r.send(packet{ssrc: 20, pt: ptOpus, seq: seq, ts: 960 * uint32(i), ext: ids("1", "", ""), payload: sealed})
				continue
			}
			clear := 3
			if plain[0]&1 == 0 {
				clear = 10
			}
			if got := openFrame(t, key, clear, sealed); !bytes.Equal(got, plain) {
				t.Errorf("picture %d opens as %q", i, got)
			}
			descriptor := []byte{0x90, 0x80, 0x80, byte(i + 1)} // RFC 7741 §4.2: not encrypted
			r.send(packet{ssrc: 10, pt: ptVP8, seq: seq, ts: 3000 * uint32(i), ext: ids("2", "q", ""), payload: append(descriptor, sealed...)})
		}
		if len(picture.got) != 2 || !picture.got[0].Key || picture.got[0].Width != 320 || picture.got[1].Key || len(sound.got) != 1 {
			t.Fatalf("pictures %+v, sound %+v", picture.got, sound.got)
		}
		for _, of := range []struct {
			kind string
			got  []caught
		}{{signal.KindCamera, picture.got}, {signal.KindMic, sound.got}} {
			for _, g := range of.got {
				p := r.p.Source(of.kind).Lookup(0, g.ExtSeq)
				if p == nil {
					t.Fatalf("%s: packet %d is not in the ring", of.kind, g.ExtSeq)
				}
				if bytes.Contains(p.Payload(), []byte("ann")) {
					t.Errorf("%s: the ring holds plaintext: %q", of.kind, p.Payload())
				}
				p.Release()
			}
		}
	})
}
