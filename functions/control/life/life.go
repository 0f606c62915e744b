// Package life is a room's life in the control plane: create, allocate a task,
// register it, watch it, end it, and put right whatever was lost on the way.
//
// It applies shared/lifecycle (the transitions; read that first) to the stored
// room: load, step, commit, and on a conflict load again. What the step asks for
// (start or stop a task, tell the task or the watchers) is done after the commit;
// a crash in between is repaired by Sweep, because every room that is not settled
// is due some time. api, join and the lifecycle handler call it. It must not
// decide anything that the pure step does not know, and it never counts usage:
// that is ledger's.
//
// Files: life.go (types), step.go (load, step, commit, act), create.go, start.go
// (attempts), task.go (ECS's word),
// standby.go (a warm task's frames and its claim), pool.go (the pool in the sweep), link.go (the task's frames), naming.go (the name of its relay), budget.go (caps, quotas), sweep.go, push.go (what
// watchers are told), figures.go (what is measured).
package life

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"mayfly/functions/control"
	"mayfly/functions/control/budget"
	"mayfly/functions/control/figures"
	"mayfly/functions/control/ledger"
	"mayfly/functions/control/pool"
	"mayfly/functions/control/shape"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
)

// Room is a stored room.
type Room = control.Room

// Errors of this package.
var (
	ErrNotFound   = errors.New("life: no such room")
	ErrIdemReused = errors.New("life: idempotency key was used with another request body")
	ErrQuota      = errors.New("life: too many rooms")
	ErrRate       = errors.New("life: too many creates a second")
	ErrSpend      = errors.New("life: the day's spend is used up")
	ErrNotLive    = errors.New("life: room is not live") // may become live: wait for room{live}
	ErrEnded      = errors.New("life: room is draining or over")
	ErrOver       = errors.New("life: room is draining or over, and is not changed any more")
	ErrNameTaken  = errors.New("life: a room of this external id is open")
)

// Config is set once, before use.
type Config struct {
	Rules    lifecycle.Rules // zero fields mean the defaults of lifecycle
	MaxRooms int             // concurrent rooms per tenant; 0 means 50
	// What a tenant may create, unless its own limits say otherwise: rooms a second
	// and at once (0: without limit), and nano-USD a day (0: without limit).
	CreatesPerSecond, CreateBurst int
	SpendPerDay                   int64
	// Zones is how many subnets the fleet can be told to use one of. Revisions says
	// which revision of the task definition new rooms get.
	Zones     int
	Region    string // where standby tasks run
	Revisions shape.Revisions
	// Pool is how many tasks stand by without a room, by size; PoolTenant is whose bill
	// they are on, "operator" by default.
	Pool       []pool.Target
	PoolRules  pool.Rules // zero fields mean the defaults of pool
	PoolTenant string
	StartEtaMS int64         // expected milliseconds from claim to live, told to watchers; 0 tells none
	Retry      control.Retry // of commits that lose a race; the zero value is good
	Beside     control.Beside
}

const defaultMaxRooms = 50

// Life is the room's life. All fields are set once, before use; its methods may be
// called from any number of goroutines and processes.
type Life struct {
	Store  control.Store
	Fleet  control.Fleet
	Post   control.Post
	Now    control.Clock
	Log    *slog.Logger
	Config Config
	Naming control.Naming // of the socket and lifecycle functions; nil: relays are not reached by TLS
	Books  *ledger.Books  // price books; nil knows those that are part of the program
	Meter  figures.Meter  // nil: nobody counts
}

// CreateRequest is a validated request for a room.
type CreateRequest struct {
	Tenant         string
	IdempotencyKey string // "" for none
	BodyHash       string // hex SHA-256 of the request body
	ExternalID     string
	Region         string
	Size           string // as shape knows them; "" leaves it to the task definition
	Media          string // shape.Video or shape.Audio
	Spot           bool
	Revision       string            // "" leaves the choice to the deployment
	StartDeadlineS int               // how long a start may wait for capacity; 0 is the rules' own
	Limits         signal.RoomLimits // EndsAtMS is filled in
	Metadata       json.RawMessage
	Tags           map[string]string
	Caps           budget.Amounts // besides the duration, which Limits has
	E2EE           bool           // clients encrypt what they publish
	// IfExists says what another open room of this ExternalID does: IfExistsError,
	// IfExistsReturn, or "" for nothing. Only rooms created with either are compared.
	IfExists string
	// Answer is kept with the idempotency key and given back in Created: all the
	// API needs to answer a repeat the same way.
	Answer json.RawMessage
}

// Created is the room, and for a repeated Idempotency-Key what the first call kept.
type Created struct {
	Room
	Answer   json.RawMessage // the first call's
	Replayed bool            // the key was used before
	Existed  bool            // the room was open already, under this ExternalID
	Left     *QuotaLeft      // of the tenant's quota; nil if nothing was taken
}

// TaskIdentity is what the gateway vouches for about a task's connection.
type TaskIdentity struct {
	TaskID   string // the role session name: the last part of the task's ARN
	SourceIP string
}

// Reply is a frame to answer with: signal.Encode(r.Type, 0, r.Body). A nil *Reply
// means no answer; the task repeats its frame.
type Reply struct {
	Type string // signal.LinkRegistered, LinkRefused, LinkAck, LinkEndingOK, LinkKeep
	Body any
	// After is done when the answer has been sent, so that the task need not wait for it; nil is nothing.
	After func(context.Context)
}

// Get loads a room. Errors: ErrNotFound.
func (l *Life) Get(ctx context.Context, room string) (Room, error) {
	r, err := control.Load[control.Room](ctx, l.Store, control.RoomKey(room))
	if errors.Is(err, store.ErrNotFound) {
		return Room{}, ErrNotFound
	}
	if err != nil {
		return Room{}, fmt.Errorf("load %s: %w", room, err)
	}
	return *r, nil
}

func (l *Life) nowMS() int64 { return l.Now().UnixMilli() }

func (l *Life) ledger() *ledger.Ledger {
	return &ledger.Ledger{Store: l.Store, Now: l.Now, Log: l.Log, Retry: l.Config.Retry, Books: l.Books, Meter: l.Meter}
}
