package lifecycle

// Step applies one event to a room. It returns the room as it must be committed,
// and what is to be done; or a *Refusal. A room equal to the one passed in needs no
// commit. No event, however late or often it comes, makes an earlier decision
// undone: repeats are answered like the first, or refused.
func (r Rules) Step(room Room, e Event) (Room, []Action, error) {
	s := &step{Room: room, rules: r.WithDefaults(), e: e}
	if err := s.apply(); err != nil {
		return room, nil, err
	}
	return s.Room, s.actions, nil
}

// step is one application of an event. It lives for one call of Step.
type step struct {
	Room
	rules   Rules
	e       Event
	actions []Action
}

func (s *step) apply() error {
	switch s.e.Kind {
	case Claim:
		return s.claim()
	case Started, StartFailed, TaskSeen, TaskStopped:
		return s.word()
	case Assigned:
		return s.assigned()
	case Register, Heartbeat, Ending:
		return s.frame()
	case Join:
		return s.join()
	case Delete:
		s.delete()
		return nil
	case Extend:
		return s.extend()
	case Due:
		s.due()
		return nil
	}
	return s.refuse(Impossible)
}

func (s *step) refuse(code string) error {
	return &Refusal{State: s.State, Kind: s.e.Kind, Code: code}
}

func (s *step) do(a Action) { s.actions = append(s.actions, a) }

func (s *step) emit(name string) { s.do(Action{Kind: Emit, Name: name}) }

func (s *step) stop(task, reason string) { s.do(Action{Kind: Stop, Task: task, Reason: reason}) }

// stopOwn stops the epoch's task.
func (s *step) stopOwn(reason string) {
	s.StopAsked = true
	s.stop(s.Task, reason)
}

func (s *step) look() { s.do(Action{Kind: Look, Task: s.Task}) }

// dueIn sets the next look of the sweep.
func (s *step) dueIn(ms int64) { s.DueAtMS = s.e.AtMS + ms }

// phase sets the phase and has the watchers told.
func (s *step) phase(p string) {
	s.Phase, s.PhaseMS = p, s.e.AtMS
	s.tell()
}

func (s *step) tell() {
	s.Rev++
	s.do(Action{Kind: Tell})
}

// The states' entries.

// nextEpoch asks for a task that never existed before.
func (s *step) nextEpoch() {
	s.openEpoch()
	s.ask()
	s.phase(PhaseProvisioning)
}

// openEpoch begins an epoch that nobody has asked a task for.
func (s *step) openEpoch() {
	s.State = Starting
	s.Epoch++
	s.Task, s.TaskVersion, s.Link = "", 0, ""
	s.StopAsked, s.StartErrors = false, 0
	s.Attempt, s.Asks, s.Open, s.Refusal = 0, 0, 0, ""
	s.StartingMS, s.TaskMS, s.LiveMS, s.HeartbeatMS, s.SilentMS = s.e.AtMS, 0, 0, 0, 0
	s.emit(EventStarting)
}

func (s *step) live(link string) {
	s.State, s.Link = Live, link
	s.LiveMS, s.HeartbeatMS = s.e.AtMS, s.e.AtMS
	if s.FirstLiveMS == 0 {
		s.FirstLiveMS = s.e.AtMS
	}
	s.StartFails = 0
	s.liveDue()
	s.emit(EventLive)
	s.phase(PhaseLive)
}

// liveDue sets the next look at a live room that is not silent.
func (s *step) liveDue() {
	s.DueAtMS = max(s.e.AtMS, min(s.HeartbeatMS+s.rules.LeaseMS, s.EndsAtMS+s.rules.EndMarginMS))
}

func (s *step) drain(reason string) {
	s.State, s.Reason, s.DrainingMS = Draining, reason, s.e.AtMS
	s.dueIn(s.rules.RecheckMS) // a task ends in less: if its word was lost, ECS is asked
	s.phase(PhaseDraining)
}

func (s *step) end(state State, reason string) {
	s.State, s.Reason, s.EndedMS = state, reason, s.e.AtMS
	s.dueIn(0) // at once, so that the ledger is closed
	if state == Failed {
		s.emit(EventFailed)
		s.phase(PhaseFailed)
		return
	}
	s.emit(EventEnded)
	s.phase(PhaseEnded)
}

// The control plane's own events.

func (s *step) claim() error {
	switch s.State {
	case Requested:
		s.nextEpoch()
		return nil
	case Starting, Live:
		return s.refuse(Claimed)
	}
	return s.refuse(Over)
}

func (s *step) join() error {
	switch {
	case s.State == Live:
		s.JoinSeq++
		return nil
	case s.State == Draining || s.State.Final():
		return s.refuse(Over)
	}
	return s.refuse(NotLive)
}

func (s *step) delete() {
	reason := s.e.Reason
	if reason == "" {
		reason = ReasonDeleted
	}
	switch s.State {
	case Requested:
		s.end(Ended, reason)
	case Starting, Live:
		s.finish(reason)
	}
}

// extend moves the end of a room that is not ending yet, forwards or backwards.
func (s *step) extend() error {
	if s.State == Draining || s.State.Final() {
		return s.refuse(Over)
	}
	if s.e.EndsMS <= s.e.AtMS {
		return s.refuse(Impossible)
	}
	s.EndsAtMS = s.e.EndsMS
	if s.State == Live && s.SilentMS == 0 {
		s.liveDue()
	}
	return nil
}

// finish drains a room that has, or may have, a task.
func (s *step) finish(reason string) {
	s.drain(reason)
	s.endHanding()
	switch {
	case s.Link != "":
		s.do(Action{Kind: End, Link: s.Link, Reason: reason})
	case s.Task != "":
		s.stopOwn(reason)
		s.dueIn(s.rules.RecheckMS)
	default: // a RunTask may be under way: its answer, or the sweep, stops the task
		s.DueAtMS = max(s.e.AtMS, s.graceEnds())
	}
}

// frame is a frame on the task's link.
func (s *step) frame() error {
	if s.ofHanding() {
		return s.handingFrame()
	}
	if s.State.Final() {
		if s.e.Kind == Ending && s.e.Epoch == s.Epoch {
			return nil // the agreed end, told twice
		}
		return s.refuse(Over)
	}
	if s.e.Epoch != s.Epoch {
		return s.refuse(WrongEpoch)
	}
	if s.Task != "" && s.Task != s.e.Task {
		return s.refuse(OtherTask)
	}
	switch s.e.Kind {
	case Register:
		return s.register()
	case Heartbeat:
		return s.heartbeat()
	}
	return s.ending()
}

func (s *step) register() error {
	switch s.State {
	case Starting:
		if s.StopAsked { // it came too late and is being stopped: no client may reach it
			return s.refuse(Over)
		}
		s.Task = s.e.Task
		s.live(s.e.Link)
	case Live:
		s.Link, s.HeartbeatMS, s.SilentMS = s.e.Link, max(s.HeartbeatMS, s.e.AtMS), 0
		s.liveDue()
	case Draining:
		if s.LiveMS == 0 { // it was never needed
			return s.refuse(Over)
		}
		s.Link = s.e.Link
		s.heard()
		s.do(Action{Kind: End, Link: s.Link, Reason: s.Reason})
	}
	return nil
}

func (s *step) heartbeat() error {
	switch s.State {
	case Live:
		if s.heard() {
			s.liveDue()
		}
		return nil
	case Draining:
		s.heard()
		if s.Link != "" {
			s.do(Action{Kind: End, Link: s.Link, Reason: s.Reason})
		}
		return nil
	}
	return s.refuse(NotRegistered)
}

// heard notes that the task is there, if that is news: a third of the lease apart is often
// enough, and spares the room's item two writes of three.
func (s *step) heard() bool {
	if s.SilentMS == 0 && s.e.AtMS-s.HeartbeatMS < s.rules.LeaseMS/3 {
		return false
	}
	s.HeartbeatMS, s.SilentMS = max(s.HeartbeatMS, s.e.AtMS), 0
	return true
}

func (s *step) ending() error {
	switch s.State {
	case Draining:
		s.Said = true
		return nil
	case Live:
	default:
		return s.refuse(NotRegistered)
	}
	switch {
	case s.e.Final && s.e.Reason == ReasonTerminated:
		s.handOver()
	case s.e.Final, s.e.JoinSeq >= s.JoinSeq && s.HandingTask == "":
		s.Said = true
		s.drain(s.e.Reason)
	default:
		s.do(Action{Kind: Keep})
	}
	return nil
}
