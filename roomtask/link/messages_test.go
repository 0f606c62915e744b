package link

import (
	"encoding/json"
	"strings"
	"testing"

	"mayfly/shared/signal"
)

// TestMessages: every frame on the link is counted in the gateway's units, and those
// that go on to a client, or came from one, twice.
func TestMessages(t *testing.T) {
	g := newGateway(t)
	l, frames, stop := start(t, g)
	c := g.accept(t)
	read(t, c) // register: 1 in
	reply(t, c, signal.LinkRegistered, signal.Registered{Room: "room_1"})
	reply(t, c, signal.LinkClient, signal.Client{Conn: "c1", Frame: signal.Frame{Type: signal.TypeJoin}})
	reply(t, c, signal.LinkAck, signal.Ack{Seq: 1})
	for range 3 { // 3 out, and the join's 1 in
		<-frames
	}
	l.Send(signal.LinkHeartbeat, signal.Heartbeat{})
	read(t, c) // 1 in
	long, err := json.Marshal(strings.Repeat("x", signal.MaxFrameBytes))
	if err != nil {
		t.Fatal(err)
	}
	l.Send(signal.LinkToClient, signal.ToClient{Conn: "c1", Frame: signal.Frame{Type: signal.TypeJoined, Body: long}})
	c.SetReadLimit(1 << 20)
	read(t, c) // 2 in, as it is over 32 KB, and 2 out to the client
	// One writer sends in order and counts after each write: with the next frame here,
	// all before it are counted, and only that one may not be.
	l.Send(signal.LinkHeartbeat, signal.Heartbeat{})
	read(t, c)
	if in, out := l.Messages(); in < 5 || in > 6 || out != 5 {
		t.Errorf("%d in and %d out, want 5 (6 with the last) and 5", in, out)
	}
	stop()
}
