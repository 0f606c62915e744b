package engines

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/store/storetest/engine"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
)

// A whole life, from the POST to the corrected bill, with everything told several times,
// out of order and at once.
func TestLife(t *testing.T) {
	each(t, setting{}, func(w *world) { w.wholeLife() })
}

// The same while every write takes effect and then fails on its first attempt: what is
// repeated by the SDK is known again, by the item's mark or the transaction's token.
func TestLifeWithLostAnswers(t *testing.T) {
	lost := &engine.Lossy{}
	s := setting{wrap: lost.Wrap}
	w := newWorld(t, open(t, engine.DynamoDBLocal, s.wrap), s)
	w.wholeLife()
	if n := lost.Lost(); n < 30 {
		t.Errorf("%d answers were lost", n)
	}
}

func (w *world) wholeLife() {
	w.t.Helper()
	w.endpoint()
	room := w.create(`{"external_id":"lesson","participants":[{"identity":"alice"}],"tags":{"team":"red"}}`)
	scheduled := w.task(room.ID, 1)
	w.clock.Advance(2 * time.Second)
	running := w.fleet.Run(scheduled.ARN)
	w.event(running, scheduled, running) // and the older one late
	link := w.register(running, room.ID, 1)
	session := w.join(room, link)

	// Reports at once and out of order: the highest number stays.
	w.clock.Advance(40 * time.Second)
	beside(8, func(i int) {
		n := []uint64{2, 5, 3, 5, 1, 4, 5, 2}[i]
		w.frame(link, signal.LinkHeartbeat, 0, signal.Heartbeat{JoinSeq: 1, Usage: w.report(n, session, int64(n)*8_000, int64(n)*100_000)}) //nolint:gosec // a handful
	})
	epoch := load[control.Epoch](w, control.EpochKey(room.ID, 1))
	equal(w.t, "the highest report", fmt.Sprint(epoch.ReportSeq, " ", epoch.Totals.BytesOut.Total), "5 500000")
	equal(w.t, "its session", load[control.Session](w, control.SessionKey(room.ID, 1, session)).ParticipantMS, 40_000)

	w.clock.Advance(10 * time.Second)
	last := w.report(6, session, 50_000, 700_000)
	last.Final, last.Totals.Present, last.Sessions[0].LeftMS, last.Sessions[0].LeaveReason = true, 0, w.clock.MS(), "left"
	w.frame(link, signal.LinkEnding, 0, signal.Ending{Reason: "empty", JoinSeq: 1, Final: true, Usage: last})
	w.sent(link, signal.LinkEndingOK)
	w.clock.Advance(3 * time.Second)
	stopped := w.fleet.Exit(running.ARN, 0)
	beside(6, func(i int) { w.event([]control.Task{stopped, running, stopped}[i%3]) })
	ledger := w.closedOnce(room.ID, 1)
	equal(w.t, "task time", ledger.Totals.TaskMSRaw, stopped.StoppedMS-stopped.PullStartedMS)
	equal(w.t, "bytes and sessions", fmt.Sprint(ledger.Totals.BytesOut.Total, ledger.Totals.Sessions, ledger.Totals.ParticipantMS), "700000 1 50000")
	equal(w.t, "places at the end", w.places(), 0)

	// A report that comes after the close is appended, once, with what it tells more.
	late := w.report(7, session, 50_000, 900_000)
	late.Final, late.Totals.Present, late.Sessions[0].JoinedMS, late.Sessions[0].LeftMS = true, 0, last.Sessions[0].JoinedMS, last.Sessions[0].LeftMS
	beside(4, func(int) { w.frame(link, signal.LinkHeartbeat, 0, signal.Heartbeat{JoinSeq: 1, Usage: late}) })
	corrections := all[control.Correction](w, control.RoomPK(room.ID), control.CorrectionPrefix)
	if len(corrections) != 1 || corrections[0].Totals.BytesOut.Total != 200_000 || corrections[0].PrevHash != ledger.Hash {
		w.t.Errorf("corrections %+v", corrections)
	}
	if now := load[control.Ledger](w, control.LedgerKey(room.ID)); now.Hash != ledger.Hash || now.ClosedMS != ledger.ClosedMS {
		w.t.Error("the closed record was changed")
	}
	w.delivered(room.ID)
	w.billed(ledger, corrections)
}

// join has alice join over her own WebSocket, and returns her session.
func (w *world) join(room created, link control.Conn) string {
	w.t.Helper()
	client := control.Conn{ID: "client1="}
	if status := w.ws(client, "CONNECT", "", ""); status != http.StatusOK {
		w.t.Fatalf("$connect is answered %d", status)
	}
	m := signal.Join{
		Ticket: room.Participants[0].Ticket, Attempt: strings.Repeat("a", 22),
		Offer: signal.Offer{Generation: 1, SDP: "v=0\r\n", Seats: []signal.SeatLine{{Seat: 0, Audio: "0", Video: "1"}}},
	}
	m.View.Wants = []signal.Want{}
	w.frame(client, signal.TypeJoin, 1, m)
	var handed signal.Client
	if err := json.Unmarshal(w.sent(link, signal.LinkClient).Body, &handed); err != nil || handed.Session == nil {
		w.t.Fatalf("handed over %+v, %v", handed, err)
	}
	m.Attempt = strings.Repeat("b", 22) // somebody else with the same ticket
	w.frame(client, signal.TypeJoin, 2, m)
	w.sent(client, signal.TypeError)
	equal(w.t, "joins", load[control.Room](w, control.RoomKey(room.ID)).JoinSeq, 1)
	return handed.Session.ID
}

// delivered: the stream brings every event into the log in its order, and to the
// endpoint; the same records again change nothing.
func (w *world) delivered(room string) {
	w.t.Helper()
	if n := w.pump(); n == 0 {
		w.t.Fatal("the stream told nothing")
	}
	events := all[control.Event](w, control.RoomPK(room), control.EventPrefix)
	for _, e := range events {
		if e.DeliveredMS == 0 || w.hook.got[e.ID] != 1 {
			w.t.Errorf("%s %s: delivered at %d, %d times", e.ID, e.Type, e.DeliveredMS, w.hook.got[e.ID])
		}
	}
	var page struct {
		Events []struct {
			ID       string `json:"id"`
			Seq      uint64 `json:"seq"`
			Position uint64 `json:"position"`
		} `json:"events"`
		More bool `json:"more"`
	}
	w.ask("GET", "/v1/events?after=0", "", "", http.StatusOK, &page)
	if len(page.Events) != len(events) || page.More {
		w.t.Errorf("%d events in the log, the room has %d", len(page.Events), len(events))
	}
	for i, e := range page.Events {
		if n := uint64(i + 1); e.Position != n || e.Seq != n { //nolint:gosec // counts
			w.t.Errorf("the log has %+v as its event %d", e, i+1)
		}
	}
	if left := all[control.Event](w, control.RoomPK(room), control.EventPrefix); len(left) != len(events) {
		w.t.Error("delivering made events")
	}
	for shard := range control.Shards {
		page, err := w.store.Index(w.t.Context(), control.OutboxPK(shard), "", storeAll)
		if err != nil || len(page.Items) != 0 {
			w.t.Errorf("the outbox still holds %d (%v)", len(page.Items), err)
		}
	}
}

// billed: the tenant's usage is the sum of the record and its corrections.
func (w *world) billed(l *control.Ledger, corrections []*control.Correction) {
	w.t.Helper()
	cost, price, bytes := l.Bill.CostNanoUSD, l.Bill.PriceNanoUSD, l.Totals.BytesOut.Total
	for _, c := range corrections {
		cost, price, bytes = cost+c.CostNano, price+c.PriceN, bytes+c.Totals.BytesOut.Total
	}
	from := time.UnixMilli(l.ClosedMS).UTC().Truncate(24 * time.Hour)
	for _, by := range []string{"tenant", "room", "day", "region", "tag&tag=team"} {
		var out struct {
			Rows []struct {
				Cost   int64 `json:"cost_nano_usd"`
				Price  int64 `json:"price_nano_usd"`
				Totals struct {
					Out struct{ Total int64 } `json:"bytes_out"`
				} `json:"totals"`
			} `json:"rows"`
		}
		query := fmt.Sprintf("/v1/usage?from=%s&to=%s&group_by=%s", from.Format(time.DateOnly), from.AddDate(0, 0, 2).Format(time.DateOnly), by)
		text := w.ask("GET", query, "", "", http.StatusOK, &out)
		if len(out.Rows) != 1 || out.Rows[0].Cost != cost || out.Rows[0].Price != price || out.Rows[0].Totals.Out.Total != bytes {
			w.t.Errorf("usage by %s: want %d nano-USD cost, %d price, %d bytes in one row: %s", by, cost, price, bytes, text)
		}
	}
}

// What was lost on the way is found by the sweep: a stop that nobody told of, an epoch
// whose task never came, a task without a room, a start that failed.
func TestSweep(t *testing.T) {
	each(t, setting{}, func(w *world) {
		killed, stuck := w.create(`{}`), w.create(`{}`)
		link := w.register(w.fleet.Run(w.task(killed.ID, 1).ARN), killed.ID, 1)
		w.frame(link, signal.LinkHeartbeat, 0, signal.Heartbeat{Usage: w.report(1, "s_1", 1000, 1000)})
		stray := w.fleet.Stray("room/room_00000000000000000000000000/1")
		w.fleet.Kill(w.task(killed.ID, 1).ARN)       // its event is lost
		w.fleet.FailToStart(w.task(stuck.ID, 1).ARN) // as is this one's
		for range 3 {
			w.clock.Advance(time.Minute)
			w.sweep()
		}
		for _, id := range []string{killed.ID, stuck.ID} {
			if r := load[control.Room](w, control.RoomKey(id)); r.Epoch < 2 || r.State != lifecycle.Starting {
				w.t.Errorf("room is %s in epoch %d (%s), want the next one starting", r.State, r.Epoch, r.Reason)
			}
			w.task(id, 1)
		}
		if !w.fleet.StopAsked(stray.ARN) {
			w.t.Error("the task without a room runs on")
		}
		// Nobody ever registers: both come to their end by themselves.
		for range 12 {
			w.clock.Advance(time.Minute)
			w.sweep()
			for _, task := range w.fleet.Tasks() {
				if w.fleet.StopAsked(task.ARN) {
					w.fleet.Exit(task.ARN, 143)
				}
			}
		}
		for _, id := range []string{killed.ID, stuck.ID} {
			w.closedOnce(id, load[control.Room](w, control.RoomKey(id)).Epoch)
		}
		equal(w.t, "places at the end", w.places(), 0)
		for shard := range control.Shards {
			page, err := w.store.Index(w.t.Context(), control.DuePK(shard), "", storeAll)
			if err != nil || len(page.Items) != 0 {
				w.t.Errorf("%d rooms are still due (%v)", len(page.Items), err)
			}
		}
	})
}
