package bwe

const (
	growPerSec = 0.08  // of the estimate, far from the last congestion
	growPacket = 9_600 // bits per response time, near it
	growPlain  = second
	// No growth takes the estimate above this much of what arrives, unless a probe proved it.
	// What arrives is counted over 500 ms of the receiver's clock, with a packet at both ends:
	// so it may be too much by one packet in 500 ms, of 1200 bytes 19 kbit/s, which is 4 % of
	// 480 kbit/s; or by a frame, if one arrives at once. To count less would hold back who
	// receives a frame at a time, or reads in bursts.
	growRoomNum, growRoomDen = 3, 2
	idleNum, idleDen         = 65, 100 // sent below this share of the estimate: idle

	queueLimit         = 100 * ms // of a standing queue, whatever its trend
	queueGrow          = 60 * ms  // the estimate does not grow above it
	queueEmpty         = 20 * ms
	pressNum, pressDen = 80, 100 // arrives of what is sent, below this: the path is too narrow
	pressTime          = 2 * second
	pressEven          = second // the same if packets come without a gap all the while
	strikeLimit        = 2      // reports in a row

	trialNum, trialDen = 85, 100 // the same for loss: enough to show whether it helps
	keepNum, keepDen   = 90, 100 // of what arrived, after a cut
	drainTime          = 1500 * ms
	drainPatience      = 3 * second
	beyondTime         = 1500 * ms
	severeAgain        = 3 * second
	lossPause          = 500 * ms // after a cut, and the time that it needs to show

	firstReturn = 15 * second
	maxReturn   = 4 * 60 * second
)

// control is the part of the estimator that sets the rate.
type control struct {
	state  State
	bps    int64
	proved int64 // what a probe showed, since the last congestion
	idle   bool
	tickAt int64

	capacity int64 // what arrived at the last congestions, smoothed; 0 = unknown
	beyondAt int64 // since when the estimate is well above it; 0 = it is not
	cutAt    int64
	queuedAt int64 // the last cut for delay
	strikes  int

	before  int64 // the estimate before the last cut for delay
	emptyAt int64 // when the queue that it answered cannot be empty yet
	lateFor int64 // since when packets are late; 0 = they are not

	draining  bool // Bps is below what the path carries until the queue is empty
	drainAt   int64
	resume    int64 // what the estimate becomes then
	remeasure bool  // the path became much narrower: resume is not sure yet
	badAt     int64 // last sign of congestion
	returnAt  int64 // quiet time after which the state is Clear again
	settleAt  int64 // until when a growing delay may be that of a probe
}

// onReport judges the path after each report.
func (e *Estimator) onReport(now int64) {
	e.start(now)
	least, drains := e.delay.takeLeast()
	if e.delay.queue < queueGrow+e.delay.jitter() {
		e.lateFor = 0
	} else if e.lateFor == 0 {
		e.lateFor = now
	}
	if e.draining {
		if !e.arrived.afterPause() {
			e.drain(now)
		}
		return
	}
	if e.losses.over(now) && now-e.cutAt > e.response()+lossPause {
		e.cutForLoss(now)
		return
	}
	if before, done := e.losses.verdict(now); done && !e.delay.over {
		e.bps = max(e.bps, before)
		e.capacity = 0
		e.probe.nextAt = min(e.probe.nextAt, now) // what was lost may have been one burst
	}
	if e.free(now) {
		return // late packets alone prove nothing to an owner that cannot probe
	}
	if drains || e.arrived.afterPause() {
		return // what was late is arriving, and will all be there soon
	}
	if least > queueLimit+e.delay.jitter() && !e.delay.down {
		e.strikes++
	} else {
		e.strikes = 0
	}
	over := e.delay.over && !e.probe.disturbs(now)
	if over || e.strikes >= strikeLimit || e.bothGrow(now) {
		e.strikes = 0
		e.cutForDelay(now)
	}
}

// bothGrow says that there is loss, and a queue that grows, and that less arrives than
// is sent by more than what a path loses anyway: together they need less proof than each
// alone.
func (e *Estimator) bothGrow(now int64) bool {
	return e.losses.excess() > lossHold && e.fewer(now) && e.delay.trend > e.delay.threshold &&
		e.delay.queue > queueEmpty+e.delay.jitter() && !e.probe.disturbs(now)
}

// free says that the owner sends without a limit.
func (e *Estimator) free(now int64) bool { return !e.guided(now) && e.state == Clear }

// guided says that the estimate is to be kept to at any time, because it can be proved:
// reports come, or may be about to, and the owner sends probes.
func (e *Estimator) guided(now int64) bool {
	return e.Probes && (e.hasTWCC || e.numbered == 0 || now-e.numbered < plainTime)
}

func (e *Estimator) start(now int64) {
	if e.bps == 0 && e.guided(now) {
		e.bps = initialBps
	}
}

// cutForDelay is the answer to a queue: a rate below that at which it empties.
func (e *Estimator) cutForDelay(now int64) {
	if now-e.cutAt < e.response() {
		return
	}
	arrived := e.arrived.bps()
	if arrived == 0 {
		return
	}
	recent := min(e.arrived.now(), arrived)
	e.remeasure = recent < arrived*3/4 && e.acked.bps(now) < e.sent.bps(now)*9/10
	if e.remeasure {
		arrived = max(recent, minBps)
	}
	if e.delay.queue > queueGrow {
		// Packets leave a full queue at the path's rate, even if few came before; one
		// packet more or less in 200 ms is 48 kbit/s.
		arrived = max(arrived, e.arrived.now()-5*growPacket)
	}
	e.noteCapacity(arrived)
	keep := arrived * keepNum / keepDen
	overflows := e.losses.excess() > lossLimit
	idle := e.idle && !e.fewer(now) && !overflows
	if idle {
		keep = max(keep, e.bps*7/10) // it is hardly our traffic that fills the queue
	}
	low := min(keep, e.drainRate(arrived))
	if idle {
		low = keep
	}
	if !e.pressed(now) {
		low, keep = max(low, min(e.floor, e.bps)), max(keep, min(e.floor, e.bps))
	}
	if !e.draining {
		e.before = e.bps
		e.emptyAt = now + e.drainLeast(arrived, low)
	}
	if overflows {
		e.emptyAt = 0 // such a queue is a bottleneck's, however fast it empties
	}
	e.draining, e.drainAt, e.queuedAt, e.resume = true, now, now, keep
	e.losses.forget(now, e.response()) // what was lost overflowed from that queue
	e.lower(now, low)
}

// pressed says that late packets are proof enough to go below the floor: fewer arrive
// than are sent, many are lost, or it has lasted. A receiver that is busy has gaps between
// what it reads; out of a full queue packets come evenly, and that need not last as long.
func (e *Estimator) pressed(now int64) bool {
	if e.fewer(now) || e.losses.excess() > lossLimit {
		return true
	}
	late := now - e.lateFor
	return e.lateFor != 0 && (late > pressTime || (late > pressEven && e.arrived.even() > pressEven))
}

// fewer says that less arrives than is sent, by more than what is lost, and not because
// the receiver paused: the path has become narrower than that.
func (e *Estimator) fewer(now int64) bool {
	if e.arrived.paused() {
		return false
	}
	through := float64(e.sent.bps(now)) * (1 - min(e.losses.share, lossOwnMax))
	return e.remeasure || float64(e.acked.bps(now)) < through*pressNum/pressDen
}

// drainLeast is the time in which a queue at a bottleneck cannot empty: half of what it
// takes at the rate that arrived, when less comes in.
func (e *Estimator) drainLeast(arrived, low int64) int64 {
	out := max(arrived-low, minBps)
	return min(int64(float64(e.delay.queue)*float64(arrived)/float64(out))/2, second)
}

// drainRate is the rate at which the queue empties in about drainTime.
func (e *Estimator) drainRate(arrived int64) int64 {
	f := 1 - float64(e.delay.queue)/float64(drainTime)
	return int64(float64(arrived) * min(max(f, 0.5), 0.85))
}

// drain waits for the queue to empty.
func (e *Estimator) drain(now int64) {
	since := now - e.cutAt
	if now < e.emptyAt && e.delay.queue < queueEmpty+e.delay.jitter() {
		// It emptied faster than a bottleneck would let it: it was the receiver's, or
		// somebody else's, and is gone.
		e.draining, e.capacity = false, 0
		e.bps = max(e.bps, min(e.before, maxBps))
		e.probe.nextAt = min(e.probe.nextAt, now)
		e.settleAt = 0
		return
	}
	if e.delay.queue < queueEmpty+e.delay.jitter() || (e.delay.queue < queueGrow+e.delay.jitter() && since > second && !e.delay.over) {
		e.draining = false
		e.bps = max(e.bps, min(e.resume, maxBps))
		return
	}
	if e.remeasure && since > e.response()+500*ms {
		// What arrived since the cut came out of a full queue: that is the path's rate.
		e.remeasure = false
		e.capacity = e.arrived.bps()
		e.resume = e.capacity * keepNum / keepDen
	}
	switch {
	case e.delay.down && since > drainTime && e.delay.queue > queueGrow+e.delay.jitter():
		e.lower(now, e.bps*8/10) // others fill what is left free: it takes too long
	case now-e.drainAt > drainPatience && !e.delay.over && !e.delay.down && e.delay.queue < 4*queueLimit:
		e.delay.rebase() // it does not empty: it is no queue of ours
		e.draining = false
		e.bps = max(e.bps, min(e.resume, maxBps))
	case since > e.response()+250*ms && !e.delay.down:
		at, resume, grows := e.drainAt, e.resume, e.delay.over
		e.cutForDelay(now)
		e.drainAt = at
		if !grows && !e.remeasure && e.delay.queue < queueLimit+e.delay.jitter() {
			e.resume = resume // less arrived because less was sent
		}
	}
}

// cutForLoss is the answer to much loss, when nothing queues.
func (e *Estimator) cutForLoss(now int64) {
	arrived := e.arrived.bps()
	if arrived == 0 {
		return
	}
	if e.losses.share >= lossSevere {
		least := e.bps / 4
		if now-e.cutAt < severeAgain {
			least = e.bps / 2 // sending much less has not helped
		}
		arrived = max(min(arrived, e.arrived.now()), least)
	}
	e.losses.onCut(now+e.response(), max(e.bps, arrived))
	e.noteCapacity(arrived)
	e.lower(now, arrived*trialNum/trialDen)
}

// noteCapacity remembers where congestion was.
func (e *Estimator) noteCapacity(bps int64) {
	if e.capacity == 0 || bps < e.capacity*7/10 || bps > e.capacity*13/10 {
		e.capacity = bps
	}
	e.capacity += (bps - e.capacity) / 4
}

// lower sets the estimate to bps if that is less, and turns the state.
func (e *Estimator) lower(now, bps int64) {
	if !e.free(now) {
		bps = min(bps, e.bps)
	}
	e.bps = max(bps, minBps)
	e.cutAt, e.proved = now, 0
	if now < e.settleAt {
		e.probe.failed(now) // what the last probe showed was not there
		e.settleAt = 0
	}
	e.turn(now)
}

// turn makes the state Congested, and a too early return to Clear dearer.
func (e *Estimator) turn(now int64) {
	if e.state == Clear {
		switch {
		case e.returnAt != 0 && now-e.badAt < 2*e.returnAt:
			e.returnAt = min(2*e.returnAt, maxReturn)
		default:
			e.returnAt = firstReturn
		}
	}
	e.state, e.badAt = Congested, now
}

// onPlainLoss judges by receiver reports alone.
func (e *Estimator) onPlainLoss(now int64) {
	if e.losses.share <= lossLimit {
		e.strikes = 0
		return
	}
	if e.strikes++; e.strikes < strikeLimit {
		return
	}
	e.strikes = 0
	if e.state == Congested && now-e.badAt < growPlain+growPlain/2 {
		return // the last cut has not shown its effect yet
	}
	e.start(now)
	e.lower(now, e.through(now)*85/100)
}

// through is the rate that got through, in bits per second.
func (e *Estimator) through(now int64) int64 {
	if e.hasTWCC {
		return max(e.arrived.bps(), 0)
	}
	return int64(float64(e.sent.bps(now)) * (1 - e.losses.share))
}

// Tick lets the estimate grow. It should be called every 20 to 200 ms.
func (e *Estimator) Tick(now int64) {
	dt := now - e.tickAt
	e.tickAt = now
	if dt <= 0 || dt > second {
		return
	}
	e.start(now)
	arrived := e.through(now)
	e.idle = e.bps > 0 && e.sent.bps(now) < e.bps*idleNum/idleDen
	if e.free(now) {
		e.bps = max(e.bps, arrived)
		return
	}
	if e.silent(now) {
		return
	}
	e.forgetCapacity(now)
	if e.mayGrow(now) {
		grown := e.bps + int64(float64(e.growth())*float64(dt)/float64(second))
		bound := max(arrived*growRoomNum/growRoomDen, e.proved)
		if e.blind() {
			bound = maxBps
		}
		e.bps = max(e.bps, min(grown, bound, maxBps), e.carried(now))
	}
	if e.state == Congested && now-e.badAt >= e.quietTime(now) {
		e.state = Clear
	}
}

// carried is the rate that has arrived for a second without a queue: the path carries it,
// whatever the estimate was. More than the estimate is sent only at the beginning, where the
// owner does not keep to it yet, or where it is below the floor. 0 = not known.
func (e *Estimator) carried(now int64) int64 {
	if e.capacity != 0 || e.arrived.paused() || e.arrived.afterPause() {
		return 0 // it was too much before, or what comes at once tells of the receiver
	}
	return min(e.acked.bps(now), e.arrived.bps())
}

// quietTime is that after which congestion is over. With probes the state caps
// nothing, and may tell at once.
func (e *Estimator) quietTime(now int64) int64 {
	if e.guided(now) {
		return 2 * second
	}
	return e.returnAt
}

// blind says that the owner asked for probes and could send none, as to a receiver
// without retransmissions. Then growth is all there is.
func (e *Estimator) blind() bool { return e.probe.giveUps >= probeGiveUps }

func (e *Estimator) mayGrow(now int64) bool {
	quiet := e.response()
	if !e.hasTWCC {
		quiet = growPlain
	}
	return now-e.cutAt >= quiet && !e.draining && (!e.idle || e.blind()) && !e.delay.over &&
		e.delay.queue < queueGrow+e.delay.jitter() && e.losses.excess() < lossHold
}

// forgetCapacity forgets where congestion was when the estimate is well beyond that
// for long enough: the path is wider now.
func (e *Estimator) forgetCapacity(now int64) {
	switch {
	case e.capacity == 0 || e.bps <= e.capacity*12/10:
		e.beyondAt = 0
	case e.beyondAt == 0:
		e.beyondAt = now
	case now-e.beyondAt > beyondTime:
		e.capacity, e.beyondAt = 0, 0
	}
}

// growth is by how much the estimate may grow in a second: by about a packet in a
// response time near the rate at which the path was full last, and more away from it.
func (e *Estimator) growth() int64 {
	share := int64(float64(e.bps) * growPerSec)
	if e.capacity == 0 || e.bps < e.capacity*7/10 {
		return share
	}
	return min(share, max(4_000, growPacket*second/(e.response()+100*ms)))
}
