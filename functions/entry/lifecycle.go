package entry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"mayfly/functions/control/outbox"
	"mayfly/functions/fleet/taskevent"
	"mayfly/functions/store"
)

// sweepAfter is the age from which the sweep delivers an event: a younger one has
// been told to deliver by the stream.
const sweepAfter = time.Minute

// LifecycleHandler is the handler of EventBridge events.
type LifecycleHandler func(context.Context, json.RawMessage) error

// Lifecycle is the lifecycle function: ECS's word on tasks, and the sweep.
func Lifecycle(d Deps) LifecycleHandler {
	l, sweep := d.life(), d.sweeper()
	return func(ctx context.Context, raw json.RawMessage) error {
		var ev events.EventBridgeEvent
		if err := json.Unmarshal(raw, &ev); err != nil {
			return fmt.Errorf("decode event: %w", err)
		}
		switch ev.DetailType {
		case "ECS Task State Change":
			task, err := taskevent.Parse(ev.Detail)
			if err != nil {
				return err
			}
			return l.TaskChanged(ctx, task)
		case "Scheduled Event":
			return sweep.run(ctx)
		}
		return fmt.Errorf("event of type %.60q", ev.DetailType)
	}
}

// DeliverHandler is the handler of the table's stream, and of the schedule: an event
// without records.
type DeliverHandler func(context.Context, events.DynamoDBEvent) error

// Deliver is the deliver function: it hands the outbox's events over, for now to the
// structured log. An error makes the stream repeat the batch; what was delivered is
// passed over then.
func Deliver(d Deps) DeliverHandler {
	o := &outbox.Outbox{Store: d.Store, Now: d.Now, Log: d.Log, Retry: d.Config.Life.Retry}
	to := outbox.LogTo(d.Log)
	return func(ctx context.Context, ev events.DynamoDBEvent) error {
		if len(ev.Records) == 0 {
			return o.Sweep(ctx, sweepAfter, to)
		}
		keys, err := keysOf(ev.Records)
		return errors.Join(err, o.Drain(ctx, keys, to))
	}
}

// keysOf are the keys of the items that were written. Deletions tell nothing new.
func keysOf(records []events.DynamoDBEventRecord) ([]store.Key, error) {
	var keys []store.Key
	for _, r := range records {
		if r.EventName == string(events.DynamoDBOperationTypeRemove) {
			continue
		}
		pk, ok1 := r.Change.Keys["PK"]
		sk, ok2 := r.Change.Keys["SK"]
		if !ok1 || !ok2 || pk.DataType() != events.DataTypeString || sk.DataType() != events.DataTypeString {
			return keys, fmt.Errorf("stream record %.40q without its keys", r.EventID)
		}
		keys = append(keys, store.Key{PK: pk.String(), SK: sk.String()})
	}
	return keys, nil
}
