package local

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"mayfly/functions/control"
	"mayfly/functions/control/outbox"
	"mayfly/functions/store"
	"mayfly/infra/local/identity"
	"mayfly/infra/local/invoke"
)

// emit gives a task event to the lifecycle function.
func (l *Local) emit(event json.RawMessage) {
	l.outages.events.pass(func() { l.life.Send(l.ctx, event) })
}

// schedule is the rule of the sweeps.
func (l *Local) schedule() {
	t := time.NewTicker(l.cfg.SweepEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if l.outages.events.open() { // what the schedule misses does not come later
				l.tick()
			}
		case <-l.quit:
			return
		}
	}
}

// tick sends the scheduled event to the functions that sweep.
func (l *Local) tick() {
	now := time.Now().UTC()
	event, err := json.Marshal(events.EventBridgeEvent{
		Version: "0", ID: invoke.RequestID(), DetailType: "Scheduled Event", Source: "aws.events",
		AccountID: identity.Account, Time: now.Truncate(time.Second), Region: Region,
		Resources: []string{"arn:aws:events:local:" + identity.Account + ":rule/sweep"}, Detail: json.RawMessage("{}"),
	})
	if err != nil {
		l.log.Error("scheduled event", "err", err)
		return
	}
	l.life.Send(l.ctx, event)
	l.deliver.Send(l.ctx, event)
}

// observe hears of every commit: new events and new deliveries go to the streams,
// whose filters let nothing else pass, and events to the terminal.
func (l *Local) observe(changed []store.Item) {
	for _, it := range changed {
		if it.Version != 1 {
			continue
		}
		l.outages.events.pass(func() { l.streams.put(it) })
		if it.Kind == "event" {
			l.narrator.tell(it)
		}
	}
}

// narrator writes a line per event of a room, for people.
type narrator struct {
	line func(string) // set once; nil says nothing

	mu    sync.Mutex
	began map[string]int64 // guarded by mu: Unix ms of room.created
}

func newNarrator(line func(string)) *narrator {
	return &narrator{line: line, began: map[string]int64{}}
}

func (n *narrator) tell(it store.Item) {
	if n.line == nil {
		return
	}
	var e control.Event
	if err := json.Unmarshal(it.Data, &e); err != nil {
		return // the functions will say so
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if e.Type == outbox.RoomCreated {
		n.began[e.Room] = e.AtMS
	}
	age := ""
	if began, ok := n.began[e.Room]; ok && e.AtMS > began {
		age = fmt.Sprintf("+%.2fs", float64(e.AtMS-began)/1000)
	}
	if e.Type == outbox.UsageClosed {
		delete(n.began, e.Room) // nothing comes after it
	}
	line := fmt.Sprintf("%s %s %-18s %8s %s", time.UnixMilli(e.AtMS).Format("15:04:05.000"), e.Room+e.Endpoint, e.Type, age, brief(e.Data))
	n.line(strings.TrimRight(line, " "))
}

// private are members of an event's data that do not go to the terminal.
var private = []string{"identity", "name", "metadata", "attributes"}

// brief is an event's data as "member=value" for its plain members.
func brief(data json.RawMessage) string {
	var members map[string]any
	if json.Unmarshal(data, &members) != nil {
		return ""
	}
	var out []string
	for k, v := range members {
		if slices.Contains(private, k) {
			continue
		}
		switch v := v.(type) {
		case string:
			if v != "" {
				out = append(out, k+"="+v)
			}
		case float64:
			out = append(out, k+"="+strconv.FormatFloat(v, 'f', -1, 64))
		case bool:
			out = append(out, k+"="+strconv.FormatBool(v))
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// hostOf is the host of a URL, with its port.
func hostOf(u string) string {
	_, rest, _ := strings.Cut(u, "://")
	host, _, _ := strings.Cut(rest, "/")
	return host
}
