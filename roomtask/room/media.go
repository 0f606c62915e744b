package room

import (
	"mayfly/shared/signal"
	"mayfly/shared/usage"
)

// Media is one participant's connection as the room drives it. No call blocks.
// peers.go implements it with roomtask/peer.
type Media interface {
	// Offer negotiates; the answer is an EventAnswered or EventRefused of the same generation.
	Offer(o signal.Offer)
	// Seats are the seat numbers that were negotiated, in ascending order.
	Seats() []int
	// Assign puts a participant's sources into a seat; from is nil for an empty seat.
	Assign(seat int, from Media, p Placement)
	// SendData sends a frame over the data channel; false means that it was dropped.
	SendData(frame []byte) bool
	// Usage tells cumulative bytes and the transport in use ("" if none yet).
	Usage() (in, out usage.Bytes, transport string)
	// Prime asks for a keyframe of the layer that covers this size of an own video: a
	// viewer is about to connect, which takes longer than the keyframe.
	Prime(kind string, width, height int)
	// Layers are those of an own video source, the lowest first; none if it is not published.
	Layers(kind string) []Layer
	// Codec is the codec of one of the participant's videos, as in SDP; "" while it is
	// not known.
	Codec(kind string) string
	// Level is the microphone's level: -dBov, 127 = silence (RFC 6464), and the voice flag.
	Level() (level uint8, voice bool)
	// Paused says why the video of a seat is not sent, "" if it is.
	Paused(seat int) string
	// Counts are for statistics.
	Counts() Counts
	// Health tells how the connection does.
	Health() Health
	// Pulse does periodic work; it is called every 20 ms, by one goroutine other than the room's.
	Pulse(now int64)
	// Close ends the connection in the background; Closed is closed when it is gone.
	Close()
	Closed() <-chan struct{}
}

// Placement is what a seat carries: kinds of the publisher's sources ("" for none)
// and the size at which the video is shown (0×0 = hidden).
type Placement struct {
	Video, Audio  string
	Width, Height int
	Pinned        bool
	Speaking      bool // is the dominant speaker
}

// NewMedia makes the media of participant id. post may be called from any
// goroutine and never blocks.
type NewMedia func(id string, post func(Event)) (Media, error)

// EventKind says what happened to a participant's media.
type EventKind int8

// Kinds of Event.
const (
	EventAnswered     EventKind = iota // Generation, Text = SDP
	EventRefused                       // Generation, Code, Text = message
	EventConnected                     // ICE and DTLS are up
	EventDisconnected                  // ICE lost the path; it may come back
	EventFailed                        // ICE or DTLS gave up
	EventDataOpen
	EventData         // Data = one frame
	EventMediaChanged // a source's layer appeared, changed size or went
)

// Event is something that happened to a participant's media.
type Event struct {
	Kind       EventKind
	Generation int
	Code, Text string
	Data       []byte
	// Done is called when the event has been handled, EventMediaChanged's before: what
	// changes meanwhile is another event. May be nil.
	Done func()
}
