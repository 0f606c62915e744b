package peer

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pion/webrtc/v4"

	"mayfly/shared/signal"
)

// negotiated is the outcome of one offer that Pion was asked to apply.
type negotiated struct {
	generation int
	layout     layout
	tracks     []*seatTrack // of the seats that are new
	answer     string
	err        error // Pion refused; the PeerConnection cannot be used any more
}

// answered is the offer that was applied last. It is answered again when it comes twice,
// as when the first answer was lost.
type answered struct {
	generation int
	offer      [sha256.Size]byte // of its SDP
	done       bool              // there is an answer
}

// apply has Pion negotiate. It may block, and runs in a goroutine of its own.
func (p *Peer) apply(generation int, c *checked) (out negotiated) {
	out = negotiated{generation: generation, layout: c.layout}
	defer func() {
		if r := recover(); r != nil {
			out.err = p.fault("negotiation", r)
		}
	}()
	// Pion matches our sendonly transceivers to the offer's recvonly m-lines in order.
	var transceivers []*webrtc.RTPTransceiver
	for _, ln := range c.fresh {
		t := &seatTrack{line: ln, direct: &p.direct}
		tr, err := p.pc.AddTransceiverFromTrack(t, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		if err != nil {
			return out.failed("add transceiver", err)
		}
		out.tracks, transceivers = append(out.tracks, t), append(transceivers, tr)
	}
	if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: c.sdp}); err != nil {
		return out.failed("apply offer", err)
	}
	for i, tr := range transceivers {
		if tr.Mid() != out.tracks[i].line.mid {
			return out.failed("match m-lines", fmt.Errorf("transceiver has mid %q, want %q", tr.Mid(), out.tracks[i].line.mid))
		}
	}
	answer, err := p.pc.CreateAnswer(nil)
	if err != nil {
		return out.failed("create answer", err)
	}
	gathered := webrtc.GatheringCompletePromise(p.pc)
	if err := p.pc.SetLocalDescription(answer); err != nil {
		return out.failed("apply answer", err)
	}
	select {
	case <-gathered:
	case <-p.closing:
		return out.failed("gather", errors.New("closed"))
	}
	for _, t := range out.tracks {
		if t.out == nil {
			return out.failed("bind", fmt.Errorf("m-line %q has no sender", t.line.mid))
		}
	}
	out.answer = p.answer()
	return out
}

// answer is that of the offer that Pion has applied last.
func (p *Peer) answer() string { return slim(p.pc.LocalDescription().SDP, p.cfg.Net.Candidates()) }

func (n negotiated) failed(step string, err error) negotiated {
	n.err = fmt.Errorf("peer: %s: %w", step, err)
	return n
}

// adopt takes over what was negotiated. It runs on the loop.
func (p *Peer) adopt(n negotiated) {
	p.layout = n.layout
	p.publisher.Bind(p.layout.published())
	for _, t := range n.tracks {
		s := p.seats[t.line.seat]
		if t.line.video {
			s.video = t.out
		} else {
			s.audio = t.out
		}
		p.seats[t.line.seat] = s
		if !slices.Contains(p.unset, t.line.seat) {
			p.unset = append(p.unset, t.line.seat)
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

// slim leaves out of an answer what no client needs, nearly half of it: Plan B's
// attributes of each SSRC, and candidates of an RTCP component that the bundle does
// not have. An m-line's msid moves before its SSRCs, where Pion's own clients look
// for it. The ways in that Pion does not know of follow the candidate that it knows.
func slim(answer string, candidates []string) string {
	var b, msid, ssrcs strings.Builder
	b.Grow(len(answer))
	flush := func() {
		b.WriteString(msid.String())
		b.WriteString(ssrcs.String())
		msid.Reset()
		ssrcs.Reset()
	}
	for line := range strings.Lines(answer) {
		key, rest, _ := strings.Cut(line, ":")
		switch key {
		case "a=ssrc":
			if _, attr, _ := strings.Cut(rest, " "); strings.HasPrefix(attr, "cname:") {
				ssrcs.WriteString(line)
			}
			continue
		case "a=ssrc-group":
			ssrcs.WriteString(line)
			continue
		case "a=msid":
			msid.Reset() // Pion writes it once per encoding
			msid.WriteString(line)
			continue
		case "a=candidate":
			if f := strings.Fields(rest); len(f) > 1 && f[1] == "2" {
				continue
			}
			b.WriteString(line)
			for _, c := range candidates {
				b.WriteString("a=candidate:" + c + "\r\n")
			}
			continue
		}
		if strings.HasPrefix(line, "m=") {
			flush()
		}
		b.WriteString(line)
	}
	flush()
	return b.String()
}

// refused makes the event of an offer that was not applied.
func refused(generation int, fault *signal.Error) Refused {
	return Refused{Generation: generation, Code: fault.Code, Message: fault.Message}
}
