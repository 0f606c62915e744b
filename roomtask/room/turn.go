package room

// Turn does what the loop would do at this moment: it handles every message that
// waits, and whatever has its time. over says that the room has ended. Run is the
// loop of a task; a caller that owns the time, as a model does, calls Turn instead of
// Run, from one goroutine, and nothing happens in between.
func (r *Room) Turn() (exit Exit, over bool) {
	if r.startedAt.IsZero() {
		r.begin()
	}
	r.handleAll()
	if r.phase != done {
		r.beat(r.cfg.Now())
		r.settle()
		r.handleAll()
	}
	return r.exit, r.phase == done
}

// begin notes when the loop began.
func (r *Room) begin() {
	r.startedAt = r.cfg.Now()
	if r.cfg.Started.IsZero() {
		r.cfg.Started = r.startedAt
	}
}

// handleAll empties the mailbox.
func (r *Room) handleAll() {
	for r.phase != done {
		select {
		case m := <-r.mailbox:
			r.handle(m)
			r.settle()
		default:
			return
		}
	}
}
