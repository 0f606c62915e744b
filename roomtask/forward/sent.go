package forward

const (
	// Packets that can be sent again: at most, and at first. A ring grows while it would
	// forget what is younger than sentLife, so most are small.
	sentVideo, sentVideoFirst = 1024, 128 // 1 s of video at 10 Mbit/s
	sentAudio, sentAudioFirst = 128, 32   // 2.5 s in packets of 20 ms
	sentLife                  = second

	maxResends = 10 // of one packet
)

// sentPacket tells how one packet was sent, all that is needed to send it again
// from the source's ring. It holds no payload.
type sentPacket struct {
	out      uint64 // extended sequence number
	ext      uint64 // the source's
	resentAt int64  // ns, 0 = never
	ts       uint32
	nums     numbers
	marker   bool
	empty    bool // fills the place of a packet whose payload is not sent
	tries    uint8
}

// sentRing remembers the newest packets by their sequence number.
type sentRing struct {
	slots []sentPacket // nil until init, so that a seat nobody ever sat in costs little
	high  uint64       // newest number sent, extended
	low   uint64       // nothing below is known since the ring grew
	most  int          // slots
	life  int32        // sentLife in RTP clock units
}

func (r *sentRing) init(l *Line) {
	if r.slots != nil {
		return
	}
	first := sentAudioFirst
	if r.most = sentAudio; l.Video {
		first, r.most = sentVideoFirst, sentVideo
	}
	r.slots, r.life = make([]sentPacket, first), int32(ticks(sentLife, l.ClockRate))
}

func (r *sentRing) at(out uint64) *sentPacket { return &r.slots[out&uint64(len(r.slots)-1)] }

func (r *sentRing) put(p sentPacket) {
	s := r.at(p.out)
	if len(r.slots) < r.most && s.out != 0 && s.out < p.out && int32(p.ts-s.ts) < r.life {
		r.grow()
		s = r.at(p.out)
	}
	*s = p
	r.high = max(r.high, p.out)
}

// grow doubles the ring. What it has forgotten before stays forgotten.
func (r *sentRing) grow() {
	old := r.slots
	r.low = max(r.low, r.high+1-uint64(len(old)))
	r.slots = make([]sentPacket, 2*len(old))
	for i := range old {
		if old[i].out != 0 {
			*r.at(old[i].out) = old[i]
		}
	}
}

// find returns what was sent as out, or nil.
func (r *sentRing) find(out uint64) *sentPacket {
	if p := r.at(out); p.out == out {
		return p
	}
	return nil
}

// tooOld says that out is older than what the ring can know.
func (r *sentRing) tooOld(out uint64) bool { return out < r.low || out+uint64(len(r.slots)) <= r.high }

// unwrap extends a sequence number that a receiver names: it has seen nothing
// newer than the newest.
func (r *sentRing) unwrap(seq uint16) uint64 { return r.high - uint64(uint16(r.high)-seq) }
