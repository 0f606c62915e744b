package control

import (
	"fmt"
	"time"

	"mayfly/functions/control/budget"
	"mayfly/functions/store"
)

// QuotaPrefix starts the sort keys of a tenant's counters of rooms.
const QuotaPrefix = "QUOTA#"

// QuotaKey names one of a tenant's counters of rooms that are not final.
func QuotaKey(tenant string, shard int) store.Key {
	return store.Key{PK: TenantPK(tenant), SK: fmt.Sprintf("%s%02d", QuotaPrefix, shard)}
}

// Quota is one of a tenant's counters of rooms that are not final. Creates at the
// same time mostly meet different ones.
type Quota struct {
	Held
	Tenant string `json:"tenant"`
	N      int    `json:"shard"` // which one
	budget.Shard
}

// Place implements Doc.
func (q *Quota) Place() store.Item {
	return store.Item{Key: QuotaKey(q.Tenant, q.N), Kind: "quota"}
}

// TenantLimits are a tenant's own quotas. A field that is 0 is the deployment's.
type TenantLimits struct {
	Held
	Tenant           string `json:"tenant"`
	MaxRooms         int    `json:"max_rooms,omitempty"`
	CreatesPerSecond int    `json:"creates_per_s,omitempty"`
	CreateBurst      int    `json:"create_burst,omitempty"`
	SpendPerDay      int64  `json:"spend_nano_usd_per_day,omitempty"`
	TicketsPerSecond int    `json:"tickets_per_s,omitempty"`
	TicketBurst      int    `json:"ticket_burst,omitempty"`
}

// LimitsKey names a tenant's own quotas.
func LimitsKey(tenant string) store.Key { return store.Key{PK: TenantPK(tenant), SK: "LIMITS"} }

// Place implements Doc.
func (l *TenantLimits) Place() store.Item {
	return store.Item{Key: LimitsKey(l.Tenant), Kind: "limits"}
}

// TicketRate is a tenant's right to tickets for rooms that exist.
type TicketRate struct {
	Held
	Tenant string `json:"tenant"`
	budget.Bucket
}

// TicketRateKey names a tenant's right to tickets.
func TicketRateKey(tenant string) store.Key {
	return store.Key{PK: TenantPK(tenant), SK: "TICKETS"}
}

// Place implements Doc. A bucket that nobody draws from is full, as one that is not
// there: an hour fills every one.
func (r *TicketRate) Place() store.Item {
	return store.Item{Key: TicketRateKey(r.Tenant), Kind: "tickets", ExpiresAt: time.UnixMilli(r.AtMS).Add(2 * time.Hour)}
}

// SpendTTL is how long a day's spend is kept.
const SpendTTL = 40 * 24 * time.Hour

// Spend is a part of what a tenant's rooms have spent on a UTC day, in nano-USD.
type Spend struct {
	Held
	Tenant  string `json:"tenant"`
	Day     string `json:"day"` // yyyymmdd
	Shard   int    `json:"shard"`
	NanoUSD int64  `json:"nano_usd"`
	AtMS    int64  `json:"at_ms"` // of the last change
}

// SpendPrefix starts the sort keys of a day's spend.
func SpendPrefix(day string) string { return "SPEND#" + day + "#" }

// Place implements Doc.
func (s *Spend) Place() store.Item {
	return store.Item{
		Key: store.Key{PK: TenantPK(s.Tenant), SK: fmt.Sprintf("%s%02d", SpendPrefix(s.Day), s.Shard)}, Kind: "spend",
		ExpiresAt: time.UnixMilli(s.AtMS).Add(SpendTTL),
	}
}
