package bwe

const (
	growPerSec = 0.08  // of the estimate, far from the last congestion
	growPacket = 9_600 // bits per response time, near it
	growPlain  = second
	// The estimate is bounded by this much of what arrives, unless a probe proved it.
	growRoomNum, growRoomDen = 3, 2
	idleNum, idleDen         = 65, 100 // sent below this share of the estimate: idle

	queueLimit  = 100 * ms // of a standing queue, whatever its trend
	queueClear  = 200 * ms // the same, before anything is known and without probes
	queueGrow   = 60 * ms  // the estimate does not grow above it
	queueEmpty  = 20 * ms
	strikeLimit = 2 // reports in a row

	trialNum, trialDen = 85, 100 // the same for loss: enough to show whether it helps
	keepNum, keepDen   = 90, 100 // of what arrived, after a cut
	drainTime          = 1500 * ms
	drainPatience      = 3 * second
	silence            = 700 * ms // without a report
	beyondTime         = 1500 * ms
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
	e.start()
	least := e.delay.takeLeast()
	if e.draining {
		e.drain(now)
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
	limit := queueLimit
	if e.free() {
		limit = queueClear
	}
	if least > limit+e.delay.jitter() && !e.delay.down {
		e.strikes++
	} else {
		e.strikes = 0
	}
	over := e.delay.over && !e.probe.disturbs(now)
	if e.free() {
		over = over && e.delay.queue > queueLimit
	}
	if over || e.strikes >= strikeLimit || e.bothGrow(now) {
		e.strikes = 0
		e.cutForDelay(now)
	}
}

// bothGrow says that there is loss, and a queue that grows: together they need less
// proof than each alone.
func (e *Estimator) bothGrow(now int64) bool {
	return e.losses.excess() > lossHold && e.delay.trend > e.delay.threshold &&
		e.delay.queue > queueEmpty+e.delay.jitter() && !e.probe.disturbs(now)
}

// free says that the owner sends without a cap.
func (e *Estimator) free() bool { return !e.Probing && e.state == Clear }

func (e *Estimator) start() {
	if e.Probing && e.bps == 0 {
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
	e.remeasure = recent < arrived*3/4
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
	if e.idle {
		keep = max(keep, e.bps*7/10) // it is hardly our traffic that fills the queue
	}
	low := min(keep, e.drainRate(arrived))
	if e.idle {
		low = keep
	}
	e.draining, e.drainAt, e.queuedAt, e.resume = true, now, now, keep
	e.losses.forget(now, e.response()) // what was lost overflowed from that queue
	e.lower(now, low)
}

// drainRate is the rate at which the queue empties in about drainTime.
func (e *Estimator) drainRate(arrived int64) int64 {
	f := 1 - float64(e.delay.queue)/float64(drainTime)
	return int64(float64(arrived) * min(max(f, 0.5), 0.85))
}

// drain waits for the queue to empty.
func (e *Estimator) drain(now int64) {
	since := now - e.cutAt
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
	case now-e.drainAt > drainPatience && !e.delay.over && e.delay.queue < 4*queueLimit:
		e.delay.rebase() // it does not empty: it is no queue of ours
		e.draining = false
		e.bps = max(e.bps, min(e.resume, maxBps))
	case since > e.response()+250*ms && !e.delay.down:
		at, resume, grows := e.drainAt, e.resume, e.delay.over
		e.cutForDelay(now)
		e.drainAt = at
		if !grows && !e.remeasure {
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
		arrived = max(min(arrived, e.arrived.now()), e.bps/4)
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
	if !e.free() {
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
	e.start()
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
	e.start()
	arrived := e.through(now)
	e.idle = e.bps > 0 && e.sent.bps(now) < e.bps*idleNum/idleDen
	if e.free() {
		e.bps = max(e.bps, arrived)
		return
	}
	if e.silent(now) {
		e.lower(now, e.bps/2)
		return
	}
	e.forgetCapacity(now)
	if e.mayGrow(now) {
		grown := e.bps + int64(float64(e.growth())*float64(dt)/float64(second))
		bound := max(arrived*growRoomNum/growRoomDen, e.proved)
		e.bps = max(e.bps, min(grown, bound, maxBps))
	}
	if e.state == Congested && now-e.badAt >= e.quietTime() {
		e.state = Clear
	}
}

// silent says that reports stopped although packets are sent: nothing gets through,
// there or back.
func (e *Estimator) silent(now int64) bool {
	wait := silence + 2*e.rtt
	return e.hasTWCC && now-e.reportAt > wait && now-e.cutAt > wait && e.sent.bps(now) > 0
}

// quietTime is that after which congestion is over. With probes the state caps
// nothing, and may tell at once.
func (e *Estimator) quietTime() int64 {
	if e.Probing {
		return 2 * second
	}
	return e.returnAt
}

func (e *Estimator) mayGrow(now int64) bool {
	quiet := e.response()
	if !e.hasTWCC {
		quiet = growPlain
	}
	return now-e.cutAt >= quiet && !e.draining && !e.idle && !e.delay.over &&
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
