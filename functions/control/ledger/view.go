package ledger

import (
	"context"

	"mayfly/functions/control"
	"mayfly/functions/control/price"
	"mayfly/shared/usage"
)

// View is the answer of GET /v1/rooms/{id}/usage. Times are Unix milliseconds.
// Of an open record, totals and bill are so far. Participants and Bill are nil
// where they were not asked for.
type View struct {
	RecordVersion int                  `json:"record_version"` // of this shape
	Room          string               `json:"room"`
	Tenant        string               `json:"tenant"`
	ExternalID    string               `json:"external_id,omitempty"`
	Region        string               `json:"region,omitempty"`
	Tags          map[string]string    `json:"tags,omitempty"`
	Status        string               `json:"status"` // open or closed
	OpenedMS      int64                `json:"opened_ms"`
	EndedMS       int64                `json:"ended_ms,omitempty"`
	ClosedMS      int64                `json:"closed_ms,omitempty"`
	Quality       string               `json:"quality"`
	Totals        control.LedgerTotals `json:"totals"`
	Epochs        []EpochView          `json:"epochs"`
	Participants  []ParticipantView    `json:"participants,omitempty"`
	Bill          *price.Bill          `json:"bill,omitempty"`
	Hash          string               `json:"hash,omitempty"`
	Corrections   []CorrectionView     `json:"corrections,omitempty"` // to be added to totals and bill
}

const recordVersion = 2

// Statuses of a record.
const (
	StatusOpen   = "open"
	StatusClosed = "closed"
)

// EpochView is one task's part.
type EpochView struct {
	RecordID           string       `json:"record_id"` // "<room>#<epoch>"
	Epoch              int          `json:"epoch"`
	Task               string       `json:"task_arn,omitempty"`
	ImageDigest        string       `json:"image_digest,omitempty"`
	AZ                 string       `json:"az,omitempty"`
	Arch               string       `json:"arch,omitempty"`
	Capacity           string       `json:"capacity_provider,omitempty"`
	CPUUnits           int64        `json:"cpu_units,omitempty"`
	MemoryMiB          int64        `json:"memory_mib,omitempty"`
	StorageGiB         int64        `json:"storage_gib,omitempty"`
	AskedMS            int64        `json:"asked_ms"`
	AcceptedMS         int64        `json:"accepted_ms,omitempty"`
	CreatedMS          int64        `json:"created_ms,omitempty"`
	ConnectivityMS     int64        `json:"connectivity_ms,omitempty"`
	PullStartedMS      int64        `json:"pull_started_ms,omitempty"`
	PullStoppedMS      int64        `json:"pull_stopped_ms,omitempty"`
	StartedMS          int64        `json:"started_ms,omitempty"`
	StoppingMS         int64        `json:"stopping_ms,omitempty"`
	ExecutionStoppedMS int64        `json:"execution_stopped_ms,omitempty"`
	StoppedMS          int64        `json:"stopped_ms,omitempty"`
	Stopped            bool         `json:"stopped"`
	StoppedFrom        string       `json:"stopped_from,omitempty"` // provenance: ecs_event, ecs_describe, reconciler
	StopCode           string       `json:"stop_code,omitempty"`
	StoppedReason      string       `json:"stopped_reason,omitempty"`
	ExitCode           *int         `json:"exit_code,omitempty"`
	ClaimedMS          int64        `json:"claimed_ms,omitempty"` // a standby task's: the times below count from then
	TaskMSRaw          int64        `json:"task_ms_raw"`
	TaskSBillable      int64        `json:"task_s_billable"`
	PublicIPv4MS       int64        `json:"public_ipv4_ms"`
	ParticipantMS      int64        `json:"participant_ms"`
	AudioOnlyMS        int64        `json:"audio_only_ms"`
	BytesIn            usage.Bytes  `json:"bytes_in"`
	BytesOut           usage.Bytes  `json:"bytes_out"`
	MessagesIn         int64        `json:"messages_in"`
	MessagesOut        int64        `json:"messages_out"`
	CountsFrom         string       `json:"counts_from,omitempty"` // provenance: heartbeat, final_report
	Unattributed       Unattributed `json:"unattributed"`          // the part of these that no session holds
	Fields             []Field      `json:"fields"`
	Quality            string       `json:"quality"`
}

// Field says where a group of figures comes from, and how good it is. BoundMS is
// how far a bounded figure may be off, in time; of bytes, how long they may have
// gone on uncounted.
type Field struct {
	Names   string `json:"names"`
	From    string `json:"from"`
	Quality string `json:"quality"`
	BoundMS int64  `json:"bound_ms,omitempty"`
}

// ParticipantView is one participation.
type ParticipantView struct {
	Session      string      `json:"session_id"`
	Participant  string      `json:"participant_id"`
	IdentityHash string      `json:"identity_hash,omitempty"`
	Role         string      `json:"role,omitempty"`
	Epoch        int         `json:"epoch"`
	AdmittedMS   int64       `json:"admitted_ms,omitempty"`
	JoinedMS     int64       `json:"joined_ms"`
	LeftMS       int64       `json:"left_ms,omitempty"`
	MS           int64       `json:"ms"` // connected
	AudioOnlyMS  int64       `json:"audio_only_ms"`
	LeaveReason  string      `json:"leave_reason,omitempty"`
	Transport    string      `json:"transport,omitempty"`
	BytesIn      usage.Bytes `json:"bytes_in"`
	BytesOut     usage.Bytes `json:"bytes_out"`
	From         string      `json:"from"`    // heartbeat or final_report, or join if no report ever told of it
	Quality      string      `json:"quality"` // exact or bounded
	Bounded      bool        `json:"bounded,omitempty"`
	BoundMS      int64       `json:"bound_ms,omitempty"`
}

// CorrectionView is one correction of a closed record: differences.
type CorrectionView struct {
	N            int                  `json:"n"`
	AtMS         int64                `json:"at_ms"`
	Epoch        int                  `json:"epoch"`
	From         string               `json:"from"`
	Totals       control.LedgerTotals `json:"totals"`
	Cost         []price.Line         `json:"cost"`
	Price        []price.Line         `json:"price"`
	CostNanoUSD  int64                `json:"cost_nano_usd"`
	PriceNanoUSD int64                `json:"price_nano_usd"`
	PrevHash     string               `json:"prev_hash"`
	Hash         string               `json:"hash"`
}

// Include says what a view holds besides totals and epochs.
type Include struct{ Participants, Costs bool }

// View reads a room's record, open or closed. store.ErrNotFound passes through.
func (g *Ledger) View(ctx context.Context, room string, with Include) (View, error) {
	r, err := g.record(ctx, room)
	if err != nil {
		return View{}, err
	}
	l := r.ledger
	v := View{
		RecordVersion: recordVersion, Room: room, Tenant: l.Tenant, ExternalID: r.room.ExternalID, Region: r.room.Region,
		Tags: r.room.Tags, Status: StatusOpen, OpenedMS: l.OpenedMS, EndedMS: r.room.EndedMS, ClosedMS: l.ClosedMS,
		Hash: l.Hash, Epochs: make([]EpochView, 0, len(r.epochs)),
	}
	if l.ClosedMS != 0 {
		v.Status, v.Totals, v.Quality, v.Bill = StatusClosed, l.Totals, l.Quality, l.Bill
		if v.Corrections, err = g.corrections(ctx, room); err != nil {
			return View{}, err
		}
	} else {
		var bill price.Bill
		if v.Totals, v.Quality, bill, err = g.bill(ctx, r); err != nil {
			return View{}, err
		}
		v.Bill = &bill
	}
	if !with.Costs {
		v.Bill = nil
	}
	for _, e := range r.epochs {
		v.Epochs = append(v.Epochs, r.viewEpoch(e))
	}
	if with.Participants {
		v.Participants = r.viewParticipants()
	}
	return v, nil
}

func (g *Ledger) corrections(ctx context.Context, room string) ([]CorrectionView, error) {
	all, err := control.LoadAll[control.Correction](ctx, g.Store, control.RoomPK(room), control.CorrectionPrefix)
	if err != nil {
		return nil, err
	}
	var out []CorrectionView
	for _, c := range all {
		out = append(out, CorrectionView{
			N: c.N, AtMS: c.AtMS, Epoch: c.Epoch, From: c.From, Totals: c.Totals, Cost: c.Cost, Price: c.Price,
			CostNanoUSD: c.CostNano, PriceNanoUSD: c.PriceN, PrevHash: c.PrevHash, Hash: c.Hash,
		})
	}
	return out, nil
}

// viewParticipants lists the sessions that were taken, or may yet be.
func (r *record) viewParticipants() []ParticipantView {
	out := make([]ParticipantView, 0, len(r.sessions))
	final := map[int]bool{}
	for _, e := range r.epochs {
		final[e.Epoch] = e.Final
	}
	for _, s := range r.sessions {
		if s.NotTaken || s.Seq == 0 && s.LeftMS == 0 {
			continue
		}
		p := ParticipantView{
			Session: s.ID, Participant: s.Participant, IdentityHash: s.IdentityHash, Role: s.Role, Epoch: s.Epoch,
			AdmittedMS: s.AdmittedMS, JoinedMS: s.JoinedMS, LeftMS: s.LeftMS, MS: s.ParticipantMS, AudioOnlyMS: s.AudioOnlyMS,
			LeaveReason: s.LeaveReason, Transport: s.Transport, BytesIn: s.BytesIn, BytesOut: s.BytesOut,
			From: control.FromHeartbeat, Quality: control.QualityExact, Bounded: s.Bounded,
		}
		switch {
		case s.Seq == 0:
			p.From = control.FromJoin
		case final[s.Epoch]:
			p.From = control.FromFinal
		}
		if s.Bounded {
			p.Quality, p.BoundMS = control.QualityBounded, afterHeartbeatMS
		}
		out = append(out, p)
	}
	return out
}

func (r *record) viewEpoch(e *control.Epoch) EpochView {
	ms, t, c := taskMS(e), e.Task, r.counts(e)
	cpu, memory := size(e)
	v := EpochView{
		RecordID: r.ledger.Room + "#" + itoa(e.Epoch),
		Epoch:    e.Epoch, Task: t.ARN, ImageDigest: t.ImageDigest, AZ: t.AZ, Arch: t.Arch, Capacity: t.Capacity,
		CPUUnits: cpu, MemoryMiB: memory, StorageGiB: t.StorageGiB,
		AskedMS: e.AskedMS, AcceptedMS: e.AcceptedMS, CreatedMS: t.CreatedMS, ConnectivityMS: t.ConnectedMS,
		PullStartedMS: t.PullStartedMS, PullStoppedMS: t.PullStoppedMS, StartedMS: t.StartedMS,
		StoppingMS: t.StoppingMS, ExecutionStoppedMS: t.ExecStoppedMS, StoppedMS: t.StoppedMS,
		Stopped: e.Stopped, StoppedFrom: e.StoppedFrom, StopCode: t.StopCode, StoppedReason: t.StoppedReason, ExitCode: t.ExitCode,
		TaskMSRaw: ms, TaskSBillable: taskS(e), ClaimedMS: e.ClaimedMS, PublicIPv4MS: ms,
		ParticipantMS: c.participantMS, AudioOnlyMS: c.audioOnlyMS, BytesIn: c.bytesIn, BytesOut: c.bytesOut,
		MessagesIn: e.Totals.MessagesIn, MessagesOut: e.Totals.MessagesOut, Unattributed: c.rest,
		Fields: fields(e), Quality: quality(e),
	}
	switch {
	case e.Final:
		v.CountsFrom = control.FromFinal
	case e.ReportSeq > 0:
		v.CountsFrom = control.FromHeartbeat
	}
	return v
}

// fields tell the provenance of an epoch's figures.
func fields(e *control.Epoch) []Field {
	out := []Field{}
	if e.Stopped {
		f := Field{Names: "task_ms_raw, task_s_billable, public_ipv4_ms", From: e.StoppedFrom, Quality: control.QualityExact}
		if e.StoppedFrom == control.FromSweep && e.Task.ARN != "" {
			f.Quality, f.BoundMS = control.QualityBounded, afterHeartbeatMS
		}
		out = append(out, f)
	}
	if e.ReportSeq == 0 && !e.Bounded {
		return out
	}
	times := Field{Names: "participant_ms, audio_only_ms", From: control.FromHeartbeat, Quality: control.QualityExact}
	sent := Field{Names: "bytes_in, bytes_out, messages_in, messages_out", From: control.FromHeartbeat, Quality: control.QualityExact}
	switch {
	case e.Final:
		times.From, sent.From = control.FromFinal, control.FromFinal
	case e.ReportSeq == 0:
		times.From, sent.From = control.FromJoin, control.FromJoin
	}
	if e.Bounded {
		times.Quality, times.BoundMS = control.QualityBounded, afterHeartbeatMS
	}
	if quality(e) == control.QualityBounded && !e.Final {
		sent.Quality, sent.BoundMS = control.QualityBounded, afterHeartbeatMS
	}
	return append(out, times, sent)
}
