package bwe

const (
	groupTime   = 5 * ms      // packets that left within this make one group
	trendSize   = 20          // groups that make the trend
	baseWindow  = 10 * second // in one or two of which the smallest delay is that of an empty queue
	delayJump   = 10 * second // a clock that leaps further is another clock
	smoothing   = 0.3         // weight of a new group
	noiseWeight = 1.0 / 64    // likewise, slow: a growing queue is no noise

	// The trend is compared as the delay that it would add over this many groups of
	// 1 ms, with a threshold in ms that adapts to what is usual on this path
	// (draft-ietf-rmcat-gcc-02 §5.4): an idle path's jitter raises it, and so does a
	// competing flow that fills the queue by loss, before which a fixed one starves.
	trendGain    = 4.0
	trendGroups  = 60
	thresholdMin = 6.0
	thresholdMax = 600.0
	thresholdUp  = 0.0087 // per ms
	thresholdDn  = 0.039
	overTime     = 10 * ms // a trend must last
	usualQueue   = 30 * ms // above this, the threshold does not get used to growth
	trendQueue   = 40 * ms // a growing delay below this is jitter, or a keyframe on its way
	// Packets that arrive this close together, and several times as fast as they were
	// sent, waited for the receiver and not for the path: they make one group.
	burstGap   = 2 * ms
	burstTime  = 20 * ms
	burstFast  = 4
	burstReach = 2 * second // of sending
	drainFast  = 4          // a queue that shrinks by a part of the time that passes
)

// delayTrend watches the one-way delay, whose origin is unknown as the clocks are not
// the same. Of each group the smallest delay counts: that is what the queue adds,
// while the others wait for packets of their own group, or for a receiver that paused
// and then reads at once all that came meanwhile.
type delayTrend struct {
	groupAt    int64 // when the present group began to be sent; 0 = none
	groupEnd   int64 // when its fastest packet arrived
	groupFirst int64 // when its first packet arrived
	groupLast  int64 // when its last packet arrived
	groupDelay int64 // the smallest

	at        [trendSize]float64 // ms, of arrival since origin
	delay     [trendSize]float64 // ms, smoothed, since origin
	count     int                // groups ever
	origin    int64              // first delay
	lastDelay int64              // of the last group
	start     int64              // first arrival
	smoothed  float64            // ms
	noise     float64            // ms, mean distance of single groups from smoothed

	trend     float64 // ms, compared with threshold
	slope     float64 // ms per ms
	threshold float64 // 0 = not set
	overFor   int64   // ns
	last      int64   // arrival of the last group

	minDelay    [2]int64 // of this window and the one before
	windows     int      // of minDelay that are filled
	windowStart int64
	queue       int64 // smoothed delay above the smallest
	fell        int64 // by how much the delay of groups fell since takeLeast, negative = it rose
	fellFor     int64 // over so long
	least       int64 // smallest delay of a group since takeLeast, above base; −1 = there was none

	over bool // the delay grows
	down bool // it falls
}

// add notes a packet that was sent and arrived at those times, each on its own clock.
func (d *delayTrend) add(sent, arrival int64) {
	delay := arrival - sent
	if d.groupAt != 0 && (delay-d.groupDelay > delayJump || d.groupDelay-delay > delayJump) {
		*d = delayTrend{threshold: d.threshold}
	}
	switch {
	case d.groupAt == 0:
	case sent < d.groupAt:
		return // told late: its group is done
	case sent-d.groupAt <= groupTime || d.inBurst(sent, arrival, delay):
		if delay < d.groupDelay {
			d.groupDelay, d.groupEnd = delay, arrival
		}
		d.groupLast = max(d.groupLast, arrival)
		return
	default:
		d.finish()
	}
	d.groupAt, d.groupEnd, d.groupDelay = sent, arrival, delay
	d.groupFirst, d.groupLast = arrival, arrival
}

// inBurst says that a packet belongs to the present group though it was sent later.
func (d *delayTrend) inBurst(sent, arrival, delay int64) bool {
	since := sent - d.groupAt
	return delay < d.groupDelay && arrival-d.groupLast <= burstGap && since <= burstReach &&
		arrival-d.groupFirst <= max(burstTime, since/burstFast)
}

// finish takes in the present group.
func (d *delayTrend) finish() {
	if d.count == 0 {
		d.origin, d.start, d.last = d.groupDelay, d.groupEnd, d.groupEnd
		d.minDelay[0], d.windows, d.windowStart = d.groupDelay, 1, d.groupEnd
		d.lastDelay = d.groupDelay
	}
	d.noteBase()
	raw := float64(d.groupDelay-d.origin) / float64(ms)
	if d.count == 0 {
		d.smoothed = raw
	}
	d.smoothed += smoothing * (raw - d.smoothed)
	d.noise += noiseWeight * (max(raw-d.smoothed, d.smoothed-raw) - d.noise)
	i := d.count % trendSize
	d.at[i], d.delay[i] = float64(d.groupEnd-d.start)/float64(ms), d.smoothed
	d.count++
	d.queue = max(0, int64(d.smoothed*float64(ms))-(d.base()-d.origin))
	d.fell += d.lastDelay - d.groupDelay
	d.fellFor += max(0, d.groupEnd-d.last)
	d.lastDelay = d.groupDelay
	if q := d.groupDelay - d.base(); d.least < 0 || q < d.least {
		d.least = q
	}
	if d.count >= trendSize {
		d.judge(max(0, d.groupEnd-d.last))
	}
	d.last = d.groupEnd
}

func (d *delayTrend) noteBase() {
	if d.groupEnd-d.windowStart > baseWindow {
		d.minDelay[1], d.minDelay[0] = d.minDelay[0], d.groupDelay
		d.windows, d.windowStart = 2, d.groupEnd
	}
	d.minDelay[0] = min(d.minDelay[0], d.groupDelay)
}

func (d *delayTrend) base() int64 {
	if d.windows == 2 {
		return min(d.minDelay[0], d.minDelay[1])
	}
	return d.minDelay[0]
}

// jitter is how much of queue is no queue: the mean of delays that vary, above the
// smallest of them.
func (d *delayTrend) jitter() int64 { return int64(2 * d.noise * float64(ms)) }

// takeLeast returns what even the fastest group waited since the last call, 0 if there
// was none, and whether the delay fell meanwhile, so fast that it will be gone soon.
func (d *delayTrend) takeLeast() (least int64, drains bool) {
	least, drains = max(0, d.least), d.fell > 0 && d.fell*drainFast > d.fellFor
	d.least, d.fell, d.fellFor = -1, 0, 0
	return least, drains
}

// rebase takes the present delay for that of an empty queue: the path became longer.
func (d *delayTrend) rebase() {
	d.windows = 1
	d.minDelay[0] = d.origin + int64(d.smoothed*float64(ms))
	d.windowStart = d.last
	d.queue = 0
}

// judge compares the trend with the threshold; dt is the time since the last group.
func (d *delayTrend) judge(dt int64) {
	before := d.slope
	d.slope = d.regress()
	d.trend = d.slope * trendGain * float64(min(d.count, trendGroups))
	if d.threshold == 0 {
		d.threshold = 12.5
	}
	d.down = d.trend < -d.threshold
	switch {
	case d.trend <= d.threshold+d.noise/2 || d.queue < trendQueue+d.jitter():
		d.overFor, d.over = 0, false
	default:
		d.overFor += dt
		d.over = d.overFor > overTime && d.slope >= before
	}
	size := max(d.trend, -d.trend)
	if size > d.threshold+15 || (size > d.threshold && d.queue > usualQueue+d.jitter()) {
		return // not what is usual on an idle path
	}
	k := thresholdUp
	if size < d.threshold {
		k = thresholdDn
	}
	d.threshold += k * (size - d.threshold) * float64(min(dt, 100*ms)) / float64(ms)
	d.threshold = min(max(d.threshold, thresholdMin), thresholdMax)
}

// regress is the slope of the smoothed delay over time, by least squares.
func (d *delayTrend) regress() float64 {
	var x, y float64
	for i := range trendSize {
		x += d.at[i]
		y += d.delay[i]
	}
	x, y = x/trendSize, y/trendSize
	var xy, xx float64
	for i := range trendSize {
		xy += (d.at[i] - x) * (d.delay[i] - y)
		xx += (d.at[i] - x) * (d.at[i] - x)
	}
	if xx == 0 {
		return 0
	}
	return xy / xx
}
