// Package bwe estimates what one subscriber's path carries, from what was sent and
// what the receiver says about it.
//
// It is pure: the clock and the network are arguments, and one goroutine (its
// sendq.Sender's) calls it, in this way:
//
//   - OnSent or OnSentPlain for each packet as it leaves, with the probe it belongs to;
//   - OnFeedback, OnLoss and OnRTT for what the receiver reports;
//   - Tick every 20 to 200 ms, and after it Snapshot, whose Bps is to be kept to in any
//     state, and NextProbe, with the rates that the owner could make use of. It sends the
//     probe that it is told of, calls ProbeSent, and asks again at the next Tick.
//
// The owner is told a Bps of 0, no limit, as long as nothing is known that could limit it.
package bwe

// State says what the estimate rests on, for those who watch. It changes nothing in
// how Snapshot.Bps is to be used.
type State int8

// The states.
const (
	Clear     State = iota // the path carries what is sent
	Congested              // a queue grows or packets are lost: less is sent
	Stalled                // the receiver reads or reports in bursts: its delays prove nothing
)

func (s State) String() string { return [...]string{"clear", "congested", "stalled"}[s] }

const (
	ms     = int64(1e6)
	second = int64(1e9)

	historySize = 1 << 12 // packets in flight that can be told apart; 1 s at 40 Mbit/s
	rateWindow  = second  // for the rates of sent and arrived bytes
	rateSlots   = 10
	delayWindow = 10 * second // in which the smallest delay counts as that of an empty queue

	// Congestion is taken as sure when one of these holds in successive reports.
	lossLimit  = 0.10 // Wi-Fi loses up to this at random
	lossMin    = 8    // packets in the window; a few of few prove nothing
	queueLimit = 200 * ms
	strikes    = 2

	minBps      = 30_000 // what is never cut below: audio must fit
	growPerSec  = 0.08   // of the estimate
	growStart   = second // quiet time before the estimate grows
	firstReturn = 15 * second
	maxReturn   = 4 * 60 * second
	// growRoom bounds the estimate by what arrives: more was never tried.
	growRoomNum, growRoomDen = 3, 2
)

// Ack says what became of one packet. Arrival is on the receiver's clock, whose
// origin does not matter.
type Ack struct {
	Seq      uint16
	Received bool
	Arrival  int64 // ns, when Received
}

// Probe is a run of packets to send at rate Bps, one after the other: media as far as
// there is any, else retransmissions or padding, of Size bytes or less, until Packets of
// them have left. Bytes is their sum if all have that size. Each is told to OnSent with ID.
type Probe struct {
	ID      int32 // never 0
	Bps     int64
	Packets int
	Size    int
	Bytes   int
}

// Snapshot is the estimator's view of the path.
type Snapshot struct {
	State    State
	Bps      int64   // what may be sent in all, bits per second; 0 = no limit is known
	AckedBps int64   // what arrived in the last second
	SentBps  int64   // what was sent in the last second
	Loss     float64 // in the last second, 0…1
	RTT      int64   // smoothed, ns; 0 = not known
	Queue    int64   // standing delay above the smallest known, ns
	Idle     bool    // much less is sent than Bps: the estimate rests, only probes raise it
}

type sentInfo struct {
	seq  uint16
	size int32
	at   int64
}

// Estimator is one path's estimate. The zero value is ready.
type Estimator struct {
	history [historySize]sentInfo
	sent    rate // bytes
	acked   rate // bytes
	got     rate // packets
	lost    rate // packets
	hasTWCC bool

	minDelay    [2]int64 // smallest arrival − departure of this window and the last
	windows     int      // of minDelay that are filled
	windowStart int64
	queue       int64

	loss     float64
	strikes  int
	state    State
	bps      int64
	badAt    int64 // last sign of congestion
	tickAt   int64
	returnAt int64 // quiet time after which the state is Clear again
	rtt      int64
}

// OnSent notes a packet that carries transport-wide number seq; size is in bytes, and
// probe the ID of the probe that it is part of, 0 for none.
func (e *Estimator) OnSent(seq uint16, size int, now int64, _ int32) {
	e.history[seq%historySize] = sentInfo{seq, int32(size), now}
	e.sent.add(now, int64(size))
}

// OnSentPlain notes a packet that carries no transport-wide number.
func (e *Estimator) OnSentPlain(size int, now int64) { e.sent.add(now, int64(size)) }

// OnFeedback takes in one transport-wide report.
func (e *Estimator) OnFeedback(now int64, acks []Ack) {
	e.hasTWCC = true
	var got, lost int
	delay := int64(-1 << 62)
	least := int64(1 << 62)
	for _, a := range acks {
		s := &e.history[a.Seq%historySize]
		if s.at == 0 || s.seq != a.Seq {
			continue // unknown, or already told of
		}
		if !a.Received {
			lost++ // may still be told of as received by a later report
			continue
		}
		got++
		e.acked.add(now, int64(s.size))
		delay = max(delay, a.Arrival-s.at)
		least = min(least, a.Arrival-s.at)
		s.at = 0
	}
	if got > 0 {
		e.noteDelay(now, least)
		e.queue = least - e.baseDelay()
	}
	if got+lost == 0 {
		return
	}
	e.got.add(now, int64(got))
	e.lost.add(now, int64(lost))
	e.loss = float64(e.lost.sum) / float64(max(1, e.got.sum+e.lost.sum))
	e.judge(now, e.lost.sum >= lossMin)
}

// OnLoss takes in a report block's fraction lost, in 1/256. It counts only for
// receivers that send no transport-wide feedback, which tells the same better.
func (e *Estimator) OnLoss(now int64, fraction uint8) {
	if e.hasTWCC {
		return
	}
	e.loss += (float64(fraction)/256 - e.loss) / 2
	e.judge(now, true)
}

// OnRTT takes in a round trip time that a receiver report shows (RFC 3550 §6.4.1).
func (e *Estimator) OnRTT(_, rtt int64) {
	if e.rtt == 0 {
		e.rtt = rtt
	}
	e.rtt += (rtt - e.rtt) / 8
}

// NextProbe returns the probe to send now, if any. step is the rate at which the owner
// could take its next step (alloc.Result.StepBps), want that at which it could send all
// that is asked of it (alloc.Result.WantBps), in bits per second; a step of 0 asks for none.
func (e *Estimator) NextProbe(_, _, _ int64) (Probe, bool) { return Probe{}, false }

// ProbeSent says that the last packet of a probe has left, or that the owner gave it
// up: what is told of it later is judged as far as it goes.
func (e *Estimator) ProbeSent(_ int32, _ int64) {}

func (e *Estimator) noteDelay(now, d int64) {
	switch {
	case e.windows == 0:
		e.windows, e.minDelay[0], e.windowStart = 1, d, now
	case now-e.windowStart > delayWindow:
		e.minDelay[1], e.minDelay[0] = e.minDelay[0], d
		e.windows, e.windowStart = 2, now
	default:
		e.minDelay[0] = min(e.minDelay[0], d)
	}
}

func (e *Estimator) baseDelay() int64 {
	if e.windows == 2 {
		return min(e.minDelay[0], e.minDelay[1])
	}
	return e.minDelay[0]
}

// judge counts signs of congestion and cuts the estimate at the second in a row.
func (e *Estimator) judge(now int64, lossCounts bool) {
	if (e.loss <= lossLimit || !lossCounts) && e.queue <= queueLimit {
		e.strikes = 0
		return
	}
	e.strikes++
	if e.strikes < strikes {
		return
	}
	e.strikes = 0
	e.cut(now)
}

func (e *Estimator) cut(now int64) {
	arrived := e.arrived(now)
	target := arrived * 85 / 100
	if e.state == Congested {
		if now-e.badAt < second+second/2 {
			return // the last cut has not shown its effect yet
		}
		target = min(target, e.bps*85/100)
	} else if e.returnAt == 0 {
		e.returnAt = firstReturn
	} else if now-e.badAt < 2*e.returnAt {
		e.returnAt = min(2*e.returnAt, maxReturn) // the return to Clear was too early
	} else {
		e.returnAt = firstReturn
	}
	e.state, e.badAt = Congested, now
	e.bps = max(target, minBps)
}

// arrived is the rate that got through, in bits per second.
func (e *Estimator) arrived(now int64) int64 {
	if e.hasTWCC {
		return e.acked.bps(now)
	}
	return int64(float64(e.sent.bps(now)) * (1 - e.loss))
}

// Tick lets the estimate grow. It should be called every 20 to 200 ms.
func (e *Estimator) Tick(now int64) {
	dt := now - e.tickAt
	e.tickAt = now
	if dt <= 0 || dt > second {
		return
	}
	arrived := e.arrived(now)
	if e.state == Clear {
		e.bps = max(e.bps, arrived)
		return
	}
	quiet := now - e.badAt
	if quiet < growStart {
		return
	}
	grown := e.bps + int64(float64(e.bps)*growPerSec*float64(dt)/float64(second))
	e.bps = max(e.bps, min(grown, arrived*growRoomNum/growRoomDen))
	if quiet >= e.returnAt {
		e.state = Clear
	}
}

// Snapshot returns the present view.
func (e *Estimator) Snapshot(now int64) Snapshot {
	bps := e.bps
	if e.state == Clear {
		bps = 0
	}
	return Snapshot{
		State:    e.state,
		Bps:      bps,
		AckedBps: e.acked.bps(now),
		SentBps:  e.sent.bps(now),
		Loss:     e.loss,
		RTT:      e.rtt,
		Queue:    e.queue,
	}
}

// rate sums bytes or packets over the last rateWindow, in rateSlots steps, and what
// has passed of the present one.
type rate struct {
	slots [rateSlots + 1]int64
	slot  int64 // number of the newest slot
	sum   int64
}

const slotTime = rateWindow / rateSlots

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
