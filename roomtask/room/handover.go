package room

import (
	"time"

	"mayfly/shared/signal"
)

// handLimit is how long a task that was told to go plays on for those who have not
// moved. ECS kills it 120 s after SIGTERM; ending may go on until leaveLimit.
const handLimit = 85 * time.Second

// handing is how far the room's hand-over to its next task has come. Owned by the loop.
type handing struct {
	since    time.Time // zero: the task was not told to go
	saidAt   time.Time // when the control plane was last told
	accepted bool      // it has answered: the next task is on its way
}

// handOver begins to give the room away: joins are refused, the control plane is asked
// for the next task, and participants are told to move. Media goes on as before.
func (r *Room) handOver(now time.Time) {
	switch {
	case r.phase == waiting || r.phase >= closing:
		r.terminated = true
	case r.hand.since.IsZero():
		r.cfg.Log.Info("handing the room over", "present", r.staying())
		r.hand.since = now
		for _, p := range r.order {
			r.tellMove(p)
		}
	}
	r.decide(now)
}

// tellMove tells a participant to join the next task, if there will be one.
func (r *Room) tellMove(p *participant) {
	if r.hand.since.IsZero() || !p.dataOpen || !p.movedAt.IsZero() {
		return
	}
	left := max(0, handLimit-r.cfg.Now().Sub(r.hand.since))
	r.data(p, signal.TypeMoved, signal.Moved{Epoch: r.cfg.Epoch + 1, EndsInMS: left.Milliseconds()})
}

// sayGoing tells the control plane of the hand-over, again until it answers.
func (r *Room) sayGoing(now time.Time) {
	if r.hand.since.IsZero() || r.hand.accepted || r.phase >= closing || now.Sub(r.hand.saidAt) < askEvery {
		return
	}
	r.hand.saidAt = now
	r.count(now)
	report, _ := r.book.Report(now.UnixMilli(), false)
	r.cfg.Send(signal.LinkEnding, signal.Ending{Reason: signal.ReasonTerminated, JoinSeq: r.joinSeq, Final: true, Usage: report})
}

// leaves ends a participation at the client's word. One that has moved is counted to
// this moment, and stays for the others' sake: they may still watch it here.
func (r *Room) leaves(p *participant, f signal.Frame) {
	var m signal.Leave
	if r.hand.since.IsZero() || decode(f, &m) != nil || m.Reason != signal.ReasonMoved {
		r.remove(p, signal.ReasonLeft)
		return
	}
	if p.movedAt.IsZero() {
		p.movedAt = r.cfg.Now()
		r.decide(p.movedAt)
	}
}

// staying is how many participants have not moved.
func (r *Room) staying() (n int) {
	for _, p := range r.order {
		if p.movedAt.IsZero() {
			n++
		}
	}
	return n
}

// until is up to when p's time counts: its bytes count to the end.
func (p *participant) until(now time.Time) time.Time {
	if p.movedAt.IsZero() {
		return now
	}
	return p.movedAt
}

// why is the reason of p's leave in the record.
func (p *participant) why(reason string) string {
	if p.movedAt.IsZero() {
		return reason
	}
	return signal.ReasonMoved
}

// countIn counts p's session from now on: from the answer, or, where p still plays at the
// task before this one, from its connection.
func (r *Room) countIn(p *participant, now time.Time) {
	p.arriving = false
	r.book.Begin(p.session, p.id, now.UnixMilli())
}
