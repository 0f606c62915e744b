package rtpx

import (
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

// Packet is one received RTP packet. ingest fills it and then delivers it: from
// that moment it is immutable, and everybody who keeps it holds a reference.
type Packet struct {
	refs atomic.Int32
	pool *Pool // set once
	buf  []byte
	n    int // payload bytes in buf
	dd   int // bytes behind those: the dependency descriptor as it came

	SSRC    uint32
	PT      uint8
	Seq     uint16
	ExtSeq  uint64 // unwrapped per layer; starts at or above 1<<16, and never goes back when the layer's SSRC changes
	TS      uint32
	Marker  bool
	Arrival int64 // nanoseconds, on the clock of ingest.Config.Now

	Layer int8 // simulcast index, 0 lowest; 0 for audio
	Video bool

	HasLevel bool  // whether Level and Voice are known (RFC 6464)
	Level    uint8 // −dBov: 0 loudest, 127 silence
	Voice    bool

	// Start marks the first packet of a frame, Key every packet of a keyframe
	// (as far as its first packet arrived before). Both are true for all audio:
	// any packet is a point to start from.
	Start, Key bool

	Codec         Codec
	SID, TID      int8   // spatial layer within the stream, temporal layer; 0 if the codec does not tell
	Width, Height uint16 // on the first packet of a keyframe, else 0
	VP8           VP8Descriptor
	VP9           VP9Descriptor
	DD            DD // of the header extension, for AV1
}

// Payload is the packet without RTP header and padding. It is empty for a packet
// that was padding only: such a packet uses up a sequence number and nothing else,
// so a forwarder skips it and closes the gap. The bytes must not be changed.
func (p *Packet) Payload() []byte { return p.buf[:p.n] }

// Fill sets the payload by copying b, which must fit the slab. Only the one who
// got the packet from the pool may call it, and only before delivering it.
func (p *Packet) Fill(b []byte) bool {
	if len(b) > len(p.buf) {
		return false
	}
	p.n, p.dd = copy(p.buf, b), 0
	return true
}

// FillDD keeps the value of the dependency descriptor beside the payload, under the
// same conditions as Fill, which comes before it.
func (p *Packet) FillDD(b []byte) bool {
	if p.n+len(b) > len(p.buf) {
		return false
	}
	p.dd = copy(p.buf[p.n:], b)
	return true
}

// RawDD is what FillDD kept, empty if nothing. The bytes must not be changed.
func (p *Packet) RawDD() []byte { return p.buf[p.n : p.n+p.dd] }

// Retain adds a reference. The caller must hold one already.
func (p *Packet) Retain() {
	if p.refs.Add(1) <= 1 {
		panic("rtpx: packet retained after its last release")
	}
}

// Release gives one reference back. After the last one the packet belongs to the
// pool, and its bytes will change.
func (p *Packet) Release() {
	switch n := p.refs.Add(-1); {
	case n == 0:
		p.pool.put(p)
	case n < 0:
		panic("rtpx: packet released too often")
	}
}

// tryRetain adds a reference unless the packet has none, in which case it lies
// in the pool. The caller need not hold one; it must then check that the packet
// is still the one it meant.
func (p *Packet) tryRetain() bool {
	for {
		n := p.refs.Load()
		if n <= 0 {
			return false
		}
		if p.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// maxSpare bounds the unused packets that a slab class keeps for later.
const maxSpare = 256

// slabs keeps unused packets of one size. A sync.Pool would do too, but it forgets
// them at every collection, and then the packet path allocates.
type slabs struct {
	size int // set once: payload bytes

	mu    sync.Mutex
	spare []*Packet // guarded by mu
}

// Pool hands out packets and takes them back. It caps the bytes that are out at
// one time, so that a slow consumer costs dropped packets and not the process. The
// last sixteenth is for small packets, so that video cannot starve audio. It is safe
// for concurrent use.
type Pool struct {
	max    int64        // set once
	out    atomic.Int64 // bytes handed out
	small  slabs
	middle slabs
	usual  slabs
	large  slabs
}

// NewPool makes a pool whose packets may hold maxBytes together.
func NewPool(maxBytes int64) *Pool {
	return &Pool{max: maxBytes, small: slabs{size: SmallPayload}, middle: slabs{size: MiddlePayload}, usual: slabs{size: UsualPayload}, large: slabs{size: MaxPayload}}
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
	if class == &p.small {
		limit = p.max
	}
	size := int64(class.size + slabOverhead)
	if p.out.Add(size) > limit {
		p.out.Add(-size)
		return nil
	}
	pkt := class.take()
	if pkt == nil {
		pkt = &Packet{pool: p, buf: make([]byte, class.size)}
	}
	pkt.reset()
	pkt.refs.Store(1)
	return pkt
}

func (p *Pool) class(n int) *slabs {
	switch {
	case n <= SmallPayload:
		return &p.small
	case n <= MiddlePayload:
		return &p.middle
	case n <= UsualPayload:
		return &p.usual
	}
	return &p.large
}

// Out is the number of bytes handed out and not yet returned.
func (p *Pool) Out() int64 { return p.out.Load() }

func (p *Pool) put(pkt *Packet) {
	class := p.class(len(pkt.buf))
	p.out.Add(-int64(class.size + slabOverhead))
	class.give(pkt)
}

func (s *slabs) take() *Packet {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.spare) - 1
	if n < 0 {
		return nil
	}
	pkt := s.spare[n]
	s.spare[n] = nil
	s.spare = s.spare[:n]
	return pkt
}

func (s *slabs) give(pkt *Packet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.spare) < maxSpare {
		s.spare = append(s.spare, pkt)
	}
}

// reset clears what a previous user left. The payload bytes stay: Payload shows
// only what Fill wrote.
func (p *Packet) reset() {
	p.n, p.dd = 0, 0
	p.SSRC, p.PT, p.Seq, p.ExtSeq, p.TS, p.Marker, p.Arrival = 0, 0, 0, 0, 0, false, 0
	p.Layer, p.Video = 0, false
	p.HasLevel, p.Level, p.Voice = false, 0, false
	p.Start, p.Key = false, false
	p.Codec, p.SID, p.TID, p.Width, p.Height = CodecUnknown, 0, 0, 0, 0
	p.VP8, p.VP9, p.DD = VP8Descriptor{}, VP9Descriptor{}, DD{}
}
