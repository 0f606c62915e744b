package hooks

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/control/controltest"
	"mayfly/functions/control/outbox"
	"mayfly/functions/store"
)

// round is what deliver does with three events of two rooms and two endpoints, one of
// which fails first: the stream's batch, then sweeps until nothing is owed any more.
func (w *world) round(keys []store.Key) error {
	if err := w.out.Drain(w.ctx, keys, ignore); err != nil {
		return err
	}
	for range 20 {
		if err := w.out.Sweep(w.ctx, 0, ignore); err != nil {
			return err
		}
		next, more, err := w.Sweep(w.ctx)
		if err != nil {
			return err
		}
		if !more {
			return nil
		}
		w.clock.Advance(max(time.UnixMilli(next).Sub(w.clock.Now()), 0))
	}
	return errors.New("no end of it")
}

// story is a round with a crash at one effect, and what it came to. It says whether
// there were that many.
func story(t *testing.T, at int, after bool) (crashed bool) {
	w := newWorld(t)
	var mu sync.Mutex
	asked := map[string]bool{} // guarded by mu
	f := &fake{}
	w.Sender = sender{f, func(url, id string) (Answer, error) {
		mu.Lock()
		defer mu.Unlock()
		if !asked[url+id] { // the first request for each event fails
			asked[url+id] = true
			return Answer{Status: http.StatusBadGateway}, nil
		}
		return Answer{Status: 200}, nil
	}}
	hooks := []*control.Hook{w.endpoint("https://one.example"), w.endpoint("https://two.example", "room.live")}
	keys := append(w.happen("room_a", 2), w.happen("room_b", 1)...)
	w.proc.CrashAt(at, after)
	if err := w.round(keys); err != nil && !errors.Is(err, controltest.ErrCrashed) {
		t.Fatalf("crash at %d: %v", at, err)
	}
	crashed = w.proc.Revive()
	w.clock.Advance(time.Minute)
	if err := w.round(nil); err != nil {
		t.Fatalf("crash at %d, after %v: %v", at, after, err)
	}
	sent := map[string]int{}
	for _, id := range f.take() {
		sent[id]++
	}
	log, err := outbox.Read(w.ctx, w.store, tenant, 0, 100)
	if err != nil || len(log) != 3 {
		t.Fatalf("crash at %d: %d entries in the log, %v", at, len(log), err)
	}
	seq := map[string]uint64{}
	for i, l := range log {
		if l.Position != uint64(i)+1 || l.Seq != seq[l.Room]+1 {
			t.Errorf("crash at %d: entry %d is %s %d at %d", at, i, l.Room, l.Seq, l.Position)
		}
		seq[l.Room] = l.Seq
		if sent[l.ID] < 4 { // to both endpoints twice, as the first failed
			t.Errorf("crash at %d: %s was sent %d times", at, l.ID, sent[l.ID])
		}
	}
	for _, h := range hooks {
		all := w.deliveries(h.ID)
		for _, d := range all {
			if d.State != control.DeliveryDelivered || len(d.Attempts) > 2 {
				t.Errorf("crash at %d, after %v: delivery %+v", at, after, d)
			}
		}
		if len(all) != 3 {
			t.Errorf("crash at %d: %d deliveries", at, len(all))
		}
	}
	return crashed
}

// TestCrashAnywhere crashes deliver at each of its commits, before and after: each
// event is in the log once, and at each endpoint at least once.
func TestCrashAnywhere(t *testing.T) {
	for _, after := range []bool{false, true} {
		at := 1
		for crashed := true; crashed && !t.Failed(); at++ {
			crashed = story(t, at, after)
		}
		if at < 20 {
			t.Errorf("only %d commits in all", at)
		}
	}
}

// TestCrashBetweenAnswerAndMark: the receiver is asked again with the same id, and the
// crash costs no attempt.
func TestCrashBetweenAnswerAndMark(t *testing.T) {
	w := newWorld(t)
	f := &fake{}
	w.Sender = f
	hook := w.endpoint("https://in.example")
	w.happen("room_a", 1)
	w.publish()
	w.proc.CrashAt(2, false) // the claim, then the mark
	if _, _, err := w.Sweep(w.ctx); !errors.Is(err, controltest.ErrCrashed) {
		t.Fatal(err)
	}
	w.proc.Revive()
	if w.send(); len(f.take()) != 1 {
		t.Error("sent again while it might still be under way")
	}
	w.clock.Advance(lease)
	w.send()
	d := w.deliveries(hook.ID)[0]
	if got := f.take(); len(got) != 1 || d.State != control.DeliveryDelivered || len(d.Attempts) != 1 {
		t.Errorf("sent %q, delivery %+v", got, d)
	}
}

// TestTwoAtOnce: of two that find the same delivery due, one sends it.
func TestTwoAtOnce(t *testing.T) {
	w := newWorld(t)
	f := &fake{}
	w.Sender = f
	hook := w.endpoint("https://in.example")
	w.happen("room_a", 1)
	w.publish()
	one, two := w.deliveries(hook.ID), w.deliveries(hook.ID)
	if err := w.pass(w.ctx, one); err != nil {
		t.Fatal(err)
	}
	if err := w.pass(w.ctx, two); err != nil {
		t.Fatal(err)
	}
	if got := f.take(); len(got) != 1 {
		t.Errorf("sent %d times", len(got))
	}
}

// TestLateAnswer: an attempt that outlived its lease, while another was under way,
// still counts if it went well.
func TestLateAnswer(t *testing.T) {
	w := newWorld(t)
	inner := &fake{}
	w.Sender = inner
	hook := w.endpoint("https://in.example")
	w.happen("room_a", 1)
	w.publish()
	calls := 0
	inner.answer = func(string) (Answer, error) {
		if calls++; calls > 1 {
			return Answer{Status: 500}, nil
		}
		w.clock.Advance(lease + time.Second)
		inner.mu.Unlock() // the other one asks, too
		defer inner.mu.Lock()
		if _, _, err := w.Sweep(w.ctx); err != nil {
			t.Error(err)
		}
		return Answer{Status: 200}, nil
	}
	w.send()
	if d := w.deliveries(hook.ID)[0]; d.State != control.DeliveryDelivered || len(d.Attempts) != 2 {
		t.Errorf("delivery %+v", d)
	}
}

// TestGoneSurvivesACrash crashes deliver at each of its effects while an endpoint answers
// 410: in the end it is disabled, its owner is told once, nothing is owed to it, and the
// log has everything.
func TestGoneSurvivesACrash(t *testing.T) {
	for _, after := range []bool{false, true} {
		at := 1
		for crashed := true; crashed && !t.Failed(); at++ {
			crashed = goneStory(t, at, after)
		}
		if at < 8 {
			t.Errorf("only %d commits in all", at)
		}
	}
}

func goneStory(t *testing.T, at int, after bool) (crashed bool) {
	w := newWorld(t)
	told := 0
	var mu sync.Mutex
	w.Sender = sender{&fake{}, func(url, id string) (Answer, error) {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasPrefix(url, "https://gone") {
			return Answer{Status: http.StatusGone}, nil
		}
		if strings.HasPrefix(id, "evt_we_") {
			told++
		}
		return Answer{Status: 200}, nil
	}}
	gone, _ := w.endpoint("https://gone.example"), w.endpoint("https://one.example")
	keys := w.happen("room_a", 1) // no other event would find out again
	w.proc.CrashAt(at, after)
	for range 4 { // the rounds after a crash find everything as it was left
		err := w.round(keys)
		if err != nil && !errors.Is(err, controltest.ErrCrashed) {
			t.Fatalf("crash at %d, after %v: %v", at, after, err)
		}
		crashed = w.proc.Revive() || crashed
		w.clock.Advance(time.Minute)
		keys = nil
	}
	if h := w.hook(gone.ID); h.Disabled != control.HookGone || h.EventSeq != 1 || told == 0 {
		t.Errorf("crash at %d, after %v: disabled %q, %d events of it, told %d times", at, after, h.Disabled, h.EventSeq, told)
	}
	for _, d := range w.deliveries(gone.ID) {
		if d.State != control.DeliveryDead {
			t.Errorf("crash at %d, after %v: a delivery to it is %s", at, after, d.State)
		}
	}
	if log, err := outbox.Read(w.ctx, w.store, tenant, 0, 100); err != nil || len(log) != 2 {
		t.Errorf("crash at %d, after %v: %d entries in the log, %v", at, after, len(log), err)
	}
	return crashed
}
