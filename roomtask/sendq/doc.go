// Package sendq sends everything that one subscriber receives. A Sender owns the
// subscriber's seats with their forwarders, the transport-wide numbering, and the
// estimate of its path; its goroutine is the only one that writes RTP to that
// participant.
//
// peer makes one Sender per participant, tells it which lines its seats have
// (SetSeat), what sits in them (Assign), what RTCP came back (Feedback) and the time
// (Tick). None of these waits: everything lies in one inbox until the goroutine takes
// it. The Sender must not know a connection beyond the Writer, choose who sits
// where, or keep packets longer than until they are written.
//
// Its goroutine is a worker's (worker.go), which serves many Senders in turn.
//
// Read sender.go first, then inbox.go, send.go (what goes out, in which order), pace.go
// and pacer.go (what must wait), probe.go, feedback.go (what comes back), seat.go and
// decide.go (which layer is wanted and sent).
package sendq
