package model

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/aws/aws-lambda-go/events"

	"mayfly/functions/store"
)

// lateMS is how late an event may come, in milliseconds.
const lateMS = 90_000

// event has EventBridge deliver the task's state: at least once, in any order, unless
// it is lost.
func (w *World) event(t *ecsTask) {
	actor, n := t.actor(w, "event"), uint32(t.task.Version) //nolint:gosec // a handful
	if w.out(bridge) {
		return
	}
	if _, lost := w.chance.Draw(EventLost, actor, n); lost {
		w.say("the event of task %s version %d is lost", t.label, n)
		return
	}
	raw, err := eventOf(w.breaks.told(t.task))
	if err != nil {
		w.fail("%v", err)
		return
	}
	wait := int64(eventMS)
	if v, late := w.chance.Draw(EventLate, actor, n); late {
		wait += int64(v % lateMS)
		w.say("the event of task %s version %d is %d ms late", t.label, n, wait)
	}
	label := fmt.Sprintf("lifecycle(%s v%d)", t.label, n)
	deliver := func(ms int64, label string, actor uint64) {
		w.inflight++
		w.in(ms, func() { w.inflight--; w.async(lifecycleFn, label, actor, "ECS Task State Change", raw, 1) })
	}
	deliver(wait, label, mix(actor, uint64(n), 0))
	if v, twice := w.chance.Draw(EventTwice, actor, n); twice {
		w.say("the event of task %s version %d comes twice", t.label, n)
		deliver(wait+int64(v%20_000), label+" again", mix(actor, uint64(n), 1))
	}
}

// async invokes lifecycle as EventBridge does: three times in all, a minute or two apart.
func (w *World) async(k kind, label string, actor uint64, typ string, raw json.RawMessage, try int) {
	ev, err := json.Marshal(events.EventBridgeEvent{Version: "0", DetailType: typ, Source: "aws.ecs", Detail: raw, Time: w.time()})
	if err != nil {
		w.fail("%v", err)
		return
	}
	w.invoke(k, label, mix(actor, uint64(try), 2), func(ctx context.Context, box *sandbox) { //nolint:gosec // three at most
		err = box.lifecycle(ctx, ev)
	}, func(crashed bool) {
		if (err != nil || crashed) && try < 3 {
			w.inflight++
			w.in(int64(try)*60_000, func() { w.inflight--; w.async(k, label, actor, typ, raw, try+1) })
		}
	})
}

// tick is the schedule: each minute lifecycle sweeps the rooms, and deliver the outbox.
func (w *World) tick() {
	w.in(tickMS, w.tick)
	w.breaks.silence(w)
	w.sweep()
}

func (w *World) sweep() {
	n := uint32((w.now - startMS) / tickMS) //nolint:gosec // an hour or two
	if w.out(bridge) || w.breaks.noSweep() {
		return
	}
	if _, lost := w.chance.Draw(TickLost, name("tick", 0), n); lost {
		w.say("the schedule does not fire")
		return
	}
	w.async(lifecycleFn, fmt.Sprintf("sweep %d", n), name("sweep", int(n)), "Scheduled Event", json.RawMessage("{}"), 3)
	w.invoke(deliverFn, fmt.Sprintf("deliver %d", n), name("deliver", int(n)), func(ctx context.Context, box *sandbox) {
		_, _ = box.deliver(ctx, events.DynamoDBEvent{}) // what is left over is left to the next
	}, func(bool) {})
}

// stream has the table's stream wake deliver with new events. A batch whose invocation
// fails is given again.
func (w *World) stream(keys []store.Key, actor uint64, try int) {
	var ev events.DynamoDBEvent
	for _, k := range keys {
		ev.Records = append(ev.Records, events.DynamoDBEventRecord{
			EventName: string(events.DynamoDBOperationTypeInsert),
			Change: events.DynamoDBStreamRecord{SequenceNumber: "1", Keys: map[string]events.DynamoDBAttributeValue{
				"PK": events.NewStringAttribute(k.PK), "SK": events.NewStringAttribute(k.SK),
			}},
		})
	}
	var err error
	var out events.DynamoDBEventResponse
	w.invoke(deliverFn, fmt.Sprintf("deliver(%s %s…)", w.label(roomOf(keys[0].PK)), keys[0].SK), mix(actor, uint64(try), 3), //nolint:gosec // a handful
		func(ctx context.Context, box *sandbox) { out, err = box.deliver(ctx, ev) },
		func(crashed bool) {
			if (err != nil || crashed || len(out.BatchItemFailures) > 0) && try < 5 {
				w.in(int64(try)*1000, func() { w.stream(keys, actor, try+1) })
			}
		})
}
