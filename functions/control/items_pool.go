package control

import (
	"time"

	"mayfly/functions/control/shape"
	"mayfly/functions/store"
)

// PoolPK is the partition of the warm pool, and SlotPrefix what its sort keys start with.
const (
	PoolPK     = "POOL"
	SlotPrefix = "SLOT#"
)

// PoolHead is part of every commit that makes a slot, so that two sweeps at the same time
// do not both fill the same gap.
type PoolHead struct {
	Held
	Made int64 `json:"made"` // slots so far
}

// PoolHeadKey names the pool's head.
func PoolHeadKey() store.Key { return store.Key{PK: PoolPK, SK: "HEAD"} }

// Place implements Doc.
func (p *PoolHead) Place() store.Item { return store.Item{Key: PoolHeadKey(), Kind: "poolhead"} }

// SlotKey names a place in the warm pool.
func SlotKey(slot string) store.Key { return store.Key{PK: PoolPK, SK: SlotPrefix + slot} }

// Slot is one place in the warm pool, and the task that has it: from before its RunTask
// until ECS has proved it stopped. It never gets a second task.
type Slot struct {
	Held
	ID        string      `json:"id"` // "pool_<ULID>"
	Size      string      `json:"size"`
	Shape     shape.Shape `json:"shape"`
	Revision  string      `json:"revision,omitempty"`
	Region    string      `json:"region"`
	PriceBook string      `json:"price_book"`
	State     string      `json:"state"` // as pool knows them
	CreatedMS int64       `json:"created_ms"`
	AskedMS   int64       `json:"asked_ms"` // the last RunTask
	Refusals  int         `json:"refusals,omitempty"`
	Link      string      `json:"link,omitempty"` // connection of its task's link
	SourceIP  string      `json:"source_ip,omitempty"`
	StoodMS   int64       `json:"stood_ms,omitempty"` // when it first stood by
	SeenMS    int64       `json:"seen_ms,omitempty"`  // its task's last word, to the minute
	// Signalling messages of the task while it stood by, as of its last word.
	MessagesIn  int64  `json:"messages_in,omitempty"`
	MessagesOut int64  `json:"messages_out,omitempty"`
	Room        string `json:"room,omitempty"` // that claimed it
	Epoch       int    `json:"epoch,omitempty"`
	ClaimedMS   int64  `json:"claimed_ms,omitempty"`
	Run         Epoch  `json:"run"` // what ECS tells of the task; after the claim the room's own epoch has it
}

// Place implements Doc.
func (s *Slot) Place() store.Item { return store.Item{Key: SlotKey(s.ID), Kind: "slot"} }

// GoneSlotTTL is how long ECS's word on a task still finds the room that had it.
const GoneSlotTTL = 8 * 24 * time.Hour

// GoneSlot is what is left of a slot whose task has stopped.
type GoneSlot struct {
	Held
	ID     string `json:"id"`
	Room   string `json:"room,omitempty"` // "" if no room claimed it
	Epoch  int    `json:"epoch,omitempty"`
	GoneMS int64  `json:"gone_ms"`
}

// GoneSlotKey names what is left of a slot.
func GoneSlotKey(slot string) store.Key { return store.Key{PK: "SLOT#" + slot, SK: "SLOT"} }

// Place implements Doc.
func (g *GoneSlot) Place() store.Item {
	return store.Item{Key: GoneSlotKey(g.ID), Kind: "goneslot", ExpiresAt: time.UnixMilli(g.GoneMS).Add(GoneSlotTTL)}
}
