package robot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/coder/websocket"

	"mayfly/shared/signal"
)

// ceilings are the longest delays before the tries to come back, as in web/wire.js.
var ceilings = []time.Duration{500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 15 * time.Second}

// Delay is the time before try n (from 0) to come back: any up to a ceiling that grows,
// all equally likely. random is from 0 to 1.
func Delay(n int, random float64) time.Duration {
	return time.Duration(random * float64(ceilings[min(n, len(ceilings)-1)]))
}

// Reconnect opens another WebSocket after one that ended, on the client's schedule, and
// returns when the room has answered on it. Media goes on meanwhile.
func (r *Robot) Reconnect(ctx context.Context, url string, random func() float64) error {
	select {
	case <-r.gone: // its reader has ended
	case <-ctx.Done():
		return ctx.Err()
	}
	var last error
	for n := 0; ; n++ {
		select {
		case <-time.After(Delay(n, random())):
		case <-ctx.Done():
			return errors.Join(last, ctx.Err())
		}
		if last = r.again(ctx, url); last == nil {
			return nil
		}
	}
}

// again is one try of Reconnect.
func (r *Robot) again(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ws, err := dial(ctx, url)
	if err != nil {
		return err
	}
	data, err := signal.Encode(signal.TypeWatch, 1, signal.Watch{Resume: r.Joined.Resume})
	if err == nil {
		err = ws.Write(ctx, websocket.MessageText, data)
	}
	for err == nil {
		var m signal.Room
		if _, data, err = ws.Read(ctx); err != nil {
			break
		}
		if f, ferr := signal.ParseFrame(data, signal.MaxMessageBytes); ferr == nil && f.Type == signal.TypeRoom && json.Unmarshal(f.Body, &m) == nil {
			_ = r.ws.CloseNow() // it has ended
			r.ws, r.seq = ws, 1
			return nil
		}
	}
	_ = ws.CloseNow()
	return fmt.Errorf("robot: reconnect: %w", err)
}
