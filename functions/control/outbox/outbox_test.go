package outbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mayfly/functions/control"
	"mayfly/functions/control/controltest"
	"mayfly/functions/store"
	"mayfly/infra/local/boltstore"
)

// tray is an outbox over the embedded store that remembers what was delivered.
type tray struct {
	t     *testing.T
	ctx   context.Context
	clock *controltest.Clock
	proc  *controltest.Process
	*Outbox
	got  []string // "<room>/<seq>"
	fail string   // the delivery that fails
}

func newTray(t *testing.T) *tray {
	t.Helper()
	clock := controltest.NewClock()
	s, err := boltstore.OpenWith(filepath.Join(t.TempDir(), "db"), boltstore.Options{Now: clock.Now, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &tray{t: t, ctx: context.Background(), clock: clock, proc: controltest.NewProcess(s, nil, nil)}
	b.Outbox = &Outbox{Store: b.proc.Store(), Now: clock.Now, Log: slog.New(slog.DiscardHandler)}
	return b
}

// add commits n events of a room and returns all their keys.
func (b *tray) add(room string, n int) (keys []store.Key) {
	b.t.Helper()
	r, err := control.Load[control.Room](b.ctx, b.Store, control.RoomKey(room))
	if errors.Is(err, store.ErrNotFound) {
		r, err = &control.Room{ID: room, Tenant: "acme", Settled: true}, nil
	}
	if err != nil {
		b.t.Fatal(err)
	}
	for range n {
		event, err := Append(r, "room.live", b.clock.MS(), map[string]int{"n": int(r.EventSeq)})
		if err != nil {
			b.t.Fatal(err)
		}
		w, err := control.Put(r)
		if err == nil {
			err = b.Store.Commit(b.ctx, w, event)
		}
		if err != nil {
			b.t.Fatal(err)
		}
		r.Ver++
		keys = append(keys, event.Item.Key)
	}
	return keys
}

func (b *tray) deliver(_ context.Context, e control.Event) error {
	name := fmt.Sprintf("%s/%d", e.Room, e.Seq)
	if name == b.fail {
		return errors.New("refused")
	}
	b.got = append(b.got, name)
	return nil
}

func (b *tray) want(names ...string) {
	b.t.Helper()
	if d := cmp.Diff(names, b.got); d != "" {
		b.t.Errorf("delivered (-want +got):\n%s", d)
	}
	b.got = nil
}

func TestDrainInOrderAndOnce(t *testing.T) {
	b := newTray(t)
	keys := append(b.add("b", 11), b.add("a", 2)...)
	keys = append(keys, keys[3], control.RoomKey("a"), control.LedgerKey("a"), control.EventKey("none", 1))
	keys[0], keys[10] = keys[10], keys[0] // a stream keeps no order between items
	if err := b.Drain(b.ctx, keys, b.deliver); err != nil {
		t.Fatal(err)
	}
	b.want("a/1", "a/2", "b/1", "b/2", "b/3", "b/4", "b/5", "b/6", "b/7", "b/8", "b/9", "b/10", "b/11")
	if err := b.Drain(b.ctx, keys, b.deliver); err != nil {
		t.Fatal(err)
	}
	b.want()
	e, err := control.Load[control.Event](b.ctx, b.Store, keys[1])
	if err != nil || e.DeliveredMS != b.clock.MS() || e.ID != "evt_b_2" {
		t.Errorf("event %+v, %v", e, err)
	}
	b.clock.Advance(control.EventTTL + time.Second)
	if err := b.Drain(b.ctx, keys, b.deliver); err != nil { // expired since
		t.Fatal(err)
	}
	b.want()
}

func TestFailureHoldsTheRoomBackAndNoOther(t *testing.T) {
	b := newTray(t)
	keys := append(b.add("a", 3), b.add("b", 1)...)
	b.fail = "a/2"
	if err := b.Drain(b.ctx, keys, b.deliver); err == nil || !strings.Contains(err.Error(), "EVENT#000000000002: refused") {
		t.Errorf("error %v", err)
	}
	b.want("a/1", "b/1")
	b.fail = ""
	if err := b.Sweep(b.ctx, 0, b.deliver); err != nil {
		t.Fatal(err)
	}
	b.want("a/2", "a/3")
}

// TestCrashBetweenDeliveryAndMark: at least once, and recognisable.
func TestCrashBetweenDeliveryAndMark(t *testing.T) {
	b := newTray(t)
	keys := b.add("a", 1)
	b.proc.CrashAt(1, false)
	if err := b.Drain(b.ctx, keys, b.deliver); !errors.Is(err, controltest.ErrCrashed) {
		t.Fatalf("error %v", err)
	}
	b.proc.Revive()
	for range 2 {
		if err := b.Sweep(b.ctx, 0, b.deliver); err != nil {
			t.Fatal(err)
		}
	}
	b.want("a/1", "a/1")
}

func TestSweepLeavesTheYoung(t *testing.T) {
	b := newTray(t)
	b.add("a", 130) // more than a page
	b.clock.Advance(time.Minute)
	b.add("a", 1)
	if err := b.Sweep(b.ctx, 30*time.Second, b.deliver); err != nil {
		t.Fatal(err)
	}
	if len(b.got) != 130 || b.got[129] != "a/130" {
		t.Errorf("delivered %d, the last %v", len(b.got), b.got[len(b.got)-1])
	}
}

func TestLogTo(t *testing.T) {
	b := newTray(t)
	keys := b.add("a", 1)
	var out bytes.Buffer
	if err := b.Drain(b.ctx, keys, LogTo(slog.New(slog.NewJSONHandler(&out, nil)))); err != nil {
		t.Fatal(err)
	}
	var line struct {
		Msg, Room, Type, ID string
		Seq                 int
		Data                struct{ N int }
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	if line.Msg != "event" || line.Room != "a" || line.Type != "room.live" || line.ID != "evt_a_1" || line.Seq != 1 {
		t.Errorf("logged %s", out.String())
	}
}
