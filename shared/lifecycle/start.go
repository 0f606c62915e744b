package lifecycle

// This file holds the search for a task: attempts, the queue, and its end.
//
// An epoch's start is a row of attempts. All RunTask calls of one attempt carry one
// token and ask for one shape (size, capacity, zone), so that however many callers
// make them, and whichever of them is believed lost, there is one task at most. The
// next attempt asks for another shape and needs another token; it begins only when
// ECS has refused every call of the one before, for a call without an answer may
// still start a task. Until a task is found the room is queued; it fails when its
// limit has passed.

// ask has a task started. Who acts on it answers with Started, StartFailed or Assigned.
func (s *step) ask() {
	s.do(Action{Kind: Start, Epoch: s.Epoch, Attempt: s.Attempt, Ask: s.Asks})
	s.Open |= askBit(s.Asks)
	s.Asks++
	s.AskedMS = s.e.AtMS
	s.DueAtMS = min(s.e.AtMS+s.rules.ClaimLeaseMS, max(s.e.AtMS, s.queueEnds()))
}

// lastAsk is the number of the calls that share the last bit, which therefore is
// never cleared: an attempt of so many calls stays the epoch's last.
const lastAsk = 63

func askBit(ask int) uint64 { return 1 << min(ask, lastAsk) }

// queueEnds is when the search for a task is given up.
func (s *step) queueEnds() int64 {
	limit := s.QueueMS
	if limit == 0 {
		limit = s.rules.QueueMS
	}
	return s.StartingMS + limit
}

// graceEnds is when a RunTask call without an answer cannot take effect any more.
func (s *step) graceEnds() int64 {
	if s.Open == 0 && s.AskedMS != 0 {
		return s.AskedMS // none is without an answer
	}
	return max(s.StartingMS, s.AskedMS) + s.rules.AskGraceMS
}

// known: this epoch's task has just become known.
func (s *step) known() {
	s.TaskMS = s.e.AtMS
	s.DueAtMS = s.e.AtMS + min(s.rules.RecheckMS, s.rules.StartTimeoutMS)
}

// startFailed goes on with the next attempt, or waits a little longer after each
// failure. A start that failed without a refusal may have taken effect.
func (s *step) startFailed() {
	if s.State.Final() || s.Task != "" || s.e.Attempt != s.Attempt || s.e.Refused && s.Open&askBit(s.e.Ask) == 0 {
		return // too late, or told before
	}
	if s.e.Refused {
		if s.e.Ask < lastAsk {
			s.Open &^= askBit(s.e.Ask)
		}
		s.Refusal = s.e.Reason
	}
	if s.State != Starting {
		return
	}
	s.StartErrors++
	if s.e.Refused && s.Phase != PhaseQueued {
		s.phase(PhaseQueued)
	}
	if s.e.Move && s.e.Refused && s.Open == 0 {
		s.Attempt++
		s.Asks = 0
		if s.e.AtMS < s.queueEnds() && s.e.Shapes > 0 && s.Attempt%s.e.Shapes != 0 {
			s.ask()
			return
		}
	}
	s.DueAtMS = min(s.e.AtMS+s.pause(), max(s.e.AtMS, s.queueEnds()))
}

// pause is the time to the next try: half of it is random, so that the rooms that a
// full zone has refused together do not come back together.
func (s *step) pause() int64 {
	most := min(int64(2000)<<min(s.StartErrors-1, 10), s.rules.RecheckMS)
	return most/2 + most/2*int64(min(max(s.e.Jitter, 0), 999))/999
}

// assigned: a standby task becomes this epoch's. That is safe only for the one caller
// whom the last Start told to act: if another one may have called RunTask, there would
// be two tasks.
func (s *step) assigned() error {
	switch {
	case s.State.Final() || s.State == Draining:
		return s.refuse(Over)
	case s.State != Starting || s.e.Epoch != s.Epoch || s.e.Attempt != s.Attempt || s.Task != "" || s.Open != askBit(s.e.Ask) || s.e.Ask >= lastAsk:
		return s.refuse(Claimed)
	}
	s.Task, s.TaskVersion, s.StartErrors = s.e.Task, s.e.Version, 0
	s.known()
	s.phase(PhaseBooting)
	return nil
}

// unstarted is why a room fails that got no task.
func (s *step) unstarted() string {
	switch {
	case s.Refusal != "":
		return s.Refusal
	case s.StartErrors > 0:
		return ReasonNoCapacity
	}
	return ReasonStartTimeout
}

// dueStarting asks again, or gives up.
func (s *step) dueStarting() {
	late := s.e.AtMS >= s.queueEnds()
	slow := max(s.StartingMS, s.TaskMS) + s.rules.StartTimeoutMS
	switch {
	case s.Task == "" && late && s.Open == 0:
		s.end(Failed, s.unstarted())
	case s.Task == "" && late:
		s.dueIn(s.rules.RecheckMS)
		s.do(Action{Kind: Find, Epoch: s.Epoch})
	case s.Task == "":
		s.ask()
	case s.e.AtMS >= slow:
		s.stopOwn(ReasonStartTimeout)
		s.dueIn(s.rules.RecheckMS)
		s.look()
	default:
		s.DueAtMS = min(s.e.AtMS+s.rules.RecheckMS, max(s.e.AtMS, slow))
		s.look()
	}
}
