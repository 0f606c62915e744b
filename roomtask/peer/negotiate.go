package peer

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"mayfly/roomtask/conn"
	"mayfly/shared/signal"
)

// negotiated is the outcome of one offer that the connection has followed.
type negotiated struct {
	generation int
	offer      *checked
	local      local
	answer     string
	err        error // the connection cannot be used any more
}

// answered is the offer that was applied last. It is answered again when it comes twice,
// as when the first answer was lost.
type answered struct {
	generation int
	offer      [sha256.Size]byte // of its SDP
	done       bool              // there is an answer
}

// apply has the connection follow an offer, and writes the answer. It may block, and runs in
// a goroutine of its own; ours is what was said of our end before.
func (p *Peer) apply(generation int, c *checked, ours local) (out *negotiated) {
	out = &negotiated{generation: generation, offer: c, local: ours}
	defer func() {
		if r := recover(); r != nil {
			out.err = p.fault("negotiation", r)
		}
	}()
	// Copies, for the offer need not stay with them.
	ice, err := p.conn.Negotiate(conn.Remote{
		Ufrag: strings.Clone(c.client.ufrag), Pwd: strings.Clone(c.client.pwd), Fingerprint: strings.Clone(c.client.fingerprint),
	})
	if err != nil {
		out.err = fmt.Errorf("peer: %w", err)
		return out
	}
	l := &out.local
	l.version++
	l.ufrag, l.pwd = ice.Ufrag, ice.Pwd
	l.streams = withStreams(ours.streams, c, rand.Uint32)
	out.answer = answerTo(c, l)
	return out
}

// adopt takes over what was negotiated. It runs on the loop.
func (p *Peer) adopt(n *negotiated) {
	p.layout, p.local = n.offer.layout, n.local
	p.publisher.Bind(p.layout.published())
	for _, ln := range n.offer.fresh {
		of := p.local.streams[ln.mid]
		s, out := p.seats[ln.seat], ln.out(of, p.conn.Line(of.ssrc, of.rtx))
		if ln.video {
			s.video = out
		} else {
			s.audio = out
		}
		p.seats[ln.seat] = s
		if !slices.Contains(p.unset, ln.seat) {
			p.unset = append(p.unset, ln.seat)
		}
	}
	numbers := make([]int, 0, len(p.seats))
	for seat := range p.seats {
		numbers = append(numbers, seat)
	}
	slices.Sort(numbers)
	p.numbers.Store(&numbers)
	p.setSeats()
}

// setSeats hands new seats to the Sender. Before the connection is up it holds them
// back: what is written then is lost, and a keyframe with it.
func (p *Peer) setSeats() {
	if !p.up {
		return
	}
	for _, seat := range p.unset {
		p.sender.SetSeat(seat, p.seats[seat].audio, p.seats[seat].video)
	}
	p.unset = nil
}

// streamID is the msid of both tracks of a seat, so that browsers keep them in sync.
func streamID(seat int) string { return fmt.Sprintf("seat-%d", seat) }

// refused makes the event of an offer that was not applied.
func refused(generation int, fault *signal.Error) Refused {
	return Refused{Generation: generation, Code: fault.Code, Message: fault.Message}
}
