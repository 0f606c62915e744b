package life

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/control/budget"
	"mayfly/functions/control/outbox"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
	"mayfly/shared/usage"
)

// cappedRoom is a live room with caps, linked on "link1".
func (w *world) cappedRoom(caps budget.Amounts) Room {
	w.t.Helper()
	r := request("")
	r.Caps = caps
	made, err := w.life.Create(w.ctx, r)
	if err != nil {
		w.t.Fatal(err)
	}
	w.register(made.ID, 1, "link1", signal.LinkRegistered)
	return made.Room
}

// beat is a heartbeat with these totals; it returns what the ack says of the caps.
func (w *world) beat(t usage.Totals) *signal.Budget {
	w.t.Helper()
	w.seq["link1"]++
	reply, err := w.life.Heartbeat(w.ctx, control.Conn{ID: "link1", Task: true},
		signal.Heartbeat{Usage: usage.Report{Seq: w.seq["link1"], AtMS: w.clock.MS(), Totals: t}})
	if err != nil {
		w.t.Fatal(err)
	}
	if reply == nil || reply.Type != signal.LinkAck {
		w.t.Fatalf("reply %+v", reply)
	}
	return reply.Body.(signal.Ack).Budget
}

func (w *world) countEvents(room, typ string) (n int) {
	for _, have := range w.events(room) {
		if have == typ {
			n++
		}
	}
	return n
}

func egress(n int64) usage.Totals { return usage.Totals{BytesOut: usage.Bytes{Total: n}} }

// TestCaps: the task is told from 80 % on, with each heartbeat; the product once a
// level; and at the cap the room ends with that reason, through its task.
func TestCaps(t *testing.T) {
	for _, c := range []struct {
		name   string
		caps   budget.Amounts
		used   func(permil int64) usage.Totals
		reduce bool
		reason string
	}{
		{budget.EgressBytes, budget.Amounts{EgressBytes: 1000}, egress, true, signal.ReasonMaxEgress},
		{budget.ParticipantMinutes, budget.Amounts{ParticipantMS: 1000}, func(n int64) usage.Totals { return usage.Totals{ParticipantMS: n} }, false, signal.ReasonMaxMinutes},
		// A minute of the task is paid from the start, and an hour of one participant is 120 million.
		{budget.NanoUSD, budget.Amounts{NanoUSD: 120_000_000}, func(n int64) usage.Totals { return usage.Totals{ParticipantMS: n * 3600} }, true, signal.ReasonMaxCost},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			r := w.cappedRoom(c.caps)
			if b := w.beat(c.used(790)); b != nil {
				t.Errorf("at 79 %%: %+v", b)
			}
			for range 2 {
				if b := w.beat(c.used(810)); b == nil || b.Level != "near" || b.Cap != c.name || b.UsedPermil != 810 || b.Reduce {
					t.Errorf("at 81 %%: %+v", b)
				}
			}
			if b := w.beat(c.used(955)); b == nil || b.Level != "last" || b.Reduce != c.reduce {
				t.Errorf("at 95.5 %%: %+v", b)
			}
			equal(t, "told the product", w.countEvents(r.ID, outbox.QuotaNear), 2)
			w.want(r.ID, lifecycle.Live, 1)
			w.post.Take(control.Conn{ID: "link1", Task: true})
			w.beat(c.used(1000))
			if got := w.want(r.ID, lifecycle.Draining, 1); got.Reason != c.reason {
				t.Errorf("reason %s", got.Reason)
			}
			f := w.post.Take(control.Conn{ID: "link1", Task: true})
			if len(f) != 1 || f[0].Type != signal.LinkEnd {
				t.Errorf("the task was told %v", f)
			}
			equal(t, "told the product", w.countEvents(r.ID, outbox.QuotaNear), 3)
			w.beat(c.used(1000)) // it goes on until it has ended
			equal(t, "and once only", w.countEvents(r.ID, outbox.QuotaNear), 3)
		})
	}
}

// TestDurationIsTold: the room's time is a cap as well, which the task keeps itself.
func TestDurationIsTold(t *testing.T) {
	w := newWorld(t)
	r := w.liveRoom()
	w.clock.Advance(3000 * time.Second)
	if b := w.beat(usage.Totals{}); b == nil || b.Cap != budget.Duration || b.Level != "near" || b.Reduce {
		t.Errorf("at 3000 of 3600 s: %+v", b)
	}
	w.clock.Advance(599 * time.Second)
	if b := w.beat(usage.Totals{}); b == nil || b.Level != "last" {
		t.Errorf("at 3599 s: %+v", b)
	}
	w.want(r.ID, lifecycle.Live, 1)
}

// TestCapsCountAllEpochs: what the room's earlier task has sent counts.
func TestCapsCountAllEpochs(t *testing.T) {
	w := newWorld(t)
	r := w.cappedRoom(budget.Amounts{EgressBytes: 1000})
	w.beat(egress(600))
	arn := w.task(r.ID, 1).ARN
	w.fleet.Run(arn)
	w.clock.Advance(time.Minute)
	if err := w.life.TaskChanged(w.ctx, w.fleet.Kill(arn)); err != nil {
		t.Fatal(err)
	}
	w.register(r.ID, 2, "link1", signal.LinkRegistered)
	w.seq["link1"] = 0
	if b := w.beat(egress(250)); b == nil || b.UsedPermil != 850 {
		t.Errorf("after 600 and 250 of 1000: %+v", b)
	}
}

// settleRoom ends a live room of one epoch and closes its bill.
func (w *world) settleRoom(room string) {
	w.t.Helper()
	if err := w.life.Delete(w.ctx, room); err != nil {
		w.t.Fatal(err)
	}
	arn := w.task(room, 1).ARN
	w.fleet.Run(arn)
	if err := w.life.TaskChanged(w.ctx, w.fleet.Exit(arn, signal.ExitEnded)); err != nil {
		w.t.Fatal(err)
	}
	if r := w.get(room); !r.Settled {
		w.t.Fatalf("room is %s, not settled", r.State)
	}
}

func (w *world) spent() (sum int64) {
	w.t.Helper()
	all, err := control.LoadAll[control.Spend](w.ctx, w.store, control.TenantPK("acme"), "SPEND#")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range all {
		sum += s.NanoUSD
	}
	return sum
}

// TestSpendOfADay: running rooms count, closed ones count exactly what they are
// billed, and a new room is refused until the next day.
func TestSpendOfADay(t *testing.T) {
	w := newWorld(t)
	w.life.Config.SpendPerDay = 100_000_000
	r := w.cappedRoom(budget.Amounts{})
	w.beat(usage.Totals{ParticipantMS: 1_500_000}) // 25 minutes: 50 million
	equal(t, "of the running room", w.spent(), int64(50_000_000))
	w.beat(usage.Totals{ParticipantMS: 1_500_001})
	equal(t, "less than a cent more is not written", w.spent(), int64(50_000_000))
	if _, err := w.life.Create(w.ctx, request("")); err != nil {
		t.Fatal(err)
	}
	w.beat(usage.Totals{ParticipantMS: 3_100_000})
	if _, err := w.life.Create(w.ctx, request("")); !errors.Is(err, ErrSpend) {
		t.Errorf("over the limit: %v", err)
	}
	w.settleRoom(r.ID)
	u := w.usage(r.ID)
	equal(t, "of the closed room", w.spent(), max(u.Bill.CostNanoUSD, u.Bill.PriceNanoUSD))
	w.clock.Advance(24 * time.Hour)
	if _, err := w.life.Create(w.ctx, request("")); err != nil {
		t.Errorf("the next day: %v", err)
	}
}

// TestTenantLimits: a tenant's own limits stand instead of the deployment's.
func TestTenantLimits(t *testing.T) {
	w := newWorld(t)
	w.life.Config.MaxRooms = 1
	put, err := control.Put(&control.TenantLimits{Tenant: "acme", MaxRooms: 3, CreatesPerSecond: 1, CreateBurst: 2})
	if err == nil {
		err = w.store.Commit(w.ctx, put)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{nil, nil, ErrRate} {
		if _, err := w.life.Create(w.ctx, request("")); !errors.Is(err, want) {
			t.Errorf("create %d: %v, want %v", i, err, want)
		}
	}
	w.clock.Advance(10 * time.Second)
	if _, err := w.life.Create(w.ctx, request("")); err != nil {
		t.Errorf("after a rest: %v", err)
	}
	w.clock.Advance(10 * time.Second)
	if _, err := w.life.Create(w.ctx, request("")); !errors.Is(err, ErrQuota) {
		t.Errorf("the fourth room: %v", err)
	}
	equal(t, "rooms", w.quota(), 3)
}

// counting counts the commits that lost a race.
type counting struct {
	control.Store
	commits, lost atomic.Int64
}

func (s *counting) Commit(ctx context.Context, writes ...store.Write) error {
	err := s.Store.Commit(ctx, writes...)
	s.commits.Add(1)
	if control.LostRace(err) {
		s.lost.Add(1)
	}
	return err
}

// TestHundredCreatesAtOnce: all succeed, none is counted twice, and the tenant's
// counters are seldom in each other's way.
func TestHundredCreatesAtOnce(t *testing.T) {
	w := newWorld(t)
	s := &counting{Store: w.store}
	w.life.Store, w.life.Config.MaxRooms = s, 100
	var wg sync.WaitGroup
	errs := make([]error, 100)
	for i := range errs {
		wg.Go(func() { _, errs[i] = w.life.Create(w.ctx, request(fmt.Sprint("key", i))) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	equal(t, "rooms", w.quota(), 100)
	if _, err := w.life.Create(w.ctx, request("one more")); !errors.Is(err, ErrQuota) {
		t.Errorf("the 101st: %v", err)
	}
	t.Logf("%d commits, %d of them lost a race", s.commits.Load(), s.lost.Load())
	if lost := s.lost.Load(); lost > 500 {
		t.Errorf("%d commits lost a race: the counters are one hot item", lost)
	}
}
