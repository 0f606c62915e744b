package ingest

import "time"

// proxiedKeep is how long a subscriber's loss counts: subscribers report each second
// or so, and one that has left must not be heard for ever.
const proxiedKeep = int64(3 * time.Second)

// proxiedLoss is the worst loss on the way to those subscribers that only the
// publisher's encoder can help, in this interval and in the one before.
type proxiedLoss struct {
	from        int64 // begin of this interval
	cur, before float64
}

func (p *proxiedLoss) roll(now int64) {
	switch age := now - p.from; {
	case age >= 2*proxiedKeep:
		p.from, p.cur, p.before = now, 0, 0
	case age >= proxiedKeep:
		p.from, p.cur, p.before = now, 0, p.cur
	}
}

func (p *proxiedLoss) add(loss float64, now int64) {
	p.roll(now)
	p.cur = max(p.cur, min(loss, 1))
}

func (p *proxiedLoss) worst(now int64) float64 {
	p.roll(now)
	return max(p.cur, p.before)
}

// SubscriberLoss tells of the loss, 0…1, on the way to a subscriber that has no other
// protection than what the encoder puts into the stream: Opus adds in-band correction
// (RFC 6716 §2.1.7) when receiver reports tell of loss. The fraction lost in our
// reports is therefore the worst of all paths. The cumulative count stays that of the
// publisher's own path, because senders adapt their bandwidth by it.
func (s *Source) SubscriberLoss(loss float64) {
	now := s.p.cfg.Now()
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.proxied.add(loss, now)
}

// fraction is what a receiver report about s says was lost. The caller holds
// Publisher.mu.
func (s *Source) fraction(own uint8, now int64) uint8 {
	if s.video {
		return own
	}
	return max(own, uint8(min(255, 256*s.proxied.worst(now))))
}
