package robot

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
)

// Abuse is what a participant with a good ticket can do to a room, per second. It does
// all of it until ctx ends, and sends as well what a robot sends.
type Abuse struct {
	Media    int // packets of 1,100 bytes on the camera's stream
	Streams  int // packets each of another SSRC
	Feedback int // PLI, NACK, receiver reports and transport-wide feedback about what it receives, each
	Messages int // chat messages over the data channel, each of 1,000 bytes
}

// abuseStep is the time between two bursts.
const abuseStep = 10 * time.Millisecond

// Abuse misbehaves until ctx ends, and returns how many packets and messages it sent.
func (r *Robot) Abuse(ctx context.Context, a Abuse) (sent int) {
	tick := time.NewTicker(abuseStep)
	defer tick.Stop()
	begin := time.Now()
	var done Abuse
	due := func(rate int, done *int) int {
		n := int(time.Since(begin).Seconds()*float64(rate)) - *done
		*done += n
		return n
	}
	for {
		select {
		case <-ctx.Done():
			return sent
		case <-tick.C:
		}
		media, streams := due(a.Media, &done.Media), due(a.Streams, &done.Streams)
		feedback, messages := due(a.Feedback, &done.Feedback), due(a.Messages, &done.Messages)
		for range media {
			r.floodMedia()
		}
		for range streams {
			r.strayStream()
		}
		for range feedback {
			_ = r.PC.WriteRTCP(r.storm()) // fails once the room has thrown it out
		}
		for range messages {
			if r.dc.BufferedAmount() < 1<<20 {
				_ = r.dc.SendText(chatter)
			}
		}
		sent += media + streams + feedback + messages
	}
}

var chatter = `{"type":"chat","body":{"text":"` + strings.Repeat("x", 1000) + `"}}`

// floodMedia sends one more packet of a frame that never ends, within the camera's own
// stream.
func (r *Robot) floodMedia() {
	if r.camera == nil {
		return
	}
	o := r.camera.layers[0].out
	payload := make([]byte, maxPayload)
	payload[0] = 0x80
	o.mu.Lock()
	ts := o.packets * 3000
	o.mu.Unlock()
	o.write(ts, false, payload, -1)
}

// strayStream sends a packet of an SSRC that nobody has negotiated.
func (r *Robot) strayStream() {
	if len(r.out) == 0 {
		return
	}
	o := r.out[len(r.out)-1]
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.out == nil {
		return
	}
	h := rtp.Header{Version: 2, PayloadType: o.pt, SSRC: rand.Uint32(), SequenceNumber: uint16(rand.Uint32())}
	o.extend(&h, o.ridID, -1)
	_, _ = o.out.WriteRTP(&h, make([]byte, 100))
}

// storm complains about everything that the robot receives.
func (r *Robot) storm() (out []rtcp.Packet) {
	r.in.mu.Lock()
	defer r.in.mu.Unlock()
	for ssrc, in := range r.in.streams {
		seq := uint16(in.seqs.highest)
		out = append(out,
			&rtcp.PictureLossIndication{SenderSSRC: r.in.ssrc, MediaSSRC: ssrc},
			&rtcp.TransportLayerNack{SenderSSRC: r.in.ssrc, MediaSSRC: ssrc, Nacks: []rtcp.NackPair{
				{PacketID: seq - 17, LostPackets: 0xffff}, {PacketID: seq - 34, LostPackets: 0xffff}, {PacketID: seq - 51, LostPackets: 0xffff},
			}},
			&rtcp.ReceiverReport{SSRC: r.in.ssrc, Reports: []rtcp.ReceptionReport{{SSRC: ssrc, FractionLost: uint8(rand.Uint32()), LastSequenceNumber: rand.Uint32(), LastSenderReport: rand.Uint32()}}})
		if len(out) >= 9 {
			break
		}
	}
	feedback := rtcp.RawPacket{0x8f, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, byte(rand.Uint32()), byte(rand.Uint32()), 0, 1, 0, 0, 0, 0, 0x20, 1, 4, 0}
	return append(out, &feedback)
}
