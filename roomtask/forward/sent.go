package forward

const (
	sentVideo  = 1024 // packets that can be sent again; about 1 s of video at 10 Mbit/s
	sentAudio  = 128  // 2.5 s in packets of 20 ms
	maxResends = 10   // of one packet
)

// sentPacket tells how one packet was sent, all that is needed to send it again
// from the source's ring. It holds no payload.
type sentPacket struct {
	out      uint64 // extended sequence number
	ext      uint64 // the source's
	resentAt int64  // ns, 0 = never
	ts       uint32
	vp8      vp8Numbers
	marker   bool
	empty    bool // fills the place of a packet whose payload is not sent
	tries    uint8
}

// sentRing remembers the newest packets by their sequence number.
type sentRing struct {
	slots []sentPacket // nil until init, so that a seat nobody ever sat in costs little
	high  uint64       // newest number sent, extended
}

func (r *sentRing) init(size int) {
	if r.slots == nil {
		r.slots = make([]sentPacket, size)
	}
}

func (r *sentRing) at(out uint64) *sentPacket { return &r.slots[out%uint64(len(r.slots))] }

func (r *sentRing) put(p sentPacket) {
	*r.at(p.out) = p
	r.high = max(r.high, p.out)
}

// find returns what was sent as out, or nil.
func (r *sentRing) find(out uint64) *sentPacket {
	if p := r.at(out); p.out == out {
		return p
	}
	return nil
}

// tooOld says that out is older than what the ring can know.
func (r *sentRing) tooOld(out uint64) bool { return out+uint64(len(r.slots)) <= r.high }

// unwrap extends a sequence number that a receiver names: it has seen nothing
// newer than the newest.
func (r *sentRing) unwrap(seq uint16) uint64 { return r.high - uint64(uint16(r.high)-seq) }
