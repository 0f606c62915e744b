package room

import (
	"encoding/json"
	"testing"
	"testing/synctest"

	"mayfly/shared/signal"
)

// TestRestartIsAnsweredTheWayItCame: one who is cut off offers over the data channel and
// over any WebSocket that comes up; the copy that gets through is answered, whatever
// became of the answer to another.
func TestRestartIsAnsweredTheWayItCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := twoInACall(t)
		o := offerOf(signal.KindMic, signal.KindCamera)
		o.Generation = 2
		w.data("ann", signal.TypeOffer, o)
		if a := last[signal.Answer](t, w.media["ann"], signal.TypeAnswer); a.Generation != 2 {
			t.Errorf("over the data channel: %+v", a)
		}
		w.take("")
		for _, conn := range []string{"conn-new", "conn-newer"} {
			raw, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			w.frame(signal.LinkClient, signal.Client{Conn: conn, Participant: "ann", Frame: signal.Frame{Type: signal.TypeOffer, Seq: 2, Body: raw}})
			sent := w.toClient()
			if len(sent) != 1 || sent[0].Conn != conn || sent[0].Frame.Type != signal.TypeAnswer {
				t.Errorf("over %s: %+v", conn, sent)
			}
		}
		o.Generation = 1
		w.data("ann", signal.TypeOffer, o)
		if sent := w.toClient(); len(sent) != 0 {
			t.Errorf("an older one is answered: %+v", sent)
		}
		w.finish()
	})
}
