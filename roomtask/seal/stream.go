package seal

// Stream counts the packet index of one SSRC, which is 2^16 × the roll-over counter +
// the sequence number (RFC 3711 §3.3.1). The zero value begins with the first packet.
// One goroutine uses it.
type Stream struct {
	highest uint64
	begun   bool
}

// Index tells the index of a sequence number: of the ones that it may mean, the
// nearest to the highest so far, which it replaces if it is higher. Like the receiver,
// which guesses in the same way, it never goes before the first roll-over.
func (s *Stream) Index(seq uint16) uint64 {
	if !s.begun {
		s.begun, s.highest = true, uint64(seq)
		return s.highest
	}
	index := s.highest + uint64(int64(int16(seq-uint16(s.highest))))
	if index > s.highest && index < 1<<63 {
		s.highest = index
		return index
	}
	if index >= 1<<63 { // before the first packet of roll-over 0
		return uint64(seq)
	}
	return index
}
