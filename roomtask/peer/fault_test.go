package peer

import (
	"testing"

	"mayfly/roomtask/seal"
)

// TestPanicInFeedbackEndsOneParticipant has a bug met on the socket's reader, which is
// everybody's: the packet counts as taken, and its participant is lost.
func TestPanicInFeedbackEndsOneParticipant(t *testing.T) {
	k := newTask(t)
	e, other := k.peer(t, "a"), k.peer(t, "b")
	e.direct.opener.Store(&seal.Opener{})
	if !e.direct.take(nil) { // shorter than any RTCP packet, which the socket never hands over
		t.Error("a packet that nobody can judge goes on to Pion")
	}
	if f := next[Failed](t, e); f.Reason != FailFault {
		t.Errorf("reason %q", f.Reason)
	}
	if len(other.events) != 0 {
		t.Errorf("another participant: %v", <-other.events)
	}
}
