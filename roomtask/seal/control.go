package seal

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
)

// ControlOverhead is what sealing adds to a compound RTCP packet.
const ControlOverhead = tagSize + rtcpIndex

// maxControlIndex is the last index that a key may be used with (RFC 3711 §9.2): at a
// thousand packets a second it takes 24 days.
const maxControlIndex = 1<<31 - 1

// ErrIndex is the answer when all indices are used.
var ErrIndex = errors.New("seal: too many RTCP packets for one key")

// ControlSealer seals RTCP of one direction. One goroutine uses it at a time. All senders
// share one count, so that no index comes twice, of whatever SSRC.
type ControlSealer struct {
	gcm  cipher.AEAD
	salt [saltSize]byte
	iv   [saltSize]byte
	aad  [rtcpHeader + rtcpIndex]byte
	next uint32
}

// Seal writes the compound packet with the next index into dst, and returns its length.
func (s *ControlSealer) Seal(dst, plain []byte) (int, error) {
	size := len(plain) + ControlOverhead
	switch {
	case len(plain) < rtcpHeader || size > len(dst):
		return 0, ErrRoom
	case s.next > maxControlIndex:
		return 0, ErrIndex
	}
	word := s.next | 1<<31 // the E flag: encrypted
	copy(s.aad[:], plain[:rtcpHeader])
	binary.BigEndian.PutUint32(s.aad[rtcpHeader:], word)
	controlNonce(&s.iv, &s.salt, binary.BigEndian.Uint32(plain[4:]), s.next)
	s.next++
	out := append(dst[:0], plain[:rtcpHeader]...)
	out = s.gcm.Seal(out, s.iv[:], plain[rtcpHeader:], s.aad[:])
	binary.BigEndian.AppendUint32(out, word)
	return size, nil
}
