package api

import (
	"encoding/json"
	"errors"
	"net/http"

	"mayfly/functions/control/life"
)

// amendRequest is the body of PATCH /v1/rooms/{id}. A field that is left out stays as
// it is.
type amendRequest struct {
	MaxParticipants *int            `json:"max_participants,omitempty"`
	UnusedTimeoutS  *int            `json:"unused_timeout_s,omitempty"`
	EmptyTimeoutS   *int            `json:"empty_timeout_s,omitempty"`
	MaxDurationS    *int            `json:"max_duration_s,omitempty"` // from the room's creation
	Metadata        json.RawMessage `json:"metadata,omitempty"`       // replaced as a whole
}

// patchRoom is PATCH /v1/rooms/{id}.
func (a *API) patchRoom(c *call) error {
	var body amendRequest
	if p := readJSON(c.r, &body); p != nil {
		return p
	}
	var f faults
	boundParticipants.check(body.MaxParticipants, "/max_participants", &f)
	boundUnused.check(body.UnusedTimeoutS, "/unused_timeout_s", &f)
	boundEmpty.check(body.EmptyTimeoutS, "/empty_timeout_s", &f)
	boundDuration.check(body.MaxDurationS, "/max_duration_s", &f)
	checkMetadata(&f, body.Metadata)
	if p := f.problem(); p != nil {
		return p
	}
	room, err := a.room(c)
	if err != nil {
		return err
	}
	now, err := a.cfg.Life.Amend(c.r.Context(), room.ID, life.Amend{
		MaxParticipants: body.MaxParticipants, UnusedTimeoutS: body.UnusedTimeoutS,
		EmptyTimeoutS: body.EmptyTimeoutS, MaxDurationS: body.MaxDurationS, Metadata: body.Metadata,
	})
	if errors.Is(err, life.ErrEndsBefore) {
		f.add("/max_duration_s", "must not have passed already")
		return f.problem()
	}
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, a.view(&now))
}
