package model

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"mayfly/functions/store"
)

// Table is a store.Store in memory. Its index may lag behind, as DynamoDB's does.
type Table struct {
	now     func() time.Time         // set once: what expiry is measured by
	observe func(old, is store.Item) // set once, may be nil: each item that a commit put or deleted
	after   func()                   // set once, may be nil: after each commit

	mu    sync.Mutex
	parts map[string]*part          // guarded by mu: items by PK
	index map[string][]place        // guarded by mu: sorted, by IndexPK
	lag   []store.Item              // guarded by mu: items whose places the index does not show yet
	shown map[store.Key]place       // guarded by mu: where the index shows an item
	Late  func(indexPK string) bool // set once, may be nil: the index does not catch up before this read
}

// part is one partition.
type part struct {
	keys  []string // sorted
	items map[string]store.Item
}

// place is an item's place in the index.
type place struct {
	pk, sk string
	key    store.Key
}

// NewTable is an empty table.
func NewTable(now func() time.Time) *Table {
	return &Table{now: now, parts: map[string]*part{}, index: map[string][]place{}, shown: map[store.Key]place{}}
}

var _ store.Store = (*Table)(nil)

func (t *Table) load(k store.Key) store.Item {
	p := t.parts[k.PK]
	if p == nil {
		return store.Item{}
	}
	it := p.items[k.SK]
	if !it.ExpiresAt.IsZero() && store.Expired(store.EpochSeconds(it.ExpiresAt), t.now()) {
		return store.Item{}
	}
	return it
}

// Get implements store.Store.
func (t *Table) Get(ctx context.Context, k store.Key) (store.Item, error) {
	if err := ctx.Err(); err != nil {
		return store.Item{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	it := t.load(k)
	if it.Version == 0 {
		return store.Item{}, store.ErrNotFound
	}
	return it, nil
}

// Query implements store.Store.
func (t *Table) Query(ctx context.Context, pk, prefix string, q store.QueryOptions) (store.Page, error) {
	after, err := store.QueryStart(q.Cursor, pk, prefix)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return store.Page{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.parts[pk]
	if p == nil {
		return store.Page{}, nil
	}
	from, _ := slices.BinarySearch(p.keys, prefix)
	to := from
	for to < len(p.keys) && strings.HasPrefix(p.keys[to], prefix) {
		to++
	}
	keys := p.keys[from:to]
	if q.Descending {
		keys = slices.Clone(keys)
		slices.Reverse(keys)
	}
	var page store.Page
	for _, sk := range keys {
		if after != "" && (!q.Descending && sk <= after || q.Descending && sk >= after) {
			continue
		}
		it := t.load(store.Key{PK: pk, SK: sk})
		if it.Version == 0 {
			continue
		}
		if len(page.Items) == q.PageLimit() {
			page.Next = store.QueryCursor(page.Items[len(page.Items)-1].Key)
			break
		}
		page.Items = append(page.Items, it)
	}
	return page, nil
}

func comparePlaces(a, b place) int {
	if c := strings.Compare(a.sk, b.sk); c != 0 {
		return c
	}
	if c := strings.Compare(a.key.PK, b.key.PK); c != 0 {
		return c
	}
	return strings.Compare(a.key.SK, b.key.SK)
}

// Index implements store.Store.
func (t *Table) Index(ctx context.Context, pk, upTo string, q store.QueryOptions) (store.Page, error) {
	after, err := store.IndexStart(q.Cursor, pk, upTo)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return store.Page{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lag) > 0 && (t.Late == nil || !t.Late(pk)) {
		t.catchUp()
	}
	places := t.index[pk]
	if q.Descending {
		places = slices.Clone(places)
		slices.Reverse(places)
	}
	last := place{sk: after.IndexSK, key: after.Key}
	var page store.Page
	for _, at := range places {
		if upTo != "" && at.sk > upTo {
			continue
		}
		if c := comparePlaces(at, last); after.PK != "" && (!q.Descending && c <= 0 || q.Descending && c >= 0) {
			continue
		}
		it := t.load(at.key)
		if it.Version == 0 {
			continue
		}
		it.IndexPK, it.IndexSK = at.pk, at.sk // as the index has it, which may be behind
		if len(page.Items) == q.PageLimit() {
			page.Next = store.IndexCursor(page.Items[len(page.Items)-1])
			break
		}
		page.Items = append(page.Items, it)
	}
	return page, nil
}

// catchUp shows in the index what was committed.
func (t *Table) catchUp() {
	for _, it := range t.lag {
		if old, ok := t.shown[it.Key]; ok {
			all := t.index[old.pk]
			if i, found := slices.BinarySearchFunc(all, old, comparePlaces); found {
				t.index[old.pk] = slices.Delete(all, i, i+1)
			}
			delete(t.shown, it.Key)
		}
		if it.IndexPK == "" {
			continue
		}
		at := place{it.IndexPK, it.IndexSK, it.Key}
		i, _ := slices.BinarySearchFunc(t.index[at.pk], at, comparePlaces)
		t.index[at.pk] = slices.Insert(t.index[at.pk], i, at)
		t.shown[it.Key] = at
	}
	t.lag = t.lag[:0]
}

// Commit implements store.Store.
func (t *Table) Commit(ctx context.Context, writes ...store.Write) error {
	if err := store.CheckWrites(writes); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	t.mu.Lock()
	for i, w := range writes {
		if t.load(w.Item.Key).Version != w.Expect {
			t.mu.Unlock()
			return &store.ConflictError{Key: w.Item.Key, Index: i}
		}
	}
	type change struct{ old, is store.Item }
	var changes []change
	for _, w := range writes {
		if w.Op == store.Check {
			continue
		}
		it := store.Item{Key: w.Item.Key}
		old := t.load(it.Key)
		if w.Op == store.Put {
			it = w.Item
			it.Version, it.Data = w.Expect+1, slices.Clone(it.Data)
			if s := store.EpochSeconds(it.ExpiresAt); s != 0 {
				it.ExpiresAt = time.Unix(s, 0)
			}
		}
		t.put(it)
		changes = append(changes, change{old, it})
	}
	t.mu.Unlock()
	if t.observe != nil {
		for _, c := range changes {
			t.observe(c.old, c.is)
		}
	}
	if t.after != nil && len(changes) > 0 {
		t.after()
	}
	return nil
}

// put stores an item, or deletes it if it has no version. The caller holds mu.
func (t *Table) put(it store.Item) {
	p := t.parts[it.PK]
	if p == nil {
		p = &part{items: map[string]store.Item{}}
		t.parts[it.PK] = p
	}
	i, found := slices.BinarySearch(p.keys, it.SK)
	switch {
	case it.Version == 0 && found:
		p.keys = slices.Delete(p.keys, i, i+1)
		delete(p.items, it.SK)
	case it.Version != 0 && !found:
		p.keys = slices.Insert(p.keys, i, it.SK)
	}
	if it.Version != 0 {
		p.items[it.SK] = it
	}
	if _, shown := t.shown[it.Key]; shown || it.IndexPK != "" {
		t.lag = append(t.lag, it)
	} else if n := len(t.lag); n > 0 && it.IndexPK == "" {
		t.lag = append(t.lag, it) // its place may be among those that are not shown yet
	}
}
