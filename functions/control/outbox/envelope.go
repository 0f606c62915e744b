package outbox

import (
	"encoding/json"
	"fmt"
	"time"

	"mayfly/functions/control"
)

// MaxBody is the most bytes of a webhook's body (Standard Webhooks recommends 20 KB).
const MaxBody = 20 << 10

// envelope is an event as products are told it, by webhook and by GET /v1/events
// alike. Type, timestamp and data are Standard Webhooks' members.
type envelope struct {
	ID        string          `json:"id"`
	Type      string          `json:"type"`
	Timestamp string          `json:"timestamp"`
	Room      string          `json:"room,omitempty"`
	Endpoint  string          `json:"endpoint,omitempty"`
	Seq       uint64          `json:"seq"`
	Position  uint64          `json:"position"`
	Data      json.RawMessage `json:"data"`
}

// cloudEvent is a usage event: CloudEvents 1.0 in structured mode, which meters take
// as it is. Its id names the record and its version, so that a meter which has
// counted one passes over its repeats. The rest are extension attributes.
type cloudEvent struct {
	SpecVersion string          `json:"specversion"`
	ID          string          `json:"id"` // "<room>:<version>": 1 is the closed record, n+1 the nth correction
	Source      string          `json:"source"`
	Type        string          `json:"type"`
	Subject     string          `json:"subject"` // the tenant
	Time        string          `json:"time"`
	ContentType string          `json:"datacontenttype"`
	EventID     string          `json:"eventid"` // as in the webhook-id header
	Room        string          `json:"room"`
	Seq         uint64          `json:"seq"`
	Position    uint64          `json:"position"`
	Data        json.RawMessage `json:"data"`
}

// CloudEvents' type is the event's with this in front.
const cloudPrefix = "com.mayfly."

// Envelope is what a product is told of an event. It depends on the event alone, so
// every delivery of it has the same body.
func Envelope(l *control.Logged) ([]byte, error) {
	data := l.Data
	if len(data) == 0 {
		data = json.RawMessage("{}")
	}
	at := time.UnixMilli(l.AtMS).UTC().Format("2006-01-02T15:04:05.000Z")
	var v any = envelope{
		ID: l.ID, Type: l.Type, Timestamp: at, Room: l.Room, Endpoint: l.Endpoint, Seq: l.Seq, Position: l.Position, Data: data,
	}
	if l.Type == UsageClosed || l.Type == UsageCorrected {
		var record struct {
			N int `json:"n"` // of a correction
		}
		if err := json.Unmarshal(data, &record); err != nil {
			return nil, fmt.Errorf("event %s: %w", l.ID, err)
		}
		v = cloudEvent{
			SpecVersion: "1.0", ID: fmt.Sprintf("%s:%d", l.Room, record.N+1), Source: "urn:mayfly:room:" + l.Room,
			Type: cloudPrefix + l.Type, Subject: l.Tenant, Time: at, ContentType: "application/json",
			EventID: l.ID, Room: l.Room, Seq: l.Seq, Position: l.Position, Data: data,
		}
	}
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", l.ID, err)
	}
	if len(body) > MaxBody {
		return nil, fmt.Errorf("event %s has %d bytes, over %d", l.ID, len(body), MaxBody)
	}
	return body, nil
}
