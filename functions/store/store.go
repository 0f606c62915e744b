// Package store is the control plane's only memory: versioned items in one table.
//
// It owns the item's shape, the rules of Commit, and the DynamoDB implementation
// (dynamo.go). What the items mean is functions/control's business; docs/items.md
// lists them. infra/local/boltstore is the second implementation; storetest holds
// both to the same contract. Nothing outside this package knows DynamoDB.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Key names an item: a partition and a place in it.
type Key struct{ PK, SK string }

// Item is one stored record. Version is 1 when the item is created and grows by
// one with each write. Data is JSON, at most 350 KB.
type Item struct {
	Key
	Version int64
	Kind    string // entity name, for readers of the table and stream filters
	Data    []byte
	// IndexPK and IndexSK place the item in the one sparse secondary index; both
	// empty keeps it out. The index is eventually consistent: never decide from it.
	IndexPK, IndexSK string
	// ExpiresAt lets the store delete the item some time later. Zero keeps it. It is
	// rounded up to a whole second. An item that has expired is absent to every
	// method, Commit's expectations included, whether it is deleted yet or not.
	ExpiresAt time.Time
}

// Op is what a Write does.
type Op int8

// Operations of a Write.
const (
	Put Op = iota
	Delete
	Check // the item must be at Expect; nothing is written
)

// Write is one part of a Commit. Expect is the version the writer believes the
// item has: 0 means that it must not exist (not for Delete, which needs a version).
type Write struct {
	Op     Op
	Item   Item // Delete and Check use the key only
	Expect int64
}

// ErrNotFound says that no such item exists (or it has expired).
var ErrNotFound = errors.New("store: not found")

// ErrThrottled says that the engine refused for load, after the client's own retries.
var ErrThrottled = errors.New("store: throttled")

// ErrUnavailable says that the engine could not be reached or had a fault of its own,
// after the client's own retries. A commit may have taken effect.
var ErrUnavailable = errors.New("store: unavailable")

// ConflictError says which write of a Commit did not find what it believed.
// Nothing was written. Losing a race is normal: reload and decide again.
type ConflictError struct {
	Key   Key
	Index int // of the write; -1 when the engine does not say (transaction conflict)
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("store: conflict on write %d (%s %s)", e.Index, e.Key.PK, e.Key.SK)
}

// Page is one page of a Query or Index. It holds Limit items unless it is the last;
// Next is the next page's Cursor, and "" on the last page only.
type Page struct {
	Items []Item
	Next  string
}

// Limits, a little under DynamoDB's (100 writes, 4 MB a transaction, 400 KB an item).
const (
	MaxWrites      = 100
	MaxDataBytes   = 350 << 10
	MaxCommitBytes = 3 << 20 // keys and data of all writes together
)

// Store is the contract that storetest checks. Callers declare the part they use.
type Store interface {
	// Get reads one item, consistently.
	Get(ctx context.Context, k Key) (Item, error)
	// Query lists a partition's items whose SK has the prefix, in SK order, consistently.
	// limit ≤ 0 means 100; descending reverses the order.
	Query(ctx context.Context, pk, prefix string, q QueryOptions) (Page, error)
	// Index lists items of one index partition whose IndexSK ≤ upTo ("" = all), in
	// IndexSK order; equal IndexSKs come in any order.
	Index(ctx context.Context, indexPK, upTo string, q QueryOptions) (Page, error)
	// Commit applies all writes or none. A key may appear once. It returns
	// *ConflictError when an expectation fails, and ErrInvalid for writes that no
	// engine would take. Any other error leaves open whether it took effect.
	Commit(ctx context.Context, writes ...Write) error
}

// QueryOptions page and order a listing.
type QueryOptions struct {
	Cursor     string
	Limit      int
	Descending bool
}
