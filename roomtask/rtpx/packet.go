package rtpx

import "sync/atomic"

// Packet is one received RTP packet. ingest fills it and then delivers it: from
// that moment it is immutable, and everybody who keeps it holds a reference. There are
// hundreds for each source, so its fields lie where they leave no gaps.
type Packet struct {
	refs atomic.Int32
	SSRC uint32
	home *chunk // set once
	buf  []byte // set once

	ExtSeq  uint64 // unwrapped per layer; starts at or above 1<<16, and never goes back when the layer's SSRC changes
	Arrival int64  // nanoseconds, on the clock of ingest.Config.Now
	DD      DD     // of the header extension, for AV1

	TS  uint32
	n   uint16 // payload bytes in buf
	dd  uint16 // bytes behind those: the dependency descriptor as it came
	Seq uint16

	Width, Height uint16 // on the first packet of a keyframe, else 0
	VP8           VP8Descriptor
	VP9           VP9Descriptor

	slot   uint8 // set once: its place in home
	PT     uint8
	Marker bool

	Layer int8 // simulcast index, 0 lowest; 0 for audio
	Video bool

	HasLevel bool  // whether Level and Voice are known (RFC 6464)
	Level    uint8 // −dBov: 0 loudest, 127 silence
	Voice    bool

	// Start marks the first packet of a frame, Key every packet of a keyframe
	// (as far as its first packet arrived before). Both are true for all audio:
	// any packet is a point to start from.
	Start, Key bool

	Codec    Codec
	SID, TID int8 // spatial layer within the stream, temporal layer; 0 if the codec does not tell
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
	p.n, p.dd = uint16(copy(p.buf, b)), 0
	return true
}

// FillDD keeps the value of the dependency descriptor beside the payload, under the
// same conditions as Fill, which comes before it.
func (p *Packet) FillDD(b []byte) bool {
	if int(p.n)+len(b) > len(p.buf) {
		return false
	}
	p.dd = uint16(copy(p.buf[p.n:], b))
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
		p.home.class.put(p)
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
