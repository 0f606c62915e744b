package boltstore

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"

	"mayfly/functions/store"
	"mayfly/functions/store/storetest"
)

func open(t *testing.T, o Options) *Store {
	t.Helper()
	o.NoSync = true
	s, err := OpenWith(filepath.Join(t.TempDir(), "store.db"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, Options{}) })
}

func write(sk, data string, expect int64) store.Write {
	return store.Write{Item: store.Item{Key: store.Key{PK: "P", SK: sk}, Data: []byte(data)}, Expect: expect}
}

func TestObserver(t *testing.T) {
	var mu sync.Mutex
	var seen [][]store.Item
	s := open(t, Options{Observe: func(changed []store.Item) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, changed)
	}})
	ctx := t.Context()
	if err := s.Commit(ctx, write("1", `1`, 0), write("2", `2`, 0)); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(ctx, write("1", `9`, 7)); err == nil {
		t.Fatal("no conflict")
	}
	if err := s.Commit(ctx, write("1", `3`, 1),
		store.Write{Op: store.Delete, Item: store.Item{Key: store.Key{PK: "P", SK: "2"}}, Expect: 1}); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(ctx, store.Write{Op: store.Check, Item: store.Item{Key: store.Key{PK: "P", SK: "1"}}, Expect: 2}); err != nil {
		t.Fatal(err)
	}
	want := [][]store.Item{
		{
			{Key: store.Key{PK: "P", SK: "1"}, Version: 1, Data: []byte(`1`)},
			{Key: store.Key{PK: "P", SK: "2"}, Version: 1, Data: []byte(`2`)},
		},
		{{Key: store.Key{PK: "P", SK: "1"}, Version: 2, Data: []byte(`3`)}},
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("observed (-want +got):\n%s", diff)
	}
}

func TestReopenKeepsItems(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), write("1", `{"kept":true}`, 0)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	it, err := s.Get(t.Context(), store.Key{PK: "P", SK: "1"})
	if err != nil || string(it.Data) != `{"kept":true}` {
		t.Fatalf("after reopening: %+v, %v", it, err)
	}
}

func TestExpiryFollowsTheClock(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	s := open(t, Options{Now: func() time.Time { return now }})
	for i := range 20 {
		w := write(fmt.Sprintf("%02d", i), `1`, 0)
		w.Item.IndexPK, w.Item.IndexSK = "I", "1"
		w.Item.ExpiresAt = now.Add(10*time.Second - time.Millisecond) // rounded up to 10 s
		if err := s.Commit(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(9 * time.Second)
	if p, err := s.Query(t.Context(), "P", "", store.QueryOptions{}); err != nil || len(p.Items) != 20 {
		t.Fatalf("a second before expiry: %d items, %v, want 20", len(p.Items), err)
	}
	now = now.Add(time.Second)
	if p, err := s.Query(t.Context(), "P", "", store.QueryOptions{}); err != nil || len(p.Items) != 0 {
		t.Fatalf("at expiry: %d items, %v, want none", len(p.Items), err)
	}

	// Later commits delete what has expired, from every bucket, a few at a time.
	for i := range 3 {
		if err := s.Commit(t.Context(), write("alive", `1`, int64(i))); err != nil {
			t.Fatal(err)
		}
		left := max(0, 20-purgePerCommit*(i+1))
		want := map[string]int{"items": left + 1, "index": left, "expiry": left}
		if diff := cmp.Diff(want, s.sizes(t)); diff != "" {
			t.Fatalf("keys after %d commits (-want +got):\n%s", i+1, diff)
		}
	}
}

func (s *Store) sizes(t *testing.T) map[string]int {
	t.Helper()
	sizes := map[string]int{}
	err := s.db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			sizes[string(name)] = b.Stats().KeyN
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return sizes
}
