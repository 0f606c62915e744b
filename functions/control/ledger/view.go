package ledger

import (
	"context"

	"mayfly/functions/control"
	"mayfly/shared/usage"
)

// View is the answer of GET /v1/rooms/{id}/usage. Times are Unix milliseconds.
type View struct {
	Room         string               `json:"room"`
	ExternalID   string               `json:"external_id,omitempty"`
	Status       string               `json:"status"` // open or closed; open figures are so far
	OpenedMS     int64                `json:"opened_ms"`
	ClosedMS     int64                `json:"closed_ms,omitempty"`
	Quality      string               `json:"quality"`
	Totals       control.LedgerTotals `json:"totals"`
	Epochs       []EpochView          `json:"epochs"`
	Participants []ParticipantView    `json:"participants"`
}

// Statuses of a record.
const (
	StatusOpen   = "open"
	StatusClosed = "closed"
)

// EpochView is one task's part.
type EpochView struct {
	Epoch         int         `json:"epoch"`
	Task          string      `json:"task_arn,omitempty"`
	ImageDigest   string      `json:"image_digest,omitempty"`
	AZ            string      `json:"az,omitempty"`
	CPU           string      `json:"cpu,omitempty"`
	Memory        string      `json:"memory,omitempty"`
	CreatedMS     int64       `json:"created_ms,omitempty"`
	PullStartedMS int64       `json:"pull_started_ms,omitempty"`
	StartedMS     int64       `json:"started_ms,omitempty"`
	StoppedMS     int64       `json:"stopped_ms,omitempty"`
	Stopped       bool        `json:"stopped"`
	StoppedFrom   string      `json:"stopped_from,omitempty"` // provenance: ecs_event, ecs_describe, reconciler
	StopCode      string      `json:"stop_code,omitempty"`
	ExitCode      *int        `json:"exit_code,omitempty"`
	TaskMSRaw     int64       `json:"task_ms_raw"`
	TaskSBillable int64       `json:"task_s_billable"`
	ParticipantMS int64       `json:"participant_ms"`
	BytesIn       usage.Bytes `json:"bytes_in"`
	BytesOut      usage.Bytes `json:"bytes_out"`
	CountsFrom    string      `json:"counts_from,omitempty"` // provenance: heartbeat or final_report
	Quality       string      `json:"quality"`
}

// ParticipantView is one participation.
type ParticipantView struct {
	Session     string      `json:"session_id"`
	Participant string      `json:"participant_id"`
	Epoch       int         `json:"epoch"`
	JoinedMS    int64       `json:"joined_ms"`
	LeftMS      int64       `json:"left_ms,omitempty"`
	MS          int64       `json:"ms"` // connected
	LeaveReason string      `json:"leave_reason,omitempty"`
	Transport   string      `json:"transport,omitempty"`
	BytesIn     usage.Bytes `json:"bytes_in"`
	BytesOut    usage.Bytes `json:"bytes_out"`
	Bounded     bool        `json:"bounded,omitempty"`
}

// View reads a room's record, open or closed. store.ErrNotFound passes through.
func (g *Ledger) View(ctx context.Context, room string) (View, error) {
	l, err := control.Load[control.Ledger](ctx, g.Store, control.LedgerKey(room))
	if err != nil {
		return View{}, err
	}
	r, err := control.Load[control.Room](ctx, g.Store, control.RoomKey(room))
	if err != nil {
		return View{}, err
	}
	epochs, err := control.LoadAll[control.Epoch](ctx, g.Store, control.RoomPK(room), control.EpochPrefix)
	if err != nil {
		return View{}, err
	}
	sessions, err := control.LoadAll[control.Session](ctx, g.Store, control.RoomPK(room), control.SessionPrefix)
	if err != nil {
		return View{}, err
	}
	v := View{
		Room: room, ExternalID: r.ExternalID, Status: StatusOpen, OpenedMS: l.OpenedMS, ClosedMS: l.ClosedMS,
		Epochs: make([]EpochView, 0, len(epochs)), Participants: make([]ParticipantView, 0, len(sessions)),
	}
	if v.Totals, v.Quality = sum(epochs); l.ClosedMS != 0 {
		v.Status, v.Totals, v.Quality = StatusClosed, l.Totals, l.Quality
	}
	for _, e := range epochs {
		v.Epochs = append(v.Epochs, viewEpoch(e))
	}
	for _, s := range sessions {
		v.Participants = append(v.Participants, ParticipantView{
			Session: s.ID, Participant: s.Participant, Epoch: s.Epoch,
			JoinedMS: s.JoinedMS, LeftMS: s.LeftMS, MS: s.ParticipantMS, LeaveReason: s.LeaveReason,
			Transport: s.Transport, BytesIn: s.BytesIn, BytesOut: s.BytesOut, Bounded: s.Bounded,
		})
	}
	return v, nil
}

func viewEpoch(e *control.Epoch) EpochView {
	ms := taskMS(e)
	v := EpochView{
		Epoch: e.Epoch, Task: e.Task.ARN, ImageDigest: e.Task.ImageDigest, AZ: e.Task.AZ,
		CPU: e.Task.CPU, Memory: e.Task.Memory, CreatedMS: e.Task.CreatedMS,
		PullStartedMS: e.Task.PullStartedMS, StartedMS: e.Task.StartedMS, StoppedMS: e.Task.StoppedMS,
		Stopped: e.Stopped, StoppedFrom: e.StoppedFrom, StopCode: e.Task.StopCode, ExitCode: e.Task.ExitCode,
		TaskMSRaw: ms, TaskSBillable: billableS(ms), ParticipantMS: e.Totals.ParticipantMS + e.ExtraMS,
		BytesIn: e.Totals.BytesIn, BytesOut: e.Totals.BytesOut, Quality: quality(e),
	}
	switch {
	case e.Final:
		v.CountsFrom = "final_report"
	case e.ReportSeq > 0:
		v.CountsFrom = "heartbeat"
	}
	return v
}
