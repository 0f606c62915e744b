package store_test

import (
	"crypto/rand"
	"errors"
	"net/http"
	"testing"

	"mayfly/functions/store"
	"mayfly/functions/store/storetest"
	"mayfly/functions/store/storetest/engine"
)

// TestContractDynamoDBLocal runs against AWS's own engine.
func TestContractDynamoDBLocal(t *testing.T) {
	s := open(t, engine.DynamoDBLocal, nil)
	storetest.Run(t, func(*testing.T) store.Store { return s })
}

// TestContractMoto runs against an engine written by others from the documentation.
func TestContractMoto(t *testing.T) {
	s := open(t, engine.Moto, nil)
	storetest.Run(t, func(*testing.T) store.Store { return s })
}

// TestLostAnswers makes every write take effect and then fail on its first attempt.
// The store must tell its own write from another's. moto does not keep the tokens
// that make a transaction repeatable.
func TestLostAnswers(t *testing.T) {
	lossy := &engine.Lossy{}
	s := open(t, engine.DynamoDBLocal, lossy.Wrap)
	ctx := t.Context()
	key := store.Key{PK: "lost#" + rand.Text(), SK: "1"}
	one := store.Write{Item: store.Item{Key: key, Data: []byte(`1`)}}
	other := store.Write{Item: store.Item{Key: store.Key{PK: key.PK, SK: "2"}, Data: []byte(`1`)}}
	gone := store.Write{Op: store.Delete, Item: store.Item{Key: key}, Expect: 3}

	steps := []struct {
		name   string
		writes []store.Write
		want   int64 // version of key afterwards
	}{
		{"create", []store.Write{one}, 1},
		{"replace", []store.Write{{Item: one.Item, Expect: 1}}, 2},
		{"transaction", []store.Write{{Item: one.Item, Expect: 2}, other}, 3},
		{"delete", []store.Write{gone}, 0},
	}
	for i, step := range steps {
		if err := s.Commit(ctx, step.writes...); err != nil {
			t.Fatalf("%s: %v, although it took effect", step.name, err)
		}
		if got := lossy.Lost(); got != int64(i+1) {
			t.Fatalf("%s: %d answers lost so far, want %d", step.name, got, i+1)
		}
		it, err := s.Get(ctx, key)
		if it.Version != step.want || (step.want == 0) != errors.Is(err, store.ErrNotFound) {
			t.Fatalf("%s: version %d, %v, want %d", step.name, it.Version, err, step.want)
		}
	}
	var conflict *store.ConflictError
	if err := s.Commit(ctx, gone); !errors.As(err, &conflict) {
		t.Fatalf("deleting twice = %v, want a conflict", err)
	}
	if err := s.Commit(ctx, one, other); !errors.As(err, &conflict) || conflict.Index != 1 {
		t.Fatalf("creating what exists = %v, want a conflict on write 1", err)
	}
}

// open returns a store in a new table of the engine.
func open(t *testing.T, k engine.Kind, wrap func(http.RoundTripper) http.RoundTripper) *store.Dynamo {
	t.Helper()
	e := engine.Open(t, engine.WithoutStream(k), wrap)
	if e == nil {
		// The engines are separate programs; the script fetches one and sets the variable.
		t.Skipf("%s is not set; run: %s", k.Variable, k.How("./functions/store/..."))
	}
	return e.Store
}
