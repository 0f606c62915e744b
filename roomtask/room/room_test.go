package room

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/shared/signal"
	"mayfly/shared/usage"
)

func TestJoinIsAnsweredOnceWithEveryoneAndSeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.join("ann", 7)
		w.join("bob", 2, want("ann/camera", 640, 360))
		got := w.toClient()
		if len(got) != 2 || got[1].Conn != "conn-bob" || got[1].Frame.Type != signal.TypeJoined || got[1].Frame.Seq != 1 {
			t.Fatalf("to clients: %+v", got)
		}
		var joined signal.Joined
		if err := json.Unmarshal(got[1].Frame.Body, &joined); err != nil {
			t.Fatal(err)
		}
		if len(joined.Participants) != 1 || joined.Participants[0].Name != "ANN" || joined.Resume != "resume-bob" || joined.Answer.SDP != "answer" {
			t.Errorf("joined %+v", joined)
		}
		wantSeat := signal.Seat{Seat: 0, Participant: "ann", Video: "ann/camera", Audio: "ann/mic"}
		if len(joined.Seating.Seats) != 1 || joined.Seating.Seats[0] != wantSeat {
			t.Errorf("seating %+v", joined.Seating)
		}
		if p := w.media["bob"].seatsNow()[0]; p.Width != 640 || w.media["bob"].from[0] != w.media["ann"] {
			t.Errorf("bob's seat 0 carries %+v", p)
		}
		if p := w.media["ann"].primed; len(p) != 1 || p[0] != (Placement{Video: signal.KindCamera, Width: 640, Height: 360}) {
			t.Errorf("a keyframe is on its way for bob: %+v", p)
		}
		if p := w.media["ann"].seatsNow()[0]; p.Audio != signal.KindMic || p.Video != "" {
			t.Errorf("ann hears bob by an audio-only seat: %+v", p)
		}
		c := w.client("bob", 1, nil) // the answer was lost: bob asks again, over a new connection
		c.Conn = "conn-bob-2"
		w.frame(signal.LinkClient, c)
		again := w.toClient()
		if len(again) != 1 || again[0].Conn != "conn-bob-2" || !bytes.Equal(again[0].Frame.Body, got[1].Frame.Body) {
			t.Errorf("a repeated join was answered: %+v", again)
		}
		// Once bob has the data channel, which he has not without the answer, that is not kept
		// but made again, and another offer of bob's does not change what it is.
		w.open("bob")
		w.toClient()
		w.frame(signal.LinkClient, c)
		var later, before signal.Joined
		again = w.toClient()
		if len(again) != 1 || again[0].Frame.Type != signal.TypeJoined || json.Unmarshal(again[0].Frame.Body, &later) != nil ||
			json.Unmarshal(got[1].Frame.Body, &before) != nil || later.Answer != before.Answer || len(later.Participants) != len(before.Participants) {
			t.Errorf("a join that was repeated later was answered: %+v, before %+v", later, before)
		}
		media := w.media["bob"]
		media.mu.Lock()
		media.refuse = signal.CodeBadOffer // as of one that has been followed by others
		media.mu.Unlock()
		w.frame(signal.LinkClient, c)
		again = w.toClient()
		if len(again) != 1 || again[0].Frame.Type != signal.TypeJoined || json.Unmarshal(again[0].Frame.Body, &later) != nil || later.Answer.SDP != "" {
			t.Errorf("a join that was repeated after another offer was answered: %+v", again)
		}
		if p := w.room.people["bob"]; p == nil || p.joinsAgain || p.joined.Answer.SDP != "" {
			t.Errorf("what is kept of bob's join: %+v", p)
		}
		if r, _ := w.room.book.Report(time.Now().UnixMilli(), false); r.Totals.Sessions != 2 {
			t.Errorf("a repeated join was counted: %+v", r.Totals)
		}
		w.finish()
	})
}

func TestRoomEndsWhenEmptyAndTheControlPlaneAgrees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.join("ann", 1)
		w.open("ann")
		w.sleep(5 * time.Second)
		w.data("ann", signal.TypeLeave, signal.Leave{})
		w.take("")
		w.sleep(19 * time.Second)
		if asked := w.take(signal.LinkEnding); len(asked) != 0 {
			t.Fatalf("asked to end before the empty timeout: %s", asked[0].Body)
		}
		w.sleep(1200 * time.Millisecond)
		asked := w.take(signal.LinkEnding)
		var ending signal.Ending
		if len(asked) == 0 || json.Unmarshal(asked[0].Body, &ending) != nil || ending.Reason != signal.ReasonEmpty || ending.Final || ending.JoinSeq != 1 {
			t.Fatalf("ending: %+v", ending)
		}
		if u := ending.Usage; !u.Final || u.Totals.ParticipantMS != 5000 || len(u.Sessions) != 1 || u.Sessions[0].LeaveReason != signal.ReasonLeft {
			t.Errorf("final usage %+v", u)
		}
		w.frame(signal.LinkEndingOK, struct{}{})
		w.ended(signal.ExitEnded, signal.ReasonEmpty)
	})
}

func TestJoinWinsAgainstEnding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.sleep(61 * time.Second)
		if len(w.take(signal.LinkEnding)) == 0 {
			t.Fatal("an unused room asks to end")
		}
		w.frame(signal.LinkKeep, signal.Keep{JoinSeq: 1})
		w.join("ann", 1)
		if got := w.toClient(); len(got) != 1 || got[0].Frame.Type != signal.TypeJoined {
			t.Fatalf("join after keep: %+v", got)
		}
		w.sleep(5 * time.Minute)
		if len(w.take(signal.LinkEnding)) != 0 {
			t.Error("an occupied room asks to end")
		}
		w.finish()
	})
}

func TestStopTellsParticipantsToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.join("ann", 1)
		w.open("ann")
		w.room.Stop()
		w.sleep(time.Second)
		if e := last[signal.Ended](t, w.media["ann"], signal.TypeEnded); !e.Rejoin || e.Reason != signal.ReasonTerminated {
			t.Errorf("ended %+v", e)
		}
		asked := w.take(signal.LinkEnding)
		var ending signal.Ending
		if len(asked) == 0 || json.Unmarshal(asked[len(asked)-1].Body, &ending) != nil || !ending.Final || ending.Usage.Totals.Present != 0 {
			t.Fatalf("ending %+v of %d", ending, len(asked))
		}
		w.frame(signal.LinkEndingOK, struct{}{})
		w.ended(signal.ExitTerminated, signal.ReasonTerminated)
	})
}

func TestEndsWithoutAnAnswerAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.sleep(time.Hour + 30*time.Second) // unused: asks at 60 s, goes 20 s later
		w.ended(signal.ExitEnded, signal.ReasonUnused)
	})
}

func TestRefusedTaskStopsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.join("ann", 1)
		w.frame(signal.LinkRefused, signal.Refused{Code: "other_task"})
		w.ended(signal.ExitFenced, "refused: other_task")
		select {
		case <-w.media["ann"].closed:
		default:
			t.Error("its media goes on")
		}
	})
}

func TestNeverRegistered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.sleep(registerLimit + time.Second)
		w.ended(signal.ExitLost, "never registered")
	})
}

func TestLeaverFreesTheSeatAndOthersAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.join("ann", 1)
		w.join("bob", 1, want("ann/camera", 100, 100))
		w.open("bob")
		w.media["ann"].post(Event{Kind: EventDisconnected})
		w.sleep(lostGrace - time.Second)
		if len(w.media["bob"].seatsNow()) != 1 {
			t.Fatal("a lost path is not a leave")
		}
		w.sleep(2 * time.Second)
		if p := w.media["bob"].seatsNow(); len(p) != 0 {
			t.Errorf("bob's seats still carry %+v", p)
		}
		if m := last[signal.Participants](t, w.media["bob"], signal.TypeParticipants); len(m.Remove) != 1 || m.Remove[0] != "ann" {
			t.Errorf("participants %+v", m)
		}
		if m := last[signal.Seating](t, w.media["bob"], signal.TypeSeating); len(m.Seats) != 0 {
			t.Errorf("seating %+v", m)
		}
		w.finish()
	})
}

func TestRejoinReplaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.join("ann", 1)
		w.open("ann")
		first := w.media["ann"]
		w.sleep(time.Second)
		w.join("ann", 5)
		select {
		case <-first.closed:
		default:
			t.Error("the replaced media goes on")
		}
		if e := last[signal.Ended](t, first, signal.TypeEnded); e.Reason != signal.ReasonReplaced {
			t.Errorf("ended %+v", e)
		}
		r, _ := w.room.book.Report(time.Now().UnixMilli(), false)
		if r.Totals.Sessions != 2 || r.Totals.Present != 1 || r.Totals.PeakParticipants != 1 {
			t.Errorf("usage %+v", r.Totals)
		}
		w.finish()
	})
}

func TestBadInputHarmsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		for i, c := range []struct {
			name string
			edit func(*signal.Client)
			code string
		}{
			{"unknown field", func(c *signal.Client) { c.Frame.Body = json.RawMessage(`{"x":1}`) }, signal.CodeBadMessage},
			{"not an object", func(c *signal.Client) { c.Frame.Body = json.RawMessage(`[]`) }, signal.CodeBadMessage},
			{"may not publish", func(c *signal.Client) { c.Session.Grants.Publish = nil }, signal.CodeNotPermitted},
		} {
			w.joins++
			m := w.client(fmt.Sprint("p", i), 1, nil)
			c.edit(&m)
			w.frame(signal.LinkClient, m)
			got := w.toClient()
			var e signal.Error
			if len(got) != 1 || json.Unmarshal(got[0].Frame.Body, &e) != nil || e.Code != c.code {
				t.Errorf("%s: %+v %+v", c.name, got, e)
			}
		}
		w.refuse = signal.CodeBadOffer
		w.join("bad", 1)
		w.refuse = ""
		for _, id := range []string{"a", "b", "c", "d"} {
			w.join(id, 1)
		}
		var codes []string
		for _, m := range w.toClient() {
			var e signal.Error
			if m.Frame.Type == signal.TypeError && json.Unmarshal(m.Frame.Body, &e) == nil {
				codes = append(codes, e.Code)
			}
		}
		if fmt.Sprint(codes) != fmt.Sprint([]string{signal.CodeBadOffer, signal.CodeRoomFull}) {
			t.Errorf("codes %v", codes)
		}
		w.open("a")
		w.media["a"].post(Event{Kind: EventData, Data: []byte("{")})
		synctest.Wait()
		if e := last[signal.Error](t, w.media["a"], signal.TypeError); e.Code != signal.CodeBadMessage {
			t.Errorf("bad JSON: %+v", e)
		}
		for range 2 * dataBurst {
			w.data("a", signal.TypePing, struct{}{})
		}
		if e := last[signal.Error](t, w.media["a"], signal.TypeError); e.Code != signal.CodeRateLimited {
			t.Errorf("flood: %+v", e)
		}
		w.finish()
	})
}

func TestChatMuteViewAndSpeakers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.join("ann", 1)
		w.join("bob", 1)
		w.open("ann")
		w.open("bob")
		w.data("ann", signal.TypeChat, signal.Chat{Text: "hello", From: "mallory"})
		if c := last[signal.Chat](t, w.media["bob"], signal.TypeChat); c.From != "ann" || c.Name != "ANN" || c.Text != "hello" {
			t.Errorf("chat %+v", c)
		}
		w.data("bob", signal.TypeView, signal.View{Rev: 2, Wants: []signal.Want{want("ann/camera", 320, 180)}})
		if p := w.media["bob"].seatsNow()[0]; p.Video != signal.KindCamera || p.Width != 320 {
			t.Errorf("after the view: %+v", p)
		}
		w.data("bob", signal.TypeView, signal.View{Rev: 1, Wants: []signal.Want{}}) // late
		if p := w.media["bob"].seatsNow()[0]; p.Video != signal.KindCamera {
			t.Errorf("an older view won: %+v", p)
		}
		w.data("ann", signal.TypeMute, signal.Mute{Kind: signal.KindCamera, Muted: true})
		if m := last[signal.Seating](t, w.media["bob"], signal.TypeSeating); m.Seats[0].Paused != "muted" {
			t.Errorf("seating %+v", m)
		}
		w.media["ann"].mu.Lock()
		w.media["ann"].level = 20
		w.media["ann"].mu.Unlock()
		w.sleep(3 * time.Second)
		if s := last[signal.Speakers](t, w.media["bob"], signal.TypeSpeakers); s.Active != "ann" {
			t.Errorf("speakers %+v", s)
		}
		w.media["ann"].mu.Lock()
		pulses := w.media["ann"].pulses
		w.media["ann"].mu.Unlock()
		if pulses < 100 {
			t.Errorf("%d pulses in 3 s", pulses)
		}
		w.finish()
	})
}

func TestHeartbeatsCarryCumulativeUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.mu.Lock()
		w.acks = true
		w.mu.Unlock()
		w.register()
		w.join("ann", 1)
		w.take("")
		w.media["ann"].mu.Lock()
		w.media["ann"].in = usage.Bytes{Total: 1000}
		w.media["ann"].mu.Unlock()
		w.sleep(35 * time.Second)
		beats := w.take(signal.LinkHeartbeat)
		if len(beats) != 3 {
			t.Fatalf("%d heartbeats in 35 s", len(beats))
		}
		var seq uint64
		for _, f := range beats {
			var h signal.Heartbeat
			if err := json.Unmarshal(f.Body, &h); err != nil || h.Usage.Seq <= seq || h.Usage.Totals.BytesIn.Total != 1000 {
				t.Errorf("heartbeat %+v %v", h, err)
			}
			seq = h.Usage.Seq
		}
		w.finish()
	})
}
