package room

import (
	"encoding/json"
	"slices"
	"testing"
	"testing/synctest"

	"mayfly/shared/signal"
	"mayfly/shared/usage"
)

var fullGrants = signal.Grants{Publish: []string{signal.KindMic, signal.KindCamera}, Subscribe: true, Chat: true}

// order sends what the product has ordered, as revision rev.
func (w *world) order(rev uint64, list ...signal.Order) {
	for i := range list {
		list[i].Rev = rev
		if list[i].Grants.Publish == nil {
			list[i].Grants = fullGrants
		}
	}
	w.frame(signal.LinkOrders, signal.Orders{Rev: rev, Limits: testLimits, Participants: list})
}

// carriesFrom are the kinds of a publisher that a viewer's seats carry.
func (w *world) carriesFrom(viewer, publisher string) (kinds []string) {
	m := w.media[viewer]
	m.mu.Lock()
	defer m.mu.Unlock()
	for n, from := range m.from {
		if from != w.media[publisher] {
			continue
		}
		for _, k := range []string{m.placed[n].Audio, m.placed[n].Video} {
			if k != "" {
				kinds = append(kinds, k)
			}
		}
	}
	slices.Sort(kinds)
	return kinds
}

// twoInACall is ann and bob, who see and hear each other.
func twoInACall(t *testing.T) *world {
	w := newWorld(t)
	w.register()
	w.join("ann", 1, want("bob/camera", 640, 360))
	w.join("bob", 1, want("ann/camera", 640, 360))
	w.open("ann")
	w.open("bob")
	if got := w.carriesFrom("bob", "ann"); !slices.Equal(got, []string{signal.KindCamera, signal.KindMic}) {
		t.Fatalf("bob gets %q of ann", got)
	}
	return w
}

func TestMuteStopsForwarding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := twoInACall(t)
		w.take("")
		w.order(3, signal.Order{Participant: "ann", Muted: []string{signal.KindMic}})
		if got := w.carriesFrom("bob", "ann"); !slices.Equal(got, []string{signal.KindCamera}) {
			t.Errorf("with her microphone muted bob gets %q of ann", got)
		}
		if m := last[signal.Standing](t, w.media["ann"], signal.TypeGrants); !slices.Equal(m.Muted, []string{signal.KindMic}) {
			t.Errorf("ann is told %+v", m)
		}
		told := last[signal.Participants](t, w.media["bob"], signal.TypeParticipants).Upsert[0]
		if s := told.Sources[0]; s.Kind != signal.KindMic || !s.Muted || !s.Held || told.Sources[1].Held {
			t.Errorf("bob is told %+v", told.Sources)
		}
		var beat signal.Heartbeat
		beats := w.take(signal.LinkHeartbeat)
		if len(beats) == 0 || json.Unmarshal(beats[len(beats)-1].Body, &beat) != nil || beat.Orders != 3 {
			t.Errorf("the control plane is told %+v", beat)
		}
		// She says that she is not muted: it is not hers to say.
		w.data("ann", signal.TypeMute, signal.Mute{Kind: signal.KindMic, Muted: true})
		w.data("ann", signal.TypeMute, signal.Mute{Kind: signal.KindMic, Muted: false})
		if got := w.carriesFrom("bob", "ann"); !slices.Equal(got, []string{signal.KindCamera}) {
			t.Errorf("after her own word bob gets %q of ann", got)
		}
		w.order(2, signal.Order{Participant: "ann"}) // late: an older order
		if got := w.carriesFrom("bob", "ann"); !slices.Equal(got, []string{signal.KindCamera}) {
			t.Errorf("after an older order bob gets %q of ann", got)
		}
		w.order(4, signal.Order{Participant: "ann"})
		if got := w.carriesFrom("bob", "ann"); !slices.Equal(got, []string{signal.KindCamera, signal.KindMic}) {
			t.Errorf("unmuted, bob gets %q of ann", got)
		}
		w.finish()
	})
}

func TestRevokedGrantsStopForwardingBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := twoInACall(t)
		w.order(1, signal.Order{Participant: "ann", Grants: signal.Grants{Publish: []string{signal.KindMic}, Subscribe: false}})
		if got := w.carriesFrom("bob", "ann"); !slices.Equal(got, []string{signal.KindMic}) {
			t.Errorf("bob gets %q of ann, who may publish her voice only", got)
		}
		if got := w.carriesFrom("ann", "bob"); got != nil {
			t.Errorf("ann, who may receive nothing, gets %q of bob", got)
		}
		if told := last[signal.Participants](t, w.media["bob"], signal.TypeParticipants).Upsert[0]; len(told.Sources) != 1 {
			t.Errorf("ann's sources are told as %+v", told.Sources)
		}
		// Her camera's m-line is still there: more seats must be had all the same.
		o := offerOf(signal.KindMic, signal.KindCamera)
		o.Generation = 2
		w.data("ann", signal.TypeOffer, o)
		last[signal.Answer](t, w.media["ann"], signal.TypeAnswer)
		if got := w.carriesFrom("bob", "ann"); !slices.Equal(got, []string{signal.KindMic}) {
			t.Errorf("after her offer bob gets %q of ann", got)
		}
		w.data("ann", signal.TypeChat, signal.Chat{Text: "hello"})
		if e := last[signal.Error](t, w.media["ann"], signal.TypeError); e.Code != signal.CodeNotPermitted {
			t.Errorf("her chat is answered %+v", e)
		}
		w.order(2, signal.Order{Participant: "ann"})
		if a, b := w.carriesFrom("bob", "ann"), w.carriesFrom("ann", "bob"); len(a) != 2 || len(b) != 2 {
			t.Errorf("with all grants again bob gets %q and ann %q", a, b)
		}
		w.finish()
	})
}

func TestEjectedIsToldAndGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := twoInACall(t)
		w.take("")
		w.order(5, signal.Order{Participant: "ann", Ejected: true})
		if e := last[signal.Ended](t, w.media["ann"], signal.TypeEnded); e.Reason != signal.ReasonEjected || e.Rejoin {
			t.Errorf("ann is told %+v", e)
		}
		sent := w.toClient()
		if n := len(sent); n == 0 || sent[n-1].Conn != "conn-ann" || sent[n-1].Frame.Type != signal.TypeEnded || !sent[n-1].Close {
			t.Errorf("over the WebSocket: %+v", sent)
		}
		select {
		case <-w.media["ann"].closed:
		default:
			t.Error("her media is not closed")
		}
		if got := w.carriesFrom("bob", "ann"); got != nil {
			t.Errorf("bob still gets %q of ann", got)
		}
		// A join that was admitted before the order, and comes after it.
		w.join("ann", 9)
		late := w.toClient()
		if n := len(late); n == 0 || late[n-1].Frame.Type != signal.TypeError || !late[n-1].Close {
			t.Errorf("a late join is answered %+v", late)
		}
		if r, _ := w.room.book.Report(0, false); r.Totals.Present != 1 || !slices.ContainsFunc(r.Sessions, func(s usage.Session) bool {
			return s.Participant == "ann" && s.LeaveReason == signal.ReasonEjected
		}) {
			t.Errorf("usage %+v", r)
		}
		w.finish()
	})
}

// TestOrdersComeWithTheJoin: a new task knows of a mute by the join itself, or by the
// orders that overtook it.
func TestOrdersComeWithTheJoin(t *testing.T) {
	for name, early := range map[string]bool{"with the join": false, "before it": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.register()
				if early {
					w.order(7, signal.Order{Participant: "ann", Muted: []string{signal.KindMic}})
				}
				w.joins++
				c := w.client("ann", 1, nil)
				c.Session.OrderRev = 6
				if !early {
					c.Session.OrderRev, c.Session.Muted = 7, []string{signal.KindMic}
				}
				w.frame(signal.LinkClient, c)
				w.join("bob", 1, want("ann/camera", 640, 360))
				w.open("ann")
				w.open("bob")
				if got := w.carriesFrom("bob", "ann"); !slices.Equal(got, []string{signal.KindCamera}) {
					t.Errorf("bob gets %q of ann", got)
				}
				if m := last[signal.Standing](t, w.media["ann"], signal.TypeGrants); !slices.Equal(m.Muted, []string{signal.KindMic}) {
					t.Errorf("ann is told %+v", m)
				}
				w.finish()
			})
		})
	}
}
