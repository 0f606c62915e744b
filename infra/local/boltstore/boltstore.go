// Package boltstore is the store of `mayfly local`: store.Store in one bbolt file.
//
// It stands in for the DynamoDB table and keeps to the same contract, which
// functions/store/storetest checks. It is called by infra/local and by tests, never
// by product code. It must not know what the items mean. Commits are told to an
// observer, from which infra/local makes the table's stream.
package boltstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"mayfly/functions/store"
)

// Buckets. A key's parts are joined by NUL, which store.CheckWrites keeps out of them.
var (
	itemsBucket  = []byte("items")  // PK, SK → record
	indexBucket  = []byte("index")  // IndexPK, IndexSK, PK, SK → nothing
	expiryBucket = []byte("expiry") // epoch seconds (8 bytes, big endian), PK, SK → nothing
)

// purgePerCommit bounds the expired items that one commit deletes on the side: more
// than a commit usually adds, so that the file stops growing, and few enough to cost
// nothing.
const purgePerCommit = 8

// Options tune a Store. The zero value is what `mayfly local` uses.
type Options struct {
	// Observe is called after each commit with the items that it put, outside all
	// locks and on the committer's goroutine. Concurrent commits may be told in any
	// order; Version orders those of one item. Deletions are not told.
	Observe func(changed []store.Item)
	// Now tells the time that expiry is measured by. Default time.Now.
	Now func() time.Time
	// NoSync skips fsync: faster, and a power cut loses or corrupts the file. For
	// tests and throw-away runs.
	NoSync bool
}

// Store is a store.Store in a bbolt file. All fields are set once.
type Store struct {
	db      *bolt.DB
	observe func([]store.Item)
	now     func() time.Time
}

var _ store.Store = (*Store)(nil)

// Open opens the file, which it creates if need be and locks against other processes.
func Open(path string, observe func(changed []store.Item)) (*Store, error) {
	return OpenWith(path, Options{Observe: observe})
}

// OpenWith is Open with options.
func OpenWith(path string, o Options) (*Store, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{
		Timeout: 2 * time.Second, NoFreelistSync: true, FreelistType: bolt.FreelistMapType,
		NoSync: o.NoSync, NoGrowSync: o.NoSync, // growing the file syncs too, unless told not to
	})
	if err != nil {
		return nil, fmt.Errorf("boltstore: open %s: %w", path, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, b := range [][]byte{itemsBucket, indexBucket, expiryBucket} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		_ = db.Close() // the first error says more
		return nil, fmt.Errorf("boltstore: prepare %s: %w", path, err)
	}
	s := &Store{db: db, observe: o.Observe, now: o.Now}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// Close waits for running calls and closes the file.
func (s *Store) Close() error { return s.db.Close() }

// Get reads one item.
func (s *Store) Get(ctx context.Context, k store.Key) (store.Item, error) {
	if err := ctx.Err(); err != nil {
		return store.Item{}, err
	}
	var it store.Item
	err := s.db.View(func(tx *bolt.Tx) error {
		found, ok, err := load(tx, k, s.now())
		if err == nil && !ok {
			err = store.ErrNotFound
		}
		it = found
		return err
	})
	return it, err
}

// Query lists items of a partition.
func (s *Store) Query(ctx context.Context, pk, prefix string, q store.QueryOptions) (store.Page, error) {
	after, err := store.QueryStart(q.Cursor, pk, prefix)
	if err != nil {
		return store.Page{}, err
	}
	r := scanRange{bucket: itemsBucket, base: joinKey(pk, ""), prefix: prefix, descending: q.Descending}
	if after != "" {
		r.after = joinKey(pk, after)
	}
	cursor := func(last store.Item) string { return store.QueryCursor(last.Key) }
	return s.page(ctx, r, q, cursor, func(_ *bolt.Tx, k, v []byte) (store.Item, bool, error) {
		return s.decode(k, v)
	})
}

// Index lists items of one index partition.
func (s *Store) Index(ctx context.Context, indexPK, upTo string, q store.QueryOptions) (store.Page, error) {
	after, err := store.IndexStart(q.Cursor, indexPK, upTo)
	if err != nil {
		return store.Page{}, err
	}
	r := scanRange{bucket: indexBucket, base: joinKey(indexPK, ""), upTo: upTo, descending: q.Descending}
	if after.PK != "" {
		r.after = joinKey(indexPK, after.IndexSK, after.PK, after.SK)
	}
	return s.page(ctx, r, q, store.IndexCursor, func(tx *bolt.Tx, k, _ []byte) (store.Item, bool, error) {
		parts := bytes.Split(k, nul)
		return load(tx, store.Key{PK: string(parts[2]), SK: string(parts[3])}, s.now())
	})
}

// page reads one page of a range; the item after the last one tells whether there
// is another page.
func (s *Store) page(ctx context.Context, r scanRange, q store.QueryOptions, cursor func(store.Item) string,
	item func(tx *bolt.Tx, k, v []byte) (store.Item, bool, error),
) (store.Page, error) {
	if err := ctx.Err(); err != nil {
		return store.Page{}, err
	}
	var p store.Page
	limit := q.PageLimit()
	err := s.db.View(func(tx *bolt.Tx) error {
		return r.each(tx, func(k, v []byte) (bool, error) {
			it, ok, err := item(tx, k, v)
			if err != nil || !ok {
				return err == nil, err
			}
			if len(p.Items) == limit {
				p.Next = cursor(p.Items[limit-1])
				return false, nil
			}
			p.Items = append(p.Items, it)
			return true, nil
		})
	})
	return p, err
}

// Commit applies all writes or none.
func (s *Store) Commit(ctx context.Context, writes ...store.Write) error {
	if err := store.CheckWrites(writes); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	var changed []store.Item
	err := s.db.Update(func(tx *bolt.Tx) error {
		var err error
		changed, err = apply(tx, writes, s.now())
		return err
	})
	if err != nil {
		return err
	}
	if s.observe != nil && len(changed) > 0 {
		s.observe(changed)
	}
	return nil
}

func apply(tx *bolt.Tx, writes []store.Write, now time.Time) ([]store.Item, error) {
	for i, w := range writes {
		old, _, err := load(tx, w.Item.Key, now)
		if err != nil {
			return nil, err
		}
		if old.Version != w.Expect { // an absent item has version 0
			return nil, &store.ConflictError{Key: w.Item.Key, Index: i}
		}
	}
	var changed []store.Item
	for _, w := range writes {
		if w.Op == store.Check {
			continue
		}
		if err := remove(tx, w.Item.Key); err != nil {
			return nil, err
		}
		if w.Op == store.Delete {
			continue
		}
		it := w.Item
		it.Version = w.Expect + 1
		it.Data = bytes.Clone(it.Data)
		if err := insert(tx, it); err != nil {
			return nil, err
		}
		changed = append(changed, it)
	}
	return changed, purge(tx, now)
}

// record is what an item is kept as: this as JSON, a newline, and the data as it is.
type record struct {
	Version int64  `json:"v"`
	Kind    string `json:"kind,omitempty"`
	IndexPK string `json:"ipk,omitempty"`
	IndexSK string `json:"isk,omitempty"`
	Expires int64  `json:"exp,omitempty"` // epoch seconds
}

func insert(tx *bolt.Tx, it store.Item) error {
	r := record{it.Version, it.Kind, it.IndexPK, it.IndexSK, store.EpochSeconds(it.ExpiresAt)}
	head, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("boltstore: encode: %w", err)
	}
	value := append(append(head, '\n'), it.Data...)
	if err := tx.Bucket(itemsBucket).Put(joinKey(it.PK, it.SK), value); err != nil {
		return fmt.Errorf("boltstore: put: %w", err)
	}
	if r.IndexPK != "" {
		if err := tx.Bucket(indexBucket).Put(joinKey(r.IndexPK, r.IndexSK, it.PK, it.SK), nil); err != nil {
			return fmt.Errorf("boltstore: put index: %w", err)
		}
	}
	if r.Expires != 0 {
		if err := tx.Bucket(expiryBucket).Put(expiryKey(r.Expires, it.Key), nil); err != nil {
			return fmt.Errorf("boltstore: put expiry: %w", err)
		}
	}
	return nil
}

// remove deletes an item, expired or not, with its places in the other buckets.
func remove(tx *bolt.Tx, k store.Key) error {
	key := joinKey(k.PK, k.SK)
	value := tx.Bucket(itemsBucket).Get(key)
	if value == nil {
		return nil
	}
	r, _, err := split(value)
	if err != nil {
		return err
	}
	if err := tx.Bucket(itemsBucket).Delete(key); err != nil {
		return fmt.Errorf("boltstore: delete: %w", err)
	}
	if r.IndexPK != "" {
		if err := tx.Bucket(indexBucket).Delete(joinKey(r.IndexPK, r.IndexSK, k.PK, k.SK)); err != nil {
			return fmt.Errorf("boltstore: delete index: %w", err)
		}
	}
	if r.Expires != 0 {
		if err := tx.Bucket(expiryBucket).Delete(expiryKey(r.Expires, k)); err != nil {
			return fmt.Errorf("boltstore: delete expiry: %w", err)
		}
	}
	return nil
}

// purge deletes a few items that have expired, oldest first.
func purge(tx *bolt.Tx, now time.Time) error {
	for range purgePerCommit {
		k, _ := tx.Bucket(expiryBucket).Cursor().First()
		if k == nil || !store.Expired(int64(binary.BigEndian.Uint64(k)), now) { //nolint:gosec // written by expiryKey
			return nil
		}
		pk, sk, _ := bytes.Cut(k[8:], nul)
		if err := remove(tx, store.Key{PK: string(pk), SK: string(sk)}); err != nil {
			return err
		}
	}
	return nil
}

// load reads an item; ok is false when it is absent or expired.
func load(tx *bolt.Tx, k store.Key, now time.Time) (it store.Item, ok bool, err error) {
	value := tx.Bucket(itemsBucket).Get(joinKey(k.PK, k.SK))
	if value == nil {
		return store.Item{}, false, nil
	}
	return decodeAt(k, value, now)
}

func (s *Store) decode(key, value []byte) (store.Item, bool, error) {
	pk, sk, _ := bytes.Cut(key, nul)
	return decodeAt(store.Key{PK: string(pk), SK: string(sk)}, value, s.now())
}

func decodeAt(k store.Key, value []byte, now time.Time) (store.Item, bool, error) {
	r, data, err := split(value)
	if err != nil || store.Expired(r.Expires, now) {
		return store.Item{}, false, err
	}
	it := store.Item{
		Key: k, Version: r.Version, Kind: r.Kind, Data: bytes.Clone(data),
		IndexPK: r.IndexPK, IndexSK: r.IndexSK,
	}
	if r.Expires != 0 {
		it.ExpiresAt = time.Unix(r.Expires, 0)
	}
	return it, true, nil
}

func split(value []byte) (r record, data []byte, err error) {
	head, data, _ := bytes.Cut(value, []byte{'\n'})
	if err := json.Unmarshal(head, &r); err != nil {
		return record{}, nil, fmt.Errorf("boltstore: decode: %w", err)
	}
	return r, data, nil
}

var nul = []byte{0}

func joinKey(parts ...string) []byte {
	var b []byte
	for i, p := range parts {
		if i > 0 {
			b = append(b, 0)
		}
		b = append(b, p...)
	}
	return b
}

func expiryKey(seconds int64, k store.Key) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(seconds)) //nolint:gosec // only the order matters, and times are after 1970
	return append(b, joinKey(k.PK, k.SK)...)
}
