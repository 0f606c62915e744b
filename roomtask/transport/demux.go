package transport

import "encoding/binary"

// Telling what comes apart: pure decisions over the first bytes, RFC 7983 §7.

// class is whose a datagram or a connection is.
type class int8

const (
	classMedia   class = iota // ICE, DTLS, SRTP: the mux's
	classControl              // a TURN request
	classData                 // relayed data: a Send indication or ChannelData
	classTLS                  // a TLS ClientHello
	classNone                 // nobody's: dropped, or closed
	classMore                 // of a connection: not decided yet
)

// STUN message types, RFC 8489 §5 and RFC 8656 §18.
const (
	typeAllocate    = 0x0003
	typeRefresh     = 0x0004
	typePermission  = 0x0008
	typeChannelBind = 0x0009
	typeSend        = 0x0016
)

// classifyUDP tells relayed traffic from ICE's. Media is decided by the first byte
// alone. Requests of RFC 6062, which would make TCP connections, are nobody's.
func classifyUDP(b []byte) class {
	if len(b) == 0 || b[0] >= 0x80 || b[0] >= 0x04 && b[0] < 0x40 {
		return classMedia
	}
	if b[0] >= 0x40 { // a channel number: RFC 8656 §12 has them up to 0x4FFF, RFC 5766 §11 up to 0x7FFF
		return classData
	}
	if len(b) < stunHeader {
		return classNone
	}
	switch kind := binary.BigEndian.Uint16(b); kind {
	case typeAllocate, typeRefresh, typePermission, typeChannelBind:
		return classControl
	case typeSend:
		return classData
	default:
		if kind&^0x0110 == bindingRequest { // any class
			return classMedia
		}
	}
	return classNone
}

// Lengths of the first bytes of a connection that decide.
const (
	// sniffBytes hold RFC 4571's length and a STUN header up to its cookie.
	sniffBytes = 10
	// maxFirstFrame is the longest first frame: a check.
	maxFirstFrame = 512
)

// classifyTCP tells what a connection that begins with b is, as soon as it can be
// told: classMore asks for more bytes. A length of RFC 4571 and a STUN type do not
// overlap: the type of TURN's first request is 3, and no check is shorter than a
// STUN header.
func classifyTCP(b []byte) class {
	want := func(at int, bytes ...byte) class {
		for i, c := range bytes {
			if at+i >= len(b) {
				return classMore
			}
			if b[at+i] != c {
				return classNone
			}
		}
		return classMedia
	}
	cookie := binary.BigEndian.AppendUint32(nil, stunCookie)
	switch {
	case len(b) == 0:
		return classMore
	case b[0] == 0x16: // handshake record, RFC 8446 §5.1
		if c := want(1, 0x03); c != classMedia {
			return c
		}
		if c := want(5, 0x01); c != classMedia { // ClientHello
			return c
		}
		return classTLS
	case b[0] > maxFirstFrame>>8:
		return classNone
	case len(b) == 1:
		return classMore
	}
	if size := binary.BigEndian.Uint16(b); size >= stunHeader {
		if size > maxFirstFrame {
			return classNone
		}
		if c := want(2, bindingRequest>>8, bindingRequest&0xff); c != classMedia {
			return c
		}
		return want(6, cookie...)
	}
	if c := want(0, typeAllocate>>8, typeAllocate&0xff); c != classMedia {
		return c
	}
	if c := want(4, cookie...); c != classMedia {
		return c
	}
	return classControl
}

// unauthenticated tells whether a STUN message is an error response without a
// MESSAGE-INTEGRITY: an answer to somebody who has proved nothing.
func unauthenticated(b []byte) bool {
	if len(b) < stunHeader || b[0] > 0x3f || binary.BigEndian.Uint16(b)&0x0110 != 0x0110 {
		return false
	}
	for rest := b[stunHeader:]; len(rest) >= 4; {
		if binary.BigEndian.Uint16(rest) == attrIntegrity {
			return false
		}
		size := 4 + (int(binary.BigEndian.Uint16(rest[2:]))+3)&^3
		if size > len(rest) {
			break
		}
		rest = rest[size:]
	}
	return true
}

// turnFrame is the length of the STUN or ChannelData frame that a stream begins with,
// padding included (RFC 8656 §12.5); 0 if more bytes are needed to tell, and false if
// it is neither or longer than anything a client sends.
func turnFrame(b []byte) (size int, ok bool) {
	if len(b) < 4 {
		return 0, true
	}
	size = int(binary.BigEndian.Uint16(b[2:]))
	switch {
	case b[0] < 0x04:
		size += stunHeader
	case b[0] >= 0x40 && b[0] < 0x80:
		size = 4 + (size+3)&^3
	default:
		return 0, false
	}
	return size, size <= maxTURNFrame
}

// maxTURNFrame holds a Send indication with the longest datagram that is relayed.
const maxTURNFrame = relayedBytes + 64
