package life

import (
	"testing"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/control/ledger"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
)

// TestKeptRoomIsKilled: a room asks to end while somebody is let in, is told to carry on,
// takes the newcomer, and its task is killed before it has told of it. What the task said
// last was not its last word: the newcomer's time is inferred, not dropped.
func TestKeptRoomIsKilled(t *testing.T) {
	for _, knew := range []bool{false, true} {
		w := newWorld(t)
		r := w.liveRoom()
		p := &control.Participant{ID: "p1", Identity: "alice", Session: "s1", Epoch: 1}
		joinSeq, _, err := w.life.Admit(w.ctx, r.ID, func(joinSeq uint64) ([]store.Write, error) {
			s, err := control.Put(ledger.OpenSession(&r, p, joinSeq, w.clock.MS()))
			return []store.Write{s}, err
		})
		if err != nil {
			t.Fatal(err)
		}
		w.clock.Advance(time.Second)
		// The task has seen the join before it asks, and nobody came of it; or it has not.
		ask, answer := signal.Ending{Reason: signal.ReasonEmpty}, signal.LinkKeep
		if knew {
			ask.JoinSeq, answer = joinSeq, signal.LinkEndingOK
		}
		w.replied(w.ending("link1", ask), answer)
		w.clock.Advance(3 * time.Second)
		w.changed(w.fleet.Kill(w.task(r.ID, 1).ARN))
		u := w.usage(r.ID)
		if knew {
			w.want(r.ID, lifecycle.Ended, 1)
			if len(u.Participants) != 0 || u.Totals.ParticipantMS != 0 {
				t.Errorf("a join that came to nothing: %+v", u.Participants)
			}
			continue
		}
		w.want(r.ID, lifecycle.Starting, 2)
		if len(u.Participants) != 1 || u.Participants[0].MS != 4000 || !u.Participants[0].Bounded {
			t.Errorf("killed 4 s after the join: %+v", u.Participants)
		}
	}
}
