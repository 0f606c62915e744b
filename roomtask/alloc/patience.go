package alloc

const (
	ms     = int64(1e6)
	second = int64(1e9)

	roomTime  = 1500 * ms // that a step up must have had headroom
	ampleTime = 300 * ms  // the same when the budget is half as much again as it costs
	freshTime = 2 * second

	// A step that is taken back within failTime and the last pause has failed. Then none
	// that costs about as much is taken for a pause that doubles, unless the path has
	// clearly become wider.
	failTime           = 10 * second
	firstPause         = 5 * second
	maxPause           = 60 * second
	forgetTime         = 30 * second // a step that stays for so long ends the doubling
	widerNum, widerDen = 3, 2
	ampleNum, ampleDen = 3, 2
)

// patience says when a step up may be taken.
type patience struct {
	roomSince int64 // since when there is one with headroom; 0 = there is none
	upAt      int64 // of the last step taken; 0 = none, or it has failed
	upCost    int64 // of all that was granted with it
	pause     int64 // after the last failure; 0 = none
	until     int64
	failed    int64 // the cost that was too much; 0 = none
}

// may says whether the step that costs total may be taken; 0 = there is none.
func (p *patience) may(now, total, budget int64) bool {
	if p.upAt != 0 && now-p.upAt > forgetTime+p.pause {
		p.pause, p.failed = 0, 0
	}
	if total == 0 {
		p.roomSince = 0
		return false
	}
	if p.roomSince == 0 {
		p.roomSince = now
	}
	if p.again(now, total) && budget < p.failed*widerNum/widerDen {
		return false
	}
	return now-max(p.roomSince, p.upAt) >= roomFor(total, budget)
}

// roomFor is how long a step that costs total must have had headroom.
func roomFor(total, budget int64) int64 {
	if total*ampleNum/ampleDen <= budget {
		return ampleTime
	}
	return roomTime
}

// took notes that a step was taken.
func (p *patience) took(now, total int64) { p.upAt, p.upCost = now, total }

// fell notes that what was granted does not fit.
func (p *patience) fell(now int64) {
	p.roomSince = 0
	if p.upAt == 0 || now-p.upAt > failTime+p.pause {
		return
	}
	p.pause = min(max(firstPause, 2*p.pause), maxPause)
	p.until, p.failed, p.upAt = now+p.pause, p.upCost, 0
}

// again says that the step that costs total is about the one that has just failed. What
// costs clearly less is another one: on a path that became narrow in the moment of a step,
// the first pictures need not wait because all of them were too much.
func (p *patience) again(now, total int64) bool {
	return now < p.until && total*widerNum/widerDen > p.failed
}

// worth is the estimate from which on a step that costs total is worth to try during a
// pause; 0 = any.
func (p *patience) worth(now, total int64) int64 {
	if !p.again(now, total) {
		return 0
	}
	return p.failed * widerNum / widerDen * budgetDen / budgetNum
}

// audioState is how much of the audio is sent.
type audioState struct {
	mode      AudioMode
	roomSince int64 // since when the next better mode has headroom; 0 = it has none
}

// choose goes down at once and up one mode at a time, with headroom and after a while.
func (s *audioState) choose(now, budget int64, a *Audio) AudioMode {
	for s.mode < AudioTop && a.bps(s.mode) > budget {
		s.mode++
		s.roomSince = 0
	}
	if s.mode == AudioFull || a.bps(s.mode-1)*headroomNum/headroomDen > budget {
		s.roomSince = 0
		return s.mode
	}
	if s.roomSince == 0 {
		s.roomSince = now
	}
	if now-s.roomSince >= roomFor(a.bps(s.mode-1), budget) {
		s.mode--
		s.roomSince = 0
	}
	return s.mode
}
