package ingest

import (
	"log/slog"
	"time"

	"github.com/pion/rtcp"

	"mayfly/roomtask/rtpx"
)

// URIs of the header extensions that ingest reads.
const (
	ExtMid          = "urn:ietf:params:rtp-hdrext:sdes:mid"
	ExtRid          = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
	ExtRepairedRid  = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
	ExtAudioLevel   = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
	ExtTransportSeq = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
	ExtDD           = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
)

// Tap receives the packets of one layer, in the order of their arrival: a repaired
// packet comes late. Deliver runs on the socket's reader, so it must not block;
// it must Retain the packet to keep it after returning.
type Tap interface {
	Deliver(p *rtpx.Packet)
}

// Config makes a Publisher. All functions must be safe for use from any goroutine
// and must not block, except WriteRTCP.
type Config struct {
	Participant string     // first half of the source ids
	Pool        *rtpx.Pool // shared by all publishers of the task

	// WriteRTCP sends to the publisher. It is called by the Publisher's own writer
	// goroutine alone, and may block until the connection is closed.
	WriteRTCP func([]rtcp.Packet) error

	// Now is nanoseconds, never going back. Unix time is a good choice of origin:
	// the same clock stamps our own sender reports.
	Now func() int64

	Limits Limits // of each source

	// Feedback gets RTCP about our outgoing stream ssrc. A report block comes as a
	// *rtcp.ReceiverReport with that one block, whether it was in an SR or an RR.
	Feedback func(ssrc uint32, p rtcp.Packet)

	// TransportFeedback gets transport-wide feedback about what we send, as it came,
	// for rtpx.ParseTWCC. The bytes are the caller's again when it returns.
	TransportFeedback func(b []byte)

	// Changed is called when a layer begins, ends, or changes its size or codec.
	Changed func(*Source)

	// Abuse is called once, when the participant sends from more SSRCs than any client
	// needs. They go nowhere; the owner should end the participant.
	Abuse func(reason string)

	Log *slog.Logger
}

// Line describes one m-line with which the participant publishes.
type Line struct {
	Mid    string
	Kind   string   // signal.KindMic, KindCamera, KindScreen, KindScreenAudio
	Rids   []string // of simulcast, lowest layer first; empty without simulcast
	Codecs []Codec
	Ext    map[string]uint8 // extension URI → id
	SSRCs  []uint32         // declared in the SDP, if any
	Groups []Group          // declared in the SDP, if any
}

// Codec is one payload type of a Line.
type Codec struct {
	PT        uint8
	Name      string // "opus", "VP8", "rtx", "red", … compared without case
	ClockRate uint32
	RTXOf     uint8 // the payload type that this "rtx" repairs, else 0
}

// Group is an ssrc-group of the SDP (RFC 5576): FID pairs a stream with its
// retransmission, SIM lists simulcast layers from the lowest.
type Group struct {
	Semantics string
	SSRCs     []uint32
}

// LayerInfo is the state of one layer. Width and Height are those of the last
// keyframe, 0 before the first and for audio. Rates are payload bits per second over
// the last second or so. A spatial layer of a scalable stream needs those below it,
// and its rates have them included.
type LayerInfo struct {
	Active        bool
	Width, Height int
	Bps           int64
	TIDs          int                     // temporal layers that come, 0 before the first measure
	TIDBps        [rtpx.MaxTemporal]int64 // of the temporal layers up to each; from TIDs on it is Bps
	RID           string
	SSRC          uint32
}

// SR is the last sender report of a layer: the publisher's wall clock NTP belongs
// to RTP time RTP, and the report arrived At, on the clock of Config.Now. Local is NTP
// on that clock too, as all reports of the publisher together tell it.
type SR struct {
	NTP   uint64
	RTP   uint32
	At    int64
	Local int64
}

// Stats counts what a Publisher received, since it was made.
type Stats struct {
	Packets, Bytes uint64 // all RTP, with retransmissions and padding; bytes with RTP headers
	Unbound        uint64 // of an SSRC that belongs to no source (yet)
	Malformed      uint64
	Duplicate      uint64
	Late           uint64 // older than the window of the duplicate filter
	NoBuffer       uint64 // dropped because the pool was at its cap
	Flood          uint64 // dropped because the source sends more than any may
	Repaired       uint64 // missing packets that a retransmission brought
	Restored       uint64 // missing packets that the redundancy of later ones brought
	Lost           uint64 // missing packets that were given up
	NACKs, PLIs    uint64 // sequence numbers asked for; keyframes asked for
	RTT            int64  // nanoseconds, 0 while unknown
	Layers         []LayerStats
}

// LayerStats counts one layer.
type LayerStats struct {
	Source    string
	Layer     int
	Info      LayerInfo
	Packets   uint64
	Bytes     uint64 // payload
	Keyframes uint64
	// Of the present stream, without retransmissions: a new one counts from 0.
	Expected, Received uint64
	Jitter             time.Duration // RFC 3550 §6.4.1
	Codec              string        // of the last packet, as in the SDP
}
