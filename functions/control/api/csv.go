package api

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/control/ledger"
	"mayfly/functions/control/price"
)

// csv answers with a table. Its name is offered to browsers as a file's.
func (c *call) csv(name string, table [][]string) error {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.UseCRLF = true // RFC 4180 §2
	if err := w.WriteAll(table); err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8; header=present")
	h.Set("Content-Disposition", `attachment; filename="`+name+`.csv"`)
	h.Set("Cache-Control", "no-store")
	c.w.WriteHeader(http.StatusOK)
	_, _ = c.w.Write(b.Bytes()) // a client that is gone is nobody's error
	return nil
}

// cell makes text that somebody else chose safe to open in a spreadsheet, which
// takes a cell that begins with one of these characters for a formula. Numbers of
// our own are written without it: they may be negative.
func cell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r\n|%", rune(text[0])) {
		return "'" + text
	}
	return text
}

// usageCSV is a row for each group. Amounts are in USD, as decimal numbers, exact.
func usageCSV(rows []ledger.Row, by string) [][]string {
	table := [][]string{{
		by, "rooms", "corrections", "participant_ms", "audio_only_ms", "sessions", "bytes_in", "bytes_out",
		"egress_udp", "egress_tcp", "egress_turn", "egress_unknown", "task_ms_raw", "task_s_billable", "cpu_unit_s", "memory_mib_s",
		"messages_in", "messages_out", "ws_connection_ms", "cost_usd", "price_usd",
	}}
	n := func(v int64) string { return strconv.FormatInt(v, 10) }
	for _, r := range rows {
		t := r.Totals
		table = append(table, []string{
			cell(r.Key), strconv.Itoa(r.Rooms), strconv.Itoa(r.Corrections), n(t.ParticipantMS), n(t.AudioOnlyMS), n(t.Sessions),
			n(t.BytesIn.Total), n(t.BytesOut.Total), n(t.Egress.UDP), n(t.Egress.TCP),
			n(t.Egress.TURNUDP + t.Egress.TURNTCP + t.Egress.TURNTLS), n(t.Egress.Unknown),
			n(t.TaskMSRaw), n(t.TaskSBillable), n(t.CPUUnitS), n(t.MemoryMiBS),
			n(t.MessagesIn), n(t.MessagesOut), n(t.ConnectionMS), price.USD(r.CostNanoUSD), price.USD(r.PriceNanoUSD),
		})
	}
	return table
}

// focusColumns are the columns of FOCUS 1.2: every mandatory one, then those of the
// conditional ones that apply. x_ columns are our own, as the specification has them.
var focusColumns = []string{
	"BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart",
	"ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd", "ChargePeriodStart", "ContractedCost",
	"EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName",
	"ServiceCategory", "ServiceName",
	"ChargeFrequency", "ConsumedQuantity", "ConsumedUnit", "ListUnitPrice", "PricingCategory", "RegionId", "RegionName",
	"ResourceId", "ResourceName", "ResourceType", "SkuId", "SkuPriceId", "Tags", "x_Quality", "x_RecordHash",
}

// focusProvider is who provides, publishes and invoices.
const focusProvider = "mayfly"

// focusCSV has a row for each charge: each price line of each bill.
func focusCSV(bills []*control.Bill) [][]string {
	table := [][]string{focusColumns}
	for _, b := range bills {
		for _, l := range b.Bill.Price {
			table = append(table, focusRow(b, l))
		}
	}
	return table
}

func focusRow(b *control.Bill, l price.Line) []string {
	at := time.UnixMilli(b.AtMS).UTC()
	month := time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
	class, what := "", "Use of room "+b.Room+": "+l.SKU
	if b.N > 0 {
		what = "Correction " + strconv.Itoa(b.N) + " of room " + b.Room + ": " + l.SKU
		if time.UnixMilli(b.EndedMS).UTC().Before(month) { // only what corrects an earlier billing period
			class = "Correction"
		}
	}
	quantity, unit, unitPrice := focusQuantity(l)
	amount := price.USD(l.NanoUSD)
	tags := "{}"
	if raw, err := json.Marshal(b.Tags); err == nil && b.Tags != nil {
		tags = string(raw)
	}
	tenant := cell(b.Tenant)
	return []string{
		amount, tenant, tenant, "USD", stampS(month.AddDate(0, 1, 0)), stampS(month),
		"Usage", class, what, stampS(ceilS(b.EndedMS)), stampS(time.UnixMilli(b.OpenedMS)), amount,
		amount, focusProvider, amount, quantity, unit, focusProvider, focusProvider,
		"Media", "Rooms",
		"Usage-Based", quantity, unit, unitPrice, "Standard", cell(b.Region), cell(b.Region),
		b.Room, cell(b.ExternalID), "Room", l.SKU, b.Bill.Book + "#" + l.SKU, tags, b.Quality, b.Hash,
	}
}

// focusQuantity is a line's quantity, in units that FOCUS knows, as an exact decimal.
func focusQuantity(l price.Line) (quantity, unit, unitPrice string) {
	per, unit := int64(1), "Units"
	switch l.Unit {
	case price.UnitMS:
		per, unit = 1000, "Seconds"
	case price.UnitSecond:
		unit = "Seconds"
	case price.UnitByte:
		per, unit = 1_000_000_000, "GB"
	case price.UnitMessage:
		unit = "Messages"
	case price.UnitNanoUSD:
		per, unit = 1_000_000_000, "USD"
	}
	q := new(big.Rat).SetFrac64(l.Quantity, per)
	p := new(big.Rat).SetFrac(new(big.Int).Mul(big.NewInt(l.RateNanoUSD), big.NewInt(per)), big.NewInt(l.RatePer))
	p.Quo(p, new(big.Rat).SetInt64(1_000_000_000))
	return trim(q.FloatString(9)), unit, trim(p.FloatString(12))
}

func trim(decimal string) string {
	if !strings.Contains(decimal, ".") {
		return decimal
	}
	return strings.TrimSuffix(strings.TrimRight(decimal, "0"), ".")
}

// stampS writes a time as FOCUS has it: UTC, whole seconds.
func stampS(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// ceilS is the end of the second that a time falls into: charge periods exclude their end.
func ceilS(ms int64) time.Time { return time.UnixMilli((ms + 999) / 1000 * 1000) }
