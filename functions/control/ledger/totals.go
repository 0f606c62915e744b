package ledger

import (
	"context"
	"strconv"

	"mayfly/functions/control"
	"mayfly/functions/control/price"
	"mayfly/shared/usage"
)

// record is everything that a room's sums are made of, as it was loaded. It lives
// for one call.
type record struct {
	room     *control.Room
	ledger   *control.Ledger
	epochs   []*control.Epoch
	sessions []*control.Session
	wires    []*control.Wire
}

func (g *Ledger) record(ctx context.Context, room string) (*record, error) {
	r := &record{}
	var err error
	if r.ledger, err = control.Load[control.Ledger](ctx, g.Store, control.LedgerKey(room)); err != nil {
		return nil, err
	}
	if r.room, err = control.Load[control.Room](ctx, g.Store, control.RoomKey(room)); err != nil {
		return nil, err
	}
	pk := control.RoomPK(room)
	if r.epochs, err = control.LoadAll[control.Epoch](ctx, g.Store, pk, control.EpochPrefix); err != nil {
		return nil, err
	}
	if r.sessions, err = control.LoadAll[control.Session](ctx, g.Store, pk, control.SessionPrefix); err != nil {
		return nil, err
	}
	r.wires, err = control.LoadAll[control.Wire](ctx, g.Store, pk, control.WirePrefix)
	return r, err
}

// Unattributed is what a task's totals count beyond its sessions' own figures: a
// report carries at most so many sessions, and a task may be killed before the
// rest of them went out. It is billed to the room, and to no participant.
type Unattributed struct {
	ParticipantMS int64       `json:"participant_ms"`
	AudioOnlyMS   int64       `json:"audio_only_ms"`
	BytesIn       usage.Bytes `json:"bytes_in"`
	BytesOut      usage.Bytes `json:"bytes_out"`
}

// counts are the sums of one epoch: its sessions and the unattributed rest.
type counts struct {
	participantMS, audioOnlyMS, sessions int64
	bytesIn, bytesOut                    usage.Bytes
	egress                               control.Egress
	rest                                 Unattributed
}

func (r *record) counts(e *control.Epoch) counts {
	var c counts
	var told Unattributed // the sessions' part of e.Totals
	for _, s := range r.sessions {
		if s.Epoch != e.Epoch || s.NotTaken || s.Seq == 0 && s.LeftMS == 0 {
			continue
		}
		c.sessions++
		c.participantMS += s.ParticipantMS
		c.audioOnlyMS += s.AudioOnlyMS
		c.bytesIn, c.bytesOut = c.bytesIn.Add(s.BytesIn), c.bytesOut.Add(s.BytesOut)
		c.egress.Count(s.Transport, s.BytesOut.Total)
		told.ParticipantMS += s.ParticipantMS - s.ExtraMS
	}
	told.AudioOnlyMS, told.BytesIn, told.BytesOut = c.audioOnlyMS, c.bytesIn, c.bytesOut
	t := e.Totals
	c.rest = Unattributed{
		ParticipantMS: max(0, t.ParticipantMS-told.ParticipantMS), AudioOnlyMS: max(0, t.AudioOnlyMS-told.AudioOnlyMS),
		BytesIn: beyond(t.BytesIn, told.BytesIn), BytesOut: beyond(t.BytesOut, told.BytesOut),
	}
	c.participantMS += c.rest.ParticipantMS
	c.audioOnlyMS += c.rest.AudioOnlyMS
	c.sessions = max(c.sessions, t.Sessions)
	c.bytesIn, c.bytesOut = c.bytesIn.Add(c.rest.BytesIn), c.bytesOut.Add(c.rest.BytesOut)
	c.egress.Unknown += c.rest.BytesOut.Total
	return c
}

// beyond is a − b, each part at least 0.
func beyond(a, b usage.Bytes) usage.Bytes {
	return a.Zip(b, func(x, y int64) int64 { return max(0, x-y) })
}

// totals adds up the room.
func (r *record) totals() (t control.LedgerTotals, q string) {
	q = control.QualityExact
	for _, e := range r.epochs {
		c := r.counts(e)
		t.ParticipantMS += c.participantMS
		t.AudioOnlyMS += c.audioOnlyMS
		t.Sessions += c.sessions
		t.PeakParticipants = max(t.PeakParticipants, e.Totals.PeakParticipants)
		t.BytesIn, t.BytesOut = t.BytesIn.Add(c.bytesIn), t.BytesOut.Add(c.bytesOut)
		t.Egress = addEgress(t.Egress, c.egress)
		t.MessagesIn += e.Totals.MessagesIn
		t.MessagesOut += e.Totals.MessagesOut
		seconds := taskS(e)
		t.TaskMSRaw += taskMS(e)
		t.TaskSBillable += seconds
		cpu, memory := size(e)
		t.CPUUnitS += cpu * seconds
		t.MemoryMiBS += memory * seconds
		if quality(e) == control.QualityBounded || c.rest != (Unattributed{}) {
			q = control.QualityBounded
		}
	}
	for _, w := range r.wires {
		t.ConnectionMS += wireMS(w, r.room.EndedMS)
	}
	return t, q
}

func addEgress(a, b control.Egress) control.Egress {
	return control.Egress{
		UDP: a.UDP + b.UDP, TCP: a.TCP + b.TCP, TURNUDP: a.TURNUDP + b.TURNUDP,
		TURNTCP: a.TURNTCP + b.TURNTCP, TURNTLS: a.TURNTLS + b.TURNTLS, Unknown: a.Unknown + b.Unknown,
	}
}

// size is what the epoch's task has of CPU units and MiB: as ECS tells it, or else as
// it was asked for.
func size(e *control.Epoch) (cpu, memory int64) {
	cpu, _ = strconv.ParseInt(e.Task.CPU, 10, 64) // unknown is 0
	memory, _ = strconv.ParseInt(e.Task.Memory, 10, 64)
	if cpu <= 0 || memory <= 0 {
		return int64(e.Asked.CPU), int64(e.Asked.Memory)
	}
	return cpu, memory
}

// spot says whether the epoch's task runs on Spot capacity.
func spot(e *control.Epoch) bool {
	return e.Task.Capacity == "FARGATE_SPOT" || e.Task.Capacity == "" && e.Task.CPU == "" && e.Asked.Spot
}

// maxWireMS is how long the gateway lets a WebSocket live: two hours.
const maxWireMS = 2 * 60 * 60 * 1000

// wireMS is how long a WebSocket is counted: until it closed, as far as anybody was
// told, and no longer than the gateway allows, nor than the room lived. So what is
// told after the close of the record changes nothing.
func wireMS(w *control.Wire, endedMS int64) int64 {
	end := w.OpenedMS + maxWireMS
	if w.ClosedMS != 0 {
		end = min(end, w.ClosedMS)
	}
	if endedMS != 0 {
		end = min(end, endedMS)
	} else if w.ClosedMS == 0 {
		return 0 // it is open, and is counted when it or the room ends
	}
	return max(0, end-w.OpenedMS)
}

// used is the usage that prices depend on.
func (r *record) used(t control.LedgerTotals) price.Usage {
	u := price.Usage{
		Egress: t.Egress.Lines(), Messages: t.MessagesIn + t.MessagesOut, ConnectionMS: t.ConnectionMS,
		ParticipantMS: t.ParticipantMS, AudioOnlyMS: t.AudioOnlyMS,
	}
	for _, e := range r.epochs {
		if s := taskS(e); s > 0 {
			cpu, memory := size(e)
			u.Tasks = append(u.Tasks, price.Task{
				Arch: e.Task.Arch, Spot: spot(e), CPUUnits: cpu, MemoryMiB: memory, BillableS: s,
			})
		}
	}
	return u
}

// bill prices the room as it stands.
func (g *Ledger) bill(ctx context.Context, r *record) (t control.LedgerTotals, q string, b price.Bill, err error) {
	t, q = r.totals()
	book, err := g.Books.Of(ctx, r.room)
	if err != nil {
		return t, q, b, err
	}
	return t, q, price.Of(book, r.room.Region, r.used(t)), nil
}

func itoa(n int) string { return strconv.Itoa(n) }
