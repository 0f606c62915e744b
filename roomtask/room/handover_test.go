package room

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/shared/signal"
	"mayfly/shared/usage"
)

// endings decodes the endings that the room has sent since the last call.
func (w *world) endings() (out []signal.Ending) {
	w.t.Helper()
	for _, f := range w.take(signal.LinkEnding) {
		var m signal.Ending
		if err := json.Unmarshal(f.Body, &m); err != nil {
			w.t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

// TestHandOver: after SIGTERM media goes on until everybody has moved; each is counted
// to that moment, and the last report tells all of it.
func TestHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.join("ann", 1)
		w.open("ann")
		w.join("bob", 1)
		w.take("")
		begun := time.Now()
		w.sleep(10 * time.Second)
		w.room.Terminate()
		w.open("bob") // its channel opens just now
		w.sleep(5 * time.Second)
		for _, id := range []string{"ann", "bob"} {
			if m := last[signal.Moved](t, w.media[id], signal.TypeMoved); m.Epoch != 2 || m.EndsInMS != handLimit.Milliseconds() {
				t.Errorf("%s was told %+v", id, m)
			}
		}
		said := w.endings()
		if len(said) < 2 || !said[0].Final || said[0].Reason != signal.ReasonTerminated || said[0].Usage.Final || said[0].Usage.Totals.Present != 2 {
			t.Fatalf("the control plane was told %+v", said)
		}
		w.frame(signal.LinkEndingOK, signal.EndingOK{Seq: said[0].Usage.Seq})
		w.joins++
		w.frame(signal.LinkClient, w.client("cat", 1, nil)) // must join the next task
		if got := w.toClient(); len(got) != 1 || got[0].Frame.Type != signal.TypeError {
			t.Errorf("a join is answered %+v", got)
		}
		w.sleep(5 * time.Second)
		if n := len(w.endings()); n != 0 {
			t.Errorf("told %d times more after the answer", n)
		}
		w.data("ann", signal.TypeLeave, signal.Leave{Reason: signal.ReasonMoved})
		w.sleep(3 * time.Second)
		select {
		case <-w.media["ann"].closed:
			t.Error("ann's media ended, which bob may still see")
		default:
		}
		w.media["ann"].mu.Lock()
		w.media["ann"].out.Total = 777 // while she lingered
		w.media["ann"].mu.Unlock()
		w.data("bob", signal.TypeLeave, signal.Leave{Reason: signal.ReasonMoved})
		w.sleep(time.Second)
		final := w.endings()
		w.checkHandedOver(final, time.Since(begun))
		w.frame(signal.LinkEndingOK, signal.EndingOK{Seq: said[0].Usage.Seq}) // an early answer, come late
		w.sleep(100 * time.Millisecond)
		select {
		case <-w.exit:
			t.Fatal("gone before the last report was answered")
		default:
		}
		w.frame(signal.LinkEndingOK, signal.EndingOK{Seq: final[0].Usage.Seq})
		w.ended(signal.ExitTerminated, signal.ReasonTerminated)
	})
}

// checkHandedOver holds the last report to what happened in TestHandOver.
func (w *world) checkHandedOver(final []signal.Ending, passed time.Duration) {
	w.t.Helper()
	if len(final) == 0 || !final[0].Usage.Final || final[0].Usage.Totals.Present != 0 {
		w.t.Fatalf("at the end %+v", final)
	}
	sessions := map[string]usage.Session{}
	for _, s := range final[0].Usage.Sessions {
		sessions[s.Participant] = s
	}
	ann, bob := sessions["ann"], sessions["bob"]
	if ann.LeaveReason != signal.ReasonMoved || bob.LeaveReason != signal.ReasonMoved {
		w.t.Errorf("ann %+v, bob %+v", ann, bob)
	}
	if ann.ParticipantMS != 20_000 || bob.ParticipantMS != 23_000 || ann.LeftMS-ann.JoinedMS != 20_000 {
		w.t.Errorf("ann was here %d ms, bob %d of %v", ann.ParticipantMS, bob.ParticipantMS, passed)
	}
	if ann.BytesOut.Total != 777 {
		w.t.Errorf("what ann was sent while she lingered is missing: %+v", ann.BytesOut)
	}
}

// TestHandOverEnds: who does not move is sent away before ECS kills the task, and an
// empty room has nobody to wait for.
func TestHandOverEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.join("ann", 1)
		w.open("ann")
		w.room.Terminate()
		w.sleep(time.Second)
		w.frame(signal.LinkEndingOK, signal.EndingOK{Seq: w.endings()[0].Usage.Seq})
		w.sleep(handLimit - 2*time.Second)
		select {
		case <-w.media["ann"].closed:
			t.Error("too early")
		default:
		}
		w.sleep(2 * time.Second)
		if e := last[signal.Ended](t, w.media["ann"], signal.TypeEnded); !e.Rejoin || e.Reason != signal.ReasonTerminated {
			t.Errorf("ended %+v", e)
		}
		w.sleep(max(askLimit, leaveLimit-handLimit)) // and nobody answers any more
		w.ended(signal.ExitTerminated, signal.ReasonTerminated)
		if whole := max(handLimit+askLimit+flushDelay, leaveLimit); whole > 110*time.Second {
			t.Errorf("the longest hand-over is %v, and SIGKILL comes after 120 s", whole)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.room.Terminate()
		w.sleep(time.Second)
		said := w.endings()
		if len(said) == 0 || !said[0].Usage.Final {
			t.Fatalf("an empty task says %+v", said)
		}
		w.frame(signal.LinkEndingOK, signal.EndingOK{Seq: said[0].Usage.Seq})
		w.ended(signal.ExitTerminated, signal.ReasonTerminated)
	})
}

// TestArrivalIsCountedFromTheConnection: who comes from a task that hands over still
// plays there until then.
func TestArrivalIsCountedFromTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.joins++
		c := w.client("ann", 1, nil)
		c.Session.Resumed, c.Session.Moved = true, true
		w.frame(signal.LinkClient, c)
		w.sleep(3 * time.Second)
		w.open("ann")
		w.sleep(7 * time.Second)
		w.data("ann", signal.TypeLeave, signal.Leave{Reason: signal.ReasonMoved}) // this task goes nowhere: she leaves
		var ms int64
		for _, f := range w.take(signal.LinkHeartbeat) {
			var h signal.Heartbeat
			if err := json.Unmarshal(f.Body, &h); err != nil {
				t.Fatal(err)
			}
			ms = h.Usage.Totals.ParticipantMS
		}
		if ms != 7000 {
			t.Errorf("counted %d ms, she was connected for 7000", ms)
		}
		w.finish()
	})
}
