package life

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/control/ledger"
	"mayfly/functions/control/pool"
	"mayfly/functions/control/shape"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
)

// pooled is a world with n tasks of size m that stand by.
func pooled(t *testing.T, n int) *world {
	w := newWorld(t)
	w.life.Config.Pool = []pool.Target{{Size: "m", N: n}}
	w.life.Config.Region, w.life.Config.Revisions = "local", shape.Revisions{Stable: "7"}
	w.sweep()
	w.standAll()
	return w
}

func (w *world) slots() []*control.Slot {
	w.t.Helper()
	all, err := control.LoadAll[control.Slot](w.ctx, w.store, control.PoolPK, control.SlotPrefix)
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// standby is a word of a slot's task over its own link.
func (w *world) standby(slot string, task control.Task) *Reply {
	w.t.Helper()
	w.words++
	reply, err := w.life.Standby(w.ctx, slotLink(slot), identity(task.ARN), signal.Standby{Slot: slot, TaskARN: task.ARN, MessagesIn: w.words, MessagesOut: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	return reply
}

func slotLink(slot string) control.Conn { return control.Conn{ID: "link-" + slot, Task: true} }

// standAll has every task of the pool that runs say that it is there.
func (w *world) standAll() {
	w.t.Helper()
	for _, task := range w.fleet.Tasks() {
		slot, ok := parseSlot(task.StartedBy)
		if !ok || task.LastStatus == ledger.Stopped || w.fleet.StopAsked(task.ARN) {
			continue
		}
		if task.LastStatus != "RUNNING" {
			w.changed(w.fleet.Run(task.ARN))
		}
		w.standby(slot, task)
	}
}

// states counts the slots by state.
func (w *world) states() string {
	n := map[string]int{}
	for _, s := range w.slots() {
		n[s.State]++
	}
	return strings.TrimPrefix(fmt.Sprint(n), "map")
}

// assigned is the task that was told to serve a room, and registers for it.
func (w *world) assigned(room Room, conn string) control.Task {
	w.t.Helper()
	for _, s := range w.slots() {
		if s.Room != room.ID {
			continue
		}
		want := fmt.Sprintf(`[{assign 0 {"room":%q,"epoch":%d}}]`, room.ID, room.Epoch)
		var got []string
		for _, f := range w.post.Take(slotLink(s.ID)) {
			got = append(got, fmt.Sprintf("{%s %d %s}", f.Type, f.Seq, f.Body))
		}
		if text := "[" + strings.Join(got, " ") + "]"; text != want {
			w.t.Fatalf("the task was told %s, want %s", text, want)
		}
		task, err := w.fleet.Describe(w.ctx, s.Run.Task.ARN)
		if err != nil {
			w.t.Fatal(err)
		}
		reply, err := w.life.Register(w.ctx, control.Conn{ID: conn, Task: true}, identity(task.ARN),
			signal.Register{Room: room.ID, Epoch: room.Epoch, TaskARN: task.ARN, StoodIn: 40, StoodOut: 30})
		if err != nil {
			w.t.Fatal(err)
		}
		w.replied(reply, signal.LinkRegistered)
		return task
	}
	w.t.Fatalf("no slot has the room (%s)", w.states())
	return control.Task{}
}

func (w *world) bills(tenant string) []*control.Bill {
	w.t.Helper()
	day := w.clock.Now().Truncate(24 * time.Hour)
	all, _, err := w.life.ledger().Bills(w.ctx, tenant, day, day.Add(24*time.Hour), "", 100)
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// A room takes a task that stands by, without RunTask; the pool is filled up again; and
// the two shares of the task's bill add up to the whole, to the second.
func TestClaim(t *testing.T) {
	w := pooled(t, 2)
	equal(t, "pool", w.states(), "[standby:2]")
	w.clock.Advance(100*time.Second + 700*time.Millisecond)
	w.standAll()
	starts := w.fleet.Calls("start")
	r := w.createAs(sized(w))
	equal(t, "RunTask calls", w.fleet.Calls("start"), starts)
	equal(t, "room", fmt.Sprint(r.State, " ", r.Phase, r.Task != ""), "starting bootingtrue")
	w.clock.Advance(300 * time.Millisecond)
	task := w.assigned(r, "link1")
	w.want(r.ID, lifecycle.Live, 1)
	w.sweep()
	w.standAll()
	w.sweep()
	equal(t, "pool", w.states(), "[claimed:1 standby:2]")
	w.want(r.ID, lifecycle.Live, 1)

	w.clock.Advance(200*time.Second + 50*time.Millisecond)
	w.heartbeat("link1", w.report("link1", 0))
	w.replied(w.ending("link1", signal.Ending{Reason: "empty"}), signal.LinkEndingOK)
	w.changed(w.fleet.Exit(task.ARN, 0))
	w.want(r.ID, lifecycle.Ended, 1)
	equal(t, "pool", w.states(), "[standby:2]")
	e := w.usage(r.ID)
	bills := w.bills("operator")
	if len(bills) != 1 || e.Status != "closed" {
		t.Fatalf("%d bills of the pool, room's %s", len(bills), e.Status)
	}
	b, stopped := bills[0], w.clock.MS()
	whole := stopped - e.Epochs[0].PullStartedMS
	equal(t, "the room's share", fmt.Sprint(e.Totals.TaskMSRaw, e.Totals.TaskSBillable), "200350 202")
	equal(t, "the pool's share", fmt.Sprint(b.Totals.TaskMSRaw, b.Totals.TaskSBillable), "100700 100")
	if sum := e.Totals.TaskMSRaw + b.Totals.TaskMSRaw; sum != whole {
		t.Errorf("%d ms in all, ECS says %d", sum, whole)
	}
	if sum, want := e.Totals.TaskSBillable+b.Totals.TaskSBillable, (whole+999)/1000; sum != want {
		t.Errorf("%d s in all, Fargate charges %d", sum, want)
	}
	equal(t, "pool's lines", lines(b), "standby.arm64.vcpu=102400 standby.arm64.memory=204800 standby.ipv4=100 signalling.message=70 signalling.connection=100700")
	equal(t, "tags", b.Tags, map[string]string{"pool": "m", "revision": "7", "outcome": "claimed"})
	equal(t, "usage.closed of the room alone", len(w.bills("acme")), 1)
}

func lines(b *control.Bill) string {
	var out []string
	for _, l := range b.Bill.Cost {
		out = append(out, fmt.Sprintf("%s=%d", l.SKU, l.Quantity))
	}
	return strings.Join(out, " ")
}

// Rooms at the same time never get the same task, and what the pool lacks is started.
func TestManyClaimAtOnce(t *testing.T) {
	w := pooled(t, 8)
	const n = 12
	rooms := make([]Room, n)
	r := sized(w)
	r.Limits.MaxParticipants = 2
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			made, err := w.life.Create(w.ctx, r)
			if err != nil {
				t.Error(err)
				return
			}
			rooms[i] = made.Room
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	warm := 0
	for _, r := range rooms {
		if r.Task == "" || seen[r.Task] {
			t.Fatalf("room %s has task %q", r.ID, r.Task)
		}
		seen[r.Task] = true
		if r.Phase == lifecycle.PhaseBooting {
			warm++
		}
	}
	equal(t, "warm starts and tasks", fmt.Sprint(warm, len(w.fleet.Tasks())), "8 12")
	equal(t, "pool", w.states(), "[claimed:8]")
}

// What stands by is taken only where it fits.
func TestClaimWantsSizeAndRevision(t *testing.T) {
	for name, change := range map[string]func(*CreateRequest){
		"another size":     func(r *CreateRequest) { r.Size = "l" },
		"another revision": func(r *CreateRequest) { r.Revision = "6" },
		"no size":          func(r *CreateRequest) { r.Size = "" },
	} {
		w := pooled(t, 1)
		r := sized(w)
		change(&r)
		w.createAs(r)
		equal(t, name, w.states(), "[standby:1]")
	}
	w := pooled(t, 1)
	w.clock.Advance(91 * time.Second) // it was not heard of
	w.createAs(sized(w))
	equal(t, "silent", w.states(), "[standby:1]")
}

// The post of the assignment is lost: the task's next word is answered with the room.
func TestAssignmentIsRepeated(t *testing.T) {
	w := pooled(t, 1)
	slot := w.slots()[0]
	w.post.Drop(slotLink(slot.ID).ID)
	r := w.createAs(sized(w))
	equal(t, "pool", w.states(), "[claimed:1]")
	for range 2 {
		reply := w.standby(slot.ID, slot.Run.Task)
		if m, ok := reply.Body.(signal.Assign); !ok || m.Room != r.ID || m.Epoch != 1 {
			t.Errorf("answered %+v", reply)
		}
	}
}

// A claimed task that dies before it registers costs the room an epoch, and the next one
// takes another that stands by.
func TestClaimedTaskDies(t *testing.T) {
	w := pooled(t, 2)
	w.clock.Advance(30 * time.Second)
	w.standAll()
	r := w.createAs(sized(w))
	first := r.Task
	w.clock.Advance(5 * time.Second)
	w.changed(w.fleet.Kill(first))
	second := w.want(r.ID, lifecycle.Starting, 2)
	if second.Task == "" || second.Task == first {
		t.Fatalf("epoch 2 has task %q", second.Task)
	}
	w.assigned(second, "link2")
	w.want(r.ID, lifecycle.Live, 2)
	w.fleet.Kill(second.Task) // and its event is lost
	w.sweep()
	w.want(r.ID, lifecycle.Starting, 3)
	w.sweep()
	if n := len(w.bills("operator")); n != 2 {
		t.Errorf("%d bills of the pool", n)
	}
}

// Crashes at every effect of a create that finds a pool: never two tasks, never a task
// lost, and in the end the room is live.
func TestClaimCrashes(t *testing.T) {
	for at := 1; at <= 6; at++ {
		for _, after := range []bool{false, true} {
			w := pooled(t, 1)
			s := &sim{world: w}
			s.withProcess()
			s.proc.CrashAt(at, after)
			_, _ = w.life.Create(w.ctx, sized(w))
			s.proc.Revive()
			s.proc.CrashAt(1<<30, false)
			made, err := w.life.Create(w.ctx, func() CreateRequest { r := sized(w); r.IdempotencyKey = "k"; return r }())
			if err != nil {
				t.Fatal(err)
			}
			for range 4 {
				w.clock.Advance(16 * time.Second)
				w.standAll()
				w.sweep()
			}
			byRoom := map[string]int{}
			for _, task := range w.fleet.Tasks() {
				if task.LastStatus == ledger.Stopped || w.fleet.StopAsked(task.ARN) {
					continue
				}
				for _, sl := range w.slots() {
					if sl.Run.Task.ARN == task.ARN && sl.Room != "" {
						byRoom[sl.Room]++
					}
				}
				if room, _, ok := parseStartedBy(task.StartedBy); ok {
					byRoom[room]++
				}
			}
			for room, n := range byRoom {
				if n != 1 {
					t.Errorf("crash %d after=%v: %d tasks for %s", at, after, n, room)
				}
			}
			if r := w.get(made.ID); r.Task == "" {
				t.Errorf("crash %d after=%v: the second room has no task: %s %s", at, after, r.State, r.Phase)
			}
		}
	}
}

// The pool in the sweep: filled, refused, replaced, emptied; every task billed once.
func TestPoolIsKept(t *testing.T) {
	w := pooled(t, 2)
	first := w.slots()
	w.life.Config.Revisions.Stable = "8" // a deployment
	w.sweep()
	equal(t, "replaced", w.states(), "[asked:2 leaving:2]")
	for _, s := range first {
		if !w.fleet.StopAsked(s.Run.Task.ARN) {
			t.Errorf("%s of revision 7 is not told to stop", s.ID)
		}
		w.replied(w.standby(s.ID, s.Run.Task), "refused ended")
		w.clock.Advance(10 * time.Second)
		w.changed(w.fleet.Exit(s.Run.Task.ARN, 143))
	}
	w.standAll()
	equal(t, "then", w.states(), "[standby:2]")
	bills := w.bills("operator")
	equal(t, "bills", fmt.Sprint(len(bills), bills[0].Totals.TaskSBillable, bills[1].Totals.TaskMSRaw, " "+bills[0].Tags["outcome"]), "2 60 20000 unclaimed")

	victim := w.slots()[0]
	w.clock.Advance(30 * time.Second)
	w.fleet.Kill(victim.Run.Task.ARN) // nobody tells
	w.clock.Advance(30 * time.Second)
	w.sweep()
	w.sweep()
	w.standAll()
	equal(t, "a death is noticed", w.states(), "[standby:2]")

	taken := w.slots()[0] // by a retirement of its host
	w.changed(w.fleet.Interrupt(taken.Run.Task.ARN))
	w.sweep()
	w.standAll()
	equal(t, "one is taken back", w.states(), "[standby:3]")
	for range 2 {
		w.createAs(sized(w))
	}
	for _, s := range w.slots() {
		if (s.ID == taken.ID) == (s.Room != "") {
			t.Errorf("slot %s has room %q", s.ID, s.Room)
		}
	}
	w.sweep()
	w.standAll()
	w.changed(w.fleet.Exit(taken.Run.Task.ARN, 143))

	w.life.Config.Pool = nil
	w.clock.Advance(30 * time.Second)
	w.sweep()
	equal(t, "not wanted any more", w.states(), "[claimed:2 leaving:2]")
	for _, s := range w.slots() {
		if s.State == pool.Leaving {
			w.fleet.Exit(s.Run.Task.ARN, 143)
		}
	}
	w.sweep()
	equal(t, "gone", w.states(), "[claimed:2]")
	if n := len(w.bills("operator")); n != 6 {
		t.Errorf("%d bills for 6 tasks that no room had", n)
	}
}

// ECS has no capacity for the pool: it is asked again, by the same slot and token, ever
// more rarely; and a slot that never got a task leaves without a bill.
func TestPoolWithoutCapacity(t *testing.T) {
	w := newWorld(t)
	w.life.Config.Pool = []pool.Target{{Size: "m", N: 1}}
	w.refuse(func(control.StartRequest) error { return control.ErrNoCapacity })
	for range 60 {
		w.sweep()
		w.clock.Advance(12 * time.Second)
	}
	tokens := map[string]bool{}
	for _, r := range w.asked {
		tokens[r.Token] = true
	}
	if len(tokens) != 1 || len(w.asked) < 5 || len(w.asked) > 9 {
		t.Errorf("%d calls with %d tokens in 12 minutes", len(w.asked), len(tokens))
	}
	w.life.Config.Pool = nil
	w.life.Config.Revisions.Stable = "9"
	w.sweep()
	w.clock.Advance(5 * time.Minute)
	w.sweep()
	equal(t, "pool", w.states(), "[]")
	equal(t, "bills", len(w.bills("operator")), 0)
}

// Lost answers, lost events, tasks that ECS forgets: a slot has one task, and goes.
func TestPoolTaskOfALostAnswer(t *testing.T) {
	w := newWorld(t)
	w.life.Config.Pool = []pool.Target{{Size: "m", N: 1}}
	w.fleet.Faults = onCall("start", 1, tookEffect)
	_ = w.life.Sweep(w.ctx) // reports the failure
	task := w.fleet.Run(w.fleet.Tasks()[0].ARN)
	slot := w.slots()[0]
	equal(t, "known", slot.Run.Task.ARN, "")
	w.replied(w.standby(slot.ID, task), signal.LinkStanding) // ECS vouches for it
	w.clock.Advance(12 * time.Second)
	w.sweep()
	equal(t, "pool", w.states(), "[standby:1]")
	equal(t, "tasks", len(w.fleet.Tasks()), 1)

	other := w.fleet.Stray("pool/" + slot.ID)
	w.replied(w.standby(slot.ID, other), "refused other_task")
	w.clock.Advance(4 * time.Minute)
	w.standby(slot.ID, task)
	w.sweep()
	if !w.fleet.StopAsked(other.ARN) || w.fleet.StopAsked(task.ARN) {
		t.Error("a second task of the slot is not stopped, or the first one is")
	}
	stray := w.fleet.Stray("pool/pool_00000000000000000000000000")
	w.clock.Advance(4 * time.Minute)
	w.standby(slot.ID, task)
	w.sweep()
	if !w.fleet.StopAsked(stray.ARN) {
		t.Error("a task without a slot runs on")
	}

	w.fleet.Hide(task.ARN, true) // ECS has forgotten it
	w.sweep()
	equal(t, "pool", strings.Contains(w.states(), "standby:1"), false)
	bills := w.bills("operator")
	if len(bills) != 1 || bills[0].Quality != control.QualityBounded {
		t.Errorf("%d bills", len(bills))
	}
	w.fleet.Hide(task.ARN, false)
	w.changed(w.fleet.Exit(task.ARN, 143)) // its end comes after all
}

// Who says that it stands by must be the slot's task.
func TestStandbyIdentity(t *testing.T) {
	w := pooled(t, 1)
	slot := w.slots()[0]
	arn := slot.Run.Task.ARN
	for name, tt := range map[string]struct {
		who  TaskIdentity
		m    signal.Standby
		want string
	}{
		"somebody else's ARN": {TaskIdentity{TaskID: "x"}, signal.Standby{Slot: slot.ID, TaskARN: arn}, "refused bad_identity"},
		"no identity":         {TaskIdentity{}, signal.Standby{Slot: slot.ID, TaskARN: arn}, "refused bad_identity"},
		"no such slot":        {identity(arn), signal.Standby{Slot: "pool_x", TaskARN: arn}, "refused not_found"},
		"another task":        {identity("arn/z"), signal.Standby{Slot: slot.ID, TaskARN: "arn/z"}, "refused other_task"},
	} {
		reply, err := w.life.Standby(w.ctx, control.Conn{ID: "l", Task: true}, tt.who, tt.m)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		w.replied(reply, tt.want)
	}
}

// Sweeps at the same time do not fill the same gap twice.
func TestSweepsShareThePool(t *testing.T) {
	w := newWorld(t)
	w.life.Config.Pool = []pool.Target{{Size: "m", N: 5}}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := w.life.Sweep(w.ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	w.sweep()
	equal(t, "pool", w.states(), "[asked:5]")
	equal(t, "tasks", len(w.fleet.Tasks()), 5)
}
