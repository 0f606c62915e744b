package control

import (
	"encoding/json"
	"fmt"
	"time"

	"mayfly/functions/control/price"
	"mayfly/functions/control/shape"
	"mayfly/functions/store"
	"mayfly/shared/usage"
)

// Ledger is a room's usage record: open from the commit that creates the room,
// closed once. Totals and bill are filled in by the close; after it nothing in the
// item changes any more.
type Ledger struct {
	Held
	Room       string            `json:"room"`
	Tenant     string            `json:"tenant"`
	ExternalID string            `json:"external_id,omitempty"`
	Region     string            `json:"region,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	PriceBook  string            `json:"price_book,omitempty"`
	OpenedMS   int64             `json:"opened_ms"`
	EndedMS    int64             `json:"ended_ms,omitempty"`  // of the room
	ClosedMS   int64             `json:"closed_ms,omitempty"` // 0 while open
	Totals     LedgerTotals      `json:"totals"`
	Quality    string            `json:"quality,omitempty"` // QualityExact or QualityBounded
	Bill       *price.Bill       `json:"bill,omitempty"`
	Hash       string            `json:"hash,omitempty"` // hex SHA-256 of the closed record without this field
}

// LedgerTotals are the sums of a room. Integers only: milliseconds, seconds, bytes.
type LedgerTotals struct {
	ParticipantMS    int64       `json:"participant_ms"`
	AudioOnlyMS      int64       `json:"audio_only_ms"` // the part of it without video either way
	Sessions         int64       `json:"sessions"`
	PeakParticipants int         `json:"peak_participants"`
	BytesIn          usage.Bytes `json:"bytes_in"`
	BytesOut         usage.Bytes `json:"bytes_out"`
	Egress           Egress      `json:"egress"` // bytes_out by transport
	TaskMSRaw        int64       `json:"task_ms_raw"`
	TaskSBillable    int64       `json:"task_s_billable"`
	CPUUnitS         int64       `json:"cpu_unit_s"` // CPU units × billable seconds; 1024 units are a vCPU
	MemoryMiBS       int64       `json:"memory_mib_s"`
	MessagesIn       int64       `json:"messages_in"` // signalling, as the gateway received them
	MessagesOut      int64       `json:"messages_out"`
	ConnectionMS     int64       `json:"ws_connection_ms"` // of WebSockets, clients' and tasks'
}

// Egress is bytes sent to participants by transport. Unknown holds those of sessions
// that died before they named one.
type Egress struct {
	UDP     int64 `json:"udp"`
	TCP     int64 `json:"tcp"`
	TURNUDP int64 `json:"turn_udp"`
	TURNTCP int64 `json:"turn_tcp"`
	TURNTLS int64 `json:"turn_tls"`
	Unknown int64 `json:"unknown"`
}

// Count adds bytes of a transport, as usage.Session names it.
func (e *Egress) Count(transport string, bytes int64) {
	switch transport {
	case "udp":
		e.UDP += bytes
	case "tcp":
		e.TCP += bytes
	case "turn-udp":
		e.TURNUDP += bytes
	case "turn-tcp":
		e.TURNTCP += bytes
	case "turn-tls":
		e.TURNTLS += bytes
	default:
		e.Unknown += bytes
	}
}

// Lines is the same as a list, in a fixed order.
func (e *Egress) Lines() []price.Egress {
	return []price.Egress{
		{Transport: "udp", Bytes: e.UDP}, {Transport: "tcp", Bytes: e.TCP}, {Transport: "turn-udp", Bytes: e.TURNUDP},
		{Transport: "turn-tcp", Bytes: e.TURNTCP}, {Transport: "turn-tls", Bytes: e.TURNTLS}, {Transport: "unknown", Bytes: e.Unknown},
	}
}

// Qualities of a usage figure.
const (
	QualityExact   = "exact"
	QualityBounded = "bounded" // an end or a counter was inferred after a crash
)

// Place implements Doc.
func (l *Ledger) Place() store.Item { return store.Item{Key: LedgerKey(l.Room), Kind: "ledger"} }

// Epoch is the usage of one task of a room. Its item exists before RunTask is
// called, so no task can run without a place in the ledger.
type Epoch struct {
	Held
	Room        string       `json:"room"`
	Epoch       int          `json:"epoch"`
	AskedMS     int64        `json:"asked_ms"`              // when the epoch was claimed
	AcceptedMS  int64        `json:"accepted_ms,omitempty"` // when RunTask answered
	Asked       shape.Shape  `json:"asked,omitzero"`        // of the last attempt; what ECS tells of the task goes before it
	ClaimedMS   int64        `json:"claimed_ms,omitempty"`  // when a standby task became this epoch's: until then the pool pays
	StoodIn     int64        `json:"stood_in,omitempty"`    // its signalling messages before that, which are the pool's too
	StoodOut    int64        `json:"stood_out,omitempty"`
	Task        Task         `json:"task"` // as ECS last told it; ARN "" until known
	Stopped     bool         `json:"stopped,omitempty"`
	StoppedFrom string       `json:"stopped_from,omitempty"` // provenance of the stop: From…
	ReportSeq   uint64       `json:"report_seq,omitempty"`
	ReportMS    int64        `json:"report_ms,omitempty"`   // at_ms of that report, the task's clock
	ReportedMS  int64        `json:"reported_ms,omitempty"` // when it came, our clock
	Final       bool         `json:"final,omitempty"`       // the last report was a final one: no session began after it
	FinalJoins  uint64       `json:"final_joins,omitempty"` // the last join that the task knew of when it made that report
	Totals      usage.Totals `json:"totals"`                // of the report with ReportSeq
	Bounded     bool         `json:"bounded,omitempty"`     // its open sessions were ended by inference
}

// Where a figure comes from.
const (
	FromEvent     = "ecs_event"
	FromDescribe  = "ecs_describe"
	FromSweep     = "reconciler" // ECS knows no such task (any more)
	FromHeartbeat = "heartbeat"
	FromFinal     = "final_report"
	FromJoin      = "join" // the control plane's own record of an admitted join
)

// Place implements Doc.
func (e *Epoch) Place() store.Item {
	return store.Item{Key: EpochKey(e.Room, e.Epoch), Kind: "epoch"}
}

// Session is one participation as the ledger holds it. It opens with the commit
// that admits the join; Seq is 0 until the task has reported it.
type Session struct {
	Held
	Room  string `json:"room"`
	Epoch int    `json:"epoch"`
	usage.Session
	AdmittedMS   int64  `json:"admitted_ms,omitempty"` // our clock; 0 if the task told first
	JoinSeq      uint64 `json:"join_seq,omitempty"`    // the number of the join that opened it
	IdentityHash string `json:"identity_hash,omitempty"`
	Role         string `json:"role,omitempty"`      // host, participant or viewer, by what it may do
	Seq          uint64 `json:"seq"`                 // of the report it is from
	AtMS         int64  `json:"at_ms"`               // of that report
	Told         bool   `json:"told,omitempty"`      // participant.left was emitted
	Bounded      bool   `json:"bounded,omitempty"`   // the end was inferred
	ExtraMS      int64  `json:"extra_ms,omitempty"`  // participant ms that the inference added
	NotTaken     bool   `json:"not_taken,omitempty"` // admitted, but the task never took it: not counted
}

// Place implements Doc.
func (s *Session) Place() store.Item {
	return store.Item{Key: SessionKey(s.Room, s.Epoch, s.ID), Kind: "session"}
}

// Wire is how long a WebSocket of a room was open, a client's or its task's.
type Wire struct {
	Held
	Room     string `json:"room"`
	Conn     string `json:"conn"`
	Kind     string `json:"kind"` // ConnClient or ConnTask
	OpenedMS int64  `json:"opened_ms"`
	ClosedMS int64  `json:"closed_ms,omitempty"` // 0 while open, or if nobody told
}

// WirePrefix starts the sort keys of a room's wires.
const WirePrefix = "WIRE#"

// Place implements Doc.
func (w *Wire) Place() store.Item {
	return store.Item{Key: store.Key{PK: RoomPK(w.Room), SK: WirePrefix + w.Conn}, Kind: "wire"}
}

// Correction is what became known after a record was closed: the difference to it
// and to the corrections before. N counts from 1.
type Correction struct {
	Held
	Room     string       `json:"room"`
	N        int          `json:"n"`
	AtMS     int64        `json:"at_ms"`
	Epoch    int          `json:"epoch"`
	From     string       `json:"from"` // provenance of what became known: From…
	Totals   LedgerTotals `json:"totals"`
	Cost     []price.Line `json:"cost"`
	Price    []price.Line `json:"price"`
	CostNano int64        `json:"cost_nano_usd"`
	PriceN   int64        `json:"price_nano_usd"`
	// What became known, so that later corrections can count on it: the epoch and
	// the sessions as they are by now.
	After    Epoch     `json:"after"`
	Sessions []Session `json:"sessions,omitempty"`
	PrevHash string    `json:"prev_hash"` // of the correction before, or of the closed record
	Hash     string    `json:"hash"`
}

// CorrectionPrefix starts the sort keys of a room's corrections.
const CorrectionPrefix = "CORRECTION#"

// Place implements Doc.
func (c *Correction) Place() store.Item {
	return store.Item{Key: store.Key{PK: RoomPK(c.Room), SK: fmt.Sprintf("%s%06d", CorrectionPrefix, c.N)}, Kind: "correction"}
}

// Bill is a tenant's copy of a closed record (N 0) or of a correction of it, found
// by the day on which it was written.
type Bill struct {
	Held
	Tenant     string            `json:"tenant"`
	Room       string            `json:"room"`
	N          int               `json:"n"`
	AtMS       int64             `json:"at_ms"`
	ExternalID string            `json:"external_id,omitempty"`
	Region     string            `json:"region,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	OpenedMS   int64             `json:"opened_ms"`
	EndedMS    int64             `json:"ended_ms"`
	Quality    string            `json:"quality,omitempty"`
	Totals     LedgerTotals      `json:"totals"`
	Bill       price.Bill        `json:"bill"`
	Hash       string            `json:"hash"` // of the record or correction it copies
}

// Day is the UTC day of a time in Unix milliseconds, as keys have it: yyyymmdd.
func Day(ms int64) string { return time.UnixMilli(ms).UTC().Format("20060102") }

// BillsPK is the partition of the bills of one tenant and day (yyyymmdd).
func BillsPK(tenant, day string) string { return TenantPK(tenant) + "#BILLS#" + day }

// BillPrefix starts the sort keys of bills, which sort by time.
const BillPrefix = "BILL#"

// Place implements Doc.
func (b *Bill) Place() store.Item {
	return store.Item{Kind: "bill", Key: store.Key{
		PK: BillsPK(b.Tenant, Day(b.AtMS)), SK: fmt.Sprintf("%s%s#%s#%d", BillPrefix, IndexTime(b.AtMS), b.Room, b.N),
	}}
}

// Prices is a stored price book, besides those that are part of the program.
type Prices struct {
	Held
	ID   string          `json:"id"`
	Book json.RawMessage `json:"book"` // a price.Book
}

// PricesPK is the partition of the stored price books, and PricesPrefix what their
// sort keys start with.
const (
	PricesPK     = "PRICES"
	PricesPrefix = "PRICES#"
)

// Place implements Doc.
func (p *Prices) Place() store.Item {
	return store.Item{Key: store.Key{PK: PricesPK, SK: PricesPrefix + p.ID}, Kind: "prices"}
}
