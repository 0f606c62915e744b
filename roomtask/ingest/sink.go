package ingest

// sink is one SSRC that the participant sends from. Publisher.mu guards it.
type sink struct {
	ssrc    uint32 // set once
	media   *layer // the layer that this SSRC feeds
	repairs *layer // the layer that it retransmits
	retired bool   // another SSRC took its layer over
}

// sink returns the stream of an SSRC, and makes it when it is new: which source and layer
// it belongs to is found out from its packets. It returns nil for one too many, of which
// the first is told. The caller holds mu.
func (p *Publisher) sink(ssrc uint32) (s *sink, abuse bool) {
	if s = p.streams[ssrc]; s != nil || p.closed {
		return s, false
	}
	if len(p.streams) == maxStreams {
		abuse, p.abused = !p.abused, true
		return nil, abuse
	}
	s = &sink{ssrc: ssrc}
	p.streams[ssrc] = s
	return s, false
}
