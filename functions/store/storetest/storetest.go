// Package storetest is the contract of store.Store as a test suite.
//
// Every implementation runs it: the embedded one always, DynamoDB against whatever
// engine is at hand. It must know no implementation, and it shares a table with
// anything else that is in it: each test keeps to partitions of its own. Read Run
// first.
package storetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mayfly/functions/store"
)

// Run checks the store that open returns against the contract. open may return the
// same store each time.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	tests := []struct {
		name string
		run  func(t *testing.T, s *suite)
	}{
		{"get and put", testGetPut},
		{"expectations", testExpectations},
		{"data is kept byte for byte", testData},
		{"commit is all or nothing", testAtomic},
		{"conflict names the write", testConflictIndex},
		{"check writes nothing", testCheck},
		{"query order and prefix", testQuery},
		{"query pages", testQueryPages},
		{"large pages", testLargePages},
		{"cursors are checked", testCursors},
		{"index", testIndex},
		{"index pages", testIndexPages},
		{"index follows the item", testIndexFollows},
		{"expired items are absent", testExpiry},
		{"expired items leave pages full", testExpiryPages},
		{"limits", testLimits},
		{"one of many creators wins", testOneCreator},
		{"no increment is lost", testIncrements},
		{"transfers keep the sum", testTransfers},
		{"cancelled context", testCancelled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.run(t, &suite{Store: open(t), id: rand.Text()})
		})
	}
}

// suite is the store under test with partitions that nobody else uses.
type suite struct {
	store.Store
	id string
}

func (s *suite) key(pk, sk string) store.Key { return store.Key{PK: pk + "#" + s.id, SK: sk} }

func (s *suite) item(pk, sk, data string) store.Item {
	return store.Item{Key: s.key(pk, sk), Kind: "thing", Data: []byte(data)}
}

func put(it store.Item, expect int64) store.Write {
	return store.Write{Op: store.Put, Item: it, Expect: expect}
}

func del(k store.Key, expect int64) store.Write {
	return store.Write{Op: store.Delete, Item: store.Item{Key: k}, Expect: expect}
}

func check(k store.Key, expect int64) store.Write {
	return store.Write{Op: store.Check, Item: store.Item{Key: k}, Expect: expect}
}

func (s *suite) mustCommit(t *testing.T, writes ...store.Write) {
	t.Helper()
	if err := s.commit(t.Context(), writes...); err != nil {
		t.Fatalf("Commit: %v", err)
	}
}

// commit retries the conflicts that name no write: those an engine may report for a
// race of two transactions although every expectation held.
func (s *suite) commit(ctx context.Context, writes ...store.Write) error {
	for {
		err := s.Commit(ctx, writes...)
		var conflict *store.ConflictError
		if !errors.As(err, &conflict) || conflict.Index >= 0 {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (s *suite) mustGet(t *testing.T, k store.Key) store.Item {
	t.Helper()
	it, err := s.Get(t.Context(), k)
	if err != nil {
		t.Fatalf("Get(%v): %v", k, err)
	}
	return it
}

func (s *suite) wantAbsent(t *testing.T, k store.Key) {
	t.Helper()
	if it, err := s.Get(t.Context(), k); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("Get(%v) = %+v, %v, want ErrNotFound", k, it, err)
	}
}

func wantConflict(t *testing.T, err error, k store.Key, index int) {
	t.Helper()
	var conflict *store.ConflictError
	if !errors.As(err, &conflict) {
		t.Fatalf("Commit = %v, want a conflict on write %d", err, index)
	}
	if diff := cmp.Diff(&store.ConflictError{Key: k, Index: index}, conflict); diff != "" {
		t.Fatalf("conflict (-want +got):\n%s", diff)
	}
}

func testGetPut(t *testing.T, s *suite) {
	it := s.item("A", "1", `{"n":1}`)
	it.IndexPK, it.IndexSK = "IDX#"+s.id, "005"
	it.ExpiresAt = time.Now().Add(time.Hour).Truncate(time.Second)
	s.wantAbsent(t, it.Key)

	s.mustCommit(t, put(it, 0))
	it.Version = 1
	if diff := cmp.Diff(it, s.mustGet(t, it.Key)); diff != "" {
		t.Fatalf("after create (-want +got):\n%s", diff)
	}

	// A put replaces everything: what it does not name is gone.
	plain := s.item("A", "1", `{"n":2}`)
	plain.Version = 77 // ignored
	s.mustCommit(t, put(plain, 1))
	plain.Version = 2
	if diff := cmp.Diff(plain, s.mustGet(t, it.Key)); diff != "" {
		t.Fatalf("after replace (-want +got):\n%s", diff)
	}

	s.mustCommit(t, del(it.Key, 2))
	s.wantAbsent(t, it.Key)

	s.mustCommit(t, put(plain, 0))
	if got := s.mustGet(t, it.Key).Version; got != 1 {
		t.Fatalf("version after delete and create = %d, want 1", got)
	}
}

func testExpectations(t *testing.T, s *suite) {
	there, absent := s.item("A", "there", `1`), s.item("A", "absent", `1`)
	s.mustCommit(t, put(there, 0))
	s.mustCommit(t, put(there, 1)) // now at version 2
	tests := []struct {
		name string
		w    store.Write
	}{
		{"create what exists", put(there, 0)},
		{"put at an old version", put(there, 1)},
		{"put at a future version", put(there, 3)},
		{"put what is absent", put(absent, 1)},
		{"delete at an old version", del(there.Key, 1)},
		{"delete what is absent", del(absent.Key, 1)},
		{"check an old version", check(there.Key, 1)},
		{"check that what exists is absent", check(there.Key, 0)},
		{"check what is absent", check(absent.Key, 2)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wantConflict(t, s.Commit(t.Context(), tt.w), tt.w.Item.Key, 0)
			if got := s.mustGet(t, there.Key).Version; got != 2 {
				t.Errorf("version = %d after a conflict, want 2", got)
			}
			s.wantAbsent(t, absent.Key)
		})
	}
}

func testData(t *testing.T, s *suite) {
	for i, data := range []string{
		`{}`, `null`, `"text"`, `{ "spaced" : [1,2.50, 1e3] }`, `{"z":1,"a":2}`,
		`"é 日本 \u0000 😀"`, "{\n\t\"lines\": true\n}\n", `12345678901234567890.123456789`,
	} {
		it := s.item("D", fmt.Sprint(i), data)
		s.mustCommit(t, put(it, 0))
		if got := string(s.mustGet(t, it.Key).Data); got != data {
			t.Errorf("data = %q, want %q", got, data)
		}
	}
	it := s.item("D", "none", "")
	s.mustCommit(t, put(it, 0))
	if got := s.mustGet(t, it.Key).Data; len(got) != 0 {
		t.Errorf("data = %q, want none", got)
	}
}

func testAtomic(t *testing.T, s *suite) {
	old, gone := s.item("A", "old", `"old"`), s.item("A", "gone", `1`)
	s.mustCommit(t, put(old, 0), put(gone, 0))
	changed := s.item("A", "old", `"new"`)
	fresh := s.item("B", "fresh", `1`)

	err := s.commit(t.Context(), put(changed, 1), del(gone.Key, 1), put(fresh, 0), check(s.key("B", "x"), 4))
	wantConflict(t, err, s.key("B", "x"), 3)
	if it := s.mustGet(t, old.Key); string(it.Data) != `"old"` || it.Version != 1 {
		t.Errorf("a failed commit changed an item: %+v", it)
	}
	s.mustGet(t, gone.Key)
	s.wantAbsent(t, fresh.Key)

	s.mustCommit(t, put(changed, 1), del(gone.Key, 1), put(fresh, 0), check(s.key("B", "x"), 0))
	if it := s.mustGet(t, old.Key); string(it.Data) != `"new"` || it.Version != 2 {
		t.Errorf("a commit did not change an item: %+v", it)
	}
	s.wantAbsent(t, gone.Key)
	s.mustGet(t, fresh.Key)
}

func testConflictIndex(t *testing.T, s *suite) {
	s.mustCommit(t, put(s.item("A", "2", `1`), 0))
	for bad := range 4 {
		var writes []store.Write
		for i := range 4 {
			w := put(s.item("C", fmt.Sprint(i), `1`), 0)
			if i == bad {
				w = put(s.item("A", "2", `1`), 9)
			}
			writes = append(writes, w)
		}
		wantConflict(t, s.commit(t.Context(), writes...), s.key("A", "2"), bad)
	}
}

func testCheck(t *testing.T, s *suite) {
	it := s.item("A", "1", `1`)
	s.mustCommit(t, put(it, 0))
	s.mustCommit(t, check(it.Key, 1))
	s.mustCommit(t, check(s.key("A", "2"), 0))
	s.mustCommit(t, check(it.Key, 1), check(s.key("A", "2"), 0))
	if got := s.mustGet(t, it.Key).Version; got != 1 {
		t.Errorf("version after checks = %d, want 1", got)
	}
	s.wantAbsent(t, s.key("A", "2"))
}

func testCancelled(t *testing.T, s *suite) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	k := s.key("A", "1")
	if _, err := s.Get(ctx, k); !errors.Is(err, context.Canceled) {
		t.Errorf("Get = %v, want Canceled", err)
	}
	if _, err := s.Query(ctx, k.PK, "", store.QueryOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Query = %v, want Canceled", err)
	}
	if _, err := s.Index(ctx, k.PK, "", store.QueryOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Index = %v, want Canceled", err)
	}
	if err := s.Commit(ctx, put(s.item("A", "1", `1`), 0)); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit = %v, want Canceled", err)
	}
	s.wantAbsent(t, k)
}
