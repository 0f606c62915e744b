// Package entry adapts Lambda events to the control plane: one handler for each of
// the four functions rooms, socket, lifecycle and deliver.
//
// It owns the functions' configuration (config.go) and the translation of events and
// answers, and nothing else: what happens is functions/control's. The mains in
// functions/{rooms,socket,lifecycle,deliver} call it with AWS behind the interfaces
// (functions/wire), infra/local with its stand-ins; the handlers cannot tell which.
// Read config.go, then socket.go.
package entry

import (
	"context"
	"log/slog"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/control/figures"
	"mayfly/functions/control/hooks"
	"mayfly/functions/control/ledger"
	"mayfly/functions/control/life"
	"mayfly/functions/outbound"
)

// Deps are what stands behind the handlers. All fields are set once, before use.
// deliver needs neither Fleet nor Post.
type Deps struct {
	Store control.Store
	Fleet control.Fleet
	Post  control.Post
	// Naming is for socket and lifecycle; nil without a domain for relays.
	Naming control.Naming
	Now    control.Clock
	// Wait waits, or returns the error of a context that ended. nil waits on the
	// machine's clock.
	Wait   func(context.Context, time.Duration) error
	Log    *slog.Logger
	Config Config
	// Meter takes figures; nil takes none.
	Meter figures.Meter
	// Sender sends webhooks; nil is functions/outbound's for the internet.
	Sender hooks.Sender
}

func (d Deps) life() *life.Life {
	return &life.Life{Store: d.Store, Fleet: d.Fleet, Post: d.Post, Now: d.Now, Log: d.Log, Config: d.Config.Life, Naming: d.Naming,
		Books: &ledger.Books{Store: d.Store, Now: d.Now}, Meter: d.Meter}
}

// hooks needs WebhookSecret.
func (d Deps) hooks() (*hooks.Hooks, error) {
	keys, err := hooks.NewKeys(string(d.Config.WebhookSecret), string(d.Config.WebhookSecretBefore))
	if err != nil {
		return nil, err
	}
	h := &hooks.Hooks{Store: d.Store, Sender: d.Sender, Now: d.Now, Log: d.Log, Retry: d.Config.Life.Retry, Keys: keys,
		Beside: d.Config.Life.Beside, Random: d.Config.Life.Retry.Random, Meter: d.Meter}
	if h.Sender == nil {
		h.Sender = outbound.New(outbound.Config{})
	}
	return h, nil
}
