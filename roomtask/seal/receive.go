package seal

import (
	"crypto/cipher"
	"encoding/binary"
)

const (
	rtpHeader = 12 // fixed part, RFC 3550 §5.1
	// maxStreams is how many SSRCs of one participant are followed: more than it may have,
	// so that whoever is handed the packets can tell that there are too many.
	maxStreams = 80
	// streamSpan is the replay window of one SSRC in packets: at 2 Mbit/s it covers 4 s.
	streamSpan = 1024
)

// Receiver opens SRTP of one direction, and remembers what it has opened. One goroutine
// uses it.
type Receiver struct {
	gcm     cipher.AEAD
	salt    [saltSize]byte
	iv      [saltSize]byte
	streams map[uint32]*Inbound
}

// Inbound is one SSRC of a Receiver.
type Inbound struct {
	Packets uint64 // opened, each once
	index   Stream
	newest  uint64
	seen    [streamSpan / 64]uint64 // by index modulo streamSpan
}

// Open writes the packet in b to dst, which must have room for it, and tells its
// stream. ok is false if b is not authentic, or of one SSRC too many. fresh is false if
// it came before, or is too old to know. b stays as it is.
func (r *Receiver) Open(dst, b []byte) (plain []byte, in *Inbound, fresh, ok bool) {
	head, ok := headerSize(b)
	if !ok || len(b) < head+tagSize || len(dst) < len(b) {
		return nil, nil, false, false
	}
	ssrc := binary.BigEndian.Uint32(b[8:])
	in = r.streams[ssrc]
	var index Stream
	if in != nil {
		index = in.index
	} else if len(r.streams) == maxStreams {
		return nil, nil, false, false
	}
	n := index.Index(binary.BigEndian.Uint16(b[2:]))
	nonce(&r.iv, &r.salt, ssrc, n)
	plain, err := r.gcm.Open(append(dst[:0], b[:head]...), r.iv[:], b[head:], b[:head])
	if err != nil {
		return nil, nil, false, false
	}
	if in == nil { // only who is authentic costs memory
		in = &Inbound{newest: n}
		r.streams[ssrc] = in
	}
	in.index = index
	if fresh = in.note(n); fresh {
		in.Packets++
	}
	return plain, in, fresh, true
}

// note marks an index as seen, and tells whether it was not.
func (in *Inbound) note(n uint64) bool {
	switch {
	case n > in.newest:
		if n-in.newest >= streamSpan {
			in.seen = [streamSpan / 64]uint64{}
		} else {
			for i := in.newest + 1; i < n; i++ {
				in.seen[i%streamSpan/64] &^= 1 << (i % 64)
			}
		}
		in.newest = n
	case in.newest-n >= streamSpan:
		return false
	case in.seen[n%streamSpan/64]&(1<<(n%64)) != 0:
		return false
	}
	in.seen[n%streamSpan/64] |= 1 << (n % 64)
	return true
}

// headerSize is how much of an RTP packet stays readable: the header with its extension
// (RFC 3711 §3.1).
func headerSize(b []byte) (size int, ok bool) {
	if len(b) < rtpHeader || b[0]>>6 != 2 {
		return 0, false
	}
	size = rtpHeader + 4*int(b[0]&0x0f)
	if b[0]&0x10 == 0 {
		return size, len(b) >= size
	}
	if len(b) < size+4 {
		return 0, false
	}
	size += 4 + 4*int(binary.BigEndian.Uint16(b[size+2:]))
	return size, len(b) >= size
}
