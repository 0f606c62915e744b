package ledger

import (
	"context"
	"fmt"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/control/price"
	"mayfly/functions/store"
)

// Bills reads a tenant's bills by the day on which they were closed or corrected.
// from and to are UTC days (to is not included). It reads up to limit of them, from
// the given place on, and says where to go on; "" is the end. Days without bills
// cost a read each, so one call looks at a month of them at most.
func (g *Ledger) Bills(ctx context.Context, tenant string, from, to time.Time, place string, limit int) (bills []*control.Bill, next string, err error) {
	day, cursor := from, ""
	if place != "" {
		if day, cursor, err = parsePlace(place); err != nil {
			return nil, "", err
		}
	}
	for range maxDays {
		if !day.Before(to) {
			return bills, "", nil
		}
		pk := control.BillsPK(tenant, day.Format(dayForm))
		page, err := g.Store.Query(ctx, pk, control.BillPrefix, store.QueryOptions{Cursor: cursor, Limit: limit - len(bills)})
		if err != nil {
			return nil, "", fmt.Errorf("bills of %s: %w", day.Format(time.DateOnly), err)
		}
		for _, it := range page.Items {
			b, err := control.Decode[control.Bill](it)
			if err != nil {
				return nil, "", err
			}
			bills = append(bills, b)
		}
		if cursor = page.Next; cursor == "" {
			day = day.AddDate(0, 0, 1)
		}
		if len(bills) >= limit {
			break
		}
	}
	if !day.Before(to) {
		return bills, "", nil
	}
	return bills, day.Format(dayForm) + cursor, nil
}

const (
	dayForm = "20060102"
	maxDays = 31
)

// parsePlace reads what Bills gave as the next place: a day and the store's cursor.
func parsePlace(place string) (time.Time, string, error) {
	if len(place) < len(dayForm) {
		return time.Time{}, "", fmt.Errorf("%w: place", store.ErrInvalid)
	}
	day, err := time.Parse(dayForm, place[:len(dayForm)])
	if err != nil {
		return day, "", fmt.Errorf("%w: place", store.ErrInvalid)
	}
	return day, place[len(dayForm):], nil
}

// Groupings of a usage report.
const (
	ByTenant = "tenant"
	ByRoom   = "room"
	ByDay    = "day"
	ByRegion = "region"
	ByTag    = "tag"
)

// Row is the sum of the bills that have one value of what they are grouped by.
type Row struct {
	Key          string               `json:"key"`
	Rooms        int                  `json:"rooms"`       // closed records
	Corrections  int                  `json:"corrections"` // of these or of earlier ones
	Totals       control.LedgerTotals `json:"totals"`
	Cost         []price.Line         `json:"cost"`
	Price        []price.Line         `json:"price"`
	CostNanoUSD  int64                `json:"cost_nano_usd"`
	PriceNanoUSD int64                `json:"price_nano_usd"`
}

// Group sums bills by tenant, room, day, region or the value of a tag, in the order
// in which the keys first appear. Sums of rows are sums of bills, to the unit.
func Group(bills []*control.Bill, by, tag string) []Row {
	rows := []Row{}
	at := map[string]int{}
	for _, b := range bills {
		key := keyOf(b, by, tag)
		i, ok := at[key]
		if !ok {
			i = len(rows)
			at[key] = i
			rows = append(rows, Row{Key: key, Cost: []price.Line{}, Price: []price.Line{}})
		}
		r := &rows[i]
		if b.N == 0 {
			r.Rooms++
		} else {
			r.Corrections++
		}
		peak := max(r.Totals.PeakParticipants, b.Totals.PeakParticipants)
		r.Totals = less(r.Totals, less(control.LedgerTotals{}, b.Totals))
		r.Totals.PeakParticipants = peak
		r.Cost, r.Price = addLines(r.Cost, b.Bill.Cost), addLines(r.Price, b.Bill.Price)
		r.CostNanoUSD += b.Bill.CostNanoUSD
		r.PriceNanoUSD += b.Bill.PriceNanoUSD
	}
	return rows
}

func keyOf(b *control.Bill, by, tag string) string {
	switch by {
	case ByRoom:
		return b.Room
	case ByDay:
		return time.UnixMilli(b.AtMS).UTC().Format(time.DateOnly)
	case ByRegion:
		return b.Region
	case ByTag:
		return b.Tags[tag]
	}
	return b.Tenant
}

// addLines adds lines of one SKU at one rate; another rate of it stays apart.
func addLines(sum, lines []price.Line) []price.Line {
	for _, l := range lines {
		found := false
		for i := range sum {
			s := &sum[i]
			if s.SKU == l.SKU && s.Unit == l.Unit && s.RateNanoUSD == l.RateNanoUSD && s.RatePer == l.RatePer {
				s.Quantity += l.Quantity
				s.NanoUSD += l.NanoUSD
				found = true
				break
			}
		}
		if !found {
			sum = append(sum, l)
		}
	}
	return sum
}
