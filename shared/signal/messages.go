package signal

import "encoding/json"

// Version is the WebSocket subprotocol a client asks for.
const Version = "mayfly.v1"

// Limits of the wire. The first two are API Gateway's.
const (
	MaxFrameBytes    = 32 << 10  // one WebSocket frame; above it the gateway closes with 1009
	MaxMessageBytes  = 128 << 10 // one WebSocket message
	MaxChunkBytes    = 12 << 10  // payload of one Chunk on the data channel
	MaxDataBytes     = 512 << 10 // one reassembled data-channel message
	MaxChatBytes     = 4 << 10   // UTF-8 bytes of a chat text
	MaxWants         = 64        // wanted sources in one view
	MaxSeats         = 64        // seats of one viewer
	MaxFirstSeats    = 8         // seats in the first offer, which must fit one frame
	MaxSDPLines      = 6000      // lines of one offer
	DataChannelLabel = "mayfly"  // the ordered, reliable channel that the client opens in its first offer
)

// Frame is the envelope of every message. Seq counts from 1 per connection and
// direction on the WebSocket; it is 0 on the data channel, which is ordered.
type Frame struct {
	Type string          `json:"type"`
	Seq  uint64          `json:"seq,omitempty"`
	Body json.RawMessage `json:"body,omitempty"`
}

// Types of client messages (client → room). "ws" travels over the WebSocket,
// "dc" over the data channel.
const (
	TypeWatch = "watch" // ws: authenticate and be told the room's state
	TypeJoin  = "join"  // ws
	TypeOffer = "offer" // dc, or ws when the channel is gone
	TypeView  = "view"  // dc
	TypeMute  = "mute"  // dc
	TypeChat  = "chat"  // dc, both ways
	TypeLeave = "leave" // dc or ws
	TypePing  = "ping"  // both
	TypeChunk = "chunk" // dc, both ways: a part of a longer frame
)

// Types of room messages (room → client).
const (
	TypeRoom         = "room"         // ws: the room's state, from the control plane
	TypeJoined       = "joined"       // ws
	TypeAnswer       = "answer"       // dc or ws
	TypeParticipants = "participants" // dc
	TypeSeating      = "seating"      // dc
	TypeSpeakers     = "speakers"     // dc
	TypeQuality      = "quality"      // dc
	TypePublish      = "publish"      // dc: what of an own video is wanted
	TypeBudget       = "budget"       // dc: the room comes near a cap
	TypeServers      = "servers"      // dc: fresh credentials of the task's relay
	TypeMoved        = "moved"        // dc: the task is going, join the next one
	TypeGrants       = "grants"       // dc: what this participant may do has changed
	TypeEnded        = "ended"        // dc and ws: the room or this participation is over
	TypeError        = "error"        // ws and dc
	TypePong         = "pong"
)

// Kinds of source that a participant may publish. A source is named
// "<participant>/<kind>".
const (
	KindMic         = "mic"
	KindCamera      = "camera"
	KindScreen      = "screen"
	KindScreenAudio = "screen-audio"
)

// Watch authenticates a connection, and asks for Room messages until it joins.
// Exactly one of Ticket and Resume is set.
type Watch struct {
	Ticket string `json:"ticket,omitempty"`
	Resume string `json:"resume,omitempty"`
}

// Join asks for media. Exactly one of Ticket and Resume is set. Attempt is a
// random secret of at least 16 bytes (base64url) that makes the join idempotent:
// a ticket is used once, but the same attempt may be sent again, as when the
// answer was lost. A room that is not live answers Error room_not_live; the
// client sends Join again when a Room message says live.
type Join struct {
	Ticket  string      `json:"ticket,omitempty"`
	Resume  string      `json:"resume,omitempty"`
	Attempt string      `json:"attempt"`
	Offer   Offer       `json:"offer"`
	View    View        `json:"view"`
	Name    string      `json:"name,omitempty"` // shown name, if the ticket lets the client choose (≤ 64 runes)
	Client  *ClientInfo `json:"client,omitempty"`
}

// ClientInfo says what software joins. It is for operators; nothing depends on it.
type ClientInfo struct {
	SDK     string `json:"sdk,omitempty"`
	Browser string `json:"browser,omitempty"`
}

// Offer is an SDP offer with the meaning of its m-lines. Generation grows with
// each offer of a connection; the answer echoes it.
type Offer struct {
	Generation int          `json:"generation"`
	SDP        string       `json:"sdp"`
	Sources    []SourceLine `json:"sources,omitempty"`
	Seats      []SeatLine   `json:"seats"`
}

// SourceLine says which of the client's own sources an m-line carries.
type SourceLine struct {
	Mid   string `json:"mid"`
	Kind  string `json:"kind"`
	Muted bool   `json:"muted,omitempty"` // true too while nothing is attached
}

// SeatLine says which two recvonly m-lines make one seat. The track ids the
// client receives belong to the media stream "seat-<Seat>".
type SeatLine struct {
	Seat  int    `json:"seat"`
	Audio string `json:"audio"` // mid
	Video string `json:"video"` // mid
}

// View is what one viewer wants to see, in order of importance. Seats that the
// wants leave over carry the screens and cameras that are not wanted, if Others says
// how large they are shown, and then the loudest participants, audio only. A client
// that joins knows nobody to want yet: Others saves it a round trip.
type View struct {
	Rev    uint64 `json:"rev"`
	Wants  []Want `json:"wants"`
	Others *Size  `json:"others,omitempty"`
}

// Size is in device pixels.
type Size struct {
	Width  int `json:"width"`
	Height int `json:"height"`
}

// Want asks for one video source (camera or screen) and the audio that belongs
// to it. Width and Height are the size at which it is shown, in device pixels; 0×0
// keeps the seat and its audio but pauses the video.
type Want struct {
	Source string `json:"source"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
	Pinned bool   `json:"pinned,omitempty"`
}

// Mute says that an own source is silent (muted, camera off, share ended) or back.
type Mute struct {
	Kind  string `json:"kind"`
	Muted bool   `json:"muted"`
}

// Chat is a text to everyone. From, Name and AtMS are set by the room.
type Chat struct {
	Text string `json:"text"`
	From string `json:"from,omitempty"`
	Name string `json:"name,omitempty"`
	AtMS int64  `json:"at_ms,omitempty"`
}

// Leave ends the participation.
type Leave struct {
	Reason string `json:"reason,omitempty"`
}

// Chunk is part Index of Count of a longer frame's JSON text.
type Chunk struct {
	ID    uint64 `json:"id"`
	Index int    `json:"index"`
	Count int    `json:"count"`
	Data  string `json:"data"`
}

// Room tells the state of the room. Version grows with every change: a client
// ignores a Room whose Version is below the highest it has seen.
type Room struct {
	ID      string `json:"id"`
	Version int64  `json:"version"`
	Epoch   int    `json:"epoch"`
	State   string `json:"state"` // lifecycle.State
	Phase   string `json:"phase"` // requested, provisioning, pulling, booting, live, draining, ended, failed
	SinceMS int64  `json:"since_ms"`
	EtaMS   int64  `json:"eta_ms,omitempty"` // expected milliseconds until live
	Reason  string `json:"reason,omitempty"` // of ended and failed
	E2EE    bool   `json:"e2ee,omitempty"`   // media are end-to-end encrypted: a client without a key stays out
}

// Joined answers a Join.
type Joined struct {
	Room         string        `json:"room"`
	Epoch        int           `json:"epoch"`
	Participant  string        `json:"participant"`
	Answer       Answer        `json:"answer"`
	Participants []Participant `json:"participants"` // everyone else
	Seating      Seating       `json:"seating"`
	Resume       string        `json:"resume"` // for the next Join; replaces any earlier one
	ICEServers   []ICEServer   `json:"ice_servers,omitempty"`
}

// ICEServer is the task's own relay (TURN, RFC 8656), in the form of the browsers'
// RTCIceServer. The credential is this participant's, and makes allocations for ten
// minutes; Servers brings the next one.
type ICEServer struct {
	URLs       []string `json:"urls"` // RFC 7065
	Username   string   `json:"username"`
	Credential string   `json:"credential"`
}

// Servers replaces what Joined said of the relay.
type Servers struct {
	ICEServers []ICEServer `json:"ice_servers"`
}

// Answer is the SDP answer to the offer of the same generation.
type Answer struct {
	Generation int    `json:"generation"`
	SDP        string `json:"sdp"`
}

// Participant is a person or bot as the others see it.
type Participant struct {
	ID       string   `json:"id"`
	Identity string   `json:"identity"`
	Name     string   `json:"name"`
	Sources  []Source `json:"sources"`
}

// Source is one published source.
type Source struct {
	ID    string `json:"id"` // "<participant>/<kind>"
	Kind  string `json:"kind"`
	Codec string `json:"codec,omitempty"`
	Muted bool   `json:"muted"`
	Held  bool   `json:"held,omitempty"` // muted by whoever runs the room: nothing of it is forwarded
}

// Participants tells who came, changed or went. Rev grows by one each time.
type Participants struct {
	Rev    uint64        `json:"rev"`
	Upsert []Participant `json:"upsert,omitempty"`
	Remove []string      `json:"remove,omitempty"`
}

// Seating tells what sits in every seat of this viewer. A seat that is not listed is empty.
type Seating struct {
	Rev   uint64 `json:"rev"`
	Seats []Seat `json:"seats"`
}

// Seat is the occupant of one seat. Video and Audio are source ids, or empty.
type Seat struct {
	Seat        int    `json:"seat"`
	Participant string `json:"participant"`
	Video       string `json:"video,omitempty"`
	Audio       string `json:"audio,omitempty"`
	Paused      string `json:"paused,omitempty"` // why the video is not sent: muted, hidden, bandwidth, overload, codec, no_keyframe
}

// Speakers tells who speaks. Active is the dominant speaker ("" for none).
type Speakers struct {
	Active  string   `json:"active"`
	Loudest []string `json:"loudest,omitempty"`
}

// Publish tells a client how much of an own video anybody looks at, so that the rest
// need not be sent. Until it is told, a client sends all layers. What is wanted again
// is to be sent at once, beginning with a keyframe.
type Publish struct {
	Kind   string   `json:"kind"`
	Layers int      `json:"layers"`         // that are wanted, from the lowest; 0 = nobody looks, pause
	Rids   []string `json:"rids,omitempty"` // the same, as the rids of simulcast
}

// Quality tells how the participant's own connection does, as the room sees it. Scores
// are 0 (lost) to 100.
type Quality struct {
	Participant     string        `json:"participant"`
	Score           int           `json:"score"` // the lower of Up and Down
	Level           string        `json:"level"` // of Score: excellent, good, poor, lost
	Up              int           `json:"up"`    // how what it publishes reaches the room
	Down            int           `json:"down"`  // how what sits in its seats reaches it
	RTTMS           int           `json:"rtt_ms"`
	LossPermil      int           `json:"loss_permil"`              // of what this participant receives
	ConcealedPermil int           `json:"concealed_permil"`         // of the sound it receives, after repair, by estimate
	BandwidthKbps   int           `json:"bandwidth_kbps,omitempty"` // estimate of the path to it; absent: no limit is known
	Transport       string        `json:"transport,omitempty"`      // udp, tcp, turn-udp, turn-tcp, turn-tls
	Seats           []SeatQuality `json:"seats"`
}

// SeatQuality is how one seat does, from the publisher to this participant. Far says
// that it is the publisher's connection which is worse.
type SeatQuality struct {
	Seat  int    `json:"seat"`
	Level string `json:"level"`
	Far   bool   `json:"far,omitempty"`
}

// Budget tells that the room comes near a cap. Level is near (80 %) or last (95 %);
// at the cap the room ends. Reduce says that pictures are small until then.
type Budget struct {
	Level      string `json:"level"`
	Cap        string `json:"cap"`         // duration, participant_minutes, egress_bytes or nano_usd
	UsedPermil int    `json:"used_permil"` // of the cap
	Reduce     bool   `json:"reduce,omitempty"`
}

// Moved tells that this task is going and another takes the room over. The client joins
// there with its resume secret as soon as Room says that Epoch is live, and stays here
// until it receives from there; then it leaves with the reason moved.
type Moved struct {
	Epoch    int   `json:"epoch"`
	EndsInMS int64 `json:"ends_in_ms"` // how long this task plays on, at most
}

// Standing tells a participant what it may do, when that differs from its ticket or
// has changed. Muted are its kinds of source that are not forwarded until further notice.
type Standing struct {
	Grants Grants   `json:"grants"`
	Muted  []string `json:"muted"`
}

// Ended is the last message: the room or this participation is over. Rejoin says
// whether a Join with the resume secret may be tried.
type Ended struct {
	Reason string `json:"reason"`
	Rejoin bool   `json:"rejoin"`
}

// Error answers a message that could not be done. Retryable says that the same
// message may succeed later. Ref is the Seq (WebSocket) or 0.
type Error struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	Retryable bool   `json:"retryable"`
	Ref       uint64 `json:"ref,omitempty"`
}

// Codes of Error, a closed list. docs/protocol.md says when each is sent and
// whether the connection is closed after it.
const (
	CodeBadMessage       = "bad_message"       // not JSON, unknown type, unknown or missing field, bad value
	CodeTooLarge         = "too_large"         // over a limit above
	CodeTicketInvalid    = "ticket_invalid"    // malformed, bad signature, unknown key; closes
	CodeTicketExpired    = "ticket_expired"    // closes
	CodeTicketUsed       = "ticket_used"       // replayed by another attempt; closes
	CodeTicketWrongRoom  = "ticket_wrong_room" // another room than this connection's; closes
	CodeResumeInvalid    = "resume_invalid"    // closes
	CodeEjected          = "ejected"           // this participant, or this identity, is not let in; closes
	CodeNotAuthenticated = "not_authenticated" // first frame was neither watch nor join; closes
	CodeRoomNotFound     = "room_not_found"    // closes
	CodeRoomNotLive      = "room_not_live"     // retryable: wait for room{live}
	CodeRoomEnded        = "room_ended"        // closes
	CodeRoomFull         = "room_full"         // retryable
	CodeBadOffer         = "bad_offer"         // SDP refused: no seats, no data channel, too long, unknown mid
	CodeTooManySeats     = "too_many_seats"
	CodeNotPermitted     = "not_permitted"
	CodeRateLimited      = "rate_limited" // retryable
	CodeNotJoined        = "not_joined"
	CodeInternal         = "internal" // retryable
)

// Reasons of Ended.
const (
	ReasonLeft        = "left"
	ReasonReplaced    = "replaced" // the same participant joined again elsewhere
	ReasonEjected     = "ejected"
	ReasonLost        = "connection_lost"
	ReasonEmpty       = "empty"
	ReasonUnused      = "unused"
	ReasonMaxDuration = "max_duration"
	ReasonMaxMinutes  = "max_participant_minutes"
	ReasonMaxEgress   = "max_egress"
	ReasonMaxCost     = "max_cost"
	ReasonDeleted     = "deleted"
	ReasonTerminated  = "terminated" // SIGTERM: the task is going, the room may move
	ReasonFailed      = "failed"
	ReasonMoved       = "moved" // of Leave: the participant plays at the next task
)

// Encode makes the JSON text of a frame.
func Encode(typ string, seq uint64, body any) ([]byte, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return json.Marshal(Frame{Type: typ, Seq: seq, Body: raw})
}
