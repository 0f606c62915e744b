package outbox

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/control/controltest"
	"mayfly/functions/store"
)

// TestLogLosesNothing: eight publishers of forty rooms and a reader that follows. What
// the reader has read is a prefix of the log at every time: nothing appears before it.
func TestLogLosesNothing(t *testing.T) {
	b := newTray(t)
	const rooms, each = 40, 5
	var keys [8][]store.Key
	for i := range rooms {
		keys[i%8] = append(keys[i%8], b.add(fmt.Sprintf("room_%02d", i), each)...)
	}
	var wg sync.WaitGroup
	for _, mine := range keys {
		wg.Go(func() {
			o := &Outbox{Store: b.Store, Now: b.clock.Now, Log: b.Log}
			for len(mine) > 0 { // in batches, as the stream has them, each of them twice
				n := min(7, len(mine))
				for range 2 {
					if err := o.Drain(b.ctx, mine[:n], LogTo(b.Log)); err != nil {
						t.Error(err)
					}
				}
				mine = mine[n:]
			}
		})
	}
	seq := map[string]uint64{}
	for after := uint64(0); after < rooms*each; {
		list, err := Read(b.ctx, b.Store, "acme", after, 9)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			if l.Position != after+1 || l.Seq != seq[l.Room]+1 {
				t.Fatalf("%s/%d at position %d follows %d, and %d of its room", l.Room, l.Seq, l.Position, after, seq[l.Room])
			}
			after, seq[l.Room] = l.Position, l.Seq
		}
		if t.Failed() {
			break
		}
	}
	wg.Wait()
	if head, err := Head(b.ctx, b.Store, "acme"); err != nil || head.Position != rooms*each {
		t.Errorf("the log ends at %+v, %v", head, err)
	}
}

// TestEarlierEventsFirst: woken for a room's fifth event alone, the first four go first.
func TestEarlierEventsFirst(t *testing.T) {
	b := newTray(t)
	keys := b.add("a", 5)
	if err := b.Drain(b.ctx, keys[4:], b.deliver); err != nil {
		t.Fatal(err)
	}
	b.want("a/1", "a/2", "a/3", "a/4", "a/5")
	list, err := ReadRoom(b.ctx, b.Store, "a", 2, 2)
	if err != nil || len(list) != 2 || list[0].Seq != 3 || list[1].Position != 4 {
		t.Errorf("room's events after 2: %v, %v", list, err)
	}
	if more := b.add("a", 1); len(more) != 1 {
		t.Fatal(more)
	}
	if list, err = ReadRoom(b.ctx, b.Store, "a", 5, 10); err != nil || len(list) != 0 {
		t.Errorf("an event that is not in the log yet is read: %v, %v", list, err)
	}
}

// TestExpiredLog: a reader that is too late is told so, wherever it stands.
func TestExpiredLog(t *testing.T) {
	b := newTray(t)
	drain := func(n int) {
		t.Helper()
		if err := b.Drain(b.ctx, b.add("a", n), b.deliver); err != nil {
			t.Fatal(err)
		}
	}
	read := func(after uint64, n int, want error) {
		t.Helper()
		list, err := Read(b.ctx, b.Store, "acme", after, 100)
		if !errors.Is(err, want) || len(list) != n {
			t.Errorf("after %d: %d events, %v; want %d, %v", after, len(list), err, n, want)
		}
	}
	read(0, 0, nil)
	drain(3)
	read(0, 3, nil)
	read(3, 0, nil)
	read(7, 0, nil) // a position that is not there yet
	b.clock.Advance(control.LogTTL + time.Second)
	read(1, 0, ErrExpired)
	read(3, 0, nil)
	drain(2)
	read(0, 2, nil)
	read(1, 0, ErrExpired)
	read(2, 0, ErrExpired)
	read(3, 2, nil)
	read(4, 1, nil)
}

// TestFanOutFitsItsCommit: as many endpoints as a tenant may have, and a lot of events.
func TestFanOutFitsItsCommit(t *testing.T) {
	b := newTray(t)
	for i := range MaxHooks {
		w, err := control.Put(&control.Hook{Tenant: "acme", ID: fmt.Sprint("we_", i), Events: []string{"room.*"}})
		if err == nil {
			err = b.Store.Commit(b.ctx, w)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Drain(b.ctx, b.add("a", 60), b.deliver); err != nil {
		t.Fatal(err)
	}
	for i := range MaxHooks {
		all, err := control.LoadAll[control.Delivery](b.ctx, b.Store, control.HookPK(fmt.Sprint("we_", i)), control.DeliveryPrefix)
		if err != nil || len(all) != 60 {
			t.Errorf("endpoint %d is owed %d events, %v", i, len(all), err)
		}
	}
}

// TestPublishCrash: whatever commit fails, before or after, everything is in the log
// once in the end.
func TestPublishCrash(t *testing.T) {
	for at := 1; at <= 3; at++ {
		for _, after := range []bool{false, true} {
			b := newTray(t)
			keys := append(b.add("a", 30), b.add("b", 30)...)
			b.proc.CrashAt(at, after)
			if err := b.Drain(b.ctx, keys, b.deliver); !errors.Is(err, controltest.ErrCrashed) {
				t.Fatalf("crash at %d: %v", at, err)
			}
			b.proc.Revive()
			if err := b.Sweep(b.ctx, 0, b.deliver); err != nil {
				t.Fatal(err)
			}
			list, err := Read(b.ctx, b.Store, "acme", 0, 100)
			if err != nil || len(list) != 60 || list[59].Position != 60 {
				t.Errorf("crash at %d, after %v: %d in the log, %v", at, after, len(list), err)
			}
		}
	}
}
