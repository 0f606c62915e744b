package sendq

// safely gives the sender its turn, or lets it send its sound. A panic, which some packet
// or report has met, ends this sender and no other that the goroutine serves. What it
// held of the packet pool may be lost with it, at most what an inbox and the lines hold.
func (s *Sender) safely(turn func() bool) (again bool) {
	defer func() {
		if r := recover(); r != nil {
			again = s.fault(r)
		}
	}()
	return turn()
}

// fault refuses what comes from now on, and asks for one more turn, which gives back
// what it can. When that fails too, the sender has ended. A sender that slept is woken
// for that turn: it had sent its sound only.
func (s *Sender) fault(r any) (again bool) {
	if s.broken {
		s.worker.leave()
		close(s.done)
		return false
	}
	s.broken = true
	if s.cfg.Fault != nil {
		s.cfg.Fault(r)
	}
	s.in.mu.Lock()
	s.in.closed = true
	s.in.unlock()
	return true
}
