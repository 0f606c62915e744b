package api

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"mayfly/functions/control/ledger"
	"mayfly/functions/control/price"
)

// bill makes a room of a tenant whose task ran for so long, and closes its record.
func (w *world) bill(key, body string, ran time.Duration) roomView {
	w.t.Helper()
	room := decode[roomView](w, w.do("POST", "/v1/rooms", body, as(key)), http.StatusCreated)
	tasks := w.fleet.Tasks()
	arn := tasks[len(tasks)-1].ARN
	for _, t := range tasks {
		if strings.Contains(t.StartedBy, room.ID) {
			arn = t.ARN
		}
	}
	w.fleet.Pull(arn)
	w.fleet.Run(arn)
	w.clock.Advance(ran)
	if rec := w.do("DELETE", "/v1/rooms/"+room.ID, "", as(key)); rec.Code != http.StatusAccepted {
		w.t.Fatalf("delete: %d %s", rec.Code, rec.Body)
	}
	if err := w.life.TaskChanged(w.t.Context(), w.fleet.Exit(arn, 143)); err != nil {
		w.t.Fatal(err)
	}
	if u := w.usageOf(key, room.ID, ""); u.Status != ledger.StatusClosed {
		w.t.Fatalf("the record of %s is %s", room.ID, u.Status)
	}
	return room
}

func (w *world) usageOf(key, room, query string) ledger.View {
	w.t.Helper()
	return decode[ledger.View](w, w.do("GET", "/v1/rooms/"+room+"/usage"+query, "", as(key)), http.StatusOK)
}

func (w *world) report(query string) usageReport {
	w.t.Helper()
	return decode[usageReport](w, w.do("GET", "/v1/usage?"+query, "", as(w.acme)), http.StatusOK)
}

func TestRoomUsageIncludes(t *testing.T) {
	w := newWorld(t)
	room := w.bill(w.acme, `{"external_id":"x"}`, 90*time.Second)
	plain := w.do("GET", "/v1/rooms/"+room.ID+"/usage", "", as(w.acme)).Body.String()
	if strings.Contains(plain, `"bill"`) || strings.Contains(plain, `"participants"`) {
		t.Errorf("not asked for, and there: %s", plain)
	}
	u := w.usageOf(w.acme, room.ID, "?include=participants,costs")
	var sum int64
	for _, l := range u.Bill.Cost {
		sum += l.NanoUSD
	}
	// 1 vCPU and 2 GB on arm64 for 90 s in us-east-1, as the region is not listed, and the address.
	want := price.Amount(1024*90, 32_380_000, 3_686_400) + price.Amount(2048*90, 3_560_000, 3_686_400) + price.Amount(90, 5_000_000, 3600)
	if u.Totals.TaskSBillable != 90 || sum != u.Bill.CostNanoUSD || sum != want || u.Bill.Book != "aws-2026-11" || len(u.Hash) != 64 {
		t.Errorf("%d s cost %d (lines %d), want 90 s and %d; book %s", u.Totals.TaskSBillable, u.Bill.CostNanoUSD, sum, want, u.Bill.Book)
	}
	for _, q := range []string{"?include=all", "?include=costs&include=costs", "?with=costs", "?include=costs,"} {
		rec := w.do("GET", "/v1/rooms/"+room.ID+"/usage"+q, "", as(w.acme))
		w.refused(rec, codeInvalidRequest)
	}
}

// TestUsageReport: whatever the bills are grouped by, and however they are paged,
// the rows sum to the tenant's own bills and hold nobody else's.
func TestUsageReport(t *testing.T) {
	w := newWorld(t)
	from := w.clock.Now().UTC()
	mine := []roomView{
		w.bill(w.acme, `{"tags":{"team":"red"}}`, 90*time.Second),
		w.bill(w.acme, `{"tags":{"team":"blue"}}`, 61*time.Second),
	}
	w.bill(w.other, `{"tags":{"team":"red"}}`, time.Hour)
	w.clock.Advance(24 * time.Hour)
	mine = append(mine, w.bill(w.acme, `{"tags":{"team":"red"}}`, time.Second))
	var cost, seconds int64
	for _, r := range mine {
		u := w.usageOf(w.acme, r.ID, "?include=costs")
		cost += u.Bill.CostNanoUSD
		seconds += u.Totals.TaskSBillable
	}
	span := "from=" + from.Format(time.DateOnly) + "&to=" + from.AddDate(0, 0, 3).Format(time.DateOnly)
	for by, keys := range map[string][]string{
		"tenant": {"acme"}, "region": {"eu-test-1"}, "room": {mine[0].ID, mine[1].ID, mine[2].ID},
		"day":          {from.Format(time.DateOnly), from.AddDate(0, 0, 1).Format(time.DateOnly)},
		"tag&tag=team": {"red", "blue"}, "tag&tag=none": {""},
	} {
		for _, limit := range []string{"", "&limit=1"} {
			var got []string
			var c, s int64
			for query := span + "&group_by=" + by + limit; query != ""; {
				r := w.report(query)
				for _, row := range r.Rows {
					if !slices.Contains(got, row.Key) {
						got = append(got, row.Key)
					}
					c, s = c+row.CostNanoUSD, s+row.Totals.TaskSBillable
				}
				if query = ""; r.NextCursor != "" {
					query = span + "&group_by=" + by + limit + "&cursor=" + r.NextCursor
				}
			}
			if !slices.Equal(got, keys) || c != cost || s != seconds {
				t.Errorf("by %s%s: rows %v with %d s and %d nano-USD, want %v with %d and %d", by, limit, got, s, c, keys, seconds, cost)
			}
		}
	}
	if r := w.report("from=2020-01-01&to=2020-12-31"); len(r.Rows) != 0 {
		t.Errorf("bills of another year: %+v", r.Rows)
	}
}

// TestUsageTables: the same figures as tables, safe to open in a spreadsheet.
func TestUsageTables(t *testing.T) {
	w := newWorld(t)
	from := w.clock.Now().UTC()
	evil := []string{"=cmd|'/c calc'!A0", "+1", "-1", "@SUM(1)"}
	for _, name := range evil {
		w.bill(w.acme, fmt.Sprintf(`{"external_id":%q,"tags":{"t":%q}}`, name, name), time.Minute)
	}
	span := "/v1/usage?from=" + from.Format(time.DateOnly) + "&to=" + from.AddDate(0, 0, 2).Format(time.DateOnly)
	table := func(query string) [][]string {
		t.Helper()
		rec := w.do("GET", span+query, "", as(w.acme))
		if rec.Code != http.StatusOK || !strings.HasPrefix(rec.Header().Get("Content-Type"), "text/csv") {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
		rows, err := csv.NewReader(rec.Body).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	rows := table("&group_by=tag&tag=t&format=csv")
	for i, name := range evil {
		if rows[i+1][0] != "'"+name || rows[i+1][1] != "1" {
			t.Errorf("row %v", rows[i+1][:2])
		}
	}
	if len(rows) != 1+len(evil) || rows[0][0] != "tag" {
		t.Errorf("table %v", rows)
	}
	focus := table("&format=focus")
	for _, row := range focus[1:] {
		for i, text := range row {
			if text != "" && strings.ContainsRune("=+@", rune(text[0])) {
				t.Errorf("%s is %q", focus[0][i], text)
			}
		}
	}
}

// focusMandatory are the mandatory columns of FOCUS 1.2.
var focusMandatory = []string{
	"BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart",
	"ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd", "ChargePeriodStart", "ContractedCost", "EffectiveCost",
	"InvoiceIssuerName", "ListCost", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName",
}

func TestFocusRows(t *testing.T) {
	for _, name := range focusMandatory {
		if !slices.Contains(focusColumns, name) {
			t.Errorf("no column %s", name)
		}
	}
	w := newWorld(t)
	room := w.bill(w.acme, `{}`, time.Minute)
	from := w.clock.Now().UTC()
	bills, _, err := w.api.ledger().Bills(t.Context(), "acme", from.Truncate(24*time.Hour), from.Add(24*time.Hour), "", 10)
	if err != nil || len(bills) != 1 {
		t.Fatalf("%d bills, %v", len(bills), err)
	}
	b := bills[0]
	b.Bill.Price = []price.Line{{SKU: "participant.av", Quantity: 90_500, Unit: price.UnitMS, RateNanoUSD: 2_000_000, RatePer: 60_000, NanoUSD: 3_016_667}}
	for _, c := range []struct {
		n     int
		at    int64
		class string
	}{{0, b.AtMS, ""}, {1, b.AtMS, ""}, {2, b.EndedMS + 32*24*3600*1000, "Correction"}} {
		b.N, b.AtMS = c.n, c.at
		row := map[string]string{}
		table := focusCSV(bills)
		for i, name := range table[0] {
			row[name] = table[1][i]
		}
		for name, want := range map[string]string{
			"BilledCost": "0.003016667", "EffectiveCost": "0.003016667", "PricingQuantity": "90.5", "PricingUnit": "Seconds",
			"ListUnitPrice": "0.000033333333", "BillingCurrency": "USD", "ChargeCategory": "Usage", "ChargeClass": c.class,
			"ResourceId": room.ID, "BillingAccountId": "acme", "ServiceCategory": "Media", "SkuPriceId": "aws-2026-11#participant.av",
		} {
			if row[name] != want {
				t.Errorf("n %d: %s is %q, want %q", c.n, name, row[name], want)
			}
		}
		start, err1 := time.Parse(time.RFC3339, row["ChargePeriodStart"])
		end, err2 := time.Parse(time.RFC3339, row["ChargePeriodEnd"])
		if err1 != nil || err2 != nil || !start.Before(end) {
			t.Errorf("charge period from %q to %q", row["ChargePeriodStart"], row["ChargePeriodEnd"])
		}
	}
}

func TestUsageReportRefuses(t *testing.T) {
	w := newWorld(t)
	w.bill(w.acme, `{}`, time.Minute)
	w.bill(w.acme, `{}`, time.Minute)
	day := w.clock.Now().UTC().Format(time.DateOnly)
	good := "from=2026-01-01&to=2026-12-31"
	page := w.report(good + "&group_by=room&limit=1")
	if page.NextCursor == "" {
		t.Fatal("no second page of " + day)
	}
	for _, q := range []string{
		"", "from=2026-01-01", "to=2026-01-01", "from=2026-01-02&to=2026-01-01", "from=2026-01-01&to=2026-01-01",
		"from=2024-01-01&to=2026-01-01", "from=yesterday&to=2026-01-01", "from=2026-01-01T00:00:00Z&to=2026-01-02",
		good + "&group_by=colour", good + "&group_by=tag", good + "&tag=x", good + "&group_by=tag&tag=%00",
		good + "&group_by=tag&tag=" + strings.Repeat("t", 65), good + "&format=xml", good + "&format=focus&group_by=day",
		good + "&limit=0", good + "&limit=1001", good + "&limit=x", good + "&tenant=other", good + "&from=2026-01-01",
		good + "&group_by=room&limit=1&cursor=AAAA", good + "&group_by=day&limit=1&cursor=" + page.NextCursor,
		"from=2026-02-01&to=2026-12-31&group_by=room&cursor=" + page.NextCursor,
	} {
		w.refused(w.do("GET", "/v1/usage?"+q, "", as(w.acme)), codeInvalidRequest)
	}
	w.refused(w.do("GET", "/v1/usage?"+good+"&group_by=room&limit=1&cursor="+page.NextCursor, "", as(w.other)), codeInvalidRequest)
	w.refused(w.do("GET", "/v1/usage?"+good, ""), codeUnauthorized)
}

func TestEstimate(t *testing.T) {
	w := newWorld(t)
	body := `{"participants":5,"minutes":45,"video_kbps":600,"audio_kbps":0,"streams":4,"region":"us-east-1"}`
	e := decode[estimateView](w, w.do("POST", "/v1/estimates", body, as(w.acme)), http.StatusOK)
	// Five who each receive four streams of 600 kbit/s for 45 minutes.
	if e.BytesOut != 5*4*600*125*2700 || e.Participants != 5*2_700_000 || e.TaskS != 2725 {
		t.Errorf("estimate of %d bytes, %d ms, %d s", e.BytesOut, e.Participants, e.TaskS)
	}
	var sum int64
	for _, l := range e.Cost {
		if l.NanoUSD != price.Amount(l.Quantity, l.RateNanoUSD, l.RatePer) {
			t.Errorf("line %+v", l)
		}
		sum += l.NanoUSD
	}
	if sum != e.CostNanoUSD || e.PriceNanoUSD != 5*45*2_000_000 {
		t.Errorf("cost %d (lines %d), price %d", e.CostNanoUSD, sum, e.PriceNanoUSD)
	}
	audio := decode[estimateView](w, w.do("POST", "/v1/estimates", `{"participants":5,"minutes":45,"video_kbps":0}`, as(w.acme)), http.StatusOK)
	if audio.PriceNanoUSD != 5*45*500_000 || audio.CostNanoUSD >= e.CostNanoUSD {
		t.Errorf("without video: price %d, cost %d", audio.PriceNanoUSD, audio.CostNanoUSD)
	}
	for _, bad := range []string{
		`{}`, `{"participants":5}`, `{"participants":0,"minutes":1}`, `{"participants":251,"minutes":1}`, `{"participants":5,"minutes":1441}`,
		`{"participants":5,"minutes":1,"video_kbps":-1}`, `{"participants":5,"minutes":1,"arch":"mips"}`, `{"participants":"5","minutes":1}`,
		`{"participants":5,"minutes":1,"region":"` + strings.Repeat("r", 33) + `"}`, `{"participants":5,"minutes":1,"colour":1}`,
		`{"participants":5,"minutes":1,"memory_mib":99999999999999999999}`, `{"participants":5.5,"minutes":1}`,
	} {
		w.refused(w.do("POST", "/v1/estimates", bad, as(w.acme)), codeInvalidRequest)
	}
	if n := w.rooms("acme"); n != 0 {
		t.Errorf("an estimate made %d rooms", n)
	}
}

func TestPriceBooks(t *testing.T) {
	w := newWorld(t)
	for _, id := range []string{"current", "aws-2026-11"} {
		b := decode[price.Book](w, w.do("GET", "/v1/price-books/"+id, "", as(w.acme)), http.StatusOK)
		if b.ID != "aws-2026-11" || len(b.Regions["us-east-1"]) == 0 {
			t.Errorf("%s: %+v", id, b)
		}
	}
	for _, id := range []string{"none", "%00", "a%23b", strings.Repeat("x", 3000)} {
		w.refused(w.do("GET", "/v1/price-books/"+id, "", as(w.acme)), codeNotFound)
	}
}

// TestBudgetOfARoom: caps are taken, shown, part of what an Idempotency-Key stands
// for, and refused by name when they make no sense.
func TestBudgetOfARoom(t *testing.T) {
	w := newWorld(t)
	body := `{"budget":{"participant_minutes":90,"egress_bytes":5000000000,"nano_usd":2500000000}}`
	r := w.create(body, idem("k"))
	if r.Budget == nil || *r.Budget != (budgetView{90, 5_000_000_000, 2_500_000_000, ""}) || r.PriceBook != "aws-2026-11" {
		t.Errorf("budget %+v, price book %s", r.Budget, r.PriceBook)
	}
	if again := w.create(body, idem("k")); again.ID != r.ID {
		t.Error("a repeat made another room")
	}
	w.refused(w.do("POST", "/v1/rooms", `{"budget":{"participant_minutes":91}}`, as(w.acme), idem("k")), codeIdempotencyUsed)
	if plain := w.create(`{}`); plain.Budget != nil {
		t.Errorf("a room without caps shows %+v", plain.Budget)
	}
	before := w.rooms("acme")
	for field, bad := range map[string]string{
		"/budget/participant_minutes": `{"budget":{"participant_minutes":0}}`, "/budget/egress_bytes": `{"budget":{"egress_bytes":-1}}`,
		"/budget/nano_usd": `{"budget":{"nano_usd":9223372036854775807}}`, "/budget": `{"budget":[]}`, "/budget/euros": `{"budget":{"euros":1}}`,
	} {
		p := w.refused(w.do("POST", "/v1/rooms", bad, as(w.acme)), codeInvalidRequest)
		if len(p.Errors) != 1 || p.Errors[0].Pointer != field {
			t.Errorf("%s: %+v", bad, p.Errors)
		}
	}
	w.refused(w.do("POST", "/v1/rooms", `{"budget":{"nano_usd":92233720368547758070}}`, as(w.acme)), codeInvalidRequest)
	w.refused(w.do("POST", "/v1/rooms", `{"budget":{"nano_usd":1.5}}`, as(w.acme)), codeInvalidRequest)
	if w.rooms("acme") != before {
		t.Error("a refused request made a room")
	}
}

// TestQuotaProblems: each limit of a tenant has its own problem, and nothing is made.
func TestQuotaProblems(t *testing.T) {
	w := newWorld(t)
	w.life.Config.CreatesPerSecond, w.life.Config.CreateBurst = 1, 2
	w.create(`{}`)
	w.create(`{}`, idem("second"))
	w.refused(w.do("POST", "/v1/rooms", `{}`, as(w.acme)), codeRate)
	w.create(`{}`, idem("second")) // a repeat takes no token
	if n := w.rooms("acme"); n != 2 {
		t.Errorf("%d rooms", n)
	}
	if rec := w.do("POST", "/v1/rooms", `{}`, as(w.other)); rec.Code != http.StatusCreated {
		t.Errorf("another tenant is refused: %s", rec.Body)
	}
	w.life.Config.CreatesPerSecond, w.life.Config.SpendPerDay = 0, 1
	w.bill(w.acme, `{}`, time.Minute)
	w.refused(w.do("POST", "/v1/rooms", `{}`, as(w.acme)), codeSpend)
	w.life.Config.SpendPerDay, w.life.Config.MaxRooms = 0, 2
	w.refused(w.do("POST", "/v1/rooms", `{}`, as(w.acme)), codeQuota)
}
