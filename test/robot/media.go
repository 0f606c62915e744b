package robot

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"mayfly/shared/signal"
)

// codecs are what a robot offers: VP8 with rtx, and Opus.
func engine() (*webrtc.API, error) {
	m := &webrtc.MediaEngine{}
	video := []webrtc.RTCPFeedback{{Type: "nack"}, {Type: "nack", Parameter: "pli"}, {Type: "ccm", Parameter: "fir"}, {Type: "transport-cc"}}
	for _, c := range []struct {
		p webrtc.RTPCodecParameters
		t webrtc.RTPCodecType
	}{
		{webrtc.RTPCodecParameters{RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1"}, PayloadType: 111}, webrtc.RTPCodecTypeAudio},
		{webrtc.RTPCodecParameters{RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000, RTCPFeedback: video}, PayloadType: 96}, webrtc.RTPCodecTypeVideo},
		{webrtc.RTPCodecParameters{RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeRTX, ClockRate: 90000, SDPFmtpLine: "apt=96"}, PayloadType: 97}, webrtc.RTPCodecTypeVideo},
	} {
		if err := m.RegisterCodec(c.p, c.t); err != nil {
			return nil, err
		}
	}
	level := webrtc.RTPHeaderExtensionCapability{URI: sdp.AudioLevelURI}
	if err := m.RegisterHeaderExtension(level, webrtc.RTPCodecTypeAudio); err != nil {
		return nil, err
	}
	ir := &interceptor.Registry{}
	if err := webrtc.RegisterDefaultInterceptors(m, ir); err != nil {
		return nil, err
	}
	se := webrtc.SettingEngine{}
	se.SetIncludeLoopbackCandidate(true)
	return webrtc.NewAPI(webrtc.WithMediaEngine(m), webrtc.WithInterceptorRegistry(ir), webrtc.WithSettingEngine(se)), nil
}

// offer makes the PeerConnection: a data channel, the own sources, the seats.
func (r *Robot) offer(cfg Config) (signal.Offer, error) {
	o := signal.Offer{Generation: 1}
	api, err := engine()
	if err != nil {
		return o, fmt.Errorf("robot: %w", err)
	}
	if r.PC, err = api.NewPeerConnection(webrtc.Configuration{}); err != nil {
		return o, fmt.Errorf("robot: %w", err)
	}
	if r.dc, err = r.PC.CreateDataChannel(signal.DataChannelLabel, nil); err != nil {
		return o, fmt.Errorf("robot: %w", err)
	}
	r.listen()
	sources, err := r.addSources(cfg)
	if err != nil {
		return o, err
	}
	seats := map[string]int{} // mid → seat
	lines, err := r.addSeats(cfg.Seats)
	if err != nil {
		return o, err
	}
	r.PC.OnTrack(func(track *webrtc.TrackRemote, recv *webrtc.RTPReceiver) {
		r.count(track, seats[recv.RTPTransceiver().Mid()])
	})
	desc, err := r.PC.CreateOffer(nil)
	if err != nil {
		return o, fmt.Errorf("robot: %w", err)
	}
	gathered := webrtc.GatheringCompletePromise(r.PC)
	if err := r.PC.SetLocalDescription(desc); err != nil {
		return o, fmt.Errorf("robot: %w", err)
	}
	<-gathered
	o.SDP = r.PC.LocalDescription().SDP
	for kind, t := range sources {
		o.Sources = append(o.Sources, signal.SourceLine{Mid: t.Mid(), Kind: kind})
	}
	for i, l := range lines {
		o.Seats = append(o.Seats, signal.SeatLine{Seat: i, Audio: l.audio.Mid(), Video: l.video.Mid()})
		seats[l.audio.Mid()], seats[l.video.Mid()] = i, i
	}
	return o, nil
}

// seatLines are the two m-lines of a seat.
type seatLines struct{ audio, video *webrtc.RTPTransceiver }

// addSeats adds the lines of n seats, seat by seat.
func (r *Robot) addSeats(n int) ([]seatLines, error) {
	recvonly := webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}
	lines := make([]seatLines, n)
	for i := range lines {
		var err error
		if lines[i].audio, err = r.PC.AddTransceiverFromKind(webrtc.RTPCodecTypeAudio, recvonly); err != nil {
			return nil, fmt.Errorf("robot: %w", err)
		}
		if lines[i].video, err = r.PC.AddTransceiverFromKind(webrtc.RTPCodecTypeVideo, recvonly); err != nil {
			return nil, fmt.Errorf("robot: %w", err)
		}
	}
	return lines, nil
}

// listen takes what comes over the data channel.
func (r *Robot) listen() {
	r.dc.OnOpen(func() { close(r.open) })
	var once sync.Once
	r.dc.OnClose(func() { once.Do(func() { close(r.closed) }) })
	r.PC.OnConnectionStateChange(func(c webrtc.PeerConnectionState) {
		if c == webrtc.PeerConnectionStateDisconnected || c == webrtc.PeerConnectionStateFailed {
			r.leaveBehind()
		}
	})
	r.dc.OnMessage(func(m webrtc.DataChannelMessage) {
		if f, err := signal.ParseFrame(m.Data, signal.MaxDataBytes); err == nil {
			r.mu.Lock()
			r.frames = append(r.frames, f)
			r.mu.Unlock()
			r.obeyRoom(f)
		}
	})
}

func (r *Robot) addSources(cfg Config) (map[string]*webrtc.RTPTransceiver, error) {
	sources := map[string]*webrtc.RTPTransceiver{}
	if cfg.Mute {
		return sources, nil
	}
	for _, s := range []struct{ kind, mime string }{{signal.KindMic, webrtc.MimeTypeOpus}, {signal.KindCamera, webrtc.MimeTypeVP8}} {
		if cfg.SoundOnly && s.kind != signal.KindMic {
			continue
		}
		track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: s.mime}, s.kind, "robot")
		if err != nil {
			return nil, fmt.Errorf("robot: %w", err)
		}
		t, err := r.PC.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		if err != nil {
			return nil, fmt.Errorf("robot: %w", err)
		}
		sources[s.kind] = t
	}
	return sources, nil
}

// count reads a seat's track to its end.
func (r *Robot) count(track *webrtc.TrackRemote, seat int) {
	n := &r.Packets[seat].Video
	if track.Kind() == webrtc.RTPCodecTypeAudio {
		n = &r.Packets[seat].Audio
	}
	buf := make([]byte, 1600)
	for {
		if _, _, err := track.Read(buf); err != nil {
			return
		}
		n.Add(1)
	}
}

// publish sends 30 frames of video, of 4 packets each, and 50 packets of audio a
// second, with a keyframe when the room asks for one and every three seconds.
func (r *Robot) publish(ctx context.Context) {
	for _, s := range r.PC.GetSenders() {
		track, ok := s.Track().(*webrtc.TrackLocalStaticRTP)
		if !ok {
			continue
		}
		if track.Kind() == webrtc.RTPCodecTypeAudio {
			r.wg.Go(func() { r.speak(ctx, s, track) })
		} else {
			wanted := &atomic.Bool{}
			r.wg.Go(func() { r.film(ctx, track, wanted) })
			go obey(s, wanted) // ends with the PeerConnection
		}
	}
}

// speak sends sound with its level (RFC 6464): 20 dB below full scale with the voice
// flag while loud, else silence.
func (r *Robot) speak(ctx context.Context, s *webrtc.RTPSender, track *webrtc.TrackLocalStaticRTP) {
	var level uint8 // id of the header extension, 0 if it was not negotiated
	for _, e := range s.GetParameters().HeaderExtensions {
		if e.URI == sdp.AudioLevelURI {
			level = uint8(e.ID)
		}
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	payload := make([]byte, 80)
	for n := uint32(0); ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			h := rtp.Header{Version: 2, SequenceNumber: uint16(n), Timestamp: n * 960}
			if b := byte(127); level != 0 {
				if r.loud.Load() {
					b = 0x80 | 20
				}
				_ = h.SetExtension(level, []byte{b})
			}
			_ = track.WriteRTP(&rtp.Packet{Header: h, Payload: payload})
		}
	}
}

// obeyRoom pauses the camera while nobody looks at it.
func (r *Robot) obeyRoom(f signal.Frame) {
	var m signal.Publish
	if f.Type == signal.TypePublish && json.Unmarshal(f.Body, &m) == nil && m.Kind == signal.KindCamera {
		r.paused.Store(m.Layers == 0)
	}
}

func (r *Robot) film(ctx context.Context, track *webrtc.TrackLocalStaticRTP, wanted *atomic.Bool) {
	tick := time.NewTicker(time.Second / 30)
	defer tick.Stop()
	seq, resting := uint16(0), false
	for frame := uint32(0); ; frame++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if r.paused.Load() {
				resting = true
				continue
			}
			key := wanted.Swap(false) || frame%90 == 0 || resting
			resting = false
			for i := range 4 {
				h := rtp.Header{Version: 2, SequenceNumber: seq, Timestamp: frame * 3000, Marker: i == 3}
				_ = track.WriteRTP(&rtp.Packet{Header: h, Payload: vp8(frame, i == 0, key, 320, 180)})
				seq++
			}
		}
	}
}

// obey asks for a keyframe when the room does (PLI or FIR).
func obey(s *webrtc.RTPSender, wanted *atomic.Bool) {
	for {
		packets, _, err := s.ReadRTCP()
		if err != nil {
			return
		}
		for _, p := range packets {
			switch p.(type) {
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				wanted.Store(true)
			}
		}
	}
}

// vp8 makes one packet's payload: the descriptor with a 15-bit picture id (RFC 7741
// §4.2) and, at the start of a frame, the frame header (RFC 6386 §9.1).
func vp8(frame uint32, start, key bool, width, height uint16) []byte {
	p := make([]byte, 1000)
	p[0], p[1] = 0x80, 0x80
	if start {
		p[0] |= 0x10
	}
	binary.BigEndian.PutUint16(p[2:], uint16(frame)|0x8000)
	if !start {
		return p
	}
	p[4] = 0x10 // shown, version 0
	if !key {
		p[4] |= 1
		return p
	}
	copy(p[7:], []byte{0x9d, 0x01, 0x2a})
	binary.LittleEndian.PutUint16(p[10:], width)
	binary.LittleEndian.PutUint16(p[12:], height)
	return p
}
