// Package bwe estimates what one subscriber's path carries, from what was sent and
// what the receiver says about it.
//
// It is pure: the clock and the network are arguments, and one goroutine (its
// sendq.Sender's) calls it, in this way:
//
//   - OnSent or OnSentPlain for each packet as it leaves, with the probe it belongs to;
//   - OnFeedback, OnLoss and OnRTT for what the receiver reports;
//   - SetFloor with what the least costs that is worth sending;
//   - Tick every 20 to 200 ms, and after it Snapshot, whose Bps is to be kept to in any
//     state, and NextProbe, with the rates that the owner could make use of. It sends the
//     probe that it is told of, calls ProbeSent, and asks again at the next Tick.
//
// Congestion is seen in three ways: the delay of packets grows (delay.go), a queue
// stands, or much is lost (loss.go). Then the estimate is cut to what really arrived,
// and for as long below that as the queue needs to empty. Else it grows (control.go):
// slowly, never beyond 1.5 times what arrived in the last 500 ms, unless a probe (probe.go)
// proved that there is more. A receiver that reads in bursts, or falls silent, is no congestion
// (stall.go), though its packets are late.
//
// Without transport-wide feedback, or without the means to send probes (Probes), Bps is
// 0, no limit, until much is lost; and again when the path has been quiet long enough.
// Each failed return makes that time longer.
//
// Read this file first, then control.go.
package bwe

// State says what the estimate rests on, for those who watch. It changes nothing in
// how Snapshot.Bps is to be used.
type State int8

// The states.
const (
	Clear     State = iota // the path carries what is sent
	Congested              // a queue grows or packets are lost: less is sent
	Stalled                // no reports come: nothing is known of what is under way
)

func (s State) String() string { return [...]string{"clear", "congested", "stalled"}[s] }

const (
	ms     = int64(1e6)
	second = int64(1e9)

	initialBps = 500_000 // until something is known
	minBps     = 30_000  // what is never cut below: audio must fit
	maxBps     = 200_000_000

	defaultRTT = 200 * ms
	// A copy leaves with one of the next packets of its stream, among some of others.
	overtakeDepth = 32
	// A receiver that was sent numbered packets for so long and says nothing of them
	// does not do transport-wide feedback.
	plainTime = 3 * second
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
	Bps      int64   // what may be sent in all, bits per second; 0 = no limit is known
	AckedBps int64   // what arrived in the last second
	SentBps  int64   // what was sent in the last second
	Loss     float64 // in the last second, 0…1
	RTT      int64   // smoothed, ns; 0 = not known
	Queue    int64   // standing delay above the smallest known, ns
	Idle     bool    // much less is sent than Bps: the estimate rests, only probes raise it
	Restarts int     // how often the path has come back after seconds of silence: what was learnt in them is void
}

// sentInfo is what is known of one packet in flight.
type sentInfo struct {
	at    uint32 // µs of our clock, modulo 2³²
	size  uint16
	probe uint8 // the last bits of its ID, 0 = none
	state uint8
}

// States of a packet in flight.
const (
	unknown uint8 = iota // never sent, or told of as received
	flying
	missing // told of as lost, which a later report may take back

	copied uint8 = 1 << 7 // beside the state: it was sent again as it is
)

// Estimator is one path's estimate. The zero value is ready.
type Estimator struct {
	// Probes says that the owner is able to send what NextProbe asks for. It may change.
	Probes bool

	history  history
	sent     rate // bytes, by our clock
	acked    rate // bytes, by our clock
	arrived  arrivals
	delay    delayTrend
	losses   lossRule
	probe    prober
	stall    stall
	hasTWCC  bool
	numbered int64 // when the first packet with a number left; 0 = none has
	rtt      int64 // as reports show it, with the time they wait; 0 = unknown
	trueRTT  int64 // as sender reports show it; 0 = unknown
	reportAt int64 // when the last report came
	floor    int64
	restarts int

	control
}

// OnSent notes a packet that carries transport-wide number seq; size is in bytes, and
// probe the ID of the probe that it is part of, 0 for none.
func (e *Estimator) OnSent(seq uint16, size int, now int64, probe int32) {
	if e.numbered == 0 {
		e.numbered = now
	}
	s := sentInfo{at: uint32(now / 1000), size: uint16(min(max(size, 0), 1<<16-1)), state: flying}
	if probe != 0 && probe == e.probe.id && e.probe.sending {
		s.probe = uint8(probe)
		e.probe.onSent(int64(s.size), now)
	}
	e.history.put(seq, s)
	e.sent.add(now, int64(s.size))
}

// OnSentPlain notes a packet that carries no transport-wide number.
func (e *Estimator) OnSentPlain(size int, now int64) { e.sent.add(now, int64(size)) }

// OnCopied notes that packet seq was sent once more, to the bit: the receiver reports
// whichever comes first. It is of size bytes as well.
func (e *Estimator) OnCopied(seq uint16, size int, now int64) {
	e.sent.add(now, int64(size))
	if s := e.history.find(seq); s != nil {
		s.state |= copied
		s.size = uint16(min(int(s.size)+size, 1<<16-1))
	}
}

// Overtaken says that a packet with a later number arrived before the i-th: what arrived
// was its copy, and itself was lost.
func Overtaken(acks []Ack, i int) bool {
	for j := i + 1; j < len(acks) && j <= i+overtakeDepth; j++ {
		if acks[j].Received && acks[j].Arrival < acks[i].Arrival {
			return true
		}
	}
	return false
}

// SetFloor tells what the audio and the smallest picture of all that is wanted cost
// together. Late packets alone do not press the estimate below it at once.
func (e *Estimator) SetFloor(bps int64) { e.floor = bps }

// OnFeedback takes in one transport-wide report.
func (e *Estimator) OnFeedback(now int64, acks []Ack) {
	var got, lost, lostAfter, newest int64
	for i := range acks {
		a := &acks[i]
		s := e.history.find(a.Seq)
		if s == nil {
			continue
		}
		twice := s.state&copied != 0
		if !a.Received {
			if s.state&^copied == flying {
				s.state += missing - flying
				lost++
				if got+e.stall.got > 0 {
					lostAfter++
				}
			}
			continue
		}
		replaced := twice && (s.state&^copied == missing || Overtaken(acks, i))
		switch {
		case s.state == missing:
			lost-- // it was only late
			got++
		case s.state == missing|copied:
		case replaced:
			lost++
		default:
			got++
		}
		at := now - int64(uint32(now/1000)-s.at)*1000
		e.acked.add(now, int64(s.size))
		e.arrived.add(a.Arrival, int64(s.size))
		switch {
		case replaced: // its way began later than at
		case s.probe == 0:
			e.delay.add(at, a.Arrival)
		case s.probe == uint8(e.probe.id): // one of an older probe tells nothing more
			e.probe.onArrival(int64(s.size), a.Arrival)
		}
		if !replaced {
			newest = max(newest, at)
		}
		s.state = unknown
	}
	if got == 0 && lost == 0 {
		return
	}
	e.hasTWCC, e.reportAt = true, now
	if newest > 0 {
		e.noteRTT(now - newest)
	}
	e.losses.add(now, got, lost)
	e.onReturn(now, got, lost, lostAfter)
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

// OnRTT takes in a round trip time that a receiver report shows (RFC 3550 §6.4.1).
func (e *Estimator) OnRTT(_, rtt int64) {
	if rtt <= 0 {
		return
	}
	if e.trueRTT == 0 {
		e.trueRTT = rtt
	}
	e.trueRTT += (rtt - e.trueRTT) / 8
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
		RTT:      e.trueRTT,
		Queue:    e.delay.queue,
		Idle:     e.idle,
		Restarts: e.restarts,
	}
	if s.RTT == 0 {
		s.RTT = e.rtt
	}
	if e.stall.since != 0 {
		s.State = Stalled
	}
	switch {
	case e.free(now):
		s.Bps = 0
	case s.Bps == 0:
		s.Bps = initialBps
	}
	return s
}
