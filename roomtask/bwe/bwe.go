// Package bwe estimates what one subscriber's path carries, from what was sent and
// what the receiver says about it.
//
// It is pure: the clock and the network are arguments, and one goroutine (its
// sendq.Sender's) calls it. Congestion is seen in three ways: the delay of packets
// grows (delay.go), a queue stands, or much is lost (loss.go). Then the estimate is
// cut to what really arrived, and for as long below that as the queue needs to empty.
// Else it grows (control.go): slowly, never beyond 1.5 times what arrives, unless a
// probe (probe.go) proved that there is more.
//
// An owner that sends probes (Probing) is told a rate to keep to at any time. One that
// does not cannot learn of room that it never used. For it Snapshot says Clear,
// meaning that nothing should be capped, until there is a clear sign of congestion,
// and again when the path has been quiet long enough; each failed return makes that
// time longer.
//
// Read this file first, then control.go.
package bwe

// State says whether the estimate is to be kept to.
type State int8

// The states.
const (
	Clear     State = iota // no congestion. Without probes: no cap, the estimate is only informative
	Congested              // keep to Bps
)

func (s State) String() string { return [...]string{"clear", "congested"}[s] }

const (
	ms     = int64(1e6)
	second = int64(1e9)

	historySize = 1 << 12 // packets in flight that can be told apart; 1 s at 40 Mbit/s

	initialBps = 500_000 // with probes, until something is known
	minBps     = 30_000  // what is never cut below: audio must fit
	maxBps     = 200_000_000

	defaultRTT = 200 * ms
)

// Ack says what became of one packet. Arrival is on the receiver's clock, whose
// origin does not matter.
type Ack struct {
	Seq      uint16
	Received bool
	Arrival  int64 // ns, when Received
}

// Snapshot is the estimator's view of the path.
type Snapshot struct {
	State    State
	Bps      int64   // 0 = not known; bits per second
	AckedBps int64   // what arrived in the last second
	SentBps  int64   // what was sent in the last second
	Loss     float64 // in the last second, 0…1
	Queue    int64   // standing delay above the smallest known, ns
	RTT      int64   // as reports show it, with the time they wait; 0 = unknown; ns
	Idle     bool    // much less is sent than the path carries: the estimate rests
}

type sentInfo struct {
	at      int64 // 0 = unknown, or told of as received
	seq     uint16
	size    uint16
	cluster uint8 // of a probe, 0 = none
	lost    bool  // told of as lost, which a later report may take back
}

// Estimator is one path's estimate. The zero value is ready.
type Estimator struct {
	// Probing is set before first use by an owner that asks NextProbe at each tick,
	// sends what it says, and keeps to Bps in either state.
	Probing bool

	history  [historySize]sentInfo
	sent     rate // bytes, by our clock
	acked    rate // bytes, by our clock
	arrived  arrivals
	delay    delayTrend
	losses   lossRule
	probe    prober
	hasTWCC  bool
	rtt      int64 // 0 = unknown
	reportAt int64 // when the last report came

	control
}

// OnSent notes a packet that carries transport-wide number seq; size is in bytes.
// While a probe is being sent, media belongs to it as well.
func (e *Estimator) OnSent(seq uint16, size int, now int64) {
	s := sentInfo{at: now, seq: seq, size: uint16(min(size, 1<<16-1))}
	if e.probe.sending {
		s.cluster = e.probe.id
		e.probe.onSent(int64(s.size), now)
	}
	e.history[seq%historySize] = s
	e.sent.add(now, int64(size))
}

// OnSentPlain notes a packet that carries no transport-wide number.
func (e *Estimator) OnSentPlain(size int, now int64) { e.sent.add(now, int64(size)) }

// OnFeedback takes in one transport-wide report.
func (e *Estimator) OnFeedback(now int64, acks []Ack) {
	e.hasTWCC, e.reportAt = true, now
	var got, lost, newest int64
	for i := range acks {
		a := &acks[i]
		s := &e.history[a.Seq%historySize]
		if s.at == 0 || s.seq != a.Seq {
			continue // unknown, or already told of
		}
		if !a.Received {
			if !s.lost {
				s.lost = true
				lost++
			}
			continue
		}
		if s.lost {
			lost-- // it was only late
		}
		got++
		e.acked.add(now, int64(s.size))
		e.arrived.add(a.Arrival, int64(s.size))
		switch s.cluster {
		case 0:
			e.delay.add(s.at, a.Arrival)
		case e.probe.id: // one of an older probe tells nothing more
			e.probe.onArrival(int64(s.size), a.Arrival)
		}
		newest = max(newest, s.at)
		s.at = 0
	}
	if got == 0 && lost == 0 {
		return
	}
	if newest > 0 {
		e.noteRTT(now - newest)
	}
	e.losses.add(now, got, lost)
	e.onReport(now)
	e.onProbe(now, newest)
}

func (e *Estimator) noteRTT(rtt int64) {
	if e.rtt == 0 {
		e.rtt = rtt
	}
	e.rtt += (rtt - e.rtt) / 8
}

// response is how long a change of rate takes to show in reports.
func (e *Estimator) response() int64 {
	if e.rtt == 0 {
		return defaultRTT
	}
	return min(max(e.rtt, 50*ms), second)
}

// OnLoss takes in a report block's fraction lost, in 1/256. It counts only for
// receivers that send no transport-wide feedback, which tells the same better.
func (e *Estimator) OnLoss(now int64, fraction uint8) {
	if e.hasTWCC {
		return
	}
	e.losses.report(fraction)
	e.onPlainLoss(now)
}

// Snapshot returns the present view.
func (e *Estimator) Snapshot(now int64) Snapshot {
	s := Snapshot{
		State:    e.state,
		Bps:      e.bps,
		AckedBps: e.acked.bps(now),
		SentBps:  e.sent.bps(now),
		Loss:     e.losses.share,
		Queue:    e.delay.queue,
		RTT:      e.rtt,
		Idle:     e.idle,
	}
	if e.Probing && s.Bps == 0 {
		s.Bps = initialBps
	}
	return s
}
