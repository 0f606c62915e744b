package api

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"

	"mayfly/functions/control"
	"mayfly/functions/control/life"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
)

// partForm is how participant ids look.
var partForm = regexp.MustCompile(`^p_[0-9A-HJKMNP-TV-Z]{26}$`)

func errNoParticipant() *Problem { return problem(codeNotFound, "No such participant.") }

// getParticipant is GET /v1/rooms/{id}/participants/{pid}.
func (a *API) getParticipant(c *call) error {
	room, err := a.room(c)
	if err != nil {
		return err
	}
	pid := c.r.PathValue("pid")
	if !partForm.MatchString(pid) {
		return errNoParticipant()
	}
	p, err := control.Load[control.Participant](c.r.Context(), a.cfg.Store, control.PartKey(room.ID, pid))
	if errors.Is(err, store.ErrNotFound) {
		return errNoParticipant()
	}
	if err != nil {
		return fmt.Errorf("load participant: %w", err)
	}
	return a.answerParticipant(c, http.StatusOK, room, p)
}

func (a *API) answerParticipant(c *call, status int, room *control.Room, p *control.Participant) error {
	v, err := a.participant(c.r.Context(), room, p)
	if err != nil {
		return err
	}
	return c.json(status, v)
}

// moderationRequest is the body of PATCH /v1/rooms/{id}/participants/{pid}.
type moderationRequest struct {
	Muted  map[string]bool `json:"muted,omitempty"` // by kind; a kind that is left out stays as it is
	Grants *grantsRequest  `json:"grants,omitempty"`
}

func (m *moderationRequest) check(f *faults) {
	for _, kind := range sortedKeys(m.Muted) {
		if !signal.KnownKind(kind) {
			f.add("/muted/"+escapePointer(kind), "must be mic, camera, screen or screen-audio")
		}
	}
	m.Grants.check(f, "/grants")
}

// patchParticipant is PATCH /v1/rooms/{id}/participants/{pid}: mutes that the room
// enforces, and other grants than the ticket's.
func (a *API) patchParticipant(c *call) error {
	var body moderationRequest
	if p := readJSON(c.r, &body); p != nil {
		return p
	}
	var f faults
	body.check(&f)
	if p := f.problem(); p != nil {
		return p
	}
	room, err := a.room(c)
	if err != nil {
		return err
	}
	change := life.Moderation{Muted: body.Muted}
	if body.Grants != nil {
		g := hears(body.Grants.grants(), room.Media)
		change.Grants = &g
	}
	if !partForm.MatchString(c.r.PathValue("pid")) {
		return errNoParticipant()
	}
	now, p, err := a.cfg.Life.Moderate(c.r.Context(), room.ID, c.r.PathValue("pid"), change)
	if err != nil {
		return err
	}
	return a.answerParticipant(c, http.StatusOK, &now, p)
}

// ejectParticipant is DELETE /v1/rooms/{id}/participants/{pid}. It may be repeated.
func (a *API) ejectParticipant(c *call) error {
	var f faults
	ban := c.r.URL.Query().Get("ban")
	if known(c.r.URL.Query(), &f, "ban"); !slices.Contains([]string{"", "true", "false"}, ban) {
		f.add("query:ban", "must be true or false")
	}
	if p := f.problem(); p != nil {
		return p
	}
	room, err := a.room(c)
	if err != nil {
		return err
	}
	if !partForm.MatchString(c.r.PathValue("pid")) {
		return errNoParticipant()
	}
	now, p, err := a.cfg.Life.Eject(c.r.Context(), room.ID, c.r.PathValue("pid"), ban != "false")
	if err != nil {
		return err
	}
	return a.answerParticipant(c, http.StatusAccepted, &now, p)
}

// banView is an identity that the room does not let in.
type banView struct {
	Identity string `json:"identity"`
	BannedAt string `json:"banned_at"`
}

type banList struct {
	Bans       []banView `json:"bans"`
	NextCursor string    `json:"next_cursor,omitempty"`
}

// banRequest is the body of POST /v1/rooms/{id}/bans.
type banRequest struct {
	Identity string `json:"identity"`
}

// listBans is GET /v1/rooms/{id}/bans.
func (a *API) listBans(c *call) error {
	room, err := a.room(c)
	if err != nil {
		return err
	}
	q, values, err := a.listQuery(c, "bans\x00"+room.ID)
	if err != nil {
		return err
	}
	page, err := a.cfg.Store.Query(c.r.Context(), control.RoomPK(room.ID), control.BanPrefix,
		store.QueryOptions{Cursor: q.cursor, Limit: q.limit})
	if err != nil {
		return fmt.Errorf("list bans: %w", err)
	}
	list := banList{Bans: []banView{}, NextCursor: a.cursors.seal(q.scope, page.Next)}
	for _, it := range page.Items {
		b, err := control.Decode[control.Ban](it)
		if err != nil {
			return err
		}
		list.Bans = append(list.Bans, banView{b.Identity, stamp(b.AtMS)})
	}
	a.linkNext(c, values, list.NextCursor)
	return c.json(http.StatusOK, list)
}

// createBan is POST /v1/rooms/{id}/bans: refuses an identity that may not have come
// yet, and ejects who is in by it. It may be repeated.
func (a *API) createBan(c *call) error {
	var body banRequest
	if p := readJSON(c.r, &body); p != nil {
		return p
	}
	var f faults
	checkText(&f, "/identity", body.Identity, 1, maxIDBytes)
	if p := f.problem(); p != nil {
		return p
	}
	room, err := a.room(c)
	if err != nil {
		return err
	}
	if _, err := a.cfg.Life.Ban(c.r.Context(), room.ID, body.Identity); err != nil {
		return err
	}
	b, err := control.Load[control.Ban](c.r.Context(), a.cfg.Store, control.BanKey(room.ID, body.Identity))
	if err != nil {
		return fmt.Errorf("load ban: %w", err)
	}
	return c.json(http.StatusCreated, banView{b.Identity, stamp(b.AtMS)})
}

// deleteBan is DELETE /v1/rooms/{id}/bans?identity=…: new tickets of the identity are
// taken again. The participations that were ended stay so.
func (a *API) deleteBan(c *call) error {
	var f faults
	identity := known(c.r.URL.Query(), &f, "identity").Get("identity")
	checkText(&f, "query:identity", identity, 1, maxIDBytes)
	if p := f.problem(); p != nil {
		return p
	}
	room, err := a.room(c)
	if err != nil {
		return err
	}
	err = control.Retry{}.Do(c.r.Context(), func() error {
		b, err := control.Load[control.Ban](c.r.Context(), a.cfg.Store, control.BanKey(room.ID, identity))
		if errors.Is(err, store.ErrNotFound) {
			return problem(codeNotFound, "No such ban.")
		}
		if err != nil {
			return fmt.Errorf("load ban: %w", err)
		}
		return a.cfg.Store.Commit(c.r.Context(), control.Remove(b))
	})
	if err != nil {
		return err
	}
	return c.none()
}

// pending says whether the room's task has not carried the participant's last order out.
func pending(r *control.Room, p *control.Participant) bool {
	return p.OrderRev > r.OrderAck && r.State == lifecycle.Live
}
