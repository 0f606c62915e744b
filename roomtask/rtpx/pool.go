package rtpx

import (
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
)

// Sizes of the slab classes, in payload bytes, which but for the last are sizes that Go's
// allocator has. Nearly all audio fits the small one; the middle one and the usual one are
// for video, whose packets browsers make of at most 1200 bytes with their headers; the
// large one holds the payload of any packet that fits an Ethernet frame (1500 bytes less
// IP, UDP, and the RTP header).
const (
	SmallPayload  = 320
	MiddlePayload = 1152
	UsualPayload  = 1280
	MaxPayload    = 1460
)

// slabOverhead is what a Packet costs beside its payload bytes, rounded up.
const slabOverhead = 192

// chunkBytes is what slabs are allocated in, a size that Go's allocator has.
const chunkBytes = 8 << 10

// spareEvery is after how many packets that are given back those chunks are forgotten that
// nobody has needed meanwhile: 1 s of ten cameras.
const spareEvery = 2048

// chunk is some packets of one size with their bytes, which are allocated and forgotten
// together.
type chunk struct {
	class   *slabs // set once
	packets []Packet
	free    uint32 // guarded by class.mu: those not in use, as bits
	at      int    // guarded by class.mu: its place in the class
}

// slabs are the packets of one size. A sync.Pool would do too, but it forgets them at every
// collection, and then the packet path allocates. The first chunk that has room is used
// first: after a burst, what is behind falls empty by itself as packets come and go, and is
// forgotten. Spare packets taken from anywhere would leave a few in each page.
type slabs struct {
	pool *Pool // set once
	size int   // set once: payload bytes

	mu sync.Mutex
	// guarded by mu
	chunks []*chunk // nil where one was forgotten
	open   []uint64 // chunks that have room, as bits
	first  int      // no word of open before it is other than 0
	held   int      // chunks there are
	empty  int      // of those, the ones of which nothing is in use
	spare  int      // the fewest that were so since gave began to count
	gave   int      // packets
}

// Pool hands out packets and takes them back. It caps the bytes that are out at
// one time, so that a slow consumer costs dropped packets and not the process. The
// last sixteenth is for small packets, so that video cannot starve audio. It is safe
// for concurrent use.
type Pool struct {
	max     int64        // set once
	out     atomic.Int64 // bytes handed out
	classes [4]slabs     // by size
}

// NewPool makes a pool whose packets may hold maxBytes together.
func NewPool(maxBytes int64) *Pool {
	p := &Pool{max: maxBytes}
	for i, size := range [...]int{SmallPayload, MiddlePayload, UsualPayload, MaxPayload} {
		p.classes[i].pool, p.classes[i].size = p, size
	}
	return p
}

// Get returns a packet of the large class with one reference, which is the
// caller's, or nil when the cap is reached.
func (p *Pool) Get() *Packet { return p.GetFor(MaxPayload) }

// GetFor is Get for a payload of n bytes. It returns nil also when n exceeds
// MaxPayload.
func (p *Pool) GetFor(n int) *Packet {
	if n > MaxPayload {
		return nil
	}
	class, limit := p.class(n), p.max-p.max/16
	if class == &p.classes[0] {
		limit = p.max
	}
	size := int64(class.size + slabOverhead)
	if p.out.Add(size) > limit {
		p.out.Add(-size)
		return nil
	}
	pkt := class.take()
	pkt.reset()
	pkt.refs.Store(1)
	return pkt
}

func (p *Pool) class(n int) *slabs {
	i := 0
	for n > p.classes[i].size {
		i++
	}
	return &p.classes[i]
}

// Out is the number of bytes handed out and not yet returned.
func (p *Pool) Out() int64 { return p.out.Load() }

func (s *slabs) put(pkt *Packet) {
	s.pool.out.Add(-int64(s.size + slabOverhead))
	s.give(pkt)
}

func (s *slabs) take() *Packet {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.first < len(s.open) && s.open[s.first] == 0 {
		s.first++
	}
	if s.first == len(s.open) {
		s.grow()
	}
	c := s.chunks[s.first*64+bits.TrailingZeros64(s.open[s.first])]
	slot := bits.TrailingZeros32(c.free)
	if c.free == c.whole() {
		s.empty--
		s.spare = min(s.spare, s.empty)
	}
	if c.free &^= 1 << slot; c.free == 0 {
		s.open[c.at/64] &^= 1 << (c.at % 64)
	}
	return &c.packets[slot]
}

func (s *slabs) give(pkt *Packet) {
	c := pkt.home
	s.mu.Lock()
	defer s.mu.Unlock()
	c.free |= 1 << pkt.slot
	s.open[c.at/64] |= 1 << (c.at % 64)
	s.first = min(s.first, c.at/64)
	if c.free == c.whole() {
		s.empty++
	}
	if s.gave++; s.gave < spareEvery {
		return
	}
	for range s.spare {
		s.forget()
	}
	s.gave, s.spare = 0, s.empty
}

// whole is free of a chunk of which nothing is in use.
func (c *chunk) whole() uint32 { return 1<<len(c.packets) - 1 }

// grow adds a chunk, in the first place that there is. The caller holds mu, and no chunk
// has room.
func (s *slabs) grow() {
	c := &chunk{class: s, packets: make([]Packet, chunkBytes/s.size)}
	buf := make([]byte, len(c.packets)*s.size)
	for i := range c.packets {
		p := &c.packets[i]
		p.home, p.slot, p.buf = c, uint8(i), buf[i*s.size:(i+1)*s.size:(i+1)*s.size]
	}
	c.free = c.whole()
	if c.at = slices.Index(s.chunks, nil); c.at < 0 {
		c.at = len(s.chunks)
		s.chunks = append(s.chunks, c)
	} else {
		s.chunks[c.at] = c
	}
	if c.at/64 == len(s.open) {
		s.open = append(s.open, 0)
	}
	s.open[c.at/64] |= 1 << (c.at % 64)
	s.first = c.at / 64
	s.held++
	s.empty++
}

// forget drops the last chunk of which nothing is in use. The caller holds mu, and there
// is one.
func (s *slabs) forget() {
	i := len(s.chunks) - 1
	for s.chunks[i] == nil || s.chunks[i].free != s.chunks[i].whole() {
		i--
	}
	s.chunks[i] = nil
	s.open[i/64] &^= 1 << (i % 64)
	s.held--
	s.empty--
	for n := len(s.chunks); n > 0 && s.chunks[n-1] == nil; n-- {
		s.chunks = s.chunks[:n-1]
	}
}
