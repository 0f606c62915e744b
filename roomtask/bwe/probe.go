package bwe

const (
	probeTime    = 15 * ms
	probePackets = 5
	probeSize    = 1200 // bytes of one packet, at most and at least
	probeSmall   = 200
	probeFirst   = 3  // times the initial estimate
	probeNext    = 2  // times the estimate
	probeEnough  = 90 // per cent of the rate sent that must arrive for success
	probeWait    = 500 * ms
	probeSettle  = 2 * second // in which congestion is blamed on the probe
	probePause   = 3 * second // after a failure, and doubling
	probeMax     = 4 * second
	probeTail    = 200 * ms    // after it was judged
	probeDoubt   = 30 * second // after a cut, in which one probe is not enough
	probeCalm    = second      // after a cut, before the next
	probeAgain   = 500 * ms    // after one that told nothing, at least
	probeLeast   = 4           // packets that arrive tell a rate
	probeVague   = 3           // so many that tell nothing in a row are a failure
	probeGiveUps = 3           // so many that could not be sent: the owner has no means
	// A probe of which most of the time is one gap met a receiver that paused.
	probeGapNum, probeGapDen = 6, 10
)

// Probe is a run of packets to send at rate Bps, one after the other: media as far as
// there is any, else retransmissions or padding, of Size bytes or less, until at least
// Packets of them, and Bytes in all, have left. Each is told to OnSent with ID, and the
// end to ProbeSent.
type Probe struct {
	ID      int32 // never 0
	Bps     int64
	Packets int
	Size    int
	Bytes   int
}

// prober knows of the last probe.
type prober struct {
	id      int32 // of the last; its low byte is never 0 after the first
	sending bool  // asked for, and not all sent
	waiting bool  // sent, and not judged
	any     bool  // there was one that told something
	twice   bool  // the next is to confirm the last
	target  int64
	askedAt int64

	sent, first, last, lastSize     int64
	got, gotFirst, gotLast, gotSize int64
	gotGap                          int64 // the longest between two
	count, gotCount                 int

	judgedAt int64
	nextAt   int64
	pause    int64
	vague    int // in a row
	giveUps  int // in a row
}

// disturbs says that a growing delay may be that of the probe itself, which is meant
// to fill the path for a moment.
func (p *prober) disturbs(now int64) bool {
	return p.sending || p.waiting || (p.judgedAt != 0 && now-p.judgedAt < probeTail)
}

// NextProbe returns the probe to send now, if any. step is the rate at which the owner
// could take its next step (alloc.Result.StepBps), want that at which it could send all
// that is asked of it (alloc.Result.WantBps), in bits per second; a step of 0 asks for none.
func (e *Estimator) NextProbe(now, step, want int64) (Probe, bool) {
	p := &e.probe
	e.start(now)
	if p.sending && now-p.askedAt > second {
		e.ProbeSent(p.id, now)
	}
	if !e.guided(now) || step <= e.bps || p.sending || p.waiting || now < p.nextAt || e.numbered == 0 || !e.calm(now) {
		return Probe{}, false
	}
	target := min(e.probeTarget(step), max(step, want)+max(step, want)/10, maxBps)
	bytes := int(target * probeTime / second / 8)
	n := max(probePackets, bytes/probeSize) + 1 // the last counts for the time of its leaving alone
	size := min(max(bytes/(n-1), probeSmall), probeSize)
	id := p.id + 1
	if id&0xff == 0 {
		id++
	}
	*p = prober{
		id: id, sending: true, target: target, askedAt: now, any: p.any, twice: p.twice,
		nextAt: p.nextAt, pause: p.pause, vague: p.vague, giveUps: p.giveUps,
	}
	return Probe{ID: id, Bps: target, Packets: n, Size: size, Bytes: n * size}, true
}

// probeTarget is the rate to try: three times the first estimate, later what the step
// takes, up to twice the estimate, and not much less than that, as every probe costs a
// round trip.
func (e *Estimator) probeTarget(step int64) int64 {
	if !e.probe.any {
		return e.bps * probeFirst
	}
	if e.bps < e.floor {
		return e.bps * probeNext // nothing is seen until then
	}
	return min(max(step+step/10, e.bps*3/2), e.bps*probeNext)
}

// ProbeSent says that the last packet of a probe has left, or that the owner gave it
// up: what is told of it later is judged as far as it goes.
func (e *Estimator) ProbeSent(id int32, now int64) {
	p := &e.probe
	if id != p.id || !p.sending {
		return
	}
	p.sending = false
	if p.count < probePackets-1 {
		p.giveUps++
		p.nextAt = now + probeAgain
		return
	}
	p.waiting, p.giveUps = true, 0
}

// calm says that nothing speaks against a probe.
func (e *Estimator) calm(now int64) bool {
	return !e.draining && !e.delay.over && e.delay.queue < queueGrow+e.delay.jitter() && e.losses.excess() < lossLimit &&
		(e.cutAt == 0 || now-e.cutAt > probeCalm+e.response())
}

func (p *prober) onSent(size, now int64) {
	if p.count == 0 {
		p.first = now
	}
	p.count++
	p.sent += size
	p.last, p.lastSize = now, size
}

func (p *prober) onArrival(size, at int64) {
	if p.gotCount == 0 || at < p.gotFirst {
		p.gotFirst, p.gotSize = at, size
	}
	if p.gotCount == 0 {
		p.gotLast = at
	}
	p.gotGap = max(p.gotGap, at-p.gotLast)
	p.gotLast = max(p.gotLast, at)
	p.gotCount++
	p.got += size
}

// failed makes the next probe wait.
func (p *prober) failed(now int64) {
	p.twice = false
	p.pause = min(max(probePause, 2*p.pause), probeMax)
	p.nextAt = now + p.pause
}

// onProbe judges the probe when all of it is told of; newest is when the last packet
// left that the present report has.
func (e *Estimator) onProbe(now, newest int64) {
	p := &e.probe
	if !p.waiting {
		return
	}
	if p.gotCount < p.count && newest <= p.last && now-p.last < e.response()+probeWait {
		return
	}
	p.waiting, p.judgedAt = false, now
	rate, outcome := p.result(e.losses.own)
	if rate == 0 {
		p.nextAt = now + second // lost: that tells nothing
		return
	}
	p.any = true
	if e.draining {
		p.failed(now)
		return
	}
	switch {
	case outcome == slowed: // it filled the path: this is what the path carries
		p.failed(now)
		if e.capacity == 0 {
			e.capacity = rate
		}
		rate = rate * keepNum / keepDen
	case outcome == unclear:
		p.nextAt = now + max(probeAgain, e.response())
		if p.vague++; p.vague >= probeVague {
			p.vague = 0
			p.failed(now)
		}
	case e.queuedAt != 0 && now-e.queuedAt < probeDoubt && !p.twice:
		// In the gaps of another flow a probe passes as if alone; hardly twice.
		p.twice = true
		p.nextAt = now + e.response()/2 + int64(p.id%4)*10*ms
		return
	default:
		p.nextAt = now + e.response()
		if p.twice && e.capacity < e.floor && rate > e.capacity*3/2 {
			e.capacity = 0 // it was a path for audio alone, and is another one now
		}
	}
	if outcome != unclear {
		p.vague = 0
	}
	p.twice = false
	if full := e.capacity * keepNum / keepDen; full > 0 && rate > full {
		// Here the path was full before, perhaps with what others sent, of which a probe
		// sees little. One step beyond, and wait.
		rate = min(rate, max(full, e.bps*4/3))
		p.nextAt = max(p.nextAt, now+2*e.response()+500*ms)
	}
	rate = min(rate, p.target+p.target/10) // a run that left at once proves no more than was asked
	if rate > e.bps {
		e.settleAt = now + probeSettle
		e.bps, e.proved = min(rate, maxBps), rate
	}
}

// outcome says what became of a probe.
type outcome int8

const (
	passed  outcome = iota // as fast as it was sent
	slowed                 // it was spread on the way
	unclear                // its packets are too unequal to tell, or the receiver paused meanwhile
)

// result is the rate that the probe showed at least, 0 = none. A fifth may be missing of what
// a path lets through that loses the share own of everything, whatever is sent.
func (p *prober) result(own float64) (bps int64, o outcome) {
	least := float64(p.count) * (1 - own)
	if p.gotCount < probeLeast || float64(p.gotCount) < least*0.8 {
		return 0, unclear
	}
	took, spread := p.last-p.first, p.gotLast-p.gotFirst
	if took <= 0 {
		return 0, unclear
	}
	sent := (p.sent - p.lastSize) * 8 * second / took
	if spread <= 0 {
		return sent, passed
	}
	got := (p.got - p.gotSize) * 8 * second / spread
	switch {
	case got >= sent*probeEnough/100:
		return sent, passed
	case spread > took && p.gotGap > spread*probeGapNum/probeGapDen:
		return got, unclear
	case spread*probeEnough/100 > took:
		return got, slowed
	case p.gotSize*int64(p.gotCount) > p.got*12/10:
		// The first was large. Those after it came in the time in which they were sent
		// either because nothing held them, or because they waited for it.
		return got, unclear
	}
	return sent, passed
}
