// Package control is the control plane: what the Lambda functions do, with no AWS
// type in sight. It sees the world through three small interfaces (Store, Fleet,
// Post); functions/entry adapts Lambda events to it, and main chooses what stands
// behind the interfaces.
//
// This file holds those interfaces. The ideas have a package each: life (a room's
// life), join (connections and the relay between clients and task), ledger (usage
// and the bill), outbox (events), api (HTTP). Read life first.
package control

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"mayfly/functions/control/shape"
	"mayfly/functions/store"
	"mayfly/shared/signal"
)

// Store is the versioned item store.
type Store = store.Store

// Fleet starts and stops room tasks. functions/fleet implements it on ECS.
type Fleet interface {
	// Start runs one task. The same Token always means the same task: a repeat, or a
	// repeat after a deploy, returns the task that the first call started.
	Start(ctx context.Context, r StartRequest) (Task, error)
	// Stop asks a task to end (SIGTERM, then SIGKILL after the stop timeout). A task
	// that is gone is no error.
	Stop(ctx context.Context, arn, reason string) error
	// Describe tells what is known of a task. ErrTaskUnknown may also mean "too
	// early" or "stopped over an hour ago".
	Describe(ctx context.Context, arn string) (Task, error)
	// Find lists running or pending tasks; startedBy "" lists all of the cluster. Else,
	// if there is none, it lists what is stopping or has stopped within the last hour.
	Find(ctx context.Context, startedBy string) ([]Task, error)
}

// StartRequest names the task to start, and says what it is to be. Requests of one
// Token are the same in every field.
type StartRequest struct {
	Room     string
	Epoch    int
	Slot     string // of the warm pool, for a task that has no room yet: then Room is ""
	Token    string // idempotency: "<room>.<epoch>[.<attempt>]", ≤ 64 ASCII characters
	Region   string
	Revision string // of the task definition; "" is the fleet's own
	shape.Shape
}

// StartedBy is how ECS remembers whose task it is.
func (r StartRequest) StartedBy() string {
	if r.Slot != "" {
		return "pool/" + r.Slot
	}
	return "room/" + r.Room + "/" + strconv.Itoa(r.Epoch)
}

// Task is a Fargate task as ECS tells it. Times are Unix milliseconds, 0 if unknown.
type Task struct {
	ARN           string `json:"arn"`
	StartedBy     string `json:"started_by"`  // "room/<id>/<epoch>" or "pool/<slot>"
	LastStatus    string `json:"last_status"` // PROVISIONING, PENDING, RUNNING, …, STOPPED
	Version       int64  `json:"version"`     // detail.version, orders the events
	StopCode      string `json:"stop_code,omitempty"`
	StoppedReason string `json:"stopped_reason,omitempty"`
	ExitCode      *int   `json:"exit_code,omitempty"`
	CreatedMS     int64  `json:"created_ms,omitempty"`
	PullStartedMS int64  `json:"pull_started_ms,omitempty"`
	PullStoppedMS int64  `json:"pull_stopped_ms,omitempty"`
	StartedMS     int64  `json:"started_ms,omitempty"`
	StoppingMS    int64  `json:"stopping_ms,omitempty"`
	StoppedMS     int64  `json:"stopped_ms,omitempty"`
	ConnectedMS   int64  `json:"connectivity_ms,omitempty"`      // its network interface was attached
	ExecStoppedMS int64  `json:"execution_stopped_ms,omitempty"` // its containers had ended
	CPU           string `json:"cpu,omitempty"`                  // CPU units, 1024 = one vCPU
	Memory        string `json:"memory,omitempty"`               // MiB
	ImageDigest   string `json:"image_digest,omitempty"`
	AZ            string `json:"az,omitempty"`
	Arch          string `json:"arch,omitempty"`              // arm64 or x86_64
	Capacity      string `json:"capacity_provider,omitempty"` // FARGATE_SPOT, or FARGATE or "" for on demand
	StorageGiB    int64  `json:"storage_gib,omitempty"`       // ephemeral; Fargate charges for more than 20
}

// Errors of a Fleet. The last three are ECS's own word that nothing was started; any
// other error of Start may hide a task.
var (
	ErrTaskUnknown = errors.New("fleet: no such task")
	ErrNoCapacity  = errors.New("fleet: no capacity")    // of this shape: no capacity, or a quota is used up
	ErrBusy        = errors.New("fleet: too many calls") // the same again, later
	ErrRefused     = errors.New("fleet: refused")        // for a reason that time does not heal: no such revision, no permission
)

// Post sends to WebSocket connections of the two APIs.
type Post interface {
	// Send posts one message, at most signal.MaxMessageBytes.
	Send(ctx context.Context, c Conn, data []byte) error
	// Close ends the connection. A connection that is gone is no error.
	Close(ctx context.Context, c Conn) error
}

// Naming has a name lead to each task's relay, so that it is reached by TLS, and gives
// the certificate of those names. functions/names implements it on Route 53 and Secrets
// Manager.
type Naming interface {
	// Name is the name of a task's relay, by the task's id. stands says that it leads
	// there whatever is done.
	Name(task string) (name string, stands bool)
	// Certificate gives the newest certificate for a name, and its key.
	Certificate(ctx context.Context, name string) (*signal.RelayTLS, error)
	// Point begins to have a name lead to an address, and returns what to ask Spread for.
	// The same again is harmless.
	Point(ctx context.Context, name, address string) (change string, err error)
	// Spread says whether everybody who asks for the name is told.
	Spread(ctx context.Context, change string) (bool, error)
	// Remove undoes Point. A name that is not there is no error.
	Remove(ctx context.Context, name, address string) error
}

// ErrNamingBusy says that the zone takes no more changes at the moment.
var ErrNamingBusy = errors.New("naming: too many calls")

// Conn names a WebSocket connection. Task says which of the two APIs it belongs to.
type Conn struct {
	ID   string `json:"id"`
	Task bool   `json:"task,omitempty"`
}

// Errors of a Post.
var (
	ErrGone      = errors.New("post: connection gone")
	ErrThrottled = errors.New("post: throttled")
	ErrTooLarge  = errors.New("post: message too large")
)

// TaskID is the last part of a task's ARN: what its role session is called.
func TaskID(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

// Clock tells the time; tests inject their own.
type Clock func() time.Time
