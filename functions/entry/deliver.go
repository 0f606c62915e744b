package entry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"mayfly/functions/control/hooks"
	"mayfly/functions/control/outbox"
	"mayfly/functions/store"
)

const (
	// outboxAfter is the age from which the sweep takes an event: of a younger one
	// deliver has been told by the stream.
	outboxAfter = time.Minute
	// deliverPause is between two passes of one scheduled invocation, while a delivery
	// is due before it ends: the first repeat is due after 5 s.
	deliverPause = 5 * time.Second
	// deliverSpare is the time that the last pass is left before the function times out:
	// one request that hangs, and what is written about it.
	deliverSpare = hooks.Timeout + 5*time.Second
)

// DeliverHandler is the handler of the table's stream, and of the schedule: an event
// without records.
type DeliverHandler func(context.Context, events.DynamoDBEvent) (events.DynamoDBEventResponse, error)

// deliverer is the deliver function.
type deliverer struct {
	outbox *outbox.Outbox
	hooks  *hooks.Hooks
	tell   outbox.Deliver
	now    func() time.Time
	wait   func(context.Context, time.Duration) error
	log    *slog.Logger
	long   time.Duration // how long a scheduled invocation goes on
}

// Deliver is the deliver function. Woken by new events it puts them into their tenants'
// logs, woken by new deliveries it sends them, and on schedule it does both for whatever
// is left. Events that it could not put there are reported to the stream, which repeats
// the batch from the first of them; deliveries that it could not send are the sweep's.
func Deliver(d Deps) (DeliverHandler, error) {
	h, err := d.hooks()
	if err != nil {
		return nil, err
	}
	f := &deliverer{
		outbox: &outbox.Outbox{Store: d.Store, Now: d.Now, Log: d.Log, Retry: d.Config.Life.Retry},
		hooks:  h, tell: outbox.LogTo(d.Log), now: d.Now, wait: d.Wait, log: d.Log, long: d.Config.SweepFor,
	}
	if f.wait == nil {
		f.wait = pause
	}
	return func(ctx context.Context, ev events.DynamoDBEvent) (events.DynamoDBEventResponse, error) {
		if len(ev.Records) == 0 {
			return events.DynamoDBEventResponse{}, f.sweep(ctx)
		}
		return f.records(ctx, ev.Records)
	}, nil
}

// records handles a batch of the stream.
func (f *deliverer) records(ctx context.Context, records []events.DynamoDBEventRecord) (out events.DynamoDBEventResponse, err error) {
	keys, err := keysOf(records)
	if err != nil {
		return out, err
	}
	failed := f.outbox.DrainEach(ctx, keys, f.tell)
	if err := f.hooks.Send(ctx, keys); err != nil {
		f.log.WarnContext(ctx, "deliveries left to the sweep", "err", err)
	}
	for _, r := range records { // in the stream's order: the first one counts
		pk := r.Change.Keys["PK"] // which a record that was passed over may lack
		if pk.DataType() != events.DataTypeString || failed[pk.String()] == nil {
			continue
		}
		err := failed[pk.String()]
		f.log.ErrorContext(ctx, "events not published", "err", err, "rooms", len(failed))
		if r.Change.SequenceNumber == "" {
			return out, err
		}
		out.BatchItemFailures = []events.DynamoDBBatchItemFailure{{ItemIdentifier: r.Change.SequenceNumber}}
		return out, nil
	}
	return out, nil
}

// sweep does what is left to do, again and again while there will be something to send
// before its time is over. Its error is that of the last pass.
func (f *deliverer) sweep(ctx context.Context) error {
	began := f.now()
	for {
		err := f.outbox.Sweep(ctx, outboxAfter, f.tell)
		nextMS, more, herr := f.hooks.Sweep(ctx)
		if err = errors.Join(err, herr); err != nil {
			f.log.WarnContext(ctx, "a pass of the sweep failed", "err", err)
		}
		now := f.now()
		next := now.Add(deliverPause)
		if limit, ok := ctx.Deadline(); next.Sub(began) > f.long || ok && time.Until(limit) < deliverPause+deliverSpare {
			return err
		}
		if err == nil && (!more || time.UnixMilli(nextMS).Sub(began) > f.long) {
			return nil
		}
		if werr := f.wait(ctx, deliverPause); werr != nil {
			return err // the invocation ends, which is the sweep's error or none
		}
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
