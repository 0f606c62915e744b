package lifecycle

// This file holds ECS's word on tasks, and the sweep.

// word is what RunTask, an event or DescribeTasks says of a task.
func (s *step) word() error {
	switch {
	case s.e.Epoch <= 0 || s.e.Epoch > s.Epoch:
		return s.refuse(Impossible)
	case s.ofHanding():
		s.handingWord()
		return nil
	case s.e.Epoch < s.Epoch, s.e.Task != "" && s.Task != "" && s.e.Task != s.Task:
		// An earlier epoch's task, or a second one of this epoch: unwanted if it runs.
		if s.e.Kind == Started || s.e.Kind == TaskSeen {
			s.stop(s.e.Task, WrongEpoch)
		}
		return nil
	case s.e.Task != "" && s.e.Task == s.Task && s.e.Version != 0 && s.e.Version <= s.TaskVersion:
		return nil // a duplicate, or overtaken
	case s.e.Kind == TaskStopped && s.e.Task == "" && s.Task != "":
		return nil // "no task" was true before the task became known
	}
	switch s.e.Kind {
	case Started, TaskSeen:
		s.running()
	case StartFailed:
		s.startFailed()
	case TaskStopped:
		s.stopped()
	}
	return nil
}

// running: the epoch's task exists.
func (s *step) running() {
	if s.State.Final() {
		if s.e.Kind == Started || !s.StopAsked {
			s.stop(s.e.Task, Over)
		}
		return
	}
	first := s.Task == ""
	s.Task, s.TaskVersion = s.e.Task, max(s.TaskVersion, s.e.Version)
	switch s.State {
	case Starting:
		s.StartErrors = 0
		if first {
			s.known()
		}
		switch {
		case phaseOrder[s.e.Phase] > phaseOrder[s.Phase]:
			s.phase(s.e.Phase)
		case s.Phase == PhaseQueued:
			s.phase(PhaseProvisioning)
		}
	case Live:
		if s.e.Stopping {
			s.handOver()
		}
	case Draining:
		if s.Link == "" && !s.StopAsked {
			s.stopOwn(s.Reason)
			s.dueIn(s.rules.RecheckMS)
		}
	}
}

// stopped: the epoch's task is over, by ECS's proof.
func (s *step) stopped() {
	s.TaskVersion = max(s.TaskVersion, s.e.Version)
	if s.Task == "" {
		s.Task = s.e.Task
	}
	over := s.e.AtMS >= s.EndsAtMS
	switch s.State {
	case Starting:
		s.StartFails++
		switch {
		case over:
			s.end(Ended, ReasonMaxDuration)
		case s.e.Task == "":
			s.end(Failed, s.unstarted())
		case s.StartFails >= s.rules.MaxStarts:
			s.end(Failed, ReasonStartFailed)
		default:
			s.nextEpoch()
		}
	case Live:
		if s.e.AtMS-s.LiveMS < s.rules.ShortLifeMS {
			s.ShortLives++
		} else {
			s.ShortLives = 0
		}
		switch {
		case s.e.Clean:
			s.end(Ended, ReasonTaskExited)
		case over:
			s.end(Ended, ReasonMaxDuration)
		case s.ShortLives >= s.rules.MaxShortLives:
			s.end(Failed, ReasonTaskCrashes)
		default:
			s.nextEpoch()
		}
	case Draining:
		s.end(Ended, s.Reason)
	}
}

// due is the sweep's look at a room: whatever was lost is asked for again.
func (s *step) due() {
	over := s.e.AtMS >= s.EndsAtMS+s.rules.EndMarginMS
	switch s.State {
	case Requested:
		if over {
			s.end(Ended, ReasonMaxDuration)
			return
		}
		s.nextEpoch()
	case Starting:
		if over {
			s.finish(ReasonMaxDuration)
			return
		}
		s.dueStarting()
	case Live:
		if over {
			s.finish(ReasonMaxDuration)
			return
		}
		s.dueLive()
	case Draining:
		s.dueDraining()
	default:
		s.dueIn(s.rules.RecheckMS) // until the ledger is closed
	}
}

func (s *step) dueLive() {
	if s.e.AtMS < s.HeartbeatMS+s.rules.LeaseMS {
		s.liveDue()
		return
	}
	if s.SilentMS == 0 {
		s.SilentMS = s.e.AtMS
	}
	if s.e.AtMS-s.SilentMS >= s.rules.SilentLimitMS {
		s.stopOwn("silent")
	}
	s.dueIn(s.rules.RecheckMS)
	s.look()
}

func (s *step) dueDraining() {
	switch {
	case s.Task == "" && s.e.AtMS < s.graceEnds():
		s.DueAtMS = s.graceEnds()
	case s.Task == "":
		s.dueIn(s.rules.RecheckMS)
		s.do(Action{Kind: Find, Epoch: s.Epoch})
	case s.stuck() || s.StopAsked:
		s.stopOwn(s.Reason)
		s.dueIn(s.rules.RecheckMS)
		s.look()
	default:
		s.dueIn(s.rules.RecheckMS)
		s.do(Action{Kind: End, Link: s.Link, Reason: s.Reason})
		s.look()
	}
}

// stuck says that a draining task has had its time to end by itself. One that has people's
// figures, and is not heard, has longer: the way to it may be cut, and its figures would
// be lost with it. It goes by itself when it has waited as long.
func (s *step) stuck() bool {
	late := s.e.AtMS >= s.DrainingMS+s.rules.DrainLimitMS
	if s.LiveMS == 0 || s.Said || s.e.AtMS < s.HeartbeatMS+s.rules.LeaseMS {
		return late
	}
	if s.SilentMS == 0 {
		s.SilentMS = s.e.AtMS
	}
	return late && s.e.AtMS-s.SilentMS >= s.rules.SilentLimitMS
}
