package engines

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/control/price"
	"mayfly/functions/store"
)

// storeAll is more than any listing of these tests holds.
var storeAll = store.QueryOptions{Limit: store.MaxLimit}

// put commits documents that are not there yet, 100 at a time and 1 MB at most.
func (w *world) put(docs ...control.Doc) {
	w.t.Helper()
	var writes []store.Write
	bytes := 0
	flush := func() {
		if len(writes) == 0 {
			return
		}
		if err := w.store.Commit(w.t.Context(), writes...); err != nil {
			w.t.Fatal(err)
		}
		writes, bytes = nil, 0
	}
	for _, d := range docs {
		one, err := control.Put(d)
		if err != nil {
			w.t.Fatal(err)
		}
		if bytes += len(one.Item.Data); bytes > 1<<20 || len(writes) == store.MaxWrites {
			flush()
		}
		writes = append(writes, one)
	}
	flush()
}

// An engine ends a request at 1 MB and says where it stopped (LastEvaluatedKey). Lists
// and sums over more than that are whole all the same: a page of the log, one of a
// usage report, and the whole report over its pages.
func TestMoreThanOneMegabyte(t *testing.T) {
	each(t, setting{}, func(w *world) {
		const entries, bills = 70, 45
		docs := []control.Doc{}
		for n := range entries {
			data := json.RawMessage(`{"state":"live","filler":"` + strings.Repeat("x", 18_000) + `"}`)
			docs = append(docs, &control.Logged{
				Tenant: tenant, Position: uint64(n + 1), ID: fmt.Sprint("evt_", n), Type: "room.live", Room: "room_x", Seq: uint64(n + 1), //nolint:gosec // counts
				AtMS: w.clock.MS(), LoggedMS: w.clock.MS(), Data: data,
			})
		}
		docs = append(docs, &control.LogHead{Tenant: tenant, Position: entries})
		var want int64
		tags := map[string]string{}
		for n := range 16 {
			tags[fmt.Sprint("tag", n)] = strings.Repeat("v", 2_000)
		}
		for n := range bills {
			cost := int64(1_000_000 + n)
			want += cost
			docs = append(docs, &control.Bill{
				Tenant: tenant, Room: fmt.Sprintf("room_%03d", n), AtMS: w.clock.MS() + int64(n), Tags: tags, OpenedMS: w.clock.MS(), EndedMS: w.clock.MS(),
				Bill: price.Bill{CostNanoUSD: cost, Cost: []price.Line{}, Price: []price.Line{}},
			})
		}
		w.put(docs...)

		var log struct {
			Events []struct{ Position uint64 }
			More   bool
		}
		text := w.ask("GET", "/v1/events?after=0&limit=100", "", "", http.StatusOK, &log)
		if len(log.Events) != entries || log.More || len(text) < 1<<20 {
			w.t.Errorf("%d events of %d, %d bytes", len(log.Events), entries, len(text))
		}
		for i, e := range log.Events {
			equal(w.t, "position", e.Position, i+1)
		}
		day := w.clock.Now().Truncate(24 * time.Hour)
		query := fmt.Sprintf("/v1/usage?from=%s&to=%s&group_by=tenant", day.Format(time.DateOnly), day.AddDate(0, 0, 2).Format(time.DateOnly))
		for _, limit := range []int{1000, 20} {
			equal(w.t, fmt.Sprint("sum of pages of ", limit), w.sum(fmt.Sprint(query, "&limit=", limit), (bills+limit-1)/limit), want)
		}
	})
}

// sum adds up the cost over the pages of a report.
func (w *world) sum(query string, pages int) (sum int64) {
	w.t.Helper()
	cursor := ""
	for n := 1; ; n++ {
		var out struct {
			Rows []struct {
				Cost int64 `json:"cost_nano_usd"`
			} `json:"rows"`
			Next string `json:"next_cursor"`
		}
		w.ask("GET", query+cursor, "", "", http.StatusOK, &out)
		for _, r := range out.Rows {
			sum += r.Cost
		}
		if out.Next == "" {
			equal(w.t, "pages", n, pages)
			return sum
		}
		cursor = "&cursor=" + out.Next
	}
}
