package lifecycle

// This file holds the hand-over: the next epoch begins while the task of the one
// before it, which must go, still plays for those who have not moved.

// handOver begins the next epoch of a live room whose task is going. A room past its
// end is not moved, and of two tasks that are going the older one goes at once. Who
// hears of it on the link may start no task: then the sweep, or ECS's own word on the
// old task, which comes at the same time, asks for the next.
func (s *step) handOver() {
	if s.e.AtMS >= s.EndsAtMS {
		s.finish(ReasonMaxDuration)
		return
	}
	if s.HandingTask != "" {
		s.stop(s.HandingTask, WrongEpoch)
	}
	s.HandingEpoch, s.HandingTask, s.HandingLink, s.HandingMS = s.Epoch, s.Task, s.Link, s.e.AtMS
	s.ShortLives = 0
	s.openEpoch()
	if s.e.Kind == Ending {
		s.dueIn(0)
	} else {
		s.ask()
	}
	s.phase(PhaseProvisioning)
}

// ofHanding says that the event is about the task that hands over.
func (s *step) ofHanding() bool {
	return s.HandingTask != "" && s.e.Epoch == s.HandingEpoch && s.e.Task == s.HandingTask
}

// handingFrame is a frame of the task that hands over. Its usage counts; it has no say
// in the room any more.
func (s *step) handingFrame() error {
	if s.e.Kind == Register {
		s.HandingLink = s.e.Link
	}
	if s.e.Kind != Ending && (s.State == Draining || s.State.Final()) {
		s.endHanding()
	}
	return nil
}

// endHanding tells the task that hands over to end: the room does.
func (s *step) endHanding() {
	if s.HandingLink != "" {
		s.do(Action{Kind: End, Link: s.HandingLink, Reason: s.Reason})
	}
}

// handingWord is ECS's word on the task that hands over.
func (s *step) handingWord() {
	switch s.e.Kind {
	case TaskStopped:
		s.HandingEpoch, s.HandingTask, s.HandingLink, s.HandingMS = 0, "", "", 0
		s.startNext()
	case Started, TaskSeen:
		switch {
		case s.State.Final() || s.e.AtMS >= s.HandingMS+s.rules.HandoverLimitMS:
			s.stop(s.HandingTask, WrongEpoch)
		case s.e.Stopping:
			s.startNext()
		}
	}
}

// startNext asks for the next task if nobody has.
func (s *step) startNext() {
	if s.State == Starting && s.Task == "" && s.Asks == 0 && s.Attempt == 0 {
		s.ask()
	}
}
