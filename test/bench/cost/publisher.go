package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"mayfly/shared/signal"
)

// What a publisher sends: VP8 at 1.6 Mbit/s on the wire, as libwebrtc paces it, and
// Opus. 6 × 30 + 50 = 230 packets a second.
const (
	fps         = 30
	perFrame    = 6
	perKeyframe = 4 * perFrame
	perSlot     = 2 // packets of video every slot
	slot        = 5 * time.Millisecond
	videoBytes  = 1100
	audioBytes  = 100
	audioEvery  = 20 * time.Millisecond
	pps         = fps*perFrame + 50
	round       = 100 * time.Millisecond // three pictures, five packets of audio: the schedule repeats
)

// The last bytes of each payload tell when it was sent, and who and which it is.
const (
	trailerSize  = 20
	trailerMagic = 0x6d61_7966 // "mayf"
)

// stream numbers a publisher's packets of one kind.
type stream struct {
	id       uint32 // publisher × 2, + 1 for video
	next     uint32
	inWindow atomic.Int64
	// sent are when the last packets were sent, by number: 20 s of video.
	sent [4096]struct {
		number atomic.Uint32
		at     atomic.Int64
	}
}

// sentAt is when packet n was sent, if it is not too long ago.
func (s *stream) sentAt(n uint32) (at int64, ok bool) {
	e := &s.sent[n%uint32(len(s.sent))]
	at = e.at.Load()
	return at, at != 0 && e.number.Load() == n
}

func (s *stream) stamp(payload []byte, w *window) {
	now := nanos()
	t := payload[len(payload)-trailerSize:]
	binary.BigEndian.PutUint64(t, uint64(now))
	binary.BigEndian.PutUint32(t[8:], s.next)
	binary.BigEndian.PutUint32(t[12:], s.id)
	binary.BigEndian.PutUint32(t[16:], trailerMagic)
	e := &s.sent[s.next%uint32(len(s.sent))]
	e.at.Store(0)
	e.number.Store(s.next)
	e.at.Store(now)
	s.next++
	if w.has(now) {
		s.inWindow.Add(1)
	}
}

// trailer is what the end of a payload tells.
type trailer struct {
	sent       int64
	number, id uint32
}

func trailerOf(b []byte) (t trailer, ok bool) {
	if len(b) < 12+trailerSize {
		return t, false
	}
	b = b[len(b)-trailerSize:]
	t = trailer{int64(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])}
	return t, binary.BigEndian.Uint32(b[16:]) == trailerMagic
}

// writer takes a publisher's packets.
type writer interface {
	WriteRTP(p *rtp.Packet) error
}

// publisher sends generated media.
type publisher struct {
	id           string
	pc           *webrtc.PeerConnection
	audio, video writer
	streams      [2]stream // audio, video
	keyframe     atomic.Bool
	window       *window
	rng          *rand.Rand
}

func newPublisher(n int, w *window) *publisher {
	p := &publisher{id: publisherID(n), window: w, rng: rand.New(rand.NewPCG(1, uint64(n)))}
	p.streams[0].id, p.streams[1].id = uint32(2*n), uint32(2*n+1)
	return p
}

func (g *generator) publish(n int) (*publisher, error) {
	p := newPublisher(n, &g.window)
	pc, err := g.full.NewPeerConnection(webrtc.Configuration{Certificates: g.certificates})
	if err != nil {
		return nil, err
	}
	p.pc = pc
	if _, err := pc.CreateDataChannel(signal.DataChannelLabel, nil); err != nil {
		return nil, err
	}
	sources, err := p.tracks()
	if err != nil {
		return nil, err
	}
	seat, err := seats(pc, 1) // the room wants one, and it stays empty
	if err != nil {
		return nil, err
	}
	sdp, err := offer(pc)
	if err != nil {
		return nil, err
	}
	req := joinRequest{ID: p.id, SDP: sdp, Seats: seat()}
	for kind, t := range sources {
		req.Sources = append(req.Sources, signal.SourceLine{Mid: t.Mid(), Kind: kind})
	}
	connected := make(chan struct{})
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateConnected {
			close(connected)
		}
	})
	if err := g.join(req, pc); err != nil {
		return nil, err
	}
	<-connected
	for _, s := range pc.GetSenders() {
		go p.listen(s)
	}
	go p.run()
	return p, nil
}

func (p *publisher) tracks() (sources map[string]*webrtc.RTPTransceiver, err error) {
	sources = map[string]*webrtc.RTPTransceiver{}
	for kind, mime := range map[string]string{signal.KindMic: webrtc.MimeTypeOpus, signal.KindCamera: webrtc.MimeTypeVP8} {
		t, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: mime}, kind, p.id)
		if err != nil {
			return nil, err
		}
		tr, err := p.pc.AddTransceiverFromTrack(t, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		if err != nil {
			return nil, err
		}
		sources[kind] = tr
		if kind == signal.KindMic {
			p.audio = t
		} else {
			p.video = t
		}
	}
	return sources, nil
}

func (p *publisher) listen(s *webrtc.RTPSender) {
	for {
		packets, _, err := s.ReadRTCP()
		if err != nil {
			return
		}
		for _, c := range packets {
			switch c.(type) {
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				p.keyframe.Store(true)
			}
		}
	}
}

// run sends by the clock, so that a late wake-up is made up for. All publishers began at the
// same moment in thought, each with a delay of its own: how they lie to each other is the
// same in each run, and for each server.
func (p *publisher) run() {
	start := time.Duration(p.rng.Int64N(int64(time.Second / fps)))
	if late := time.Duration(nanos()) - start; late > 0 { // as much later as keeps the order
		start += (late/round + 1) * round
	}
	tick, err := newTicks(start, slot)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cost: publisher:", err)
		os.Exit(1)
	}
	var audio, slots int
	film := camera{p: p}
	for tick.wait() == nil {
		at := time.Duration(nanos()) - start
		for ; time.Duration(audio)*audioEvery <= at; audio++ {
			payload := make([]byte, audioBytes)
			p.streams[0].stamp(payload, p.window)
			_ = p.audio.WriteRTP(&rtp.Packet{Header: rtp.Header{
				Version: 2, SequenceNumber: uint16(audio), Timestamp: uint32(audio) * 960,
			}, Payload: payload})
		}
		for ; time.Duration(slots)*slot <= at; slots++ {
			film.slot(time.Duration(slots) * slot)
		}
	}
}

// camera makes frames and sends their packets two by two.
type camera struct {
	p     *publisher
	frame uint32 // made so far
	seq   uint16
	queue []rtp.Packet
}

func (c *camera) slot(at time.Duration) {
	for uint32(at*fps/time.Second) >= c.frame {
		c.make()
	}
	n := perSlot
	if len(c.queue) > perFrame { // a keyframe must not grow a queue
		n = 2 * perSlot
	}
	for ; n > 0 && len(c.queue) > 0; n-- {
		pkt := &c.queue[0]
		c.p.streams[1].stamp(pkt.Payload, c.p.window)
		_ = c.p.video.WriteRTP(pkt)
		c.queue = c.queue[1:]
	}
}

func (c *camera) make() {
	key := c.p.keyframe.Swap(false) || c.frame == 0
	n := perFrame
	if key {
		n = perKeyframe
	}
	for i := range n {
		c.queue = append(c.queue, rtp.Packet{
			Header:  rtp.Header{Version: 2, SequenceNumber: c.seq, Timestamp: c.frame * (90000 / fps), Marker: i == n-1},
			Payload: vp8(c.frame, i == 0, key),
		})
		c.seq++
	}
	c.frame++
}

// vp8 makes one packet's payload: the descriptor with a 15-bit picture id (RFC 7741
// §4.2) and, at the start of a frame, the frame header (RFC 6386 §9.1) of 1280×720.
func vp8(frame uint32, start, key bool) []byte {
	p := make([]byte, videoBytes)
	p[0], p[1] = 0x80, 0x80
	if start {
		p[0] |= 0x10
	}
	binary.BigEndian.PutUint16(p[2:], uint16(frame)|0x8000)
	if !start {
		return p
	}
	p[4] = 0x10
	if !key {
		p[4] |= 1
		return p
	}
	copy(p[7:], []byte{0x9d, 0x01, 0x2a})
	binary.LittleEndian.PutUint16(p[10:], 1280)
	binary.LittleEndian.PutUint16(p[12:], 720)
	return p
}
