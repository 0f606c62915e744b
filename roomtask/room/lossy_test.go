package room

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/shared/signal"
)

// The control plane must hear of a session before the task can be killed, not one
// heartbeat later.
func TestHeartbeatIsRepeatedUntilItIsAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.join("ann", 1)
		w.sleep(7 * time.Second)
		beats := w.take(signal.LinkHeartbeat)
		if len(beats) != 4 { // with the join, and after 2, 4 and 6 s
			t.Fatalf("%d heartbeats in 7 s without an answer", len(beats))
		}
		var h signal.Heartbeat
		if err := json.Unmarshal(beats[3].Body, &h); err != nil || len(h.Usage.Sessions) != 1 {
			t.Fatalf("the repeat %+v %v", h, err)
		}
		w.frame(signal.LinkAck, signal.Ack{Seq: h.Usage.Seq})
		w.sleep(6 * time.Second)
		if beats = w.take(signal.LinkHeartbeat); len(beats) != 0 {
			t.Errorf("%d heartbeats in 6 s after the answer", len(beats))
		}
		w.finish()
	})
}

// A join that comes twice, the second time after its participant has left or joined
// anew, brings nobody back.
func TestLateEchoOfAJoinIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.joins++
		first := w.client("ann", 1, nil)
		w.frame(signal.LinkClient, first)
		w.frame(signal.LinkClient, first) // at once: answered again
		if n := len(w.toClient()); n != 2 {
			t.Errorf("%d answers to a join that came twice", n)
		}
		w.joins++
		second := w.client("ann", 1, nil)
		second.Conn = "conn-ann-2"
		w.frame(signal.LinkClient, second)
		media := w.media["ann"]
		w.take("")
		w.frame(signal.LinkClient, first)
		if out := w.toClient(); len(out) != 0 || w.media["ann"] != media {
			t.Errorf("the echo of an earlier join was taken up: %+v", out)
		}
		w.open("ann")
		w.data("ann", signal.TypeLeave, signal.Leave{})
		w.take("")
		w.frame(signal.LinkClient, second)
		if out := w.toClient(); len(out) != 0 || w.media["ann"] != media {
			t.Errorf("the echo of a join brought a participant back: %+v", out)
		}
		w.sleep(21 * time.Second)
		if asked := w.take(signal.LinkEnding); len(asked) == 0 {
			t.Error("the room does not take itself for empty")
		}
		w.frame(signal.LinkEndingOK, struct{}{})
		w.ended(signal.ExitEnded, signal.ReasonEmpty)
	})
}

// TestSecondStay: a participant who was taken for lost comes back with the join that
// it made before. Its second stay is counted, as a session of its own.
func TestSecondStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.joins++
		c := w.client("a", 1, nil)
		w.frame(signal.LinkClient, c)
		w.sleep(4 * time.Second)
		w.media["a"].post(Event{Kind: EventFailed})
		w.sleep(time.Second)
		w.joins++
		c.Session.JoinSeq = w.joins
		w.frame(signal.LinkClient, c)
		w.sleep(3 * time.Second)
		w.take(signal.LinkHeartbeat)
		w.data("a", signal.TypeLeave, signal.Leave{})
		beats := w.take(signal.LinkHeartbeat)
		if len(beats) == 0 {
			t.Fatal("no heartbeat after the leave")
		}
		var h signal.Heartbeat
		if err := json.Unmarshal(beats[len(beats)-1].Body, &h); err != nil {
			t.Fatal(err)
		}
		ms := map[string]int64{}
		for _, s := range h.Usage.Sessions {
			ms[s.ID] = s.ParticipantMS
		}
		if ms[c.Session.ID] != 4000 || ms[c.Session.ID+".2"] != 3000 || h.Usage.Totals.ParticipantMS != 7000 {
			t.Errorf("sessions %v, in all %d ms; want stays of 4000 and 3000 ms", ms, h.Usage.Totals.ParticipantMS)
		}
		w.finish()
	})
}
