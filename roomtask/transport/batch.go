package transport

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
)

// Bounds of what is held for one flush. Two batches exist, one filling and one being
// sent, so the memory of batching is twice batchBytes and a little, whatever happens. It
// begins with earlyBytes and earlyPackets. What is longer than the worker's group of
// viewers takes leaves in several calls, of some sixty packets each: a call costs a
// hundredth of what they do.
const (
	batchPackets = 512
	batchBytes   = 64 << 10
	earlyPackets = 64
	earlyBytes   = 32 << 10
	// runSegments and runBytes bound one UDP_SEGMENT send: Linux takes 64 segments
	// (UDP_MAX_SEGMENTS), and all of them with their headers must fit an IP packet.
	runSegments = 64
	runBytes    = 65000
)

// sealedRTP tells SRTP from STUN, DTLS and TURN by the first byte (RFC 7983 §7) and
// from SRTCP by the second (RFC 5761 §4). What is not surely RTP is not.
func sealedRTP(b []byte) bool {
	return len(b) >= 12 && b[0]&0xc0 == 0x80 && (b[1] < 192 || b[1] > 223)
}

// packet is a datagram in a batch's bytes.
type packet struct {
	at, size int32
	next     int32 // index of the same route's next packet, or -1
}

// route is one destination's packets within a batch, in the order they were written.
type route struct {
	to          netip.AddrPort
	first, last int32
}

// batch collects datagrams for one flush. Its owner guards it.
type batch struct {
	bytes   []byte
	packets []packet
	routes  []route
	recent  int32 // the last packet's route: senders write in bursts

	// The routes by address: open addressing, half full at most. A slot of an earlier
	// round is empty, so that a reset costs nothing; a Go map would be cleared whole.
	slots []slot // twice as many as there may be routes before it grows
	round uint32 // never 0
	seed  maphash.Seed
}

type slot struct {
	round uint32
	route int32
}

func newBatch() *batch {
	return &batch{
		bytes: make([]byte, 0, earlyBytes), packets: make([]packet, 0, earlyPackets),
		routes: make([]route, 0, earlyPackets), slots: make([]slot, 2*earlyPackets), round: 1, seed: maphash.MakeSeed(),
	}
}

func (b *batch) empty() bool { return len(b.packets) == 0 }

// add copies a datagram into the batch, unless there is no room.
func (b *batch) add(p []byte, to netip.AddrPort) bool {
	if len(b.packets) == batchPackets || len(b.bytes)+len(p) > batchBytes {
		return false
	}
	for cap(b.bytes)-len(b.bytes) < len(p) {
		b.bytes = append(make([]byte, 0, min(2*cap(b.bytes), batchBytes)), b.bytes...)
	}
	n := int32(len(b.packets))
	b.packets = append(b.packets, packet{at: int32(len(b.bytes)), size: int32(len(p)), next: -1})
	b.bytes = append(b.bytes, p...)
	if len(b.routes) == 0 || b.routes[b.recent].to != to {
		b.recent = b.route(to)
	}
	r := &b.routes[b.recent]
	if r.first < 0 {
		r.first = n
	} else {
		b.packets[r.last].next = n
	}
	r.last = n
	return true
}

// route is the index of the destination's route, which it makes if there is none.
func (b *batch) route(to netip.AddrPort) int32 {
	var key [18]byte
	addr := to.Addr().As16()
	copy(key[:], addr[:])
	binary.BigEndian.PutUint16(key[16:], to.Port())
	for i := maphash.Bytes(b.seed, key[:]); ; i++ {
		s := &b.slots[i%uint64(len(b.slots))]
		if s.round != b.round {
			if 2*len(b.routes) == len(b.slots) {
				b.more()
				return b.route(to)
			}
			*s = slot{round: b.round, route: int32(len(b.routes))}
			b.routes = append(b.routes, route{to: to, first: -1})
			return s.route
		}
		if b.routes[s.route].to == to {
			return s.route
		}
	}
}

// more makes room for twice as many routes.
func (b *batch) more() {
	known := b.routes
	b.slots, b.routes = make([]slot, 2*len(b.slots)), make([]route, 0, len(b.slots))
	for _, r := range known {
		b.routes[b.route(r.to)] = r
	}
}

func (b *batch) reset() {
	b.bytes, b.packets, b.routes, b.recent = b.bytes[:0], b.packets[:0], b.routes[:0], 0
	if b.round++; b.round == 0 {
		clear(b.slots)
		b.round = 1
	}
}

func (b *batch) data(i int32) []byte {
	p := b.packets[i]
	return b.bytes[p.at : p.at+p.size]
}

// run is consecutive packets of one route that leave in one send: all have the size
// of the first, but for the last, which may be shorter.
type run struct {
	route int32
	first int32 // index of the first packet; the others follow by next
	count int32
	bytes int32
}

// cut takes the longest run of at most limit packets that begins with packet first,
// and tells the packet after it, or -1. It never takes packets out of order: the
// order on the wire is the order of transport-wide sequence numbers, and sizes are
// equal within a frame anyway.
func (b *batch) cut(route, first int32, limit int) (r run, next int32) {
	size := b.packets[first].size
	r = run{route: route, first: first, count: 1, bytes: size}
	for next = b.packets[first].next; next >= 0 && int(r.count) < limit; {
		p := b.packets[next]
		if p.size > size || r.bytes+p.size > runBytes {
			break
		}
		r.count++
		r.bytes += p.size
		next = p.next
		if p.size < size {
			break
		}
	}
	return r, next
}
