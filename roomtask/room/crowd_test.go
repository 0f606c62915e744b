package room

import (
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/roomtask/usage"
	"mayfly/shared/signal"
)

// TestEndOfACrowd: the end of more sessions than one frame holds is told in several,
// each after the last was acknowledged, so that a queue that keeps only the newest
// heartbeat loses none; and the room does end.
func TestEndOfACrowd(t *testing.T) {
	const crowd = usage.MaxSessions + 20
	tests := []struct {
		name string
		acks bool
		end  int // how many sessions the first last word brings; -1: there is none
	}{
		{"each word is acknowledged", true, 20},
		{"no word is answered", false, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				limits := testLimits
				limits.MaxParticipants, limits.EndsAtMS = crowd, time.Now().Add(time.Hour).UnixMilli()
				w.frame(signal.LinkRegistered, signal.Registered{Room: "room_1", Epoch: 1, Limits: limits})
				for i := range crowd {
					w.join(fmt.Sprint("p", i), 1)
				}
				w.acks = tt.acks
				w.frame(signal.LinkEnd, signal.End{Reason: signal.ReasonDeleted})
				w.take("")
				w.sleep(3 * time.Second)

				left := map[string]bool{}
				w.mu.Lock()
				frames := w.frames
				w.mu.Unlock()
				if len(frames) > 10 {
					t.Fatalf("%d frames in 3 s", len(frames))
				}
				last := -1
				for _, f := range frames {
					var word struct {
						Usage struct {
							Sessions []struct {
								ID     string
								LeftMS int64 `json:"left_ms"`
							}
						}
					}
					if err := json.Unmarshal(f.Body, &word); err != nil {
						t.Fatal(err)
					}
					for _, s := range word.Usage.Sessions {
						left[s.ID] = left[s.ID] || s.LeftMS > 0
					}
					if f.Type == signal.LinkEnding && last < 0 {
						last = len(word.Usage.Sessions)
					}
				}
				if last != tt.end {
					t.Errorf("the first last word brings %d sessions, want %d", last, tt.end)
				}
				if !tt.acks {
					w.sleep(owedLimit) // what nobody has acknowledged is not given up soon
					w.ended(signal.ExitEnded, signal.ReasonDeleted)
					return
				}
				for id, ended := range left {
					if !ended {
						t.Errorf("nobody was told that %s ended", id)
					}
				}
				if len(left) != crowd {
					t.Errorf("%d of %d sessions told", len(left), crowd)
				}
				w.frame(signal.LinkEndingOK, struct{}{})
				w.ended(signal.ExitEnded, signal.ReasonDeleted)
			})
		})
	}
}

// TestLastFiguresOutliveAnOutage: the control plane is away for five minutes when the
// last participant goes. The task waits for it, and its figures are not lost.
func TestLastFiguresOutliveAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.join("ann", 1)
		w.media["ann"].post(Event{Kind: EventFailed})
		w.sleep(5 * time.Minute)
		asked := w.take(signal.LinkEnding)
		if len(asked) == 0 {
			t.Fatal("it asks no more")
		}
		var ending signal.Ending
		if err := json.Unmarshal(asked[len(asked)-1].Body, &ending); err != nil || len(ending.Usage.Sessions) != 1 || ending.Usage.Sessions[0].LeftMS == 0 {
			t.Errorf("ending %+v, %v", ending, err)
		}
		w.frame(signal.LinkEndingOK, struct{}{})
		w.ended(signal.ExitEnded, signal.ReasonEmpty)
	})
}
