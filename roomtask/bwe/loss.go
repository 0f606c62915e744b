package bwe

const (
	lossHold   = 0.02 // from here on the estimate does not grow
	lossLimit  = 0.10 // Wi-Fi loses up to this at random
	lossSevere = 0.50 // nothing to wait for
	lossMin    = 8    // packets in the window; a few of few prove nothing
	lossSure   = 20   // the same for severe loss
	lossSpread = 4    // tenths of the last second: a queue that overflows does so again and again, one burst not
	lossFor    = 700 * ms
	lossOwnMax = 0.30 // more is never taken for the path's own
	lossSlow   = 256  // reports in which the path's own loss is learnt anew
	// A cut that leaves more than this part of the loss was wrong: no queue of ours
	// overflows there.
	lossCured = 0.7
	trialTime = 1500 * ms
	trialMin  = 30 // packets
)

// lossRule judges the share of packets that were lost in the last second. What a path
// loses whatever is sent, such as Wi-Fi, is found out by trial: after each cut the loss
// is watched, and if it stays, the cut is taken back and that loss borne with.
type lossRule struct {
	got, lost rate
	share     float64
	since     int64   // when share went above the limit; 0 = it is not
	staleTo   int64   // until when what was lost before a cut counts in share
	own       float64 // what the path loses whatever is sent
	learnt    float64 // the same as the last trial showed it; own never grows above

	trialAt             int64 // when the trial begins; 0 = none
	trialGot, trialLost int64
	atCut               float64 // share before it
	before              int64   // the estimate before it
}

func (l *lossRule) add(now, got, lost int64) {
	l.got.add(now, got)
	l.lost.add(now, lost)
	gone := max(0, l.lost.sum)
	l.share = float64(gone) / float64(max(1, l.got.sum+gone))
	if l.own > 0 {
		l.own += (min(l.share, l.learnt) - l.own) / lossSlow
	}
	if l.trialAt != 0 && now >= l.trialAt {
		l.trialGot += got
		l.trialLost += lost
	}
	switch {
	case l.excess() <= max(lossLimit, l.own) || gone < lossMin || l.lost.spread() < lossSpread || now < l.staleTo:
		l.since = 0
	case l.since == 0:
		l.since = now
	}
}

// forget makes the losses so far, that a cut at now has answered, count no more.
func (l *lossRule) forget(now, response int64) {
	l.since, l.staleTo = 0, now+response+rateWindow
}

// report takes in what a receiver without transport-wide feedback says.
func (l *lossRule) report(fraction uint8) {
	l.share += (float64(fraction)/256 - l.share) / 2
}

// excess is the share that sending less may cure.
func (l *lossRule) excess() float64 { return max(0, l.share-l.own) }

// over says that the loss is too high for too long.
func (l *lossRule) over(now int64) bool {
	if l.since == 0 {
		return false
	}
	if l.share >= lossSevere && l.lost.sum >= lossSure {
		return now-l.since >= lossFor/2
	}
	return l.trialAt == 0 && now-l.since >= lossFor
}

// onCut begins the trial of a cut from bps that shows its effect at that time.
func (l *lossRule) onCut(effect, bps int64) {
	if l.trialAt == 0 {
		l.atCut, l.before = l.share, bps
	}
	l.trialAt, l.trialGot, l.trialLost = effect, 0, 0
	l.since = 0
}

// verdict says whether a trial has come to its end, and returns what the estimate was
// before the cut if that did not help, else 0.
func (l *lossRule) verdict(now int64) (before int64, done bool) {
	total := l.trialGot + max(0, l.trialLost)
	if l.trialAt == 0 || now-l.trialAt < trialTime || total < trialMin {
		return 0, false
	}
	l.trialAt = 0
	left := float64(l.trialLost) / float64(total)
	if left < l.atCut*lossCured {
		return 0, true
	}
	l.own = min(max(l.own, (l.atCut+left)/2), lossOwnMax)
	l.learnt = l.own
	return l.before, true
}
