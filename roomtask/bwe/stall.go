package bwe

const (
	silence     = 1500 * ms // without a report, beside twice the response time
	silenceStep = 700 * ms  // each one more halves the estimate
	silenceLong = 4 * second
	returnTime  = 200 * ms // of reports after it, to judge what was under way
	returnMin   = 20       // packets, or so many
	goneLong    = 3 * second
)

// stall is what is known of a time without reports. Either the path is broken, or the
// receiver does nothing for a while, as a browser may whose processor is busy: which of
// the two shows only when it speaks again.
type stall struct {
	since     int64 // 0 = there is none
	before    int64 // the estimate then
	lastAt    int64 // of the last report before it
	backAt    int64 // of the first report after it
	got, lost int64 // in the reports since
	lostAfter int64 // of lost: those that were sent after the first that arrived
}

// silent notes that reports stopped although packets are sent, and lowers the estimate
// step by step. It returns whether that is so.
func (e *Estimator) silent(now int64) bool {
	wait := silence + 2*e.response()
	if !e.hasTWCC || now-e.reportAt <= wait || e.sent.bps(now) == 0 {
		return e.stall.since != 0
	}
	if e.stall.since == 0 {
		e.stall = stall{since: now, before: e.bps, lastAt: e.reportAt}
	}
	if now-e.cutAt > silenceStep {
		low := e.bps / 2
		if now-e.reportAt < silenceLong {
			low = max(low, min(e.floor, e.bps))
		}
		e.lower(now, low)
	}
	return true
}

// onReturn judges what was under way while nothing was told. If it arrived, the receiver
// was busy, and the estimate is what it was. If nothing did, up to a packet from which on
// all arrive, the path was gone, as in a tunnel or at a change of networks: that says
// nothing of what it carries. A path that is too narrow lets some through all the time.
func (e *Estimator) onReturn(now, got, lost, lostAfter int64) {
	s := &e.stall
	if s.since == 0 {
		return
	}
	if s.backAt == 0 {
		s.backAt = now
	}
	s.got += got
	s.lost += lost
	s.lostAfter += lostAfter
	if s.got+s.lost < returnMin && now-s.backAt < returnTime {
		return
	}
	gone := s.backAt-s.lastAt > goneLong
	e.losses.forget(now, e.response())
	switch {
	case float64(s.lost) <= lossLimit*float64(s.got+s.lost): // of what receivers tell: some do not tell what was lost long ago
		e.bps = max(e.bps, min(s.before, maxBps))
		if gone {
			e.restarts++
		}
	case gone && float64(s.lostAfter) <= lossLimit*float64(s.got+s.lostAfter):
		e.restart(s.before)
	}
	e.probe.nextAt = min(e.probe.nextAt, now)
	*s = stall{}
}

// restart begins anew on a path that was gone: with half of what the one before carried,
// or what is begun with anyway, and knowing nothing of its queues, losses and limits.
func (e *Estimator) restart(before int64) {
	e.bps = max(e.bps, min(before, max(initialBps, e.floor, before/2), maxBps))
	e.control = control{bps: e.bps, tickAt: e.tickAt}
	e.losses = lossRule{own: e.losses.own, learnt: e.losses.learnt}
	e.delay.rebase()
	e.probe.pause, e.probe.twice, e.probe.vague = 0, false, 0
	e.restarts++
}
