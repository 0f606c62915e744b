package peer

import (
	"testing"

	"github.com/pion/rtp"
)

// TestPanicEndsOneParticipant has a bug met on the socket's reader, which is everybody's,
// by a packet of a client whose publisher has no pool: its participant is lost, and nobody
// else.
func TestPanicEndsOneParticipant(t *testing.T) {
	k := newTask(t)
	broken := &task{net: k.net, cert: k.cert}
	e, c := broken.peer(t, "a"), newClient(t)
	other, oc := k.peer(t, "b"), newClient(t)
	c.publishMic()
	c.addSeats(1)
	c.join(e)
	oc.addSeats(1)
	oc.join(other)
	next[DataOpen](t, other)
	if err := c.mic.WriteRTP(&rtp.Packet{Header: rtp.Header{Version: 2}, Payload: make([]byte, 60)}); err != nil {
		t.Fatal(err)
	}
	for failed := false; !failed; {
		f, ok := (<-e.events).(Failed)
		if failed = ok; ok && f.Reason != FailFault {
			t.Errorf("reason %q", f.Reason)
		}
	}
	send(t, <-oc.open, 1, []byte(`{"type":"ping"}`))
	next[Data](t, other)
}
