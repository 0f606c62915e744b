package api

import (
	"encoding/json"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/control/budget"
	"mayfly/shared/lifecycle"
)

// roomView is a room as products see it. Times are RFC 3339 in UTC.
type roomView struct {
	ID           string            `json:"id"`
	State        lifecycle.State   `json:"state"`
	Phase        string            `json:"phase"`
	PhaseSince   string            `json:"phase_since"`
	Reason       string            `json:"reason,omitempty"` // why it drains, ended or failed
	Epoch        int               `json:"epoch"`
	ExternalID   string            `json:"external_id,omitempty"`
	Region       string            `json:"region"`
	Limits       limitsView        `json:"limits"`
	Task         taskView          `json:"task"`
	Budget       *budgetView       `json:"budget,omitempty"`
	E2EE         bool              `json:"e2ee,omitempty"`
	PriceBook    string            `json:"price_book,omitempty"`
	Present      int               `json:"present"` // participants in the room, some seconds old at most
	Metadata     json.RawMessage   `json:"metadata,omitempty"`
	Tags         map[string]string `json:"tags,omitempty"`
	CreatedAt    string            `json:"created_at"`
	LiveAt       string            `json:"live_at,omitempty"` // first time
	EndedAt      string            `json:"ended_at,omitempty"`
	EndsAt       string            `json:"ends_at"` // at the latest
	SignalURL    string            `json:"signalling_url"`
	UsageURL     string            `json:"usage_url"`
	Participants []inviteView      `json:"participants,omitempty"` // of the answer to create
	RequestID    string            `json:"request_id,omitempty"`
}

type limitsView struct {
	MaxParticipants int `json:"max_participants"`
	UnusedTimeoutS  int `json:"unused_timeout_s"`
	EmptyTimeoutS   int `json:"empty_timeout_s"`
	MaxDurationS    int `json:"max_duration_s"`
	StartDeadlineS  int `json:"start_deadline_s"`
}

// budgetView are the room's caps, and how near it has come to one of them.
type budgetView struct {
	ParticipantMinutes int64  `json:"participant_minutes,omitempty"`
	EgressBytes        int64  `json:"egress_bytes,omitempty"`
	NanoUSD            int64  `json:"nano_usd,omitempty"`
	Near               string `json:"near,omitempty"` // near (80 %), last (95 %) or over
}

func budgetOf(r *control.Room) *budgetView {
	if r.Caps == (budget.Amounts{}) {
		return nil
	}
	return &budgetView{r.Caps.ParticipantMS / 60_000, r.Caps.EgressBytes, r.Caps.NanoUSD, r.Near.String()}
}

// inviteView hands out one ticket.
type inviteView struct {
	Identity    string `json:"identity"`
	Participant string `json:"participant_id"`
	Ticket      string `json:"ticket"`
	ExpiresAt   string `json:"expires_at"`
	CallURL     string `json:"call_url"`
}

// view shows the room as it is.
func (a *API) view(r *control.Room) roomView {
	return roomView{
		ID: r.ID, State: r.State, Phase: r.Phase, PhaseSince: stamp(r.PhaseMS), Reason: r.Reason, Epoch: r.Epoch,
		ExternalID: r.ExternalID, Region: r.Region, Limits: limitsOf(r),
		Task: taskOf(r), Budget: budgetOf(r), E2EE: r.E2EE, PriceBook: r.PriceBook, Present: r.Present,
		Metadata: r.Metadata, Tags: r.Tags,
		CreatedAt: stamp(r.CreatedMS), LiveAt: stamp(r.FirstLiveMS), EndedAt: stamp(r.EndedMS), EndsAt: stamp(r.EndsAtMS),
		SignalURL: a.cfg.SignallingURL, UsageURL: a.cfg.PublicURL + "/v1/rooms/" + r.ID + "/usage",
	}
}

// createdView shows the room as it was committed. The answer to create must be the
// same for every repeat of an Idempotency-Key, however far the room has come since.
func (a *API) createdView(r *control.Room) roomView {
	v := a.view(r)
	v.State, v.Phase, v.PhaseSince, v.Reason = lifecycle.Requested, lifecycle.PhaseRequested, stamp(r.CreatedMS), ""
	v.Epoch, v.Present, v.LiveAt, v.EndedAt = 0, 0, "", ""
	if v.Budget != nil {
		v.Budget.Near = ""
	}
	return v
}

func limitsOf(r *control.Room) limitsView {
	l, start := r.Limits, int(r.QueueMS/1000)
	if start == 0 {
		start = boundStart.standard
	}
	return limitsView{l.MaxParticipants, l.UnusedTimeoutS, l.EmptyTimeoutS, l.MaxDurationS, start}
}

// stamp writes Unix milliseconds as RFC 3339; 0 is "".
func stamp(ms int64) string {
	if ms == 0 {
		return ""
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}
