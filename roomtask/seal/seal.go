package seal

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"

	"github.com/pion/rtp"
)

// Overhead is what sealing adds to header and payload.
const Overhead = tagSize

// ErrRoom is the answer to a buffer that is too small.
var ErrRoom = errors.New("seal: no room")

// Sealer holds one direction's session key. One goroutine uses it at a time.
type Sealer struct {
	gcm  cipher.AEAD
	salt [saltSize]byte
	iv   [saltSize]byte
}

// Seal writes the packet with that index into dst, and returns its length. The index
// must be h's sequence number with its roll-overs, as Stream counts them. No index of
// an SSRC may be sealed twice with different bytes: AES-GCM has no secret left then.
func (s *Sealer) Seal(dst []byte, h *rtp.Header, payload []byte, index uint64) (int, error) {
	head, err := h.MarshalTo(dst)
	if err != nil {
		return 0, err
	}
	padding := int(h.PaddingSize)
	size := head + len(payload) + padding + tagSize
	if size > len(dst) {
		return 0, ErrRoom
	}
	nonce(&s.iv, &s.salt, h.SSRC, index)
	if h.Padding && padding > 0 {
		// RFC 3550 §5.1: the last byte tells how many to ignore.
		plain := append(dst[head:head], payload...)
		plain = plain[:len(payload)+padding]
		clear(plain[len(payload):])
		plain[len(plain)-1] = h.PaddingSize
		payload = plain
	}
	s.gcm.Seal(dst[head:head], s.iv[:], payload, dst[:head])
	return size, nil
}

// nonce is RFC 7714 §8.1: two zero bytes, SSRC, roll-over counter, sequence number, all
// of it masked by the salt.
func nonce(iv, salt *[saltSize]byte, ssrc uint32, index uint64) {
	*iv = *salt
	at := iv[2:]
	binary.BigEndian.PutUint32(at, binary.BigEndian.Uint32(at)^ssrc)
	at = iv[6:]
	binary.BigEndian.PutUint32(at, binary.BigEndian.Uint32(at)^uint32(index>>16))
	at = iv[10:]
	binary.BigEndian.PutUint16(at, binary.BigEndian.Uint16(at)^uint16(index))
}
