package model

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"mayfly/functions/control"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
)

// Break is a control plane that is wrong in one place, to prove that the model would
// notice. A field that is nil breaks nothing; so does a nil Break.
type Break struct {
	Commit  func(ctx context.Context, t *Table, writes []store.Write) error
	Dawdle  func(writes []store.Write) int64                  // ms for which a function stands still before a commit
	Request func(r control.StartRequest) control.StartRequest // of RunTask
	Told    func(t control.Task) control.Task                 // ECS's events, as they are read
	Frame   func(task, typ string, data []byte) []byte        // of a task, as it is read
	Post    func(typ string, data []byte) []byte              // to a task or client
	Rules   lifecycle.Rules                                   // instead of the standard ones
	NoSweep bool
	Odds    map[Move]uint32 // what the storm is to be like for it to matter
	// DropDelivery loses an event on its way out of deliver.
	DropDelivery func(id string) bool
	// Silence has the room's task taken for stopped, without ECS's word, when the room
	// has been silent for this long, in ms.
	Silence int64
}

func (b *Break) commit(ctx context.Context, t *Table, writes []store.Write) error {
	if b == nil || b.Commit == nil {
		return t.Commit(ctx, writes...)
	}
	return b.Commit(ctx, t, writes)
}

func (b *Break) dawdle(writes []store.Write) int64 {
	if b == nil || b.Dawdle == nil {
		return 0
	}
	return b.Dawdle(writes)
}

func (b *Break) request(r control.StartRequest) control.StartRequest {
	if b == nil || b.Request == nil {
		return r
	}
	return b.Request(r)
}

func (b *Break) told(t control.Task) control.Task {
	if b == nil || b.Told == nil {
		return t
	}
	return b.Told(t)
}

func (b *Break) frame(p *roomTask, typ string, data []byte) []byte {
	if b == nil || b.Frame == nil {
		return data
	}
	return b.Frame(p.t.task.ARN, typ, data)
}

func (b *Break) post(data []byte) []byte {
	if b == nil || b.Post == nil {
		return data
	}
	var f signal.Frame
	if json.Unmarshal(data, &f) != nil {
		return data
	}
	return b.Post(f.Type, data)
}

func (b *Break) rules() lifecycle.Rules {
	if b == nil {
		return lifecycle.Rules{}
	}
	return b.Rules
}

// silence takes silent tasks for stopped.
func (b *Break) silence(w *World) {
	if b == nil || b.Silence == 0 {
		return
	}
	for _, r := range w.order {
		room := w.truth.known[r.id]
		if t := w.ecs.tasks[room.Task]; t != nil && room.State == lifecycle.Live && w.now-room.HeartbeatMS > b.Silence && !t.gone {
			said := t.task
			said.LastStatus, said.StoppedMS, said.Version = stopped, w.now, said.Version+1
			if raw, err := eventOf(said); err == nil {
				w.async(lifecycleFn, "silence of "+t.label, t.actor(w, "silence"), "ECS Task State Change", raw, 3)
			}
		}
	}
}

func (b *Break) noSweep() bool { return b != nil && b.NoSweep }

// describe says what a commit writes, for histories.
func (w *World) describe(writes []store.Write) string {
	var out []string
	for _, wr := range writes {
		if wr.Op != store.Put {
			continue
		}
		text := wr.Item.Kind
		switch text {
		case "room":
			r := decode[control.Room](w, wr.Item)
			text = fmt.Sprintf("room %s{%s epoch %d handing %q task %q link %q joins %d due +%d s}", w.label(r.ID), r.State, r.Epoch, r.HandingTask[max(0, len(r.HandingTask)-2):],
				r.Task[max(0, len(r.Task)-2):], r.Link, r.JoinSeq, (r.DueAtMS-w.now)/1000)
		case "epoch":
			e := decode[control.Epoch](w, wr.Item)
			text = fmt.Sprintf("epoch{%d task %s stopped %v by %q report %d final %v}", e.Epoch, e.Task.LastStatus, e.Stopped, e.StoppedFrom, e.ReportSeq, e.Final)
		case "session":
			s := decode[control.Session](w, wr.Item)
			text = fmt.Sprintf("session{%s %d..%d seq %d bytes %d}", s.ID[max(0, len(s.ID)-4):], s.JoinedMS-startMS, s.LeftMS-startMS, s.Seq, s.BytesOut.Total)
		case "event":
			e := decode[control.Event](w, wr.Item)
			text = fmt.Sprintf("event{%d %s delivered %v}", e.Seq, e.Type, e.DeliveredMS != 0)
		case "ledger":
			text = fmt.Sprintf("ledger{closed %v}", decode[control.Ledger](w, wr.Item).ClosedMS != 0)
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}
