package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"mayfly/functions/control"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
	"mayfly/shared/ticket"
	"mayfly/web"
)

// ticketsView is the answer of POST /v1/rooms/{id}/tickets.
type ticketsView struct {
	Room         string       `json:"room"`
	Participants []inviteView `json:"participants"`
}

// createTickets is POST /v1/rooms/{id}/tickets.
func (a *API) createTickets(c *call) error {
	var body ticketsRequest
	if p := readJSON(c.r, &body); p != nil {
		return p
	}
	var f faults
	key := idempotencyKey(c.r, "tickets", &f)
	if len(body.Participants) == 0 {
		f.add("/participants", "must hold at least one")
	}
	checkInvites(&f, body.Participants)
	if p := f.problem(); p != nil {
		return p
	}
	room, err := a.room(c)
	if err != nil {
		return err
	}
	if room.State == lifecycle.Draining || room.State.Final() {
		return problem(codeRoomOver, "The room is "+string(room.State)+".")
	}
	ctx := c.r.Context()
	if err := a.publisher.publish(ctx, a.cfg.Store, a.cfg.Key, a.cfg.Now()); err != nil {
		return err
	}
	hash, err := bodyHash("tickets/"+room.ID, body)
	if err != nil {
		return err
	}
	idem := control.Idem{Tenant: c.tenant, Key: key, BodyHash: hash, Room: room.ID}
	list, replayed, err := a.keepInvites(c, idem, room.Media, body.Participants)
	if err != nil {
		return err
	}
	tickets, err := a.mint(room, list)
	if err != nil {
		return err
	}
	if replayed {
		c.w.Header().Set("Idempotent-Replayed", "true")
	}
	return c.json(http.StatusCreated, ticketsView{Room: room.ID, Participants: tickets})
}

// keepInvites makes the invites, or finds those that the Idempotency-Key stands for.
// A ticket needs no row until it is used: what is written is the tenant's rate, where
// there is one, and what the key stands for, where there is one.
func (a *API) keepInvites(c *call, idem control.Idem, media string, requests []inviteRequest) (list []invite, replayed bool, err error) {
	ctx, fresh := c.r.Context(), invites(requests, media, a.now())
	if idem.Answer, err = json.Marshal(fresh); err != nil {
		return nil, false, fmt.Errorf("encode invites: %w", err)
	}
	idem.CreatedMS = a.now().UnixMilli()
	err = control.Retry{}.Do(ctx, func() error {
		if idem.Key != "" {
			kept, err := control.Load[control.Idem](ctx, a.cfg.Store, control.IdemKey(idem.Tenant, idem.Key))
			switch {
			case err == nil && kept.BodyHash != idem.BodyHash:
				return problem(codeIdempotencyUsed, "Use a new key for a new request.")
			case err == nil:
				list, replayed = nil, true
				return json.Unmarshal(kept.Answer, &list)
			case !errors.Is(err, store.ErrNotFound):
				return err
			}
		}
		list, replayed = fresh, false
		writes, err := a.drawTickets(c, len(fresh))
		if err != nil {
			return err
		}
		if idem.Key != "" {
			w, err := control.Put(&idem)
			if err != nil {
				return err
			}
			writes = append(writes, w)
		}
		if len(writes) == 0 {
			return nil
		}
		return a.cfg.Store.Commit(ctx, writes...)
	})
	return list, replayed, err
}

// participantView is somebody who has joined the room.
type participantView struct {
	ID         string            `json:"id"`
	Identity   string            `json:"identity"`
	Name       string            `json:"name"`
	State      string            `json:"state"` // joined, left or ejected
	JoinedAt   string            `json:"joined_at"`
	LeftAt     string            `json:"left_at,omitempty"`
	Grants     signal.Grants     `json:"grants"`
	Muted      []string          `json:"muted"`             // kinds that the room does not forward
	Pending    bool              `json:"pending,omitempty"` // the room's task has not said yet that it is as ordered
	Attributes map[string]string `json:"attributes,omitempty"`
}

type participantList struct {
	Participants []participantView `json:"participants"`
	NextCursor   string            `json:"next_cursor,omitempty"`
}

// listParticipants is GET /v1/rooms/{id}/participants: everybody who ever joined,
// in the order in which their tickets were made.
func (a *API) listParticipants(c *call) error {
	room, err := a.room(c)
	if err != nil {
		return err
	}
	q, values, err := a.listQuery(c, "participants\x00"+room.ID)
	if err != nil {
		return err
	}
	ctx := c.r.Context()
	page, err := a.cfg.Store.Query(ctx, control.RoomPK(room.ID), control.PartPrefix,
		store.QueryOptions{Cursor: q.cursor, Limit: q.limit})
	if err != nil {
		return fmt.Errorf("list participants: %w", err)
	}
	list := participantList{Participants: []participantView{}}
	for _, it := range page.Items {
		p, err := control.Decode[control.Participant](it)
		if err != nil {
			return err
		}
		v, err := a.participant(ctx, room, p)
		if err != nil {
			return err
		}
		list.Participants = append(list.Participants, v)
	}
	list.NextCursor = a.cursors.seal(q.scope, page.Next)
	a.linkNext(c, values, list.NextCursor)
	return c.json(http.StatusOK, list)
}

// participant shows one. Who left is known from usage: the task reports the end of
// every session, and the ledger ends those of a task that died.
func (a *API) participant(ctx context.Context, room *control.Room, p *control.Participant) (participantView, error) {
	v := participantView{
		ID: p.ID, Identity: p.Identity, Name: p.Name, State: "joined", JoinedAt: stamp(p.JoinedMS),
		Grants: p.Grants, Muted: append([]string{}, p.Muted...), Pending: pending(room, p), Attributes: p.Attributes,
	}
	if v.Grants.Publish == nil {
		v.Grants.Publish = []string{}
	}
	s, err := a.ledger().Stay(ctx, room.ID, p.Epoch, p.Session)
	switch {
	case errors.Is(err, store.ErrNotFound): // not reported yet, or the task never took it
		if room.State.Final() {
			v.State, v.LeftAt = "left", stamp(room.EndedMS)
		}
	case err != nil:
		return v, err
	case s.LeftMS != 0:
		v.State, v.LeftAt = "left", stamp(s.LeftMS)
	}
	if p.EjectedMS != 0 {
		v.State = "ejected"
		if v.LeftAt == "" {
			v.LeftAt = stamp(p.EjectedMS)
		}
	}
	return v, nil
}

// health is GET /healthz: the function runs. It asks nothing of the store, so that
// nobody can load the store without an API key.
func (a *API) health(c *call) error {
	return c.json(http.StatusOK, map[string]string{"status": "ok"})
}

// jwks is GET /.well-known/jwks.json, the keys that verify tickets.
func (a *API) jwks(c *call) error {
	c.w.Header().Set("Cache-Control", "public, max-age=300")
	return c.json(http.StatusOK, ticket.JWKS{Keys: []ticket.JWK{a.cfg.Key.JWK()}})
}

// page is GET /call/{file}: the call page.
func (a *API) page(c *call) error {
	body, contentType, ok := web.File(strings.TrimPrefix(c.r.URL.Path, "/call/"))
	if !ok {
		return problem(codeNotFound, "No such path.")
	}
	tag := web.ETag(body)
	h := c.w.Header()
	h.Set("ETag", tag)
	h.Set("Cache-Control", "no-cache") // asked for each time: the names hold no version
	h.Set("Content-Security-Policy", a.csp)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(self), microphone=(self), display-capture=(self), speaker-selection=(self)")
	if c.r.Header.Get("If-None-Match") == tag {
		c.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", contentType)
	c.w.WriteHeader(http.StatusOK)
	_, _ = c.w.Write(body) // a browser that is gone is nobody's error
	return nil
}
