package peer

import "mayfly/roomtask/ingest"

// Event is something that happened to the participant, for Config.Post.
type Event interface{ event() }

// Answered is the answer to the offer of the same generation.
type Answered struct {
	Generation int
	SDP        string
}

// Refused says that an offer changed nothing, with a code of shared/signal.
type Refused struct {
	Generation    int
	Code, Message string
}

// Connected says that ICE and DTLS are up, for the first time or again.
type Connected struct{}

// Disconnected says that nothing has come from the client for a while. It may come
// back, by itself or by an ICE restart; if not, Failed follows.
type Disconnected struct{}

// Failed says that the Peer is of no use any more and should be closed.
// It is posted once.
type Failed struct{ Reason string }

// DataOpen says that the client has opened the data channel.
type DataOpen struct{}

// Data is one whole frame from the data channel.
type Data struct{ Frame []byte }

// Published says that a layer of one of the participant's sources began, ended, or
// changed its size.
type Published struct{ Source *ingest.Source }

func (Answered) event()     {}
func (Refused) event()      {}
func (Connected) event()    {}
func (Disconnected) event() {}
func (Failed) event()       {}
func (DataOpen) event()     {}
func (Data) event()         {}
func (Published) event()    {}

// Reasons of Failed.
const (
	FailICE         = "connection lost"      // ICE or DTLS gave up, or never came up
	FailClosed      = "closed by the client" // its PeerConnection is gone
	FailAbuse       = "abuse"                // more streams, channels or bytes than any client needs
	FailNegotiation = "negotiation failed"   // ICE refused or hung; it cannot be taken back
	FailFault       = "internal fault"       // a bug of ours met in this participant's packets
)
