package bwe

const (
	historyFirst = 128     // room for packets in flight, until more are
	historyMost  = 1 << 11 // 1 s at 20 Mbit/s
	historyLife  = 1000000 // µs for which a packet that nobody told of is waited for
)

// history is what is known of the packets in flight, by their transport-wide number. It
// grows while it would forget what is still under way: most viewers have some dozens of
// packets there. The zero value is empty.
type history struct {
	slots []sentInfo // as many as a power of two
	last  uint16     // number sent last
}

func (h *history) at(seq uint16) *sentInfo { return &h.slots[int(seq)&(len(h.slots)-1)] }

// put notes a packet. Numbers that were left out are of no packet.
func (h *history) put(seq uint16, s sentInfo) {
	if h.slots == nil {
		h.slots, h.last = make([]sentInfo, historyFirst), seq-1
	}
	for len(h.slots) < historyMost && h.waits(h.at(seq), s.at) {
		h.grow()
	}
	if gap := seq - h.last; gap < 1<<15 {
		for n := uint16(1); n < gap && int(n) <= len(h.slots); n++ {
			*h.at(h.last + n) = sentInfo{}
		}
	}
	*h.at(seq) = s
	h.last = seq
}

// waits says whether a report may still tell of a packet.
func (h *history) waits(s *sentInfo, now uint32) bool {
	return s.state != unknown && now-s.at < historyLife
}

func (h *history) grow() {
	old := history{slots: h.slots, last: h.last}
	h.slots = make([]sentInfo, 2*len(old.slots))
	for n := range len(old.slots) {
		seq := h.last - uint16(n)
		*h.at(seq) = *old.at(seq)
	}
}

// find returns what is known of a number, nil if nothing.
func (h *history) find(seq uint16) *sentInfo {
	if int(h.last-seq) >= len(h.slots) {
		return nil
	}
	if s := h.at(seq); s.state != unknown {
		return s
	}
	return nil
}
