package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"

	"mayfly/functions/control"
	"mayfly/functions/control/life"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
)

// roomForm is how room ids look. Anything else names no room, and never becomes
// part of a storage key.
var roomForm = regexp.MustCompile(`^room_[0-9A-HJKMNP-TV-Z]{26}$`)

// createRoom is POST /v1/rooms.
func (a *API) createRoom(c *call) error {
	var body createRequest
	if p := readJSON(c.r, &body); p != nil {
		return p
	}
	var f faults
	key := idempotencyKey(c.r, "rooms", &f)
	create := life.CreateRequest{
		Tenant: c.tenant, IdempotencyKey: key, ExternalID: body.ExternalID, Region: a.cfg.Region,
		Limits: body.limits(&f), Metadata: body.Metadata, Tags: body.Tags, Caps: body.Budget.caps(&f),
		E2EE: body.E2EE, IfExists: body.IfExists,
	}
	body.checkIfExists(&f)
	body.task(&create, &f)
	body.check(a.cfg.Region, &f)
	if p := f.problem(); p != nil {
		return p
	}
	var err error
	if create.BodyHash, err = bodyHash("rooms", body); err != nil {
		return err
	}
	ctx := c.r.Context()
	if err := a.publisher.publish(ctx, a.cfg.Store, a.cfg.Key, a.cfg.Now()); err != nil {
		return err
	}
	if create.Answer, err = json.Marshal(invites(body.Participants, create.Media, a.now())); err != nil {
		return fmt.Errorf("encode invites: %w", err)
	}
	made, err := a.cfg.Life.Create(ctx, create)
	if err != nil {
		return err
	}
	setQuota(c.w.Header(), made.Left)
	if made.Existed && !made.Replayed {
		return a.answerExisting(c, &made, key, create.BodyHash, body.Participants)
	}
	return a.answerCreated(c, &made)
}

// answerCreated answers with what was committed, now or by an earlier call with
// the same Idempotency-Key.
func (a *API) answerCreated(c *call, made *life.Created) error {
	var list []invite
	if len(made.Answer) > 0 {
		if err := json.Unmarshal(made.Answer, &list); err != nil {
			return fmt.Errorf("decode the kept answer: %w", err)
		}
	}
	tickets, err := a.mint(&made.Room, list)
	if err != nil {
		return err
	}
	view, status := a.createdView(&made.Room), http.StatusCreated
	if made.Existed {
		view, status = a.view(&made.Room), http.StatusOK
	}
	view.Participants = tickets
	c.w.Header().Set("Location", "/v1/rooms/"+made.ID)
	if made.Replayed {
		c.w.Header().Set("Idempotent-Replayed", "true")
	}
	return c.json(status, view)
}

// answerExisting answers a create with the room that was open already: as it is, with
// new tickets, which count as any that are asked for later.
func (a *API) answerExisting(c *call, made *life.Created, key, hash string, people []inviteRequest) error {
	idem := control.Idem{Tenant: c.tenant, Key: key, BodyHash: hash, Room: made.ID, Existed: true}
	list, replayed, err := a.keepInvites(c, idem, made.Media, people)
	if err != nil {
		return err
	}
	if made.Answer, err = json.Marshal(list); err != nil {
		return fmt.Errorf("encode invites: %w", err)
	}
	made.Replayed = replayed
	return a.answerCreated(c, made)
}

// room loads the room that the path names, if it is the caller's. One that is not
// is exactly as absent as one that never was.
func (a *API) room(c *call) (*control.Room, error) {
	id := c.r.PathValue("id")
	if !roomForm.MatchString(id) {
		return nil, life.ErrNotFound
	}
	r, err := a.cfg.Life.Get(c.r.Context(), id)
	if err != nil {
		return nil, err
	}
	if r.Tenant != c.tenant {
		return nil, life.ErrNotFound
	}
	return &r, nil
}

// getRoom is GET /v1/rooms/{id}.
func (a *API) getRoom(c *call) error {
	r, err := a.room(c)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, a.view(r))
}

// deleteRoom is DELETE /v1/rooms/{id}. It may be repeated.
func (a *API) deleteRoom(c *call) error {
	r, err := a.room(c)
	if err != nil {
		return err
	}
	if err := a.cfg.Life.Delete(c.r.Context(), r.ID); err != nil {
		return err
	}
	if r, err = a.room(c); err != nil {
		return err
	}
	return c.json(http.StatusAccepted, a.view(r))
}

// page bounds of lists.
const (
	standardLimit = 20
	mostLimit     = 100
	// scanPages is how many store pages one filtered list reads before it answers
	// with what it has and a cursor to go on.
	scanPages = 5
)

// listQuery is what a list was asked for.
type listQuery struct {
	limit  int
	cursor string // the store's
	scope  string // what the cursor is bound to
}

// listQuery reads limit, cursor and the filters that an endpoint knows.
func (a *API) listQuery(c *call, what string, filters ...string) (listQuery, url.Values, error) {
	var f faults
	values := c.r.URL.Query()
	allowed := map[string]bool{"limit": true, "cursor": true}
	l := listQuery{limit: standardLimit, scope: c.tenant + "\x00" + what}
	for _, name := range filters {
		allowed[name] = true
		l.scope += "\x00" + values.Get(name)
	}
	for name, all := range values {
		switch {
		case !allowed[name]:
			f.add("query:"+escapePointer(name), "unknown parameter")
		case len(all) > 1:
			f.add("query:"+name, "must be given once")
		}
	}
	if text := values.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > mostLimit {
			f.add("query:limit", "must be from 1 to %d", mostLimit)
		}
		l.limit = n
	}
	var ok bool
	if l.cursor, ok = a.cursors.open(l.scope, values.Get("cursor")); !ok {
		f.add("query:cursor", "must be the next_cursor of the same list")
	}
	if p := f.problem(); p != nil {
		return l, nil, p
	}
	return l, values, nil
}

// roomList is a page of rooms, newest first.
type roomList struct {
	Rooms      []roomView `json:"rooms"`
	NextCursor string     `json:"next_cursor,omitempty"`
}

// listRooms is GET /v1/rooms. A page may be short, even empty, and still have a
// next_cursor, when a filter leaves little.
func (a *API) listRooms(c *call) error {
	q, values, err := a.listQuery(c, "rooms", "state", "external_id")
	if err != nil {
		return err
	}
	state := lifecycle.State(values.Get("state"))
	if state != "" && !knownState(state) {
		return problem(codeInvalidRequest, "The fields listed in errors are not as they must be.",
			FieldError{"query:state", "must be requested, starting, live, draining, ended or failed"})
	}
	keep := func(l *control.Listed) bool {
		return values.Get("external_id") == "" || l.ExternalID == values.Get("external_id")
	}
	list := roomList{Rooms: []roomView{}}
	for range scanPages {
		page, err := a.cfg.Store.Query(c.r.Context(), control.TenantPK(c.tenant), control.ListedPrefix,
			store.QueryOptions{Cursor: q.cursor, Limit: q.limit - len(list.Rooms), Descending: true})
		if err != nil {
			return fmt.Errorf("list rooms: %w", err)
		}
		if err := a.addRooms(c.r.Context(), &list, page.Items, state, keep); err != nil {
			return err
		}
		q.cursor = page.Next
		if q.cursor == "" || len(list.Rooms) == q.limit {
			break
		}
	}
	list.NextCursor = a.cursors.seal(q.scope, q.cursor)
	a.linkNext(c, values, list.NextCursor)
	return c.json(http.StatusOK, list)
}

// addRooms loads the listed rooms that pass the filters.
func (a *API) addRooms(ctx context.Context, list *roomList, items []store.Item, state lifecycle.State, keep func(*control.Listed) bool) error {
	for _, it := range items {
		l, err := control.Decode[control.Listed](it)
		if err != nil {
			return err
		}
		if !keep(l) {
			continue
		}
		r, err := a.cfg.Life.Get(ctx, l.Room)
		if errors.Is(err, life.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if state == "" || r.State == state {
			list.Rooms = append(list.Rooms, a.view(&r))
		}
	}
	return nil
}

// linkNext says where the next page is (RFC 8288).
func (a *API) linkNext(c *call, values url.Values, cursor string) {
	if cursor == "" {
		return
	}
	values.Set("cursor", cursor)
	c.w.Header().Set("Link", "<"+c.r.URL.Path+"?"+values.Encode()+`>; rel="next"`)
}

func knownState(s lifecycle.State) bool {
	switch s {
	case lifecycle.Requested, lifecycle.Starting, lifecycle.Live, lifecycle.Draining, lifecycle.Ended, lifecycle.Failed:
		return true
	}
	return false
}
