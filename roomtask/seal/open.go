package seal

import (
	"crypto/cipher"
	"encoding/binary"
)

const (
	// Labels of the key derivation for SRTCP, RFC 3711 §4.3.2.
	labelRTCPKey, labelRTCPSalt = 0x03, 0x05

	rtcpHeader = 8 // what stays readable: the first packet's header and its sender's SSRC
	rtcpIndex  = 4 // the E flag and the index, at the end
	// maxSenders is how many SSRCs one participant may send RTCP from: each of its streams.
	maxSenders = maxStreams
	replaySpan = 64 // packets
)

// Opener opens SRTCP of one direction, and remembers what it has opened. One goroutine
// uses it.
type Opener struct {
	gcm     cipher.AEAD
	salt    [saltSize]byte
	iv      [saltSize]byte
	aad     [rtcpHeader + rtcpIndex]byte
	senders []sender
}

// sender is the replay window of one SSRC (RFC 3711 §3.3.2).
type sender struct {
	ssrc    uint32
	highest uint32
	seen    uint64 // bit i: highest − i
}

// Open writes the compound packet in b to dst, which must have room for it. ok is
// false if b is not authentic, or not sealed as RFC 7714 §9 has it. b stays as it is.
func (o *Opener) Open(dst, b []byte) (plain []byte, ok bool) {
	if len(b) < rtcpHeader+tagSize+rtcpIndex || len(dst) < len(b) {
		return nil, false
	}
	word := b[len(b)-rtcpIndex:]
	if word[0]&0x80 == 0 { // not encrypted: nobody does that
		return nil, false
	}
	copy(o.aad[:], b[:rtcpHeader])
	copy(o.aad[rtcpHeader:], word)
	controlNonce(&o.iv, &o.salt, binary.BigEndian.Uint32(b[4:]), index(b))
	plain = append(dst[:0], b[:rtcpHeader]...)
	plain, err := o.gcm.Open(plain, o.iv[:], b[rtcpHeader:len(b)-rtcpIndex], o.aad[:])
	return plain, err == nil
}

// controlNonce is RFC 7714 §9.1: two zero bytes, SSRC, two zero bytes, index, all of it
// masked by the salt.
func controlNonce(iv, salt *[saltSize]byte, ssrc, index uint32) {
	*iv = *salt
	at := iv[2:]
	binary.BigEndian.PutUint32(at, binary.BigEndian.Uint32(at)^ssrc)
	at = iv[8:]
	binary.BigEndian.PutUint32(at, binary.BigEndian.Uint32(at)^index)
}

func index(b []byte) uint32 { return binary.BigEndian.Uint32(b[len(b)-rtcpIndex:]) &^ (1 << 31) }

// Fresh notes a packet that Open has opened. fresh is false if it came before, or is
// too old to know; known is false if its SSRC is one too many to be followed.
func (o *Opener) Fresh(b []byte) (fresh, known bool) {
	s := o.sender(binary.BigEndian.Uint32(b[4:]))
	if s == nil {
		return false, false
	}
	n := index(b)
	switch {
	case s.seen == 0:
		s.highest, s.seen = n, 1
	case n > s.highest:
		s.seen = s.seen<<min(n-s.highest, replaySpan) | 1
		s.highest = n
	case s.highest-n >= replaySpan || s.seen&(1<<(s.highest-n)) != 0:
		return false, true
	default:
		s.seen |= 1 << (s.highest - n)
	}
	return true, true
}

func (o *Opener) sender(ssrc uint32) *sender {
	for i := range o.senders {
		if o.senders[i].ssrc == ssrc {
			return &o.senders[i]
		}
	}
	if len(o.senders) == maxSenders {
		return nil
	}
	o.senders = append(o.senders, sender{ssrc: ssrc})
	return &o.senders[len(o.senders)-1]
}
