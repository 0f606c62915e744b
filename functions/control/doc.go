package control

import (
	"context"
	"encoding/json"
	"fmt"

	"mayfly/functions/store"
)

// Doc is an entity that knows its place in the table. Place gives key, kind, index
// and expiry; Data and Version are filled in by Put, Remove and Unchanged.
type Doc interface {
	Place() store.Item
	held() int64
}

// Held is embedded in every entity: the version that its holder loaded, 0 for an
// entity that is not stored yet.
type Held struct {
	Ver int64 `json:"-"`
}

func (h *Held) held() int64  { return h.Ver }
func (h *Held) hold(v int64) { h.Ver = v }

// Put writes d if it is still as its holder loaded it (or, never loaded, absent).
func Put(d Doc) (store.Write, error) {
	it := d.Place()
	data, err := json.Marshal(d)
	if err != nil {
		return store.Write{}, fmt.Errorf("encode %s: %w", it.Kind, err)
	}
	it.Data = data
	return store.Write{Op: store.Put, Item: it, Expect: d.held()}, nil
}

// Remove deletes d if it is still as its holder loaded it.
func Remove(d Doc) store.Write {
	return store.Write{Op: store.Delete, Item: store.Item{Key: d.Place().Key}, Expect: d.held()}
}

// Unchanged makes a commit depend on d being as its holder loaded it.
func Unchanged(d Doc) store.Write {
	return store.Write{Op: store.Check, Item: store.Item{Key: d.Place().Key}, Expect: d.held()}
}

// Load reads one entity. store.ErrNotFound passes through.
func Load[T any, P interface {
	*T
	hold(int64)
}](ctx context.Context, s Store, k store.Key) (*T, error) {
	it, err := s.Get(ctx, k)
	if err != nil {
		return nil, err
	}
	return Decode[T, P](it)
}

// Decode reads an entity out of its item.
func Decode[T any, P interface {
	*T
	hold(int64)
}](it store.Item) (*T, error) {
	d := new(T)
	if err := json.Unmarshal(it.Data, d); err != nil {
		return nil, fmt.Errorf("decode %s %s: %w", it.PK, it.SK, err)
	}
	P(d).hold(it.Version)
	return d, nil
}

// LoadAll reads every entity of a partition whose sort key has the prefix, in
// sort-key order.
func LoadAll[T any, P interface {
	*T
	hold(int64)
}](ctx context.Context, s Store, pk, prefix string) ([]*T, error) {
	var all []*T
	var q store.QueryOptions
	for {
		page, err := s.Query(ctx, pk, prefix, q)
		if err != nil {
			return nil, err
		}
		for _, it := range page.Items {
			d, err := Decode[T, P](it)
			if err != nil {
				return nil, err
			}
			all = append(all, d)
		}
		if page.Next == "" {
			return all, nil
		}
		q.Cursor = page.Next
	}
}
