package main

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
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
)

// The last bytes of each payload tell when it was sent, and who and which it is.
const (
	trailerSize  = 20
	trailerMagic = 0x6d61_7966 // "mayf"
)

// stream numbers a publisher's packets of one kind.
type stream struct {
	id   uint32 // publisher × 2, + 1 for video
	next uint32
	// sent are when the packets were sent, by number modulo its length, for the
	// count of those that fall into the window.
	inWindow atomic.Int64
}

func (s *stream) stamp(payload []byte, w *window) {
	now := nanos()
	t := payload[len(payload)-trailerSize:]
	binary.BigEndian.PutUint64(t, uint64(now))
	binary.BigEndian.PutUint32(t[8:], s.next)
	binary.BigEndian.PutUint32(t[12:], s.id)
	binary.BigEndian.PutUint32(t[16:], trailerMagic)
	s.next++
	if w.has(now) {
		s.inWindow.Add(1)
	}
}

// publisher sends generated media.
type publisher struct {
	id           string
	pc           *webrtc.PeerConnection
	audio, video *webrtc.TrackLocalStaticRTP
	streams      [2]stream // audio, video
	keyframe     atomic.Bool
	window       *window
	rng          *rand.Rand
}

func (g *generator) publish(n int) (*publisher, error) {
	p := &publisher{id: publisherID(n), window: &g.window, rng: rand.New(rand.NewPCG(1, uint64(n)))}
	p.streams[0].id, p.streams[1].id = uint32(2*n), uint32(2*n+1)
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
	go p.run(g.ctx)
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

// run sends by the clock, so that a late wake-up is made up for.
func (p *publisher) run(ctx context.Context) {
	time.Sleep(time.Duration(p.rng.Int64N(int64(time.Second / fps)))) // publishers are not in step
	tick := time.NewTicker(slot)
	defer tick.Stop()
	start := time.Now()
	var audio, slots int
	film := camera{p: p}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		at := time.Since(start)
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
