package ingest

import "time"

// The PLI gate: one request is outstanding at a time, at least gateGap apart. An
// unanswered one is repeated with doubled gaps up to gateMax, and given up after
// gateTries until somebody asks again.
const (
	gateGap   = int64(500 * time.Millisecond)
	gateMax   = int64(3 * time.Second)
	gateTries = 8
)

// keyGate decides when to ask one layer's encoder for a keyframe.
type keyGate struct {
	wanted  bool  // asked for since the last request or keyframe
	waiting bool  // a request was sent and no keyframe has come
	sent    int64 // when, 0 if never
	gap     int64 // to the next one
	tries   int   // sent without an answer
}

// request notes that a subscriber needs a keyframe.
func (g *keyGate) request() { g.wanted = true }

// keyframe notes that one has begun to arrive; it answers every request so far.
func (g *keyGate) keyframe() {
	g.wanted, g.waiting, g.tries, g.gap = false, false, 0, gateGap
}

// restart notes that the encoder begins anew, after a rest: that it did not answer
// before means nothing.
func (g *keyGate) restart() { g.waiting, g.tries, g.gap = false, 0, gateGap }

// pending says whether there is a request to make at now, or to give up.
func (g *keyGate) pending(now int64) bool {
	return (g.wanted || g.waiting) && (g.sent == 0 || now-g.sent >= g.gap)
}

// due says whether to send a request now, and takes it as sent.
func (g *keyGate) due(now int64) bool {
	if !g.pending(now) {
		return false
	}
	if g.waiting && g.tries >= gateTries {
		g.waiting, g.tries, g.gap = false, 0, gateGap
		if !g.wanted {
			return false
		}
	}
	if g.waiting {
		g.gap = min(2*g.gap, gateMax)
	} else {
		g.gap = gateGap
	}
	g.wanted, g.waiting, g.sent = false, true, now
	g.tries++
	return true
}
