package control

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"time"

	"mayfly/functions/control/budget"
	"mayfly/functions/control/shape"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
)

// The table. Every item is one JSON document with a version; "condition" is what
// its writers believe when they write (always by version: see store.Commit).
//
//	entity     PK               SK                      TTL    written by      condition, and what it holds
//	room       ROOM#<room>      ROOM                    -      life            one transition of shared/lifecycle per version; index DUE#<shard> / due ms until settled
//	listed     TENANT#<tenant>  ROOM#<room>             -      life            created with the room; ids sort by time
//	quota      TENANT#<tenant>  QUOTA#<shard>           -      life            +1 in one of 16 with create, −1 in the same with the commit that makes the room final
//	limits     TENANT#<tenant>  LIMITS                  -      operator        quotas of this tenant, instead of the deployment's
//	tickets    TENANT#<tenant>  TICKETS                 2 h    api             how many tickets the tenant may ask for now; one write per request for tickets
//	name       TENANT#<tenant>  NAME#<external_id>      -      life            the open room of an external id, where a create asked for one at most
//	apikey     APIKEY#<id>      APIKEY                  expiry api             a key of the HTTP API, by hash; created once, deleted when revoked
//	apikeys    TENANT#<tenant>  APIKEYS                 -      api             the tenant's stored keys, at most two live ones
//	spend      TENANT#<tenant>  SPEND#<day>#<shard>     40 d   life, ledger    what the tenant's rooms have spent on a day
//	idem       IDEM#<tenant>#<key>  IDEM                24 h   life            created with the room, never changed
//	conn       CONN#<conn>      CONN                    3 h    life, join      which room, participant, epoch a WebSocket belongs to
//	roomconn   ROOM#<room>      CONN#<conn>             3 h    life, join      the same, found by room: whom to push room states to
//	part       ROOM#<room>      PART#<participant>      -      api, join       identity, grants, ticket and resume secrets (hashes)
//	claim      ROOM#<room>      JTI#<jti>               24 h   join            created once: a ticket is used by one attempt
//	ledger     ROOM#<room>      LEDGER                  -      ledger          open with create; closed once, with usage.closed
//	epoch      ROOM#<room>      EPOCH#<n>               -      life, ledger    created with the claim, before RunTask; ECS times, report totals
//	ban        ROOM#<room>      BAN#<identity>          -      api             an identity that is refused until the ban is lifted
//	session    ROOM#<room>      SESSION#<n>#<session>   -      join, ledger    opened by the commit that admits the join; highest report seq wins
//	wire       ROOM#<room>      WIRE#<conn>             -      join, life      how long a WebSocket was open, a client's or the task's
//	correction ROOM#<room>      CORRECTION#<n>          -      ledger          appended after the close, never changed
//	bill       TENANT#<tenant>#BILLS#<day>  BILL#<ms>#<room>#<n>  -  ledger    created by the close (n 0) and by each correction
//	prices     PRICES           PRICES#<id>             -      operator        one price book; created once, never changed
//	event      ROOM#<room>      EVENT#<seq>             30 d   outbox          created with the change it tells; index OUTBOX#<shard> until it is in the log
//	hookevent  HOOK#<endpoint>  EVENT#<seq>             30 d   hooks           the same, about a webhook endpoint
//	loghead    LOG#<tenant>     HEAD                    -      outbox          the last position; part of every commit that appends to the log
//	logged     LOG#<tenant>     ENTRY#<position>        30 d   outbox          created with the event's mark and its deliveries; never changed
//	hook       TENANT#<tenant>  HOOK#<endpoint>         -      hooks           a webhook endpoint: URL, filter, generations of its key, no secret
//	hookcount  TENANT#<tenant>  HOOKCOUNT               -      hooks           how many there are; part of every commit that makes or deletes one
//	delivery   HOOK#<endpoint>  DELIVERY#<position>#<run>  30 d  outbox, hooks  one event owed to one endpoint; index DELIVER#<shard> / due ms while pending
//	poolhead   POOL             HEAD                    -      life            part of every commit that makes a slot
//	slot       POOL             SLOT#<slot>             -      life            a place in the warm pool, from before its RunTask until its task has stopped
//	goneslot   SLOT#<slot>      SLOT                    8 d    life            created when the slot goes: which room had its task
//	relayname  NAMES            NAME#<task>             -      life            the DNS record of a task's relay, from before it is made until it is removed
//	linkid     CONN#<conn>      WHO                     3 h    join            created once, at $connect: whose identity the gateway saw
//	ticketkey  KEYS             TICKET#<kid>            -      api             public half of the key that signs tickets; created once

// Shards of the DUE and OUTBOX index partitions.
const Shards = 16

// Lifetimes of items that the table may drop.
const (
	IdemTTL  = 24 * time.Hour
	ConnTTL  = 3 * time.Hour
	EventTTL = 30 * 24 * time.Hour // after it came into the log
)

// Shard spreads rooms over the index partitions.
func Shard(room string) int {
	h := fnv.New32a()
	h.Write([]byte(room)) // never fails
	return int(h.Sum32() % Shards)
}

// RoomPK is the partition of everything that belongs to one room.
func RoomPK(room string) string { return "ROOM#" + room }

// TenantPK is the partition of a tenant's quota and list of rooms.
func TenantPK(tenant string) string { return "TENANT#" + tenant }

// RoomKey names the room itself.
func RoomKey(room string) store.Key { return store.Key{PK: RoomPK(room), SK: "ROOM"} }

// ListedPrefix starts the sort keys of a tenant's listed rooms.
const ListedPrefix = "ROOM#"

// ListedKey names a tenant's pointer to a room.
func ListedKey(tenant, room string) store.Key {
	return store.Key{PK: TenantPK(tenant), SK: ListedPrefix + room}
}

// IdemKey names the memory of one Idempotency-Key.
func IdemKey(tenant, key string) store.Key {
	return store.Key{PK: "IDEM#" + tenant + "#" + key, SK: "IDEM"}
}

// ConnKey names a WebSocket connection.
func ConnKey(conn string) store.Key { return store.Key{PK: "CONN#" + conn, SK: "CONN"} }

// LinkIDKey names the identity behind a task's connection.
func LinkIDKey(conn string) store.Key { return store.Key{PK: "CONN#" + conn, SK: "WHO"} }

// RoomConnPrefix starts the sort keys of a room's connections.
const RoomConnPrefix = "CONN#"

// RoomConnKey names a connection within its room.
func RoomConnKey(room, conn string) store.Key {
	return store.Key{PK: RoomPK(room), SK: RoomConnPrefix + conn}
}

// PartPrefix starts the sort keys of a room's participants.
const PartPrefix = "PART#"

// PartKey names a participant.
func PartKey(room, participant string) store.Key {
	return store.Key{PK: RoomPK(room), SK: PartPrefix + participant}
}

// ClaimKey names the claim of a ticket.
func ClaimKey(room, jti string) store.Key { return store.Key{PK: RoomPK(room), SK: "JTI#" + jti} }

// LedgerKey names the room's usage record.
func LedgerKey(room string) store.Key { return store.Key{PK: RoomPK(room), SK: "LEDGER"} }

// EpochPrefix starts the sort keys of a room's epochs.
const EpochPrefix = "EPOCH#"

// EpochKey names one epoch's usage. Epochs sort by number.
func EpochKey(room string, epoch int) store.Key {
	return store.Key{PK: RoomPK(room), SK: fmt.Sprintf("%s%06d", EpochPrefix, epoch)}
}

// SessionPrefix starts the sort keys of all sessions of a room.
const SessionPrefix = "SESSION#"

// EpochSessions starts the sort keys of one epoch's sessions.
func EpochSessions(epoch int) string { return fmt.Sprintf("%s%06d#", SessionPrefix, epoch) }

// SessionKey names one participation.
func SessionKey(room string, epoch int, session string) store.Key {
	return store.Key{PK: RoomPK(room), SK: EpochSessions(epoch) + session}
}

// EventPrefix starts the sort keys of a room's events.
const EventPrefix = "EVENT#"

// EventKey names an event of a room. Events sort by sequence number.
func EventKey(room string, seq uint64) store.Key {
	return store.Key{PK: RoomPK(room), SK: fmt.Sprintf("%s%012d", EventPrefix, seq)}
}

// TicketKeyKey names a published ticket verification key.
func TicketKeyKey(kid string) store.Key { return store.Key{PK: "KEYS", SK: "TICKET#" + kid} }

// DuePK is an index partition of rooms that the sweep must look at.
func DuePK(shard int) string { return fmt.Sprintf("DUE#%02d", shard) }

// OutboxPK is an index partition of events that are not delivered yet.
func OutboxPK(shard int) string { return fmt.Sprintf("OUTBOX#%02d", shard) }

// IndexTime makes index sort keys that sort by time.
func IndexTime(ms int64) string { return fmt.Sprintf("%015d", ms) }

// Room is a room. lifecycle.Room is the part that only lifecycle.Step changes.
type Room struct {
	Held
	lifecycle.Room
	ID         string            `json:"id"`
	Tenant     string            `json:"tenant"`
	ExternalID string            `json:"external_id,omitempty"`
	Region     string            `json:"region"`
	PriceBook  string            `json:"price_book,omitempty"`     // fixed at create
	E2EE       bool              `json:"e2ee,omitempty"`           // clients encrypt what they publish
	Caps       budget.Amounts    `json:"caps,omitzero"`            // besides the duration, which Limits has
	Near       budget.Level      `json:"near,omitempty"`           // the highest that was told
	QuotaShard int               `json:"quota_shard"`              // which of the tenant's counters holds it
	Metered    bool              `json:"metered,omitempty"`        // the tenant's spend of a day is limited
	Spent      int64             `json:"spent_nano_usd,omitempty"` // counted against that so far
	Size       string            `json:"size,omitempty"`           // of its tasks, as shape knows it
	Spot       bool              `json:"spot,omitempty"`           // its first task may be one that ECS takes back
	Media      string            `json:"media,omitempty"`          // shape.Audio, or shape.Video or "" for both
	Revision   string            `json:"revision,omitempty"`       // of the task definition, fixed at create; "" is the deployment's
	Ask        shape.Shape       `json:"ask,omitzero"`             // what the start's present attempt asks for
	Limits     signal.RoomLimits `json:"limits"`
	Metadata   json.RawMessage   `json:"metadata,omitempty"` // the product's own, given back as it is
	Tags       map[string]string `json:"tags,omitempty"`
	SourceIP   string            `json:"source_ip,omitempty"` // of the task, as the gateway sees it
	Present    int               `json:"present"`             // participants, by the last heartbeat
	EventSeq   uint64            `json:"event_seq"`           // of the room's last event
	ToldRev    int64             `json:"told_rev"`            // the last Rev that every watcher was sent
	OrderRev   uint64            `json:"order_rev,omitempty"` // grows with each order of the product: limits, grants, mutes, ejections
	OrderAck   uint64            `json:"order_ack,omitempty"` // what this epoch's task has carried out
	Settled    bool              `json:"settled,omitempty"`   // final and its ledger closed: nothing is due any more
}

// Place implements Doc.
func (r *Room) Place() store.Item {
	it := store.Item{Key: RoomKey(r.ID), Kind: "room"}
	if !r.Settled {
		it.IndexPK, it.IndexSK = DuePK(Shard(r.ID)), IndexTime(r.DueAtMS)+"#"+r.ID
	}
	return it
}

// Listed points from a tenant to one of its rooms.
type Listed struct {
	Held
	Tenant     string `json:"tenant"`
	Room       string `json:"room"`
	ExternalID string `json:"external_id,omitempty"`
	CreatedMS  int64  `json:"created_ms"`
}

// Place implements Doc.
func (l *Listed) Place() store.Item {
	return store.Item{Key: ListedKey(l.Tenant, l.Room), Kind: "listed"}
}

// Idem remembers what an Idempotency-Key made. Answer is the API's own: all it
// needs to give the same answer again.
type Idem struct {
	Held
	Tenant    string          `json:"tenant"`
	Key       string          `json:"key"`
	BodyHash  string          `json:"body_hash"` // hex SHA-256 of the request body
	Room      string          `json:"room"`
	Answer    json.RawMessage `json:"answer,omitempty"`
	Existed   bool            `json:"existed,omitempty"` // the room was there before
	CreatedMS int64           `json:"created_ms"`
}

// Place implements Doc.
func (i *Idem) Place() store.Item {
	return store.Item{Key: IdemKey(i.Tenant, i.Key), Kind: "idem", ExpiresAt: time.UnixMilli(i.CreatedMS).Add(IdemTTL)}
}

// Kinds of connection.
const (
	ConnClient = "client"
	ConnTask   = "task"
)

// Connection is what a WebSocket connection was authenticated as.
type Connection struct {
	Held
	ID          string `json:"id"`
	Kind        string `json:"kind"` // ConnClient or ConnTask
	Room        string `json:"room"`
	Participant string `json:"participant,omitempty"`
	Joined      bool   `json:"joined,omitempty"` // a client that has sent an accepted join; else it watches
	Epoch       int    `json:"epoch,omitempty"`  // of a task
	TaskARN     string `json:"task_arn,omitempty"`
	Seq         uint64 `json:"seq,omitempty"` // highest frame handled, where that matters
	CreatedMS   int64  `json:"created_ms"`
}

// Place implements Doc.
func (c *Connection) Place() store.Item {
	return store.Item{Key: ConnKey(c.ID), Kind: "conn", ExpiresAt: time.UnixMilli(c.CreatedMS).Add(ConnTTL)}
}

// LinkID is what the gateway vouched for when a task's connection was opened. The
// gateway tells a caller's identity for certain at $connect only.
type LinkID struct {
	Held
	Conn      string `json:"conn"`
	TaskID    string `json:"task_id"`   // the last part of the task's ARN
	SourceIP  string `json:"source_ip"` // of the task
	CreatedMS int64  `json:"created_ms"`
}

// Place implements Doc.
func (l *LinkID) Place() store.Item {
	return store.Item{Key: LinkIDKey(l.Conn), Kind: "linkid", ExpiresAt: time.UnixMilli(l.CreatedMS).Add(ConnTTL)}
}

// RoomConn finds a room's connections.
type RoomConn struct {
	Held
	Room        string `json:"room"`
	Conn        string `json:"conn"`
	Kind        string `json:"kind"`
	Participant string `json:"participant,omitempty"`
	CreatedMS   int64  `json:"created_ms"`
}

// Place implements Doc.
func (c *RoomConn) Place() store.Item {
	return store.Item{Key: RoomConnKey(c.Room, c.Conn), Kind: "roomconn", ExpiresAt: time.UnixMilli(c.CreatedMS).Add(ConnTTL)}
}

// Participant is somebody who holds a ticket. Secrets are kept as hex SHA-256.
type Participant struct {
	Held
	Room       string            `json:"room"`
	ID         string            `json:"id"`
	Identity   string            `json:"identity"`
	Name       string            `json:"name"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Grants     signal.Grants     `json:"grants"`
	JTI        string            `json:"jti"`                   // of the newest ticket
	Attempt    string            `json:"attempt,omitempty"`     // hash of the last accepted join attempt
	Resume     string            `json:"resume,omitempty"`      // hash of the current resume secret
	ResumePrev string            `json:"resume_prev,omitempty"` // of the one before, until the current one is used
	State      string            `json:"state"`                 // invited, joined, left
	Conn       string            `json:"conn,omitempty"`        // WebSocket of the last join
	Session    string            `json:"session,omitempty"`     // usage session of the last join
	Epoch      int               `json:"epoch,omitempty"`       // of that session
	Salt       string            `json:"salt,omitempty"`        // with the attempt it gives the current resume secret
	CreatedMS  int64             `json:"created_ms"`
	JoinedMS   int64             `json:"joined_ms,omitempty"`
	// By order of the product. They outlive the epoch.
	OrderRev  uint64         `json:"order_rev,omitempty"` // of the room, when they last changed
	Ordered   *signal.Grants `json:"ordered,omitempty"`   // instead of the ticket's
	Muted     []string       `json:"muted,omitempty"`     // kinds that are not forwarded
	EjectedMS int64          `json:"ejected_ms,omitempty"`
}

// Place implements Doc.
func (p *Participant) Place() store.Item {
	return store.Item{Key: PartKey(p.Room, p.ID), Kind: "part"}
}

// Claim says which join attempt used a ticket.
type Claim struct {
	Held
	Room        string `json:"room"`
	JTI         string `json:"jti"`
	Attempt     string `json:"attempt"` // hash
	Participant string `json:"participant"`
	AtMS        int64  `json:"at_ms"`
}

// Place implements Doc. The claim outlives the longest ticket (24 h).
func (c *Claim) Place() store.Item {
	return store.Item{Key: ClaimKey(c.Room, c.JTI), Kind: "claim", ExpiresAt: time.UnixMilli(c.AtMS).Add(25 * time.Hour)}
}

// Event is something that happened to a room, or to a webhook endpoint, kept until
// it is in the tenant's log. Seq counts from 1 per room (endpoint) without a gap.
type Event struct {
	Held
	ID          string          `json:"id"` // "evt_<room>_<seq>", the same at every delivery
	Seq         uint64          `json:"seq"`
	Type        string          `json:"type"`
	Room        string          `json:"room"`
	Endpoint    string          `json:"endpoint,omitempty"` // of an event about a webhook endpoint; then Room is ""
	Only        string          `json:"only,omitempty"`     // the one endpoint that is sent it
	Tenant      string          `json:"tenant"`
	AtMS        int64           `json:"at_ms"`
	Data        json.RawMessage `json:"data,omitempty"`
	DeliveredMS int64           `json:"delivered_ms,omitempty"` // when it came into the log
	Position    uint64          `json:"position,omitempty"`     // in the log
}

// Place implements Doc.
func (e *Event) Place() store.Item {
	it := store.Item{Key: EventKey(e.Room, e.Seq), Kind: "event"}
	if e.Endpoint != "" {
		it.PK = HookPK(e.Endpoint)
	}
	if e.DeliveredMS == 0 {
		it.IndexPK, it.IndexSK = OutboxPK(Shard(e.Room+e.Endpoint)), IndexTime(e.AtMS)+"#"+e.ID
	} else {
		it.ExpiresAt = time.UnixMilli(e.DeliveredMS).Add(EventTTL)
	}
	return it
}

// TicketKey is the published half of a key that signs tickets.
type TicketKey struct {
	Held
	KID       string `json:"kid"`
	Public    []byte `json:"public"` // Ed25519, 32 bytes
	CreatedMS int64  `json:"created_ms"`
}

// Place implements Doc.
func (k *TicketKey) Place() store.Item {
	return store.Item{Key: TicketKeyKey(k.KID), Kind: "ticketkey"}
}
