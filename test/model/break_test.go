package model

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"mayfly/functions/control"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
)

// blind has writes of a kind believe whatever is stored: the last writer wins.
func blind(kinds ...string) func(context.Context, *Table, []store.Write) error {
	return func(ctx context.Context, t *Table, writes []store.Write) error {
		for i, wr := range writes {
			if wr.Op != store.Put || !slices.Contains(kinds, wr.Item.Kind) {
				continue
			}
			it, err := t.Get(ctx, wr.Item.Key)
			if err == nil && wr.Expect != 0 {
				writes[i].Expect = it.Version
			}
		}
		return t.Commit(ctx, writes...)
	}
}

// without leaves the writes that drop picks out of every commit.
func without(drop func(store.Write) bool) func(context.Context, *Table, []store.Write) error {
	return func(ctx context.Context, t *Table, writes []store.Write) error {
		var kept []store.Write
		for _, wr := range writes {
			if !drop(wr) {
				kept = append(kept, wr)
			}
		}
		if len(kept) == 0 {
			return nil
		}
		return t.Commit(ctx, kept...)
	}
}

// oneByOne commits each write alone: a crash in between leaves a part.
func oneByOne(ctx context.Context, t *Table, writes []store.Write) error {
	for _, wr := range writes {
		if err := t.Commit(ctx, wr); err != nil {
			return err
		}
	}
	return nil
}

// renumber gives every report the number in which it arrives, as if nobody looked at
// the task's own.
func renumber() func(task, typ string, data []byte) []byte {
	seq := map[string]uint64{}
	return func(task, typ string, data []byte) []byte {
		if typ != signal.LinkHeartbeat {
			return data
		}
		var f signal.Frame
		var m signal.Heartbeat
		if json.Unmarshal(data, &f) != nil || json.Unmarshal(f.Body, &m) != nil {
			return data
		}
		seq[task]++
		m.Usage.Seq = 1_000_000 - seq[task]
		out, err := signal.Encode(typ, f.Seq, m)
		if err != nil {
			return data
		}
		return out
	}
}

func isOpening(wr store.Write) bool {
	var s control.Session
	return wr.Item.Kind == "session" && json.Unmarshal(wr.Item.Data, &s) == nil && s.Seq == 0
}

// broken are control planes that are wrong in one place each.
var broken = []struct {
	what   string
	breaks func() *Break
}{
	{"every RunTask has a token of its own", func() *Break {
		return &Break{Request: func(r control.StartRequest, call uint32) control.StartRequest {
			r.Token += fmt.Sprint("-", call)
			return r
		}}
	}},
	{"a silent task counts as stopped", func() *Break { return &Break{Silence: 45_000} }},
	{"a task that ECS does not list counts as stopped at once", func() *Break {
		return &Break{Rules: lifecycle.Rules{AskGraceMS: 1, StartTimeoutMS: 2}}
	}},
	{"a record is closed without looking at versions", func() *Break { return &Break{Commit: blind("ledger", "room")} }},
	{"the room is written without looking at its version", func() *Break { return &Break{Commit: blind("room")} }},
	{"the quota is written without looking at its version", func() *Break { return &Break{Commit: blind("quota")} }},
	{"epochs are written without looking at their version", func() *Break { return &Break{Commit: blind("epoch")} }},
	{"commits are not atomic", func() *Break { return &Break{Commit: oneByOne} }},
	{"heartbeats are taken in the order in which they come", func() *Break { return &Break{Frame: renumber()} }},
	{"events are not written", func() *Break {
		return &Break{Commit: without(func(wr store.Write) bool {
			return wr.Item.Kind == "event" && bytes.Contains(wr.Item.Data, []byte("participant."))
		})}
	}},
	{"a join opens no session", func() *Break { return &Break{Commit: without(isOpening)} }},
	{"the end of a task is when its event comes, in seconds", func() *Break {
		return &Break{Told: func(t control.Task) control.Task {
			t.StoppedMS -= t.StoppedMS % 1000
			return t
		}}
	}},
	{"nobody is fenced", func() *Break {
		return &Break{Post: func(typ string, data []byte) []byte {
			if typ == signal.LinkRefused {
				return []byte(`{"type":"registered","body":{"limits":{"max_participants":9,"unused_timeout_s":60,"empty_timeout_s":20}}}`)
			}
			return data
		}}
	}},
	{"nobody sweeps", func() *Break { return &Break{NoSweep: true} }},
	{"an event is marked and not delivered", func() *Break {
		return &Break{DropDelivery: func(id string) bool { return id[len(id)-1] == '3' }}
	}},
}

// TestBrokenControlPlanesAreFound proves that the model can fail: each broken control
// plane is found within a few seeds.
func TestBrokenControlPlanesAreFound(t *testing.T) {
	const most = 120
	for _, b := range broken {
		t.Run(b.what, func(t *testing.T) {
			for seed := range uint64(most) {
				if _, err := run(t, 4*seed+3, Storm(4*seed+3), b.breaks(), false); err != nil {
					t.Logf("seed %d: %v", 4*seed+3, err)
					return
				}
			}
			t.Errorf("%d seeds, and nothing was noticed", most)
		})
	}
}
