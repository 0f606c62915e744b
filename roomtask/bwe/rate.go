package bwe

const (
	rateWindow = second // for the rates of sent and arrived bytes, by our clock
	rateSlots  = 10
	slotTime   = rateWindow / rateSlots
)

// rate sums bytes or packets over the last rateWindow, in rateSlots steps, and what
// has passed of the present one.
type rate struct {
	slots [rateSlots + 1]int64
	slot  int64 // number of the newest slot
	sum   int64
}

func (r *rate) add(now, n int64) {
	r.advance(now)
	r.slots[r.slot%(rateSlots+1)] += n
	r.sum += n
}

func (r *rate) advance(now int64) {
	slot := now / slotTime
	for steps := 0; r.slot < slot && steps <= rateSlots; steps++ {
		r.slot++
		r.sum -= r.slots[r.slot%(rateSlots+1)]
		r.slots[r.slot%(rateSlots+1)] = 0
	}
	r.slot = max(r.slot, slot)
}

func (r *rate) bps(now int64) int64 {
	r.advance(now)
	return r.sum * 8 * second / (rateWindow + now%slotTime)
}

// spread is in how many of the steps there was something.
func (r *rate) spread() (n int) {
	for _, s := range r.slots {
		if s > 0 {
			n++
		}
	}
	return n
}

const (
	arrivalStep  = 25 * ms
	arrivalSteps = 20         // 500 ms
	arrivalShort = 8          // 200 ms
	arrivalJump  = 5 * second // a clock that leaps further is another clock
	// A packet of 1200 bytes takes 100 ms at 96 kbit/s; a longer time without any is the
	// receiver's, or the path is broken.
	pauseMin    = 150 * ms
	pauseForget = second
	pauseRead   = 50 * ms
	// A path that carries any video has no longer gap than this between the packets of a
	// full queue: 1200 bytes take 32 ms at 300 kbit/s.
	evenGap     = 40 * ms
	arrivalWarm = arrivalShort // steps before a rate means something
)

// arrivals sums bytes over the last 500 ms of the receiver's clock, so that neither
// the time between reports nor theirs on the way changes the rate.
type arrivals struct {
	steps [arrivalSteps + 1]int64 // the newest is still filling
	step  int64                   // number of the newest
	first int64                   // number of the first
	last  int64                   // arrival
	any   bool

	pauseEnd int64 // when the first packet after a pause arrived
	evenFrom int64 // when the first packet after a gap arrived
}

// even is for how long packets came without a gap.
func (a *arrivals) even() int64 { return a.last - a.evenFrom }

// afterPause says that nothing arrived for a while, and that what waited meanwhile may
// not have been read yet: no rate and no delay means anything now.
func (a *arrivals) afterPause() bool { return a.pauseEnd != 0 && a.last-a.pauseEnd < pauseRead }

// paused says that such a pause ended not long ago, and rates are not what they seem.
func (a *arrivals) paused() bool { return a.pauseEnd != 0 && a.last-a.pauseEnd < pauseForget }

func (a *arrivals) add(at, bytes int64) {
	step := at / arrivalStep
	if d := step - a.step; !a.any || d > arrivalJump/arrivalStep || d < -arrivalJump/arrivalStep {
		*a = arrivals{step: step, first: step, last: at, any: true, evenFrom: at}
	}
	if at-a.last > evenGap {
		a.evenFrom = at
	}
	if at-a.last > pauseMin {
		a.pauseEnd = at
	}
	a.last = max(a.last, at)
	for a.step < step {
		a.step++
		a.steps[a.at(a.step)] = 0
	}
	if step > a.step-int64(len(a.steps)) {
		a.steps[a.at(step)] += bytes
	}
}

func (a *arrivals) at(step int64) int64 {
	const n = arrivalSteps + 1
	return (step%n + n) % n
}

// bps is the rate of the last 500 ms, or of as much as there is; 0 = not known yet.
func (a *arrivals) bps() int64 { return a.over(arrivalSteps) }

// now is the rate of the last 200 ms.
func (a *arrivals) now() int64 { return a.over(arrivalShort) }

func (a *arrivals) over(steps int64) int64 {
	steps = min(steps, a.step-a.first)
	if steps < arrivalWarm {
		return 0
	}
	var sum int64
	for i := a.step - steps; i <= a.step; i++ {
		sum += a.steps[a.at(i)]
	}
	return sum * 8 * second / (steps*arrivalStep + a.last - a.step*arrivalStep)
}
