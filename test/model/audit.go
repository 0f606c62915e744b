package model

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"

	"mayfly/functions/control"
	"mayfly/functions/control/price"
	"mayfly/functions/store"
	"mayfly/shared/usage"
)

// books is what a room's record is made of, as the table has it.
type books struct {
	room        *control.Room
	ledger      *control.Ledger
	epochs      []*control.Epoch
	sessions    []*control.Session
	corrections []*control.Correction
	bills       []*control.Bill
}

// audit compares every room's closed record with the meters, at rest.
func (w *World) audit() {
	w.table.mu.Lock()
	w.table.catchUp()
	for pk, places := range w.table.index {
		if len(places) > 0 {
			w.fail("the index still holds %d of %s", len(places), pk)
		}
	}
	w.table.mu.Unlock()
	for _, t := range w.ecs.order {
		if t.slot == nil && w.rooms[t.room] == nil {
			w.fail("task %s has no room", t.label)
		}
	}
	w.auditPool()
	sums := newSums()
	for _, r := range w.order {
		b := w.books(r)
		if w.err == nil {
			w.auditRoom(r, b)
			sums.add(r, b)
		}
	}
	if w.err == nil {
		w.auditUsage(sums)
	}
}

func all[T any](w *World, pk, prefix string) []*T {
	var out []*T
	q := store.QueryOptions{}
	for {
		page, err := w.table.Query(context.Background(), pk, prefix, q)
		if err != nil {
			w.fail("%v", err)
			return nil
		}
		for _, it := range page.Items {
			out = append(out, decode[T](w, it))
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			return out
		}
	}
}

func (w *World) books(r *roomFacts) *books {
	pk := control.RoomPK(r.id)
	b := &books{
		epochs:      all[control.Epoch](w, pk, control.EpochPrefix),
		sessions:    all[control.Session](w, pk, control.SessionPrefix),
		corrections: all[control.Correction](w, pk, control.CorrectionPrefix),
	}
	b.room = all[control.Room](w, pk, "ROOM")[0]
	b.ledger = all[control.Ledger](w, pk, "LEDGER")[0]
	for ms := startMS - int64(86_400_000); ms <= w.now+86_400_000; ms += 86_400_000 {
		for _, bill := range all[control.Bill](w, control.BillsPK(r.tenant, control.Day(ms)), control.BillPrefix) {
			if bill.Room == r.id {
				b.bills = append(b.bills, bill)
			}
		}
	}
	return b
}

// auditRoom: one closed ledger, its time by ECS, its counts by the tasks, its money by
// the quantities, its copies alike.
func (w *World) auditRoom(r *roomFacts, b *books) {
	l := b.ledger
	if !b.room.State.Final() || !b.room.Settled || l.ClosedMS == 0 || !bytes.Equal(w.truth.closed[r.id], w.truth.closed[r.id]) {
		w.fail("room %d rests in %s, settled %v, its ledger closed at %d", r.n, b.room.State, b.room.Settled, l.ClosedMS)
	}
	if len(b.epochs) != b.room.Epoch {
		w.fail("room %d has %d epochs in its ledger, and is in its %dth", r.n, len(b.epochs), b.room.Epoch)
	}
	if hash := *l; true {
		hash.Hash = ""
		raw, err := json.Marshal(hash)
		sum := sha256.Sum256(raw)
		if err != nil || hex.EncodeToString(sum[:]) != l.Hash {
			w.fail("room %d: the ledger's hash is not its own", r.n)
		}
	}
	first := 0
	for _, bill := range b.bills { // by the time of functions whose clocks are apart
		if bill.N == 0 && bill.Hash == l.Hash && bill.Totals == l.Totals {
			first++
		}
	}
	if len(b.bills) != 1+len(b.corrections) || first != 1 {
		w.fail("room %d: %d bills, %d corrections", r.n, len(b.bills), len(b.corrections))
	}
	w.auditChain(r, b)
	w.auditEvents(r, b)
	w.auditTime(r, b)
	for _, e := range b.epochs {
		w.auditCounts(r, b, e)
	}
	w.auditTotals(r, b)
	w.auditMoney(fmt.Sprint("room ", r.n), l.Bill)
	w.auditQuantities(r, b)
	w.corrections += len(b.corrections)
	for _, s := range b.sessions {
		w.sessions += b2i(!s.NotTaken)
		w.bounded += b2i(s.Bounded)
	}
}

// auditChain: each correction names the one before.
func (w *World) auditChain(r *roomFacts, b *books) {
	prev := b.ledger.Hash
	for i, c := range b.corrections {
		if c.N != i+1 || c.PrevHash != prev {
			w.fail("room %d: correction %d does not follow the one before", r.n, c.N)
		}
		prev = c.Hash
	}
}

// auditEvents: the product was told the whole story, once.
func (w *World) auditEvents(r *roomFacts, b *books) {
	count := map[string]int{}
	first, last := "", ""
	for _, e := range all[control.Event](w, control.RoomPK(r.id), control.EventPrefix) {
		count[e.Type]++
		if first == "" {
			first = e.Type
		}
		last = e.Type
		if e.DeliveredMS == 0 || w.truth.got[e.ID] == 0 {
			w.fail("room %d: event %d %s was not delivered", r.n, e.Seq, e.Type)
		}
	}
	if first != "room.created" || count["room.created"] != 1 || count["usage.closed"] != 1 || count["room.ended"]+count["room.failed"] != 1 ||
		count["usage.corrected"] != len(b.corrections) || last != "usage.closed" && last != "usage.corrected" ||
		count["participant.joined"] != count["participant.left"] || count["room.starting"] != b.room.Epoch {
		w.fail("room %d: events %v, from %s to %s", r.n, count, first, last)
	}
}

// auditTime: the bill has ECS's own times, to the millisecond.
func (w *World) auditTime(r *roomFacts, b *books) {
	var sum, seconds int64
	for _, e := range b.epochs {
		ms, s := int64(0), int64(0)
		for _, t := range w.ecs.of(r.id, e.Epoch) {
			switch {
			case t.task.PullStartedMS == 0:
			case t.task.ARN == e.Task.ARN:
				ms, s = t.share(e)
			case !w.twins(r.id, e.Epoch):
				w.fail("room %d epoch %d: task %s ran as well", r.n, e.Epoch, t.label)
			}
		}
		billed := int64(0)
		if e.Task.PullStartedMS != 0 && e.Task.StoppedMS != 0 {
			billed = e.Task.StoppedMS - max(e.Task.PullStartedMS, min(e.ClaimedMS, e.Task.StoppedMS))
		}
		if !e.Stopped || billed != ms {
			w.fail("room %d epoch %d: %d ms billed, ECS ran it for %d (%s)", r.n, e.Epoch, billed, ms, e.StoppedFrom)
		}
		sum += ms
		seconds += s
	}
	if t := b.total(); t.TaskMSRaw != sum || t.TaskSBillable != seconds {
		w.fail("room %d: %d task ms and %d s billed, ECS has %d and %d", r.n, t.TaskMSRaw, t.TaskSBillable, sum, seconds)
	}
}

// auditTotals: the closed sums, with what was corrected, are those of the epochs as they
// are: no report came between the reading and the closing of the record.
func (w *World) auditTotals(r *roomFacts, b *books) {
	var in, out, ms, messages int64
	for _, e := range b.epochs {
		e, sessions := b.final(e)
		in, out, ms = in+e.Totals.BytesIn.Total, out+e.Totals.BytesOut.Total, ms+e.Totals.ParticipantMS
		messages += e.Totals.MessagesIn + e.Totals.MessagesOut
		for _, s := range sessions {
			ms += s.ExtraMS
		}
	}
	t := b.total()
	if t.BytesIn.Total != in || t.BytesOut.Total != out || t.ParticipantMS != ms || t.MessagesIn+t.MessagesOut != messages {
		w.fail("room %d: the record sums up %d bytes in, %d out, %d participant ms, %d messages; its epochs have %d, %d, %d, %d",
			r.n, t.BytesIn.Total, t.BytesOut.Total, t.ParticipantMS, t.MessagesIn+t.MessagesOut, in, out, ms, messages)
	}
}

// twins says whether ECS itself ran two tasks for one request.
func (w *World) twins(room string, epoch int) bool {
	for _, t := range w.ecs.of(room, epoch) {
		if t.twin {
			return true
		}
	}
	return false
}

// total is the record with its corrections.
func (b *books) total() control.LedgerTotals {
	t := b.ledger.Totals
	for _, c := range b.corrections {
		t.ConnectionMS += c.Totals.ConnectionMS
		t.TaskMSRaw += c.Totals.TaskMSRaw
		t.TaskSBillable += c.Totals.TaskSBillable
		t.ParticipantMS += c.Totals.ParticipantMS
		t.Sessions += c.Totals.Sessions
		t.MessagesIn, t.MessagesOut = t.MessagesIn+c.Totals.MessagesIn, t.MessagesOut+c.Totals.MessagesOut
		t.BytesIn, t.BytesOut = t.BytesIn.Add(c.Totals.BytesIn), t.BytesOut.Add(c.Totals.BytesOut)
	}
	return t
}

// final are an epoch and its sessions with what came after the close.
func (b *books) final(e *control.Epoch) (*control.Epoch, []*control.Session) {
	by := map[string]*control.Session{}
	var order []string
	put := func(s *control.Session) {
		if s.Epoch != e.Epoch {
			return
		}
		if by[s.ID] == nil {
			order = append(order, s.ID)
		}
		by[s.ID] = s
	}
	for _, s := range b.sessions {
		put(s)
	}
	for _, c := range b.corrections {
		if c.Epoch == e.Epoch {
			e = &c.After
		}
		for _, s := range c.Sessions {
			put(&s)
		}
	}
	var list []*control.Session
	for _, id := range order {
		list = append(list, by[id])
	}
	return e, list
}

// auditCounts: an epoch's bytes are those of the last report that came, to the byte,
// and those that the media counted if the task could say its last word. Sessions lie
// within the task's life.
func (w *World) auditCounts(r *roomFacts, b *books, e *control.Epoch) {
	e, sessions := b.final(e)
	var p *roomTask
	var ran *ecsTask
	for _, t := range w.ecs.of(r.id, e.Epoch) {
		if t.task.ARN == e.Task.ARN {
			ran, p = t, t.process
		}
	}
	var bytes usage.Bytes
	var told, inferred int64
	for _, s := range sessions {
		if s.NotTaken {
			if s.ParticipantMS != 0 || s.BytesOut.Total != 0 {
				w.fail("room %d: session %s counts, and was not taken", r.n, s.ID)
			}
			continue
		}
		bytes = bytes.Add(s.BytesOut)
		told += s.ParticipantMS - s.ExtraMS
		inferred += s.ExtraMS
		w.auditSession(r, e, ran, s)
	}
	if p == nil {
		if bytes.Total != 0 || told != 0 || e.ReportSeq != 0 {
			w.fail("room %d epoch %d counts %d bytes, and had no task", r.n, e.Epoch, bytes.Total)
		}
		return
	}
	w.auditMedia(r, e, p, sessions)
	want := p.reports[e.ReportSeq]
	if e.Totals != want {
		w.fail("room %d epoch %d: totals %+v are not those of report %d: %+v", r.n, e.Epoch, e.Totals, e.ReportSeq, want)
	}
	if bytes.Total > want.BytesOut.Total || told > want.ParticipantMS {
		w.fail("room %d epoch %d: sessions have %d bytes and %d ms, the report said %d and %d", r.n, e.Epoch, bytes.Total, told, want.BytesOut.Total, want.ParticipantMS)
	}
	if inferred > int64(len(sessions))*10_000+inferredSlack*int64(len(sessions)) {
		w.fail("room %d epoch %d: %d ms inferred for %d sessions", r.n, e.Epoch, inferred, len(sessions))
	}
	if e.Task.ExitCode != nil && *e.Task.ExitCode == 0 && p.agreed {
		var counted int64
		for _, m := range p.all {
			if _, out, _ := m.Usage(); m.beganMS != 0 {
				counted += out.Total
			}
		}
		if counted != want.BytesOut.Total || bytes.Total != counted || inferred != 0 {
			w.fail("room %d epoch %d: %d bytes billed, the media sent %d, and %d ms are inferred", r.n, e.Epoch, bytes.Total, counted, inferred)
		}
	}
}

// auditMedia: everybody whom a task let in is counted, and for as long as it was: to
// the end if the task could say its last word, else to its last report at least.
func (w *World) auditMedia(r *roomFacts, e *control.Epoch, p *roomTask, sessions []*control.Session) {
	var let, counted, ms, most int64
	for _, m := range p.all {
		if m.beganMS != 0 && (p.agreed || m.beganMS < e.ReportMS) {
			let++
			until := m.endMS
			if m.movedMS != 0 {
				until = m.movedMS
			}
			if !p.agreed {
				until = min(until, e.ReportMS)
			}
			ms += until - m.beganMS
		}
	}
	for _, s := range sessions {
		if !s.NotTaken {
			counted++
			most += s.ParticipantMS
		}
	}
	if counted < let || most < ms-let*turnMS {
		w.fail("room %d epoch %d: the task let %d people in for %d ms, the ledger counts %d for %d", r.n, e.Epoch, let, ms, counted, most)
	}
}

// inferredSlack is how far two clocks of the control plane may be apart, in ms: what
// the task never told of is bounded by our clock alone.
const inferredSlack = 40_000

// auditSession: a session lies within its task's life. Those that only our clock knows
// may be off by it.
func (w *World) auditSession(r *roomFacts, e *control.Epoch, t *ecsTask, s *control.Session) {
	slack := int64(0)
	if s.Seq == 0 {
		slack = inferredSlack
	}
	switch {
	case t == nil:
		w.fail("room %d epoch %d: session %s without a task", r.n, e.Epoch, s.ID)
	case s.LeftMS == 0 || s.LeftMS < s.JoinedMS || s.ParticipantMS < 0 || s.ParticipantMS > s.LeftMS-s.JoinedMS:
		w.fail("room %d epoch %d: session %+v", r.n, e.Epoch, s)
	case s.JoinedMS+slack < t.task.StartedMS || s.LeftMS-slack > t.task.StoppedMS+s.ExtraMS:
		w.fail("room %d epoch %d: session %s from %d to %d, its task from %d to %d", r.n, e.Epoch, s.ID,
			s.JoinedMS-startMS, s.LeftMS-startMS, t.task.StartedMS-startMS, t.task.StoppedMS-startMS)
	}
}

// auditMoney: every line follows from its quantity, and the sums from the lines.
func (w *World) auditMoney(whose string, bill *price.Bill) {
	for _, view := range []struct {
		lines []price.Line
		sum   int64
	}{{bill.Cost, bill.CostNanoUSD}, {bill.Price, bill.PriceNanoUSD}} {
		var sum int64
		for _, l := range view.lines {
			if l.NanoUSD != rounded(l.Quantity, l.RateNanoUSD, l.RatePer) {
				w.fail("%s: line %+v does not follow from its quantity", whose, l)
			}
			sum += l.NanoUSD
		}
		if sum != view.sum {
			w.fail("%s: lines of %d nano-USD sum to %d", whose, sum, view.sum)
		}
	}
}

// rounded is quantity × nano ÷ per, half to even, by way of decimals.
func rounded(quantity, nano, per int64) int64 {
	exact := new(big.Rat).SetFrac(new(big.Int).Mul(big.NewInt(quantity), big.NewInt(nano)), big.NewInt(per))
	text := exact.FloatString(0) // half away from zero
	n, ok := new(big.Int).SetString(strings.TrimPrefix(text, "-"), 10)
	if !ok {
		return -1
	}
	twice := new(big.Rat).Mul(exact, big.NewRat(2, 1))
	if twice.IsInt() && !exact.IsInt() && n.Bit(0) == 1 {
		n.Sub(n, big.NewInt(1))
	}
	return n.Int64()
}
