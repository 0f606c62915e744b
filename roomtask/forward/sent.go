package forward

const (
	// Packets that can be sent again: at most, and at first. A ring grows while it would
	// forget what is young, so most are small.
	sentVideo, sentVideoFirst = 1024, 112 // 1 s of video at 10 Mbit/s
	sentAudio, sentAudioFirst = 128, 32   // 2.5 s in packets of 20 ms
	// Young is what came in so many of the last round trips, within these bounds. On short
	// paths that is longer than the source's ring holds packets: what the publisher repairs
	// comes late, and is sent if it is known that it was not.
	sentTrips   = 6
	sentLeast   = 500 * millisecond
	sentLife    = second
	millisecond = second / 1000

	maxResends = 10 // of one packet
)

// sentPacket tells how one packet was sent, all that is needed to send it again
// from the source's ring. It holds no payload. There are more than a hundred for each
// line of video, so it is small: long numbers are kept by their low bits.
type sentPacket struct {
	out      uint32 // extended sequence number, its low bits; 0 = there is none
	ext      uint32 // the source's, likewise
	ts       uint32
	nums     numbers
	resentAt uint16 // ms, its low bits, which come again after a minute; 0 = never
	tries    uint8
	is       uint8 // isMarker, isEmpty
}

// What a sentPacket is.
const (
	isMarker = 1 << iota
	isEmpty  // fills the place of a packet whose payload is not sent
)

func is(marker, empty bool) (b uint8) {
	if marker {
		b = isMarker
	}
	if empty {
		b |= isEmpty
	}
	return b
}

func (p *sentPacket) marker() bool { return p.is&isMarker != 0 }
func (p *sentPacket) empty() bool  { return p.is&isEmpty != 0 }

// mark makes it one that ends its picture.
func (p *sentPacket) mark() { p.is |= isMarker }

// resent notes that it was sent again.
func (p *sentPacket) resent(now int64) { p.resentAt = sometime(now) }

// within says whether it was sent again in the last d.
func (p *sentPacket) within(d, now int64) bool {
	return p.resentAt != 0 && int64(sometime(now)-p.resentAt)*millisecond < d
}

// sometime are the low bits of now in ms, and never 0.
func sometime(now int64) uint16 { return max(uint16(now/millisecond), 1) }

// full extends the source's number of a packet of this stint.
func (c *stint) full(ext uint32) uint64 {
	return c.high - uint64(int64(int32(uint32(c.high)-ext)))
}

// sentRing remembers the newest packets by their sequence number.
type sentRing struct {
	slots []sentPacket // nil until init, so that a seat nobody ever sat in costs little
	high  uint64       // newest number sent, extended
	low   uint64       // nothing below is known since the ring grew
	most  int          // slots
	life  int32        // how long a packet is young, in RTP clock units; 0 = not known yet
}

func (r *sentRing) init(l *Line) {
	if r.slots != nil {
		return
	}
	first := sentAudioFirst
	if r.most = sentAudio; l.Video {
		first, r.most = sentVideoFirst, sentVideo
	}
	r.slots = make([]sentPacket, first)
	if r.life == 0 {
		r.life = int32(ticks(sentLife, l.ClockRate))
	}
}

func (r *sentRing) at(out uint64) *sentPacket { return &r.slots[out%uint64(len(r.slots))] }

// put notes p as what was sent as out.
func (r *sentRing) put(out uint64, p sentPacket) {
	s := r.at(out)
	for len(r.slots) < r.most && s.out != 0 && int32(s.out-uint32(out)) < 0 && int32(p.ts-s.ts) < r.life {
		r.grow()
		s = r.at(out)
	}
	p.out = uint32(out)
	*s = p
	r.high = max(r.high, out)
}

// grow makes the ring half as large again. What it has forgotten before stays forgotten.
func (r *sentRing) grow() {
	old := *r
	r.low = max(r.low, r.high+1-uint64(len(old.slots)))
	r.slots = make([]sentPacket, min(len(old.slots)+len(old.slots)/2, r.most))
	for out := r.low; out <= r.high; out++ {
		if p := old.find(out); p != nil {
			*r.at(out) = *p
		}
	}
}

// find returns what was sent as out, or nil.
func (r *sentRing) find(out uint64) *sentPacket {
	if p := r.at(out); p.out != 0 && p.out == uint32(out) {
		return p
	}
	return nil
}

// tooOld says that out is older than what the ring can know.
func (r *sentRing) tooOld(out uint64) bool { return out < r.low || out+uint64(len(r.slots)) <= r.high }

// unwrap extends a sequence number that a receiver names: it has seen nothing
// newer than the newest.
func (r *sentRing) unwrap(seq uint16) uint64 { return r.high - uint64(uint16(r.high)-seq) }
