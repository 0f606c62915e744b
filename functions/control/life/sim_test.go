package life

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/control/controltest"
	"mayfly/functions/control/ledger"
	"mayfly/functions/control/outbox"
	"mayfly/functions/control/price"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
	"mayfly/shared/usage"
)

// sim is a small world that runs by itself, in ticks of five seconds: a product
// that creates rooms, ECS, tasks that keep the link's protocol, clients that join
// and leave, a sweep each minute. The control plane in it is a process that may
// crash. Everything but the control plane is simulated, and the control plane is
// the real one.
type sim struct {
	*world
	proc    *controltest.Process
	rng     *rand.Rand
	chaos   bool // events are lost, doubled and reordered; tasks are killed; the process crashes again and again
	pending []string
	tasks   map[string]*simTask
	queue   []delivery
	tick    int
	kills   int
	lossy   map[string]bool // rooms whose counts cannot be exact: a task was killed
	sent    map[string]int  // deliveries by event id

	deleteAt    int // tick at which the product deletes its rooms, 0 for never
	deleteCrash int // effect of that call at which it crashes
	deleteAfter bool
}

// delivery is an ECS event on its way, and how often it was tried.
type delivery struct {
	task  control.Task
	tries int
}

// simTask is the process in a task. It knows what it was told on its link.
type simTask struct {
	arn, room, conn    string
	epoch, age         int
	registered, fenced bool
	ending             string // reason, once it wants to end
	final              bool
	joinSeq            uint64
	sessions           []usage.Session
	served, endTries   int
	clientIn           bool
	going, accepted    bool // it was told to go, and hands the room over
	playing            int  // ticks since then
}

func newSim(t *testing.T, seed uint64, chaos bool) *sim {
	w := newWorld(t)
	s := &sim{
		world: w, rng: rand.New(rand.NewPCG(seed, 7)), chaos: chaos,
		tasks: map[string]*simTask{}, lossy: map[string]bool{}, sent: map[string]int{},
	}
	s.withProcess()
	return s
}

// withProcess has the control plane run in a process that can crash.
func (s *sim) withProcess() {
	s.proc = controltest.NewProcess(s.store, s.fleet, s.post)
	s.life.Store, s.life.Fleet, s.life.Post = s.proc.Store(), s.proc.Fleet(), s.proc.Post()
}

// invoke is one Lambda invocation.
func (s *sim) invoke(f func() error) error {
	s.proc.Revive()
	if s.chaos && s.rng.IntN(6) == 0 {
		s.proc.CrashAt(1+s.rng.IntN(4), s.rng.IntN(2) == 0)
	}
	err := f()
	s.proc.Revive()
	return err
}

// run ticks until every room has come to rest, and fails after a simulated hour.
func (s *sim) run(keys ...string) {
	s.t.Helper()
	s.pending = keys
	for s.tick = 1; s.tick <= 720; s.tick++ {
		s.clock.Advance(5e9)
		if s.chaos && s.tick > 240 { // let it come to rest
			s.chaos = false
		}
		s.product()
		s.ecs()
		s.runTasks()
		if s.tick%12 == 0 {
			_ = s.invoke(func() error { return s.life.Sweep(s.ctx) })
			_ = s.invoke(s.drain)
		}
		s.oneTaskPerRoom()
		if len(s.pending) == 0 && len(s.queue) == 0 && s.atRest() {
			return
		}
	}
	for _, r := range s.rooms() {
		s.t.Errorf("no rest: room %s %s epoch %d task %q settled %v due in %d ms", r.ID, r.State, r.Epoch, r.Task, r.Settled, r.DueAtMS-s.clock.MS())
	}
}

// product creates its rooms, and tries again when it gets no answer.
func (s *sim) product() {
	var left []string
	for _, key := range s.pending {
		err := s.invoke(func() error { _, err := s.life.Create(s.ctx, request(key)); return err })
		if err != nil {
			left = append(left, key)
		}
	}
	s.pending = left
	if s.tick != s.deleteAt {
		return
	}
	for _, r := range s.rooms() {
		s.proc.CrashAt(s.deleteCrash, s.deleteAfter)
		for range 2 { // no answer: once more
			if s.invoke(func() error { return s.life.Delete(s.ctx, r.ID) }) == nil {
				break
			}
		}
	}
}

// ecs moves tasks on, and delivers events: at least once, if they are not lost.
func (s *sim) ecs() {
	for _, t := range s.fleet.Tasks() {
		task := s.tasks[t.ARN]
		if task == nil {
			room, epoch, _ := parseStartedBy(t.StartedBy)
			task = &simTask{arn: t.ARN, room: room, epoch: epoch, conn: "link-" + t.ARN}
			s.tasks[t.ARN] = task
		}
		switch t.LastStatus {
		case "PROVISIONING":
			s.fleet.Pull(t.ARN)
		case "PENDING":
			s.fleet.Run(t.ARN)
		}
	}
	for _, e := range s.fleet.TakeEvents() {
		if s.chaos && s.rng.IntN(4) == 0 {
			continue // lost
		}
		for range 1 + b2i(s.chaos && s.rng.IntN(4) == 0) {
			s.queue = append(s.queue, delivery{task: e})
		}
	}
	if s.chaos {
		s.rng.Shuffle(len(s.queue), func(i, j int) { s.queue[i], s.queue[j] = s.queue[j], s.queue[i] })
	}
	queue := s.queue
	s.queue = nil
	for _, d := range queue {
		if s.chaos && s.rng.IntN(3) == 0 { // later
			s.queue = append(s.queue, d)
			continue
		}
		err := s.invoke(func() error { return s.life.TaskChanged(s.ctx, d.task) })
		if d.tries++; err != nil && d.tries < 3 { // Lambda's own retries
			s.queue = append(s.queue, d)
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// runTasks lets each running task do its next thing.
func (s *sim) runTasks() {
	for _, t := range s.fleet.Tasks() {
		if t.LastStatus != "RUNNING" {
			continue
		}
		task := s.tasks[t.ARN]
		task.age++
		if s.chaos && s.rng.IntN(40) == 0 {
			s.kills++
			s.lossy[task.room] = true
			s.fleet.Kill(t.ARN)
			continue
		}
		if s.chaos && s.rng.IntN(60) == 0 && !task.going {
			s.fleet.Interrupt(t.ARN)
			task.going = task.registered
		}
		s.runTask(task)
	}
}

func (s *sim) runTask(t *simTask) {
	conn := control.Conn{ID: t.conn, Task: true}
	if s.fleet.StopAsked(t.arn) && t.ending == "" { // SIGTERM
		t.ending, t.final = signal.ReasonTerminated, true
	}
	for _, f := range s.post.Take(conn) {
		if f.Type == signal.LinkEnd {
			t.ending, t.final = "told", true
		}
	}
	var reply *Reply
	err := s.invoke(func() (err error) {
		switch {
		case !t.registered:
			reply, err = s.life.Register(s.ctx, conn, identity(t.arn), signal.Register{Room: t.room, Epoch: t.epoch, TaskARN: t.arn})
		case t.going && t.ending == "" && !t.accepted:
			reply, err = s.life.Ending(s.ctx, conn, signal.Ending{Reason: signal.ReasonTerminated, JoinSeq: t.joinSeq, Final: true, Usage: s.counts(t, false)})
		case t.ending != "":
			t.close(s.clock.MS())
			reply, err = s.life.Ending(s.ctx, conn, signal.Ending{Reason: t.ending, JoinSeq: t.joinSeq, Final: t.final, Usage: s.counts(t, t.final)})
		default:
			if !t.going {
				s.client(t)
			} else if t.playing++; t.playing > 3 {
				t.ending, t.final = signal.ReasonTerminated, true
			}
			reply, err = s.life.Heartbeat(s.ctx, conn, signal.Heartbeat{JoinSeq: t.joinSeq, Usage: s.counts(t, false)})
		}
		return err
	})
	s.answered(t, reply, err)
}

// answered is the task's reaction to a frame. No answer: it repeats the frame.
func (s *sim) answered(t *simTask, r *Reply, err error) {
	if err != nil || r == nil {
		if t.ending != "" && t.final { // it cannot wait for ever
			if t.endTries++; t.endTries > 6 {
				s.lossy[t.room] = true
				s.fleet.Exit(t.arn, signal.ExitEnded)
			}
		}
		return
	}
	switch r.Type {
	case signal.LinkRegistered:
		t.registered = true
	case signal.LinkRefused:
		t.fenced = true
		s.fleet.Exit(t.arn, signal.ExitFenced)
	case signal.LinkKeep:
		t.ending = ""
		t.joinSeq = r.Body.(signal.Keep).JoinSeq // its client never came: nobody is in
	case signal.LinkEndingOK:
		if t.going && t.ending == "" {
			t.accepted = true
			return
		}
		s.fleet.Exit(t.arn, signal.ExitEnded)
	}
}

// client is the one participant of each epoch: it joins, stays half a minute, and
// leaves; then the room is empty.
func (s *sim) client(t *simTask) {
	if !t.clientIn {
		id := fmt.Sprintf("s-%s-%d", t.arn[len(t.arn)-4:], s.tick)
		w, err := control.Put(ledger.OpenSession(&Room{ID: t.room, Tenant: "acme"},
			&control.Participant{ID: "p1", Identity: "alice", Session: id, Epoch: t.epoch}, 0, s.clock.MS()))
		if err != nil {
			s.t.Fatal(err)
		}
		seq, _, err := s.life.AdmitJoin(s.ctx, t.room, w)
		if err != nil {
			return
		}
		t.clientIn, t.joinSeq = true, seq
		t.sessions = append(t.sessions, usage.Session{ID: id, Participant: "p1", JoinedMS: s.clock.MS()})
		return
	}
	if t.served++; t.served >= 6 {
		t.close(s.clock.MS())
		t.ending = signal.ReasonEmpty
	}
}

// close ends the task's open sessions.
func (t *simTask) close(nowMS int64) {
	for i := range t.sessions {
		if s := &t.sessions[i]; s.LeftMS == 0 {
			s.LeftMS, s.ParticipantMS, s.LeaveReason = nowMS, nowMS-s.JoinedMS, "left"
			s.BytesOut.Total = s.ParticipantMS * 100
		}
	}
}

// counts is the task's cumulative report.
func (s *sim) counts(t *simTask, final bool) usage.Report {
	s.seq[t.conn]++
	rep := usage.Report{Seq: s.seq[t.conn], AtMS: s.clock.MS(), Final: final}
	for i := range t.sessions {
		u := &t.sessions[i]
		if u.LeftMS == 0 {
			u.ParticipantMS = rep.AtMS - u.JoinedMS
			u.BytesOut.Total = u.ParticipantMS * 100
			rep.Totals.Present++
			rep.Totals.PeakParticipants = 1
		}
		rep.Totals.ParticipantMS += u.ParticipantMS
		rep.Totals.Sessions++
		rep.Totals.BytesOut = rep.Totals.BytesOut.Add(u.BytesOut)
		rep.Sessions = append(rep.Sessions, *u)
	}
	return rep
}

// drain delivers events.
func (s *sim) drain() error {
	o := &outbox.Outbox{Store: s.proc.Store(), Now: s.clock.Now, Log: s.life.Log}
	return o.Sweep(s.ctx, 0, func(_ context.Context, e control.Event) error {
		s.sent[e.ID]++
		return nil
	})
}

func (s *sim) rooms() []Room {
	s.t.Helper()
	listed, err := control.LoadAll[control.Listed](s.ctx, s.store, control.TenantPK("acme"), control.ListedPrefix)
	if err != nil {
		s.t.Fatal(err)
	}
	var rooms []Room
	for _, l := range listed {
		r, err := control.Load[control.Room](s.ctx, s.store, control.RoomKey(l.Room))
		if err != nil {
			s.t.Fatal(err)
		}
		rooms = append(rooms, *r)
	}
	return rooms
}

// atRest: nothing runs, nothing is due, nothing is undelivered.
func (s *sim) atRest() bool {
	for _, t := range s.fleet.Tasks() {
		if t.LastStatus != "STOPPED" {
			return false
		}
	}
	for _, r := range s.rooms() {
		for seq := uint64(1); seq <= r.EventSeq; seq++ {
			if s.sent[fmt.Sprintf("evt_%s_%d", r.ID, seq)] == 0 {
				return false
			}
		}
		if !r.Settled {
			return false
		}
	}
	return true
}

// oneTaskPerRoom: of a room's running tasks at most one believes it serves the room.
func (s *sim) oneTaskPerRoom() {
	s.t.Helper()
	serving := map[string]string{}
	for _, t := range s.fleet.Tasks() {
		task := s.tasks[t.ARN]
		if task == nil || t.LastStatus != "RUNNING" || !task.registered || task.fenced || task.going {
			continue
		}
		if other := serving[task.room]; other != "" {
			s.t.Fatalf("tick %d: two tasks serve %s: %s and %s", s.tick, task.room, other, t.ARN)
		}
		serving[task.room] = t.ARN
	}
}

// check holds for every room at rest.
func (s *sim) check() {
	s.t.Helper()
	for _, r := range s.rooms() {
		if !r.State.Final() {
			s.t.Errorf("room %s rests in %s", r.ID, r.State)
		}
		types := s.events(r.ID)
		count := func(typ string) (n int) {
			for _, have := range types {
				n += b2i(have == typ)
			}
			return n
		}
		if types[0] != outbox.RoomCreated || count(outbox.RoomCreated) != 1 || types[len(types)-1] != outbox.UsageClosed || count(outbox.UsageClosed) != 1 ||
			count(lifecycle.EventEnded)+count(lifecycle.EventFailed) != 1 || count(outbox.ParticipantJoined) != count(outbox.ParticipantLeft) {
			s.t.Errorf("events %v", types)
		}
		s.checkUsage(r)
	}
	if n := s.quota(); n != 0 {
		s.t.Errorf("quota still counts %d rooms", n)
	}
	for shard := range control.Shards {
		page, err := s.store.Index(s.ctx, control.DuePK(shard), "~", store.QueryOptions{})
		if err != nil || len(page.Items) != 0 {
			s.t.Errorf("shard %d still has %d due rooms, %v", shard, len(page.Items), err)
		}
	}
}

// checkUsage compares the closed record with what ECS and the tasks know.
func (s *sim) checkUsage(r Room) {
	s.t.Helper()
	v := s.usage(r.ID)
	if v.Status != "closed" || len(v.Epochs) != r.Epoch {
		s.t.Errorf("usage %s with %d epochs of %d", v.Status, len(v.Epochs), r.Epoch)
	}
	var taskMS, participantMS, truth, sessionMS int64
	for _, t := range s.fleet.Tasks() {
		if room, _, _ := parseStartedBy(t.StartedBy); room == r.ID && t.PullStartedMS > 0 {
			taskMS += t.StoppedMS - t.PullStartedMS
		}
	}
	for _, t := range s.tasks {
		if t.room == r.ID {
			for _, u := range t.sessions {
				truth += u.ParticipantMS
			}
		}
	}
	for _, p := range v.Participants {
		sessionMS += p.MS
		if p.LeftMS < p.JoinedMS || p.LeftMS == 0 {
			s.t.Errorf("session %s from %d to %d", p.Session, p.JoinedMS, p.LeftMS)
		}
	}
	participantMS = v.Totals.ParticipantMS
	if taskMS != v.Totals.TaskMSRaw {
		s.t.Errorf("ledger bills %d task ms, ECS %d", v.Totals.TaskMSRaw, taskMS)
	}
	if sessionMS != participantMS {
		s.t.Errorf("sessions sum to %d ms, totals say %d", sessionMS, participantMS)
	}
	s.checkBill(r, v)
	if !s.lossy[r.ID] && participantMS != truth {
		s.t.Errorf("ledger counts %d participant ms, the tasks counted %d", participantMS, truth)
	}
}

// checkBill computes the bill again: each line from its quantity, the task's share
// from ECS's own times, and the tenant's copies from the record.
func (s *sim) checkBill(r Room, v ledger.View) {
	s.t.Helper()
	var sum, seconds int64
	for _, l := range v.Bill.Cost {
		if l.NanoUSD != price.Amount(l.Quantity, l.RateNanoUSD, l.RatePer) {
			s.t.Errorf("room %s: line %+v does not follow from its quantity", r.ID, l)
		}
		sum += l.NanoUSD
		if l.SKU == "ipv4.public" {
			seconds = l.Quantity
		}
	}
	var want int64
	for _, t := range s.fleet.Tasks() {
		if room, _, _ := parseStartedBy(t.StartedBy); room == r.ID && t.PullStartedMS > 0 && t.StoppedMS > t.PullStartedMS {
			want += max(60, (t.StoppedMS-t.PullStartedMS+999)/1000)
		}
	}
	if sum != v.Bill.CostNanoUSD || seconds != want || seconds != v.Totals.TaskSBillable {
		s.t.Errorf("room %s: cost %d of lines %d, %d s billed of %d", r.ID, v.Bill.CostNanoUSD, sum, seconds, want)
	}
	copies := 0
	for day := s.clock.Now().Add(-24 * time.Hour); !day.After(s.clock.Now()); day = day.Add(24 * time.Hour) {
		bills, err := control.LoadAll[control.Bill](s.ctx, s.store, control.BillsPK("acme", control.Day(day.UnixMilli())), control.BillPrefix)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, b := range bills {
			if b.Room == r.ID && b.N == 0 {
				copies++
				if b.Hash != v.Hash || b.Totals != v.Totals {
					s.t.Errorf("room %s: the tenant's copy differs", r.ID)
				}
			}
		}
	}
	if copies != 1 {
		s.t.Errorf("room %s has %d bills", r.ID, copies)
	}
}
