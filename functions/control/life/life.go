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
// Files: life.go (types), create.go, task.go (allocate, ECS's word), link.go (the
// task's frames), sweep.go, push.go (what watchers are told).
package life

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"

	"mayfly/functions/control"
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
	ErrNotLive    = errors.New("life: room is not live") // may become live: wait for room{live}
	ErrEnded      = errors.New("life: room is draining or over")
)

// Config is set once, before use.
type Config struct {
	Rules    lifecycle.Rules // zero fields mean the defaults of lifecycle
	MaxRooms int             // concurrent rooms per tenant; 0 means 50
}

// Life is the room's life. All fields are set once, before use; its methods may be
// called from any number of goroutines and processes.
type Life struct {
	Store  control.Store
	Fleet  control.Fleet
	Post   control.Post
	Now    control.Clock
	Log    *slog.Logger
	Config Config
}

// CreateRequest is a validated request for a room.
type CreateRequest struct {
	Tenant         string
	IdempotencyKey string // "" for none
	BodyHash       string // hex SHA-256 of the request body
	ExternalID     string
	Region         string
	Limits         signal.RoomLimits // EndsAtMS is filled in
	Metadata       json.RawMessage
	Tags           map[string]string
	// Answer is kept with the idempotency key and given back in Created: all the
	// API needs to answer a repeat the same way.
	Answer json.RawMessage
}

// Created is the room, and for a repeated Idempotency-Key what the first call kept.
type Created struct {
	Room
	Answer   json.RawMessage // the first call's
	Replayed bool            // the room existed already
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
}

// Create makes the room with its open ledger, quota, idempotency key and event in
// one commit, then asks for its task. Errors of the second part do not fail it:
// the sweep tries again. Errors: ErrIdemReused, ErrQuota.
func (l *Life) Create(ctx context.Context, r CreateRequest) (Created, error) {
	return Created{}, errors.ErrUnsupported
}

// Get loads a room. Errors: ErrNotFound.
func (l *Life) Get(ctx context.Context, room string) (Room, error) {
	return Room{}, errors.ErrUnsupported
}

// Allocate claims the start of a requested room and starts its task.
func (l *Life) Allocate(ctx context.Context, room string) error { return errors.ErrUnsupported }

// Register answers a task that claims its room: Registered or Refused.
func (l *Life) Register(ctx context.Context, conn control.Conn, who TaskIdentity, m signal.Register) (*Reply, error) {
	return nil, errors.ErrUnsupported
}

// Heartbeat stores usage and renews the lease: Ack, Refused, or no answer when the
// connection has not registered (yet).
func (l *Life) Heartbeat(ctx context.Context, conn control.Conn, m signal.Heartbeat) (*Reply, error) {
	return nil, errors.ErrUnsupported
}

// Ending answers a task that wants to end: ending_ok, Keep, Refused, or none.
func (l *Life) Ending(ctx context.Context, conn control.Conn, m signal.Ending) (*Reply, error) {
	return nil, errors.ErrUnsupported
}

// AdmitJoin counts a join against the room's ending: after it, an Ending that has
// not seen this join is answered Keep. Writes in with become part of the same
// commit; a conflict on one of them is returned as it is (*store.ConflictError).
// Errors: ErrNotFound, ErrNotLive, ErrEnded.
func (l *Life) AdmitJoin(ctx context.Context, room string, with ...store.Write) (joinSeq uint64, r Room, err error) {
	return 0, Room{}, errors.ErrUnsupported
}

// Delete ends a room: at once when no task was asked for, else through its task.
// A room that is draining or over is no error. Errors: ErrNotFound.
func (l *Life) Delete(ctx context.Context, room string) error { return errors.ErrUnsupported }

// TaskChanged takes ECS's word on a task, in any order and any number of times.
func (l *Life) TaskChanged(ctx context.Context, t control.Task) error { return errors.ErrUnsupported }

// Sweep looks at every due room and at every running task.
func (l *Life) Sweep(ctx context.Context) error { return errors.ErrUnsupported }

// RoomMessage is what watchers are told of a room.
func (l *Life) RoomMessage(r Room) signal.Room { return signal.Room{} }
