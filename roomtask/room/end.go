package room

import (
	"time"

	"mayfly/shared/signal"
)

// How long the end may take: the control plane is asked again every askEvery, and
// after askLimit the task goes without an answer; ECS's own event then closes the bill.
// A task whose last figures nobody has acknowledged waits longer, or they would be
// lost: owedLimit outlives an outage of five minutes, and leaveLimit counts from
// SIGTERM, which the stop timeout (120 s on AWS) follows.
const (
	askEvery   = time.Second
	askLimit   = 20 * time.Second
	owedLimit  = 10 * time.Minute
	leaveLimit = 105 * time.Second
	flushDelay = 300 * time.Millisecond // for Ended to leave the data channels
)

// endState is how far an ending has come.
type endState struct {
	reason  string
	since   time.Time
	askedAt time.Time
	flushed bool   // participants are closed, the count is final
	partial bool   // the last word carried only some of the sessions that are due
	seq     uint64 // of the first report with that count
}

// decide ends the room when its time has come, and carries an ending on.
func (r *Room) decide(now time.Time) {
	if r.phase == idle || r.phase == waiting || r.phase == done {
		return
	}
	reason, final, end := situation{
		now: now, registeredAt: r.registeredAt, emptySince: r.emptySince, present: r.staying(),
		joinedBefore: r.joinedBefore, limits: r.limits, told: r.told, terminated: r.terminated, handing: r.hand.since,
	}.verdict()
	switch {
	case r.phase == open && end && final, r.phase == asking && end && final:
		r.phase, r.end = closing, endState{reason: reason, since: now}
		r.tellEnded(reason)
	case r.phase == open && end:
		r.phase, r.end = asking, endState{reason: reason, since: now, flushed: true}
	}
	switch r.phase {
	case asking:
		r.ask(now, false)
	case closing:
		if !r.end.flushed && now.Sub(r.end.since) >= flushDelay {
			r.end.flushed = true
			r.closeAll(r.end.reason)
		}
		if r.end.flushed {
			r.ask(now, true)
		}
	}
}

// ask tells the control plane of the end, again until it answers.
func (r *Room) ask(now time.Time, final bool) {
	if now.Sub(r.end.since) >= r.patience() {
		r.cfg.Log.Warn("the control plane does not answer; ending without it", "reason", r.end.reason)
		r.leave()
		return
	}
	if !r.end.askedAt.IsZero() && now.Sub(r.end.askedAt) < askEvery {
		return
	}
	r.end.askedAt = now
	report, more := r.book.Report(now.UnixMilli(), true)
	r.end.partial = more
	if more { // what does not fit goes ahead, frame by frame, each once the last arrived
		report.Final = false
		r.cfg.Send(signal.LinkHeartbeat, signal.Heartbeat{JoinSeq: r.joinSeq, Usage: report})
		return
	}
	if r.end.seq == 0 {
		r.end.seq = report.Seq
	}
	r.cfg.Send(signal.LinkEnding, signal.Ending{Reason: r.end.reason, JoinSeq: r.joinSeq, Final: final, Usage: report})
}

// acked goes on with an ending whose last word was not the whole count.
func (r *Room) acked() {
	if r.end.partial && (r.phase == asking || r.phase == closing) {
		r.end.askedAt = time.Time{}
		r.decide(r.cfg.Now())
	}
}

// patience is how long an ending waits for its answer.
func (r *Room) patience() time.Duration {
	switch {
	case r.book.Settled():
		return askLimit
	case !r.hand.since.IsZero():
		return max(askLimit, leaveLimit-r.end.since.Sub(r.hand.since))
	case r.terminated:
		return leaveLimit
	}
	return owedLimit
}

// endingOK is the control plane's agreement: to the end, or to the hand-over before it.
// One that answers an earlier report, of a count that was not final, is no agreement to go.
func (r *Room) endingOK(m signal.EndingOK) {
	switch {
	case r.phase == asking, r.phase == closing && r.end.flushed && (m.Seq == 0 || m.Seq >= r.end.seq):
		r.leave()
	case !r.hand.since.IsZero():
		r.hand.accepted = true
	}
}

// keep carries on: somebody joined before the room could end.
func (r *Room) keep(m signal.Keep) {
	r.joinSeq = max(r.joinSeq, m.JoinSeq)
	if r.phase == asking {
		r.phase = open
		r.emptySince = r.cfg.Now() // the join may never arrive: wait the empty timeout again
	}
}

func (r *Room) leave() {
	code := signal.ExitEnded
	if r.end.reason == signal.ReasonTerminated {
		code = signal.ExitTerminated
	}
	r.finish(Exit{code, r.end.reason})
}

// tellEnded tells everyone that the room, or this task of it, is over.
func (r *Room) tellEnded(reason string) {
	ended := signal.Ended{Reason: reason, Rejoin: rejoinable(reason)}
	for _, p := range r.order {
		if p.movedAt.IsZero() {
			r.toClient(p.conn, signal.TypeEnded, ended, false)
		}
		if p.dataOpen {
			r.data(p, signal.TypeEnded, ended)
		}
	}
}

// closeAll ends everyone's participation.
func (r *Room) closeAll(reason string) {
	now := r.cfg.Now()
	for _, p := range r.order {
		if p.session != "" {
			in, out, transport := p.media.Usage()
			at := p.until(now).UnixMilli()
			r.book.Update(p.session, at, in, out, transport)
			r.book.End(p.session, at, p.why(reason))
		}
		p.media.Close()
		r.leaving = append(r.leaving, p.media)
	}
	r.order = nil
	clear(r.people)
	r.publishPulse()
}
