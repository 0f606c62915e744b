package join

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"

	"mayfly/functions/control"
	"mayfly/functions/store"
	"mayfly/shared/ticket"
)

// keyring remembers published ticket keys. Keys are never changed under one id, so
// what was found once stays true; what was not found is asked for again.
type keyring struct {
	mu    sync.Mutex
	known map[string]ed25519.PublicKey // guarded by mu
}

// lookup finds keys in memory, then in the store.
func (k *keyring) lookup(ctx context.Context, s control.Store) ticket.Lookup {
	return func(kid string) (ed25519.PublicKey, error) {
		k.mu.Lock()
		public, ok := k.known[kid]
		k.mu.Unlock()
		if ok {
			return public, nil
		}
		row, err := control.Load[control.TicketKey](ctx, s, control.TicketKeyKey(kid))
		if errors.Is(err, store.ErrNotFound) {
			return nil, ticket.ErrUnknownKey
		}
		if err != nil {
			return nil, fmt.Errorf("load ticket key: %w", err)
		}
		public = ed25519.PublicKey(row.Public)
		if len(public) != ed25519.PublicKeySize || ticket.KeyID(public) != kid {
			return nil, ticket.ErrUnknownKey
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.known == nil {
			k.known = make(map[string]ed25519.PublicKey)
		}
		k.known[kid] = public
		return public, nil
	}
}
