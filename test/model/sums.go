package model

import (
	"container/heap"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"mayfly/functions/control"
	"mayfly/functions/control/ledger"
	"mayfly/functions/control/price"
	"mayfly/functions/store"
)

// auditQuantities: what a bill has of each SKU follows from the meters and the counters
// as they came: ECS's times and sizes, the tasks' reports, the WebSockets. The record
// and its corrections count together. Nothing here looks at what the ledger summed up.
func (w *World) auditQuantities(r *roomFacts, b *books) {
	want := map[string]int64{}
	add := func(sku string, n int64) {
		if n != 0 {
			want[sku] += n
		}
	}
	var present, audio int64
	for _, e := range b.epochs {
		e, sessions := b.final(e)
		for _, t := range w.ecs.of(r.id, e.Epoch) {
			if t.task.ARN != e.Task.ARN {
				continue
			}
			_, seconds := t.share(e)
			var cpu, memory int64
			if _, err := fmt.Sscan(t.task.CPU+" "+t.task.Memory, &cpu, &memory); err != nil {
				w.fail("task %s has %q and %q", t.label, t.task.CPU, t.task.Memory)
			}
			kind := map[bool]string{true: "fargate_spot.arm64.", false: "fargate.arm64."}[t.task.Capacity == "FARGATE_SPOT"]
			add(kind+"vcpu", cpu*seconds)
			add(kind+"memory", memory*seconds)
			add("ipv4.public", seconds)
		}
		add("signalling.message", e.Totals.MessagesIn+e.Totals.MessagesOut)
		named, told, silent := int64(0), int64(0), int64(0)
		for _, s := range sessions {
			if s.NotTaken || s.Seq == 0 && s.LeftMS == 0 {
				continue
			}
			present += s.ParticipantMS
			told += s.ParticipantMS - s.ExtraMS
			silent += s.AudioOnlyMS
			named += s.BytesOut.Total
			if s.Transport == "" {
				add("egress.unknown", s.BytesOut.Total)
			} else {
				add("egress."+s.Transport, s.BytesOut.Total)
			}
		}
		add("egress.unknown", e.Totals.BytesOut.Total-named)
		present += e.Totals.ParticipantMS - told
		audio += max(silent, e.Totals.AudioOnlyMS)
	}
	add("signalling.connection", r.open(b.room.EndedMS, b.total().ConnectionMS))
	add("participant.av", present-audio)
	add("participant.audio", audio)
	w.compareQuantities(r, b, want)
}

// wire notes how long a WebSocket of a room was open, as of now.
func (v *truth) wire(is store.Item) {
	c := decode[control.Wire](v.w, is)
	r := v.w.rooms[c.Room]
	now := map[string]control.Wire{}
	if n := len(r.wires); n > 0 {
		now = maps.Clone(r.wires[n-1])
	}
	now[c.Conn] = *c
	r.wires = append(r.wires, now)
}

// open is how long the room's WebSockets were open, to the room's end at most. A
// $disconnect may come while the record is being closed, or later, by a clock that is
// behind: of the sums that were right at some time it is the one that was billed, else
// the last.
func (r *roomFacts) open(endedMS, billed int64) (ms int64) {
	for _, wires := range r.wires {
		ms = 0
		for _, c := range wires {
			until := min(c.OpenedMS+2*3_600_000, endedMS)
			if c.ClosedMS != 0 {
				until = min(until, c.ClosedMS)
			}
			ms += max(0, until-c.OpenedMS)
		}
		if ms == billed {
			return ms
		}
	}
	return ms
}

// compareQuantities holds the bill against them.
func (w *World) compareQuantities(r *roomFacts, b *books, want map[string]int64) {
	got := map[string]int64{}
	cost := b.ledger.Bill.CostNanoUSD
	count := func(lines []price.Line) {
		for _, l := range lines {
			if got[l.SKU] += l.Quantity; got[l.SKU] == 0 {
				delete(got, l.SKU)
			}
		}
	}
	count(b.ledger.Bill.Cost)
	count(b.ledger.Bill.Price)
	for _, c := range b.corrections {
		count(c.Cost)
		count(c.Price)
		cost += c.CostNano
	}
	plus := got["cost_plus"]
	delete(got, "cost_plus")
	for sku, n := range want {
		if got[sku] != n {
			w.fail("room %d: the bill has %d of %s, the counters say %d", r.n, got[sku], sku, n)
		}
		delete(got, sku)
	}
	for sku, n := range got {
		w.fail("room %d: the bill has %d of %s, which nobody counted", r.n, n, sku)
	}
	if plus != 0 && plus != cost {
		w.fail("room %d: the price is of a cost of %d nano-USD, which is %d", r.n, plus, cost)
	}
}

// sum is what a row of a usage report adds up.
type sum struct {
	rooms, corrections            int
	cost, price                   int64
	task, seconds, ms, in, out, m int64
}

func (s *sum) count(t control.LedgerTotals, cost, price int64) {
	s.cost, s.price = s.cost+cost, s.price+price
	s.task, s.seconds, s.ms = s.task+t.TaskMSRaw, s.seconds+t.TaskSBillable, s.ms+t.ParticipantMS
	s.in, s.out, s.m = s.in+t.BytesIn.Total, s.out+t.BytesOut.Total, s.m+t.MessagesIn+t.MessagesOut
}

// sums are those of all ledgers, by what a report may be grouped by, and the key.
type sums map[string]map[string]*sum

func newSums() sums { return sums{} }

// add counts a room's record and its corrections.
func (s sums) add(r *roomFacts, b *books) {
	l := b.ledger
	day := func(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.DateOnly) }
	put := func(atMS int64, do func(*sum)) {
		for by, key := range map[string]string{"tenant": r.tenant, "room": r.id, "day": day(atMS), "region": l.Region, "tag": l.Tags["team"]} {
			if s[by] == nil {
				s[by] = map[string]*sum{}
			}
			if s[by][key] == nil {
				s[by][key] = &sum{}
			}
			do(s[by][key])
		}
	}
	put(l.ClosedMS, func(x *sum) { x.rooms++; x.count(l.Totals, l.Bill.CostNanoUSD, l.Bill.PriceNanoUSD) })
	for _, c := range b.corrections {
		put(c.AtMS, func(x *sum) { x.corrections++; x.count(c.Totals, c.CostNano, c.PriceN) })
	}
}

// auditUsage reads the tenant's usage as the product does, grouped in every way, over
// small pages: row by row it is the sum of the ledgers.
func (w *World) auditUsage(want sums) {
	w.chance.calm, w.outages, w.busy = true, [services]span{}, [2]span{}
	for by, keys := range want {
		got := map[string]*sum{}
		query := fmt.Sprintf("from=%s&to=%s&limit=3&group_by=%s", w.time().AddDate(0, 0, -2).Format(time.DateOnly), w.time().AddDate(0, 0, 3).Format(time.DateOnly), by)
		if by == "tag" {
			query += "&tag=team"
		}
		for cursor := ""; ; {
			var page struct {
				Rows []ledger.Row `json:"rows"`
				Next string       `json:"next_cursor"`
			}
			if w.fetch("/v1/usage", query+cursor, &page); w.err != nil {
				return
			}
			for _, row := range page.Rows {
				if got[row.Key] == nil {
					got[row.Key] = &sum{}
				}
				got[row.Key].rooms += row.Rooms
				got[row.Key].corrections += row.Corrections
				got[row.Key].count(row.Totals, row.CostNanoUSD, row.PriceNanoUSD)
			}
			if page.Next == "" {
				break
			}
			cursor = "&cursor=" + page.Next
		}
		for key, s := range keys {
			if got[key] == nil || *got[key] != *s {
				w.fail("usage by %s: %q has %+v, the ledgers %+v", by, key, got[key], *s)
			}
		}
		if len(got) != len(keys) {
			w.fail("usage by %s has %d keys, the ledgers %d", by, len(got), len(keys))
		}
	}
}

// fetch asks the rooms function, with nothing going wrong.
func (w *World) fetch(path, query string, into any) {
	ev := request("GET", path, nil, "")
	ev.RawQueryString = query
	var out events.APIGatewayV2HTTPResponse
	var err error
	done := false
	w.invoke(roomsFn, "GET "+path, name("fetch", 0), func(ctx context.Context, box *sandbox) { out, err = box.rooms(ctx, ev) }, func(bool) { done = true })
	for !done && len(w.queue) > 0 {
		e := heap.Pop(&w.queue).(entryAt)
		w.now = max(w.now, int64(e.at)) //nolint:gosec // times are after 1970
		e.do()
	}
	if err == nil && out.StatusCode == http.StatusOK {
		err = json.Unmarshal([]byte(out.Body), into)
	}
	if err != nil || !done || out.StatusCode != http.StatusOK {
		w.fail("GET %s?%s is answered %d %.200s (%v)", path, query, out.StatusCode, out.Body, err)
	}
}
