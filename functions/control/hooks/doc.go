// Package hooks is webhooks: a tenant's endpoints, the keys that sign, and the sending
// of what outbox has put down as owed to them.
//
// A delivery is an item from the commit that puts its event into the log, so none is
// forgotten; and it is claimed before it is sent, so that two who send do not send the
// same one at the same time. A crash in between costs a repeat and never an attempt of
// the schedule. What follows an answer is one pure function (schedule.go). Requests go
// out through Sender, which functions/outbound implements with its guard against
// addresses that are not the internet's.
//
// The deliver handler wakes it with the table's stream and its schedule; api manages
// endpoints. It must not read rooms. Read schedule.go, then send.go.
package hooks

import (
	"context"
	"log/slog"
	"net/http"

	"mayfly/functions/control"
	"mayfly/functions/control/figures"
)

// Sender sends one request to somebody else's server.
type Sender interface {
	// Check says whether the URL is one that may ever be sent to.
	Check(url string) error
	// Post sends. Its error means that there was no answer. It takes Timeout at most.
	Post(ctx context.Context, url string, header http.Header, body []byte) (Answer, error)
}

// Answer is what of an answer matters.
type Answer struct {
	Status     int
	RetryAfter string // the header
}

// Hooks are the webhooks of a deployment. All fields are set once, before use.
type Hooks struct {
	Store  control.Store
	Sender Sender
	Now    control.Clock
	Log    *slog.Logger
	Retry  control.Retry
	Keys   *Keys
	Beside control.Beside // how endpoints are sent to at once
	Meter  figures.Meter  // nil: nobody counts
	// Random is a number in [0, 1), for jitter; nil means math/rand.
	Random func() float64
}
