package control

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"time"

	"mayfly/functions/store"
)

// A tenant's events in one order, its webhook endpoints, and what each of them is
// still to be sent. The table of items.go lists the keys.

// LogTTL is how long a tenant's log of events goes back, and DeliveryTTL how long it
// is remembered what became of a delivery.
const (
	LogTTL      = EventTTL
	DeliveryTTL = EventTTL
)

// LogPK is the partition of a tenant's log of events.
func LogPK(tenant string) string { return "LOG#" + tenant }

// LogHeadKey names the end of a tenant's log.
func LogHeadKey(tenant string) store.Key { return store.Key{PK: LogPK(tenant), SK: "HEAD"} }

// LoggedPrefix starts the sort keys of a tenant's log.
const LoggedPrefix = "ENTRY#"

// LoggedKey names one place in a tenant's log.
func LoggedKey(tenant string, position uint64) store.Key {
	return store.Key{PK: LogPK(tenant), SK: fmt.Sprintf("%s%015d", LoggedPrefix, position)}
}

// LogHead is the end of a tenant's log. Whoever appends must hold it: so nothing can
// appear in the log before what is already read.
type LogHead struct {
	Held
	Tenant   string `json:"tenant"`
	Position uint64 `json:"position"` // of the last entry
}

// Place implements Doc.
func (h *LogHead) Place() store.Item {
	return store.Item{Key: LogHeadKey(h.Tenant), Kind: "loghead"}
}

// Logged is an event at its place in the tenant's log. It holds all that is told of it.
type Logged struct {
	Held
	Tenant   string          `json:"tenant"`
	Position uint64          `json:"position"` // counts from 1 per tenant without a gap
	ID       string          `json:"id"`
	Type     string          `json:"type"`
	Room     string          `json:"room,omitempty"`
	Endpoint string          `json:"endpoint,omitempty"` // of an event about a webhook endpoint, which has no room
	Seq      uint64          `json:"seq"`
	AtMS     int64           `json:"at_ms"`
	LoggedMS int64           `json:"logged_ms"`
	Data     json.RawMessage `json:"data,omitempty"`
}

// Place implements Doc.
func (l *Logged) Place() store.Item {
	return store.Item{
		Key: LoggedKey(l.Tenant, l.Position), Kind: "logged", ExpiresAt: time.UnixMilli(l.LoggedMS).Add(LogTTL),
	}
}

// HookPrefix starts the sort keys of a tenant's webhook endpoints.
const HookPrefix = "HOOK#"

// HookKey names a webhook endpoint.
func HookKey(tenant, endpoint string) store.Key {
	return store.Key{PK: TenantPK(tenant), SK: HookPrefix + endpoint}
}

// Hook is a webhook endpoint. Its secrets are not in it: they follow from its id, the
// generation and the deployment's secret.
type Hook struct {
	Held
	Tenant      string    `json:"tenant"`
	ID          string    `json:"id"`
	URL         string    `json:"url"`
	Events      []string  `json:"events"` // types, "room.*", or "*"
	Description string    `json:"description,omitempty"`
	Keys        []HookKid `json:"keys"` // that sign, the newest last
	Disabled    string    `json:"disabled,omitempty"`
	DisabledMS  int64     `json:"disabled_ms,omitempty"`
	CreatedMS   int64     `json:"created_ms"`
	EnabledMS   int64     `json:"enabled_ms"`          // last; what was tried before says nothing about it
	BodyHash    string    `json:"body_hash,omitempty"` // of the request, if it had an Idempotency-Key
	OKMS        int64     `json:"ok_ms,omitempty"`     // of a success, at most ten minutes before the last one
	EventSeq    uint64    `json:"event_seq"`           // of the endpoint's own last event
}

// HookKid is one generation of an endpoint's key.
type HookKid struct {
	Gen     int    `json:"gen"`
	Kind    string `json:"kind"`               // hmac or ed25519
	UntilMS int64  `json:"until_ms,omitempty"` // signs no longer from then on; 0 for the newest
}

// Why an endpoint gets nothing.
const (
	HookOff     = "disabled" // by its owner
	HookGone    = "gone"     // it answered 410
	HookFailing = "failing"  // nothing succeeded over a whole schedule
)

// Place implements Doc.
func (h *Hook) Place() store.Item {
	return store.Item{Key: HookKey(h.Tenant, h.ID), Kind: "hook"}
}

// HookCount is how many endpoints a tenant has. Creates and deletions hold it, so that
// no two of them can both be the last that is allowed.
type HookCount struct {
	Held
	Tenant string `json:"tenant"`
	N      int    `json:"n"`
}

// HookCountKey names it.
func HookCountKey(tenant string) store.Key {
	return store.Key{PK: TenantPK(tenant), SK: "HOOKCOUNT"}
}

// Place implements Doc.
func (c *HookCount) Place() store.Item {
	return store.Item{Key: HookCountKey(c.Tenant), Kind: "hookcount"}
}

// HookPK is the partition of an endpoint's deliveries and of its own events.
func HookPK(endpoint string) string { return "HOOK#" + endpoint }

// DeliveryPrefix starts the sort keys of an endpoint's deliveries.
const DeliveryPrefix = "DELIVERY#"

// DeliveryRuns starts the sort keys of all deliveries of one event to an endpoint.
func DeliveryRuns(position uint64) string { return fmt.Sprintf("%s%015d#", DeliveryPrefix, position) }

// DeliveryKey names a delivery. Run 0 is the first; each redelivery is another.
func DeliveryKey(endpoint string, position uint64, run int) store.Key {
	return store.Key{PK: HookPK(endpoint), SK: fmt.Sprintf("%s%04d", DeliveryRuns(position), run)}
}

// States of a delivery.
const (
	DeliveryPending   = "pending"
	DeliveryDelivered = "delivered"
	DeliveryDead      = "dead" // given up; redeliver makes another
)

// Delivery is one event that is owed to one endpoint.
type Delivery struct {
	Held
	Tenant    string    `json:"tenant"`
	Endpoint  string    `json:"endpoint"`
	Position  uint64    `json:"position"` // of the event in the tenant's log
	Run       int       `json:"run"`
	Event     string    `json:"event"`
	Type      string    `json:"type"`
	Room      string    `json:"room,omitempty"`
	Seq       uint64    `json:"seq"`
	State     string    `json:"state"`
	DueMS     int64     `json:"due_ms,omitempty"` // of the next attempt; while one is made, when it counts as lost
	CreatedMS int64     `json:"created_ms"`
	DoneMS    int64     `json:"done_ms,omitempty"`
	Why       string    `json:"why,omitempty"` // it is dead
	Attempts  []Attempt `json:"attempts,omitempty"`
}

// Attempt is how one attempt ended.
type Attempt struct {
	AtMS   int64  `json:"at_ms"`
	TookMS int64  `json:"took_ms"`
	Status int    `json:"status,omitempty"` // of the answer; 0 for none
	Error  string `json:"error,omitempty"`  // why there was none
}

// DeliveryShards are the index partitions of deliveries that are due.
const DeliveryShards = 4

// DeliveryShard is the index partition of an endpoint's deliveries.
func DeliveryShard(endpoint string) int {
	h := fnv.New32a()
	h.Write([]byte(endpoint)) // never fails
	return int(h.Sum32() % DeliveryShards)
}

// DeliverPK is an index partition of deliveries that are due.
func DeliverPK(shard int) string { return fmt.Sprintf("DELIVER#%02d", shard) }

// Place implements Doc.
func (d *Delivery) Place() store.Item {
	it := store.Item{Key: DeliveryKey(d.Endpoint, d.Position, d.Run), Kind: "delivery"}
	if d.State == DeliveryPending {
		it.IndexPK = DeliverPK(DeliveryShard(d.Endpoint))
		it.IndexSK = fmt.Sprintf("%s#%s#%015d", IndexTime(d.DueMS), d.Endpoint, d.Position)
	} else {
		it.ExpiresAt = time.UnixMilli(d.DoneMS).Add(DeliveryTTL)
	}
	return it
}
