// Package usage defines the usage frame: what a room task counts and tells the
// control plane, on heartbeats and at its end.
//
// All counters are cumulative since the task started, so a lost, doubled or late
// report does no harm: the highest Seq wins. Integers only: milliseconds and
// bytes. functions/control/ledger stores it; roomtask/usage produces it.
package usage

// Report is one cumulative statement of a task. Sessions holds those that changed
// since the last acknowledged report (all of them in the final one, split over
// several reports when they do not fit one frame).
type Report struct {
	Seq      uint64    `json:"seq"` // grows by one per report of a task
	AtMS     int64     `json:"at_ms"`
	Final    bool      `json:"final,omitempty"`
	Totals   Totals    `json:"totals"`
	Sessions []Session `json:"sessions,omitempty"`
}

// Totals are sums over all sessions of the task, ended ones included.
type Totals struct {
	ParticipantMS    int64 `json:"participant_ms"`
	Sessions         int64 `json:"sessions"`
	Present          int   `json:"present"`           // participants in the room now
	PeakParticipants int   `json:"peak_participants"` // at once
	BytesIn          Bytes `json:"bytes_in"`          // received by the task
	BytesOut         Bytes `json:"bytes_out"`         // sent by the task
	AudioOnlyMS      int64 `json:"audio_only_ms,omitempty"`
	// Signalling messages that this task knows of, in the gateway's units (a started
	// 32 KB each): frames on its link, and those that were relayed to and from clients.
	MessagesIn  int64 `json:"messages_in,omitempty"`  // received by the gateway
	MessagesOut int64 `json:"messages_out,omitempty"` // sent by it
}

// Session is one participation: from the join's admission to the leave.
type Session struct {
	ID            string `json:"id"`
	Participant   string `json:"participant"`
	JoinedMS      int64  `json:"joined_ms"`
	LeftMS        int64  `json:"left_ms,omitempty"`       // 0 while present
	ParticipantMS int64  `json:"participant_ms"`          // connected time so far
	AudioOnlyMS   int64  `json:"audio_only_ms,omitempty"` // the part of it in which no video byte came or went
	LeaveReason   string `json:"leave_reason,omitempty"`
	Transport     string `json:"transport,omitempty"` // udp, tcp, turn-udp, turn-tcp, turn-tls
	BytesIn       Bytes  `json:"bytes_in"`
	BytesOut      Bytes  `json:"bytes_out"`
	On            Tracks `json:"on,omitzero"` // what it publishes now; nothing once it has left
}

// Tracks are the kinds of source that a participant publishes and has not muted.
type Tracks struct {
	Mic         bool `json:"mic,omitempty"`
	Camera      bool `json:"camera,omitempty"`
	Screen      bool `json:"screen,omitempty"`
	ScreenAudio bool `json:"screen_audio,omitempty"`
}

// Bytes counts UDP or TCP payload bytes by kind. Total is everything on the
// participant's transport but STUN: SRTP, SRTCP and DTLS (browsers count the same
// in RTCTransportStats); the others are parts of it, and no part is in another. What
// is in none of them is probing, RTCP, handshakes and SCTP's own.
type Bytes struct {
	Total  int64 `json:"total"`
	Audio  int64 `json:"audio"`            // without FEC
	Video  int64 `json:"video"`            // of cameras
	Screen int64 `json:"screen,omitempty"` // pictures of screens
	RTX    int64 `json:"rtx"`              // sent again because somebody asked
	FEC    int64 `json:"fec,omitempty"`    // former audio that packets repeat (RFC 2198), and packets of it sent again, as sent
	Data   int64 `json:"data,omitempty"`   // frames over the data channel, without SCTP
}

// Zip returns f of each pair of parts.
func (b Bytes) Zip(o Bytes, f func(x, y int64) int64) Bytes {
	return Bytes{
		Total: f(b.Total, o.Total), Audio: f(b.Audio, o.Audio), Video: f(b.Video, o.Video), Screen: f(b.Screen, o.Screen),
		RTX: f(b.RTX, o.RTX), FEC: f(b.FEC, o.FEC), Data: f(b.Data, o.Data),
	}
}

// Add returns the sum.
func (b Bytes) Add(o Bytes) Bytes { return b.Zip(o, func(x, y int64) int64 { return x + y }) }
