package system

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"

	"mayfly/functions/control"
	"mayfly/functions/control/price"
	"mayfly/functions/store"
	"mayfly/infra/local/boltstore"
)

// Audited is what Audit saw.
type Audited struct {
	Rooms, Epochs, Tasks, Sessions, Bounded, Events, Corrections int
	TaskMS, ParticipantMS, BytesOut                              int64
}

// Stop ends mayfly local with SIGTERM, so that its files can be read.
func (s *System) Stop() {
	s.t.Helper()
	s.stop()
}

// Audit reads the table and the fleet's journal of a system that was stopped, and holds
// every room to them: one closed ledger, its time by ECS's own, its money by its
// quantities, its events without a gap, its sessions within their task's life.
func (s *System) Audit() (sum Audited) {
	s.t.Helper()
	st, err := boltstore.Open(filepath.Join(s.dir, "data", "table.db"), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() {
		if err := st.Close(); err != nil {
			s.t.Error(err)
		}
	}()
	a := &audit{s: s, st: st, meter: s.meter(), known: map[string]bool{}, sum: &sum}
	for shard := range control.Shards {
		for _, pk := range []string{control.DuePK(shard), control.OutboxPK(shard)} {
			page, err := st.Index(context.Background(), pk, "", store.QueryOptions{})
			if err != nil || len(page.Items) > 0 {
				s.t.Errorf("%s still holds %d items (%v)", pk, len(page.Items), err)
			}
		}
	}
	for _, l := range load[control.Listed](a, control.TenantPK("dev"), control.ListedPrefix) {
		a.room(l.Room)
	}
	for arn, t := range a.meter {
		sum.Tasks++
		if t.LastStatus != "STOPPED" || !a.known[arn] {
			s.t.Errorf("task %s of %s is %s, known to the ledger: %v", arn, t.StartedBy, t.LastStatus, a.known[arn])
		}
	}
	return sum
}

type audit struct {
	s     *System
	st    *boltstore.Store
	meter map[string]control.Task // by ARN: ECS's own word
	known map[string]bool
	sum   *Audited
}

// meter reads the fleet's journal.
func (s *System) meter() map[string]control.Task {
	data, err := os.ReadFile(filepath.Join(s.dir, "data", "tasks.json"))
	if err != nil {
		s.t.Fatal(err)
	}
	var records []struct {
		Task control.Task `json:"task"`
	}
	if err := json.Unmarshal(data, &records); err != nil {
		s.t.Fatal(err)
	}
	tasks := map[string]control.Task{}
	for _, r := range records {
		tasks[r.Task.ARN] = r.Task
	}
	return tasks
}

// load reads every entity of a partition whose sort key has the prefix.
func load[T any](a *audit, pk, prefix string) (all []*T) {
	q := store.QueryOptions{}
	for {
		page, err := a.st.Query(context.Background(), pk, prefix, q)
		if err != nil {
			a.s.t.Fatal(err)
		}
		for _, it := range page.Items {
			d := new(T)
			if err := json.Unmarshal(it.Data, d); err != nil {
				a.s.t.Fatal(err)
			}
			all = append(all, d)
		}
		if q.Cursor = page.Next; q.Cursor == "" {
			return all
		}
	}
}

// room holds one room to the meter.
func (a *audit) room(id string) {
	t, pk := a.s.t, control.RoomPK(id)
	room, l := load[control.Room](a, pk, "ROOM")[0], load[control.Ledger](a, pk, "LEDGER")[0]
	a.sum.Rooms++
	if !room.State.Final() || !room.Settled || l.ClosedMS == 0 || l.Bill == nil {
		t.Errorf("room %s rests in %s, settled %v, ledger closed at %d", id, room.State, room.Settled, l.ClosedMS)
		return
	}
	corrections := load[control.Correction](a, pk, control.CorrectionPrefix)
	a.sum.Corrections += len(corrections)
	bills := 0
	for _, day := range []int64{l.ClosedMS - 86_400_000, l.ClosedMS, l.ClosedMS + 86_400_000} {
		for _, b := range load[control.Bill](a, control.BillsPK(l.Tenant, control.Day(day)), control.BillPrefix) {
			if b.Room == id {
				bills++
			}
		}
	}
	if bills != 1+len(corrections) {
		t.Errorf("room %s has %d bills and %d corrections", id, bills, len(corrections))
	}
	billed := l.Totals.TaskMSRaw
	for _, c := range corrections {
		billed += c.Totals.TaskMSRaw
	}
	if ran := a.epochs(id, room.Epoch); ran != billed {
		t.Errorf("room %s: %d task ms billed, ECS ran it for %d", id, billed, ran)
	}
	a.sum.TaskMS, a.sum.ParticipantMS, a.sum.BytesOut = a.sum.TaskMS+billed, a.sum.ParticipantMS+l.Totals.ParticipantMS, a.sum.BytesOut+l.Totals.BytesOut.Total
	a.events(id, room.EventSeq)
	for _, line := range append(l.Bill.Cost, l.Bill.Price...) {
		if line.NanoUSD != price.Amount(line.Quantity, line.RateNanoUSD, line.RatePer) {
			t.Errorf("room %s: line %+v does not follow from its quantity", id, line)
		}
	}
}

// epochs compares a room's epochs and their sessions with ECS's word, and says how long
// ECS ran them.
func (a *audit) epochs(id string, n int) (ran int64) {
	t, epochs := a.s.t, load[control.Epoch](a, control.RoomPK(id), control.EpochPrefix)
	if len(epochs) != n {
		t.Errorf("room %s has %d epochs in its ledger, and is in its %dth", id, len(epochs), n)
	}
	var bytes, participantMS int64
	for _, e := range epochs {
		a.sum.Epochs++
		task := a.meter[e.Task.ARN]
		a.known[e.Task.ARN] = true
		if task.PullStartedMS != 0 {
			ran += task.StoppedMS - task.PullStartedMS
		}
		if !e.Stopped || e.Task.StoppedMS != task.StoppedMS || e.Task.PullStartedMS != task.PullStartedMS {
			t.Errorf("room %s epoch %d: %+v, ECS says %+v", id, e.Epoch, e.Task, task)
		}
		for _, s := range load[control.Session](a, control.RoomPK(id), control.EpochSessions(e.Epoch)) {
			if s.NotTaken {
				continue
			}
			a.sum.Sessions++
			bytes, participantMS = bytes+s.BytesOut.Total, participantMS+s.ParticipantMS
			if s.Bounded {
				a.sum.Bounded++
			}
			if s.JoinedMS < task.StartedMS || s.LeftMS < s.JoinedMS || s.LeftMS > task.StoppedMS {
				t.Errorf("room %s epoch %d: session from %d to %d, its task from %d to %d", id, e.Epoch, s.JoinedMS, s.LeftMS, task.StartedMS, task.StoppedMS)
			}
		}
	}
	l := load[control.Ledger](a, control.RoomPK(id), "LEDGER")[0]
	if len(load[control.Correction](a, control.RoomPK(id), control.CorrectionPrefix)) == 0 && (bytes > l.Totals.BytesOut.Total || participantMS > l.Totals.ParticipantMS) {
		t.Errorf("room %s: sessions of %d bytes and %d ms, totals %+v", id, bytes, participantMS, l.Totals)
	}
	return ran
}

// events: numbered from 1 without a gap, and all in the tenant's log.
func (a *audit) events(id string, last uint64) {
	events := load[control.Event](a, control.RoomPK(id), control.EventPrefix)
	closed := 0
	for i, e := range events {
		a.sum.Events++
		if e.Seq != uint64(i)+1 || e.DeliveredMS == 0 { //nolint:gosec // i counts
			a.s.t.Errorf("room %s: event %d has number %d, delivered at %d", id, i+1, e.Seq, e.DeliveredMS)
		}
		if e.Type == "usage.closed" {
			closed++
		}
	}
	if closed != 1 || uint64(len(events)) != last {
		a.s.t.Errorf("room %s: %d events of %d, usage.closed %d times", id, len(events), last, closed)
	}
}
