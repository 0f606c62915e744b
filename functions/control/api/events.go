package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"mayfly/functions/control"
	"mayfly/functions/control/life"
	"mayfly/functions/control/outbox"
)

// eventList is a page of the tenant's log, or of a room's events, oldest first. Each
// is exactly as webhooks have it.
type eventList struct {
	Events []json.RawMessage `json:"events"`
	// NextAfter is the after of the next call: it is always there, and the same again as
	// long as nothing new has happened.
	NextAfter uint64 `json:"next_after"`
	More      bool   `json:"more"` // there may be another page now
}

// eventsOf reads the page of the log, or of a room of the tenant, that is asked for.
func (a *API) eventsOf(ctx context.Context, tenant, room string, after uint64, limit int) ([]*control.Logged, error) {
	if room == "" {
		return outbox.Read(ctx, a.cfg.Store, tenant, after, limit)
	}
	if !roomForm.MatchString(room) {
		return nil, life.ErrNotFound
	}
	r, err := a.cfg.Life.Get(ctx, room)
	if err != nil {
		return nil, err
	}
	if r.Tenant != tenant {
		return nil, life.ErrNotFound
	}
	return outbox.ReadRoom(ctx, a.cfg.Store, room, after, limit)
}

// listEvents is GET /v1/events?after=&room=&limit=. after is the position of the last
// event that the caller has; with room it is the last seq of that room.
func (a *API) listEvents(c *call) error {
	var f faults
	values := c.r.URL.Query()
	for name, all := range values {
		switch {
		case name != "after" && name != "room" && name != "limit":
			f.add("query:"+escapePointer(name), "unknown parameter")
		case len(all) > 1:
			f.add("query:"+name, "must be given once")
		}
	}
	limit := standardLimit
	if text := values.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > mostLimit {
			f.add("query:limit", "must be from 1 to %d", mostLimit)
		}
		limit = n
	}
	var after uint64
	if text := values.Get("after"); text != "" {
		var err error
		// As many digits as a storage key holds.
		if after, err = strconv.ParseUint(text, 10, 64); err != nil || after >= 1e12 {
			f.add("query:after", "must be the next_after of an earlier answer, or 0")
		}
	}
	if p := f.problem(); p != nil {
		return p
	}
	room := values.Get("room")
	list, err := a.eventsOf(c.r.Context(), c.tenant, room, after, limit)
	if err != nil {
		return err
	}
	out := eventList{Events: []json.RawMessage{}, NextAfter: after, More: len(list) == limit}
	for _, l := range list {
		body, err := outbox.Envelope(l)
		if err != nil {
			return err
		}
		out.Events = append(out.Events, body)
		out.NextAfter = l.Position
		if room != "" {
			out.NextAfter = l.Seq
		}
	}
	return c.json(http.StatusOK, out)
}
