package sendq

import "slices"

const (
	canaryTries = 3
	canaryWait  = second // for the report about one
	canaryRetry = 60 * second
)

// canary finds out whether a receiver reports on a kind of probe packet, by one of them.
// Some browsers drop padding before they count it; to them a probe of padding is a burst
// of losses, and a wide path would look narrow.
type canary struct {
	state canaryState
	tries int
	seq   uint16 // transport-wide number of the one that is under way
	at    int64  // when it left, or when it was given up
}

type canaryState int8

const (
	untested canaryState = iota
	flying
	sound
	dead
)

// wants says that one should be sent.
func (c *canary) wants(now int64) bool {
	switch {
	case c.state == flying && now-c.at > canaryWait:
		c.state = untested
		if c.tries++; c.tries >= canaryTries {
			c.state, c.tries, c.at = dead, 0, now
		}
	case c.state == dead && now-c.at > canaryRetry:
		c.state = untested
	}
	return c.state == untested
}

func (c *canary) sent(seq uint16, now int64) { c.state, c.seq, c.at = flying, seq, now }

// told takes in that the packet of number seq arrived.
func (c *canary) told(seq uint16) {
	if c.state == flying && c.seq == seq {
		c.state, c.tries = sound, 0
	}
}

// test sends what is still to be tried out over l.
func (s *Sender) test(l *line, now int64) {
	p := &s.probe
	if p.padding.wants(now) {
		if h, ok := l.f.Padding(); ok && s.write(l, h, nil, kindPadding, now) > 0 {
			p.padding.sent(s.twcc, now)
		}
	}
	if p.again.wants(now) {
		if h, payload, ok := l.f.Again(now, resendSize); ok && s.write(l, h, payload, kindProbe, now) > 0 {
			p.again.sent(s.twcc, now)
		}
	}
}

// mayProbe says whether probes can be sent at any time, also when all video is paused and
// there is nothing to send again: whether the receiver reports on padding. As long as
// that is not known, it is taken for true.
func (s *Sender) mayProbe() bool {
	return s.probe.padding.state != dead && slices.ContainsFunc(s.all, (*line).carriesProbes)
}
