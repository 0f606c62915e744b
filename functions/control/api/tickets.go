package api

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"mayfly/functions/control"
	"mayfly/functions/store"
	"mayfly/shared/signal"
	"mayfly/shared/ticket"
)

// invite is everything that a ticket is made of. It is kept with an
// Idempotency-Key: the same invite always gives the same ticket.
type invite struct {
	ID         string            `json:"id"` // participant id and jti: one ticket is one participant
	Identity   string            `json:"identity"`
	Name       string            `json:"name,omitempty"`
	Grants     signal.Grants     `json:"grants"`
	Attributes map[string]string `json:"attributes,omitempty"`
	IssuedS    int64             `json:"iat"` // Unix seconds
	ExpiresS   int64             `json:"exp"`
}

// invites turns a checked request into invites to a room of the media.
func invites(requests []inviteRequest, media string, now time.Time) []invite {
	list := make([]invite, 0, len(requests))
	for i := range requests {
		q := &requests[i]
		list = append(list, invite{
			ID:       "p_" + ulid.MustNew(ulid.Timestamp(now), rand.Reader).String(),
			Identity: q.Identity, Name: q.Name, Grants: hears(q.grants(), media), Attributes: q.Attributes,
			IssuedS: now.Unix(), ExpiresS: now.Add(q.ttl()).Unix(),
		})
	}
	return list
}

// mint makes the tickets of a room.
func (a *API) mint(room *control.Room, list []invite) ([]inviteView, error) {
	views := make([]inviteView, 0, len(list))
	for _, v := range list {
		token, err := ticket.Mint(a.cfg.Key, ticket.Claims{
			Identity: v.Identity, ID: v.ID, Tenant: room.Tenant, Room: room.ID, Name: v.Name, Attributes: v.Attributes,
			Grants: v.Grants, IssuedAt: v.IssuedS, NotBefore: v.IssuedS, Expires: v.ExpiresS,
			E2EE: room.E2EE,
		})
		if err != nil {
			return nil, fmt.Errorf("mint ticket: %w", err)
		}
		views = append(views, inviteView{
			Identity: v.Identity, Participant: v.ID, Ticket: token,
			ExpiresAt: stamp(v.ExpiresS * 1000), CallURL: a.callURL(room.ID, token),
		})
	}
	return views, nil
}

// callURL opens the call page. All that matters is in the fragment, which
// browsers send to nobody.
func (a *API) callURL(room, token string) string {
	q := url.Values{"room": {room}, "ticket": {token}, "ws": {a.cfg.SignallingURL}}
	return a.cfg.PublicURL + "/call/#" + q.Encode()
}

// publisher puts the public half of the signing key where the socket function
// finds it, before the first ticket leaves.
type publisher struct {
	mu   sync.Mutex
	done bool // guarded by mu
}

func (p *publisher) publish(ctx context.Context, s control.Store, key *ticket.Key, now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		return nil
	}
	_, err := s.Get(ctx, control.TicketKeyKey(key.ID()))
	if errors.Is(err, store.ErrNotFound) {
		var w store.Write
		w, err = control.Put(&control.TicketKey{KID: key.ID(), Public: key.Public(), CreatedMS: now.UnixMilli()})
		if err == nil {
			err = s.Commit(ctx, w)
		}
		var conflict *store.ConflictError
		if errors.As(err, &conflict) {
			err = nil // another instance was first; a key id stands for one key only
		}
	}
	if err != nil {
		return fmt.Errorf("publish the ticket key: %w", err)
	}
	p.done = true
	return nil
}
