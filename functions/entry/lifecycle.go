package entry

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/aws/aws-lambda-go/events"

	"mayfly/functions/fleet/taskevent"
)

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
