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
	list, replayed, err := a.keepInvites(ctx, key, room, body)
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

// keepInvites makes the invites, or finds those that the Idempotency-Key stands
// for. Nothing is stored without a key: a ticket needs no row until it is used.
func (a *API) keepInvites(ctx context.Context, key string, room *control.Room, body ticketsRequest) ([]invite, bool, error) {
	fresh := invites(body.Participants, room.Media, a.now())
	if key == "" {
		return fresh, false, nil
	}
	hash, err := bodyHash("tickets/"+room.ID, body)
	if err != nil {
		return nil, false, err
	}
	answer, err := json.Marshal(fresh)
	if err != nil {
		return nil, false, fmt.Errorf("encode invites: %w", err)
	}
	var list []invite
	var replayed bool
	err = control.Retry{}.Do(ctx, func() error {
		kept, err := control.Load[control.Idem](ctx, a.cfg.Store, control.IdemKey(room.Tenant, key))
		if errors.Is(err, store.ErrNotFound) {
			w, err := control.Put(&control.Idem{
				Tenant: room.Tenant, Key: key, BodyHash: hash, Room: room.ID, Answer: answer, CreatedMS: a.now().UnixMilli(),
			})
			if err != nil {
				return err
			}
			list, replayed = fresh, false
			return a.cfg.Store.Commit(ctx, w)
		}
		if err != nil {
			return err
		}
		if kept.BodyHash != hash {
			return problem(codeIdempotencyUsed, "Use a new key for a new request.")
		}
		list, replayed = nil, true
		return json.Unmarshal(kept.Answer, &list)
	})
	return list, replayed, err
}

// participantView is somebody who has joined the room.
type participantView struct {
	ID         string            `json:"id"`
	Identity   string            `json:"identity"`
	Name       string            `json:"name"`
	State      string            `json:"state"` // joined or left
	JoinedAt   string            `json:"joined_at"`
	LeftAt     string            `json:"left_at,omitempty"`
	Grants     signal.Grants     `json:"grants"`
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
		Grants: p.Grants, Attributes: p.Attributes,
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
