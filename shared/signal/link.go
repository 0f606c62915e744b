package signal

import "mayfly/shared/usage"

// Frames on the link, the task's own WebSocket to the control plane. They use
// the same envelope. Every one of them may be lost, doubled or reordered: each is
// idempotent, carries its own version or counter, and is repeated until answered.

// Types of task → control plane.
const (
	LinkRegister  = "register"  // first frame of every link connection, also after a rotation
	LinkHeartbeat = "heartbeat" // every HeartbeatS, and at once when a session begins or ends
	LinkToClient  = "to_client" // a frame for one client's WebSocket
	LinkEnding    = "ending"    // the task wants to end; repeated until ending_ok or keep
	LinkStandby   = "standby"   // a task without a room is there; first frame of its connections, and every HeartbeatS
)

// Types of control plane → task.
const (
	LinkRegistered = "registered"
	LinkRefused    = "refused"     // the task exits at once, code ExitFenced
	LinkClient     = "client"      // a frame from one client, already authenticated
	LinkClientGone = "client_gone" // that WebSocket closed; media is untouched
	LinkEnd        = "end"         // end the room now, with a reason
	LinkAck        = "ack"         // of a heartbeat
	LinkEndingOK   = "ending_ok"
	LinkKeep       = "keep"     // a join won against ending: carry on
	LinkOrders     = "orders"   // what the product has ordered; repeated until a heartbeat tells its Rev
	LinkStanding   = "standing" // of a standby: wait
	LinkAssign     = "assign"   // of a standby, or unasked: the task's room; it registers for it
)

// HeartbeatS is the time between two heartbeats, in seconds.
const HeartbeatS = 10

// Exit codes of a room task.
const (
	ExitEnded      = 0   // the room is over, agreed with the control plane
	ExitFault      = 1   // a fault of its own; the room gets a new epoch
	ExitConfig     = 2   // bad environment
	ExitFenced     = 3   // refused: another task serves the room
	ExitLost       = 4   // never reached the control plane
	ExitTerminated = 143 // SIGTERM before the room was over: 128 + 15, as a shell would say
)

// Register claims the room for this task. The control plane believes the
// connection's identity, not this frame, for who the task is.
type Register struct {
	Room      string `json:"room"`
	Epoch     int    `json:"epoch"`
	TaskARN   string `json:"task_arn"`
	Version   string `json:"version"`    // of the task's code
	StartedMS int64  `json:"started_ms"` // process start, Unix ms
	// Of a task that stood by: the messages before it was assigned, in the gateway's units.
	// They are the pool's, and not in the room's usage.
	StoodIn  int64 `json:"stood_in,omitempty"`
	StoodOut int64 `json:"stood_out,omitempty"`
}

// Standby says that a task of the warm pool waits for a room. As with Register, the
// connection says who the task is.
type Standby struct {
	Slot      string `json:"slot"`
	TaskARN   string `json:"task_arn"`
	Version   string `json:"version"`    // of the task's code
	StartedMS int64  `json:"started_ms"` // process start, Unix ms
	// Messages on the link so far, in the gateway's units: received by it, sent by it.
	MessagesIn  int64 `json:"messages_in,omitempty"`
	MessagesOut int64 `json:"messages_out,omitempty"`
}

// Assign gives a standby task its room. It is final: a task serves one room.
type Assign struct {
	Room  string `json:"room"`
	Epoch int    `json:"epoch"`
}

// Registered answers Register, with all a task needs to know.
type Registered struct {
	Room     string     `json:"room"`
	Epoch    int        `json:"epoch"`
	PublicIP string     `json:"public_ip"` // as the gateway sees the task; "" if unknown
	NowMS    int64      `json:"now_ms"`
	JoinSeq  uint64     `json:"join_seq"` // joins so far
	Limits   RoomLimits `json:"limits"`
	RelayTLS *RelayTLS  `json:"relay_tls,omitempty"` // nil: the relay is not reached by TLS, or not yet: see Heartbeat.Nameless
}

// RelayTLS is the name under which clients reach the task's relay by TLS, and the
// certificate for it. Both are PEM; every registration brings the newest.
type RelayTLS struct {
	Name  string `json:"name"`
	Chain string `json:"chain"`
	Key   string `json:"key"`
}

// RoomLimits are fixed when the room is created. Seconds, and a count.
type RoomLimits struct {
	MaxParticipants int   `json:"max_participants"`
	UnusedTimeoutS  int   `json:"unused_timeout_s"` // never joined
	EmptyTimeoutS   int   `json:"empty_timeout_s"`  // emptied
	MaxDurationS    int   `json:"max_duration_s"`
	EndsAtMS        int64 `json:"ends_at_ms"` // Unix ms of max duration, over all epochs
}

// Refused tells the task to exit at once.
type Refused struct {
	Code string `json:"code"` // not_found, wrong_epoch, other_task, ended, bad_identity
}

// Client carries a client's frame to the task. Session is set on a join only.
type Client struct {
	Conn        string   `json:"conn"` // the client's WebSocket connection id
	Participant string   `json:"participant"`
	Session     *Session `json:"session,omitempty"`
	Frame       Frame    `json:"frame"`
}

// Session is what the control plane vouches for when a client joins.
type Session struct {
	ID       string `json:"id"` // usage session, unique per join that the task admits
	Identity string `json:"identity"`
	Name     string `json:"name"`
	Grants   Grants `json:"grants"`
	JoinSeq  uint64 `json:"join_seq"`
	Resume   string `json:"resume"` // to be told in Joined
	Resumed  bool   `json:"resumed"`
	Moved    bool   `json:"moved,omitempty"` // comes from a task that hands the room over, and may still play there
	// Muted and OrderRev are as in Order: what the product has ordered before.
	Muted    []string `json:"muted,omitempty"`
	OrderRev uint64   `json:"order_rev,omitempty"`
}

// Grants are what a participant may do.
type Grants struct {
	Publish   []string `json:"publish"` // kinds of source
	Subscribe bool     `json:"subscribe"`
	Chat      bool     `json:"chat"`
	Moderate  bool     `json:"moderate,omitempty"`
}

// ClientGone says that a client's WebSocket closed.
type ClientGone struct {
	Conn string `json:"conn"`
}

// ToClient asks for a frame to be posted to a client. Close closes it after.
type ToClient struct {
	Conn  string `json:"conn"`
	Frame Frame  `json:"frame"`
	Close bool   `json:"close,omitempty"`
}

// Heartbeat keeps the task's lease and carries usage. Usage counters are cumulative.
type Heartbeat struct {
	JoinSeq uint64 `json:"join_seq"`         // highest admitted
	Orders  uint64 `json:"orders,omitempty"` // highest Orders.Rev that was carried out
	// Nameless asks for the name of the relay, which the registration did not bring.
	Nameless bool         `json:"nameless,omitempty"`
	Usage    usage.Report `json:"usage"`
}

// Orders is what the product has ordered since the last Rev that a heartbeat told:
// not commands but the state that is to be, so that a repeat changes nothing and the
// latest is all that counts. A Rev of 0 is a part of what the next one completes.
type Orders struct {
	Rev          uint64     `json:"rev"`
	Limits       RoomLimits `json:"limits"`
	Participants []Order    `json:"participants,omitempty"`
}

// Order is what is ordered of one participant, who may have left or not yet come. Of
// two the one with the higher Rev counts.
type Order struct {
	Participant string   `json:"participant"`
	Rev         uint64   `json:"rev"`
	Grants      Grants   `json:"grants"`
	Muted       []string `json:"muted,omitempty"`   // kinds that are not to be forwarded
	Ejected     bool     `json:"ejected,omitempty"` // for good
}

// Ack answers a heartbeat. Sessions in later reports may leave out what was
// unchanged since the acknowledged report.
type Ack struct {
	Seq    uint64  `json:"seq"`
	Budget *Budget `json:"budget,omitempty"` // the room comes near a cap; told with every ack from then on
	// RelayTLS is told to a task that asked, once the name leads to it.
	RelayTLS *RelayTLS `json:"relay_tls,omitempty"`
}

// Ending asks to end the room. The control plane agrees only if no join was
// admitted after JoinSeq, so an empty room and a join cannot both win.
type Ending struct {
	Reason  string       `json:"reason"`
	JoinSeq uint64       `json:"join_seq"`
	Final   bool         `json:"final"` // not a question: the task ends anyway (SIGTERM, max duration, told to)
	Usage   usage.Report `json:"usage"`
}

// EndingOK answers Ending. Seq is that of its usage report.
type EndingOK struct {
	Seq uint64 `json:"seq"`
}

// Keep answers Ending when a join won.
type Keep struct {
	JoinSeq uint64 `json:"join_seq"`
}

// End tells the task to end the room.
type End struct {
	Reason string `json:"reason"`
}
