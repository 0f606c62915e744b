package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"mayfly/functions/control"
	"mayfly/functions/store"
	"mayfly/shared/usage"
)

// truth sees every commit, and holds what must hold at each of them.
type truth struct {
	w      *World
	events map[string]uint64      // events of a room that exist, by room
	said   map[string]int         // deliveries by event id
	got    map[string]int         // arrivals at the webhook, by event id
	owed   map[string]string      // state of the delivery, by event id
	log    uint64                 // entries of the tenant's log
	inLog  map[string]uint64      // the last event of a room that is in it
	open   int                    // rooms that are not final
	fullMS int64                  // until when they were as many as the tenant may have
	places int                    // rooms that the quota counts
	parts  []*control.Participant // that the commit which is being observed wrote
	fresh  []store.Key            // events of the commit that is being observed
	wakes  int                    // of deliver, by the stream
	closed map[string][]byte      // ledgers as they were closed, by room
	known  map[string]*control.Room
}

func newTruth(w *World) *truth {
	return &truth{
		w: w, events: map[string]uint64{}, said: map[string]int{}, got: map[string]int{}, owed: map[string]string{}, inLog: map[string]uint64{}, closed: map[string][]byte{}, known: map[string]*control.Room{},
	}
}

// decode reads an entity of the table.
func decode[T any](w *World, it store.Item) *T {
	d := new(T)
	if err := json.Unmarshal(it.Data, d); err != nil {
		w.fail("%s %s does not decode: %v", it.PK, it.SK, err)
	}
	return d
}

// changed looks at one item that a commit changed.
func (v *truth) changed(old, is store.Item) {
	if is.Version != 0 && is.Version != old.Version+1 {
		v.w.fail("%s %s goes from version %d to %d", is.PK, is.SK, old.Version, is.Version)
	}
	gone := is.Version == 0
	switch kind := is.Kind + old.Kind[:len(old.Kind)*b2i(gone)]; kind {
	case "room":
		v.room(old, is)
	case "event":
		v.event(old, is)
	case "ledger":
		v.ledger(old, is)
	case "epoch":
		v.epoch(old, is)
	case "session":
		v.session(old, is)
	case "logged":
		v.logged(old, is)
	case "delivery":
		v.delivery(old, is)
	case "wire":
		v.wire(is)
	case "hook":
		v.hook(is)
	case "slot":
		v.slot(old, is)
	case "quota":
		v.quota(old, is)
	case "part":
		if !gone {
			v.parts = append(v.parts, decode[control.Participant](v.w, is))
		}
	case "bill", "correction", "idem", "listed", "claim":
		if old.Version != 0 {
			v.w.fail("%s %s was changed: %s", is.PK, is.SK, kind)
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// committed looks at the whole after a commit.
func (v *truth) committed() {
	w := v.w
	if v.open != v.places {
		w.fail("the quota counts %d rooms, %d are not final", v.places, v.open)
	}
	if v.open > w.quota {
		w.fail("%d rooms are not final, and the tenant may have %d", v.open, w.quota)
	}
	for _, p := range v.parts {
		if p.Session != "" && w.table.load(control.SessionKey(p.Room, p.Epoch, p.Session)).Version == 0 {
			w.fail("room %s: %s may join, and session %s is not in the ledger", w.label(p.Room), p.ID, p.Session)
		}
	}
	v.parts = nil
	for _, k := range v.fresh {
		if !strings.HasPrefix(k.PK, control.RoomPK("")) {
			continue
		}
		if r := v.known[roomOf(k.PK)]; r == nil || r.EventSeq != v.events[r.ID] {
			w.fail("%s: %d events, and the room counts %+v", k.PK, v.events[roomOf(k.PK)], r)
		}
	}
	if len(v.fresh) == 0 {
		return
	}
	keys := v.fresh
	v.fresh = nil
	v.wakes++
	actor := w.actor(roomOf(keys[0].PK), keys[0].SK, 0)
	if _, lost := w.chance.Draw(StreamLost, actor, 0); lost {
		return
	}
	w.in(streamMS, func() { w.stream(keys, actor, 1) })
}

func roomOf(pk string) string { return pk[min(len(pk), len(control.RoomPK(""))):] }

// room: what only grows, grows; a final room stays so; a new epoch has the proof.
func (v *truth) room(old, is store.Item) {
	w := v.w
	r := decode[control.Room](w, is)
	if is.Version == 0 {
		w.fail("room %s was deleted", old.PK)
		return
	}
	if old.Version == 0 {
		facts := &roomFacts{id: r.ID, n: len(w.order) + 1, tenant: r.Tenant}
		w.rooms[r.ID], w.order = facts, append(w.order, facts)
		w.lives++
		v.known[r.ID], v.open = r, v.open+1
		return
	}
	was := v.known[r.ID]
	v.known[r.ID] = r
	if r.EventSeq < was.EventSeq || r.JoinSeq < was.JoinSeq || r.Rev < was.Rev || r.Epoch < was.Epoch || r.Spent < was.Spent {
		w.fail("room %s goes back from %+v to %+v", w.label(r.ID), was, r)
	}
	if was.State.Final() && (r.State != was.State || r.Reason != was.Reason || r.Epoch != was.Epoch) {
		w.fail("room %s was %s (%s), and is %s (%s)", w.label(r.ID), was.State, was.Reason, r.State, r.Reason)
	}
	if was.Settled && !r.Settled {
		w.fail("room %s is not settled any more", w.label(r.ID))
	}
	if !was.State.Final() && r.State.Final() {
		if v.open == w.quota {
			v.fullMS = w.now
		}
		v.open--
	}
	if r.Epoch > was.Epoch+1 {
		w.fail("room %s goes from epoch %d to %d", w.label(r.ID), was.Epoch, r.Epoch)
	}
	if r.Epoch > was.Epoch {
		v.proved(r, was)
	}
	if facts := w.rooms[r.ID]; r.HandingTask != "" && facts.serving != nil && facts.serving.t.task.ARN == r.HandingTask {
		facts.serving = nil // fenced: it plays on, and takes no joins
	}
}

// proved: an epoch is over when the next one begins, or its task hands the room over,
// for it must go.
func (v *truth) proved(r, was *control.Room) {
	epoch := was.Epoch
	for _, t := range v.w.ecs.of(r.ID, epoch) {
		handing := r.HandingTask == t.task.ARN && r.HandingEpoch == epoch && t.ending
		if v.counts(t, was.Task) && !t.gone && !handing {
			v.w.fail("room %s begins epoch %d while task %s runs", v.w.label(r.ID), epoch+1, t.label)
		}
	}
}

// counts says whether a task is one that the room can know of. If ECS itself ran two
// for one request, that is the one that became known first: the other is fenced.
func (v *truth) counts(t *ecsTask, known string) bool {
	if v.w.twins(t.room, t.epoch) {
		return t.task.ARN == known
	}
	return true
}

// event: numbered from 1 without a gap, never changed but for its delivery.
func (v *truth) event(old, is store.Item) {
	w := v.w
	if is.Version == 0 {
		w.fail("event %s %s was deleted", old.PK, old.SK)
		return
	}
	e := decode[control.Event](w, is)
	if old.Version == 0 {
		v.events[e.Room]++
		if e.Seq != v.events[e.Room] {
			w.fail("room %s: event %d comes after %d", w.label(e.Room), e.Seq, v.events[e.Room]-1)
		}
		v.fresh = append(v.fresh, is.Key)
		return
	}
	was := decode[control.Event](w, old)
	if was.Type != e.Type || was.AtMS != e.AtMS || !bytes.Equal(was.Data, e.Data) || was.DeliveredMS != 0 {
		w.fail("event %s was changed", e.ID)
	}
	if e.DeliveredMS != 0 && v.said[e.ID] == 0 {
		w.fail("event %s is in the log, and nobody was told", e.ID)
	}
}

// published is an event that deliver was told of, before it came into the log.
func (v *truth) published(id string) { v.said[id]++ }

// arrived is an event that the product's webhook took.
func (v *truth) arrived(id string) {
	v.got[id]++
	v.w.say("the webhook takes %s", id)
}

// logged: the tenant's log has every event once, without a gap, a room's in their order.
func (v *truth) logged(old, is store.Item) {
	l := decode[control.Logged](v.w, is)
	v.log++
	v.inLog[l.Room+l.Endpoint]++
	if old.Version != 0 || l.Position != v.log || l.Seq != v.inLog[l.Room+l.Endpoint] {
		v.w.fail("the log has %s at %d, after %d", l.ID, l.Position, v.log-1)
	}
}

// delivery: owed once, and done when it arrived.
func (v *truth) delivery(old, is store.Item) {
	d := decode[control.Delivery](v.w, is)
	if d.Endpoint == v.w.other.id {
		v.w.other.owed(v.w, d, old.Version == 0)
		if old.Version == 0 {
			v.fresh = append(v.fresh, is.Key)
		}
		return
	}
	if old.Version == 0 {
		v.fresh = append(v.fresh, is.Key)
		v.owed[d.Event] = d.State
		return
	}
	if was := v.owed[d.Event]; was != control.DeliveryPending && was != d.State {
		v.w.fail("delivery of %s goes from %s to %s", d.Event, was, d.State)
	}
	if v.owed[d.Event] = d.State; d.State == control.DeliveryDelivered && v.got[d.Event] == 0 {
		v.w.fail("event %s counts as delivered, and nobody got it", d.Event)
	}
}

// ledger: closed once, and the same ever after.
func (v *truth) ledger(old, is store.Item) {
	w := v.w
	l := decode[control.Ledger](w, is)
	if was := v.closed[l.Room]; was != nil {
		w.fail("the closed ledger of %s was written again", w.label(l.Room))
	}
	if l.ClosedMS != 0 {
		v.closed[l.Room] = is.Data
		if r := v.known[l.Room]; !r.State.Final() {
			w.fail("the ledger of %s is closed, and the room is %s", w.label(l.Room), r.State)
		}
		for n := 1; n <= v.known[l.Room].Epoch; n++ {
			for _, t := range w.ecs.of(l.Room, n) {
				if v.counts(t, "") && !t.gone {
					w.fail("the ledger of %s is closed, and task %s runs", w.label(l.Room), t.label)
				}
			}
		}
	}
	_ = old
}

// epoch: ECS's word and the task's counts only grow.
func (v *truth) epoch(old, is store.Item) {
	if old.Version == 0 {
		return
	}
	w := v.w
	was, e := decode[control.Epoch](w, old), decode[control.Epoch](w, is)
	if e.ReportSeq < was.ReportSeq || e.Task.Version < was.Task.Version || was.Stopped && !e.Stopped || was.Task.ARN != "" && e.Task.ARN != was.Task.ARN {
		w.fail("epoch %d of %s goes back from %+v to %+v", e.Epoch, w.label(e.Room), was, e)
	}
	if !grows(was.Totals, e.Totals) {
		w.fail("totals of epoch %d of %s fall from %+v to %+v", e.Epoch, w.label(e.Room), was.Totals, e.Totals)
	}
}

func grows(a, b usage.Totals) bool {
	return b.ParticipantMS >= a.ParticipantMS && b.Sessions >= a.Sessions && b.PeakParticipants >= a.PeakParticipants &&
		b.BytesIn.Total >= a.BytesIn.Total && b.BytesOut.Total >= a.BytesOut.Total && b.MessagesIn >= a.MessagesIn && b.MessagesOut >= a.MessagesOut
}

// session: counters grow; what was inferred gives way to what was counted.
func (v *truth) session(old, is store.Item) {
	if old.Version == 0 {
		return
	}
	w := v.w
	was, s := decode[control.Session](w, old), decode[control.Session](w, is)
	if s.Seq < was.Seq || s.BytesOut.Total < was.BytesOut.Total || s.BytesIn.Total < was.BytesIn.Total ||
		s.ParticipantMS-s.ExtraMS < was.ParticipantMS-was.ExtraMS {
		w.fail("session %s of %s goes back from %+v to %+v", s.ID, w.label(s.Room), was, s)
	}
}

func (v *truth) quota(old, is store.Item) {
	was, q := 0, decode[control.Quota](v.w, is)
	if old.Version != 0 {
		was = decode[control.Quota](v.w, old).Rooms
	}
	if q.Rooms < 0 {
		v.w.fail("the quota counts %d rooms", q.Rooms)
	}
	v.places += q.Rooms - was
}

// refused: a tenant hears that it has too many rooms only while it has them.
func (v *truth) refused(sinceMS int64) {
	if v.open < v.w.quota && v.fullMS < sinceMS {
		v.w.fail("no place for another room, and %d of %d are taken", v.open, v.w.quota)
	}
}

// serve: at most one task of a room is accepted and not over.
func (v *truth) serve(p *roomTask) {
	r := v.w.room(p.t.room)
	if r == nil {
		v.w.fail("task %s serves a room that is not there", p.t.label)
		return
	}
	if p.t.epoch < v.known[r.id].Epoch && p.t.ending {
		return // it registered again while it hands over
	}
	if r.serving != nil && r.serving != p {
		v.w.fail("two tasks serve room %d: %s and %s", r.n, r.serving.t.label, p.t.label)
	}
	r.serving = p
	v.w.say("task %s serves %s", p.t.label, v.w.label(r.id))
}

func (v *truth) stopServing(p *roomTask) {
	if r := v.w.room(p.t.room); r != nil && r.serving == p {
		r.serving = nil
	}
}

// settled says that every room has come to its end, and every event has arrived.
func (v *truth) settled() bool {
	for _, r := range v.w.order {
		if v.unsettled(r) != "" {
			return false
		}
	}
	return true
}

// unsettled says what a room still waits for.
func (v *truth) unsettled(f *roomFacts) string {
	r := v.known[f.id]
	if !r.Settled {
		return fmt.Sprintf("is %s (%s), epoch %d, task %q, due at %d", r.State, r.Reason, r.Epoch, r.Task, r.DueAtMS-startMS)
	}
	for seq := uint64(1); seq <= r.EventSeq; seq++ {
		if v.owed[fmt.Sprintf("evt_%s_%d", r.ID, seq)] != control.DeliveryDelivered {
			return fmt.Sprintf("event %d of %d was not delivered", seq, r.EventSeq)
		}
	}
	return ""
}

// read is a usage record as the product reads it while the room runs.
func (v *truth) read(room, raw string) {
	var view struct {
		Status string `json:"status"`
		Totals control.LedgerTotals
	}
	if err := json.Unmarshal([]byte(raw), &view); err != nil {
		v.w.fail("usage of %s: %v", v.w.label(room), err)
	}
	if (view.Status == "closed") != (v.closed[room] != nil) && view.Status == "closed" {
		v.w.fail("usage of %s says %s", v.w.label(room), view.Status)
	}
}
