package robot

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/sdp/v3"
	"github.com/pion/transport/v4/stdnet"
	"github.com/pion/webrtc/v4"

	"mayfly/shared/signal"
)

// Payload types that a robot offers.
const (
	ptRED  = 63
	ptVP8  = 96
	ptRTX  = 97
	ptOpus = 111
)

// engine makes the API of one robot: VP8 with rtx, Opus and, where it is wanted, its
// redundancy. Without interceptors: incoming.go and outgoing.go do their work.
func engine(cfg Config, in *receiver, net *stdnet.Net, relay6 *allocation) (*webrtc.API, error) {
	m := &webrtc.MediaEngine{}
	cc := webrtc.RTCPFeedback{Type: webrtc.TypeRTCPFBTransportCC}
	video := []webrtc.RTCPFeedback{cc, {Type: "nack"}, {Type: "nack", Parameter: "pli"}, {Type: "ccm", Parameter: "fir"}}
	type codec struct {
		p webrtc.RTPCodecParameters
		t webrtc.RTPCodecType
	}
	codecs := []codec{
		{webrtc.RTPCodecParameters{RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1", RTCPFeedback: []webrtc.RTCPFeedback{cc}}, PayloadType: ptOpus}, webrtc.RTPCodecTypeAudio},
		{webrtc.RTPCodecParameters{RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000, RTCPFeedback: video}, PayloadType: ptVP8}, webrtc.RTPCodecTypeVideo},
		{webrtc.RTPCodecParameters{RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeRTX, ClockRate: 90000, SDPFmtpLine: fmt.Sprintf("apt=%d", ptVP8)}, PayloadType: ptRTX}, webrtc.RTPCodecTypeVideo},
	}
	if cfg.RED {
		codecs = append(codecs, codec{webrtc.RTPCodecParameters{RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: "audio/red", ClockRate: 48000, Channels: 2, SDPFmtpLine: fmt.Sprintf("%d/%d", ptOpus, ptOpus), RTCPFeedback: []webrtc.RTCPFeedback{cc}}, PayloadType: ptRED}, webrtc.RTPCodecTypeAudio})
	}
	for _, c := range codecs {
		if err := m.RegisterCodec(c.p, c.t); err != nil {
			return nil, fmt.Errorf("robot: %w", err)
		}
	}
	both := []webrtc.RTPCodecType{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo}
	for uri, kinds := range map[string][]webrtc.RTPCodecType{
		sdp.AudioLevelURI: both[:1], extMid: both, extRid: both[1:], extRRid: both[1:], extTWCC: both,
	} {
		for _, kind := range kinds {
			if err := m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, kind); err != nil {
				return nil, fmt.Errorf("robot: %w", err)
			}
		}
	}
	se := webrtc.SettingEngine{BufferFactory: in.buffer}
	se.SetNet(net)
	se.SetIncludeLoopbackCandidate(true)
	if cfg.Way == WayRelay6 {
		se.SetICEUDPMux(relay6)
	}
	se.DisableActiveTCP(cfg.Way == WayRelay || cfg.Way == WayRelay6) // Pion's agent dials whatever the policy
	se.SetRelayAcceptanceMinWait(0)                                  // browsers take the relay as soon as it answers
	se.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6, webrtc.NetworkTypeTCP4, webrtc.NetworkTypeTCP6})
	se.SetFireOnTrackBeforeFirstRTP(true) // nobody reads tracks
	se.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM)
	return webrtc.NewAPI(webrtc.WithMediaEngine(m), webrtc.WithInterceptorRegistry(noInterceptors()), webrtc.WithSettingEngine(se)), nil
}

// offer makes the PeerConnection: a data channel, the own sources, the seats.
func (r *Robot) offer(cfg Config) (signal.Offer, error) {
	o := signal.Offer{Generation: 1}
	var err error
	if r.net, err = stdnet.NewNet(); err != nil {
		return o, fmt.Errorf("robot: %w", err)
	}
	api, err := engine(cfg, r.in, r.net, &r.relay6)
	if err != nil {
		return o, err
	}
	if r.PC, err = api.NewPeerConnection(webrtc.Configuration{ICETransportPolicy: policy(cfg.Way)}); err != nil {
		return o, fmt.Errorf("robot: %w", err)
	}
	r.in.send = r.PC.WriteRTCP
	if r.dc, err = r.PC.CreateDataChannel(signal.DataChannelLabel, nil); err != nil {
		return o, fmt.Errorf("robot: %w", err)
	}
	r.listen()
	sources, err := r.addSources(cfg)
	if err != nil {
		return o, err
	}
	lines, err := r.addSeats(cfg.Seats)
	if err != nil {
		return o, err
	}
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
	for _, s := range sources {
		for _, t := range r.out {
			if t.kind == s.kind {
				t.mid = s.line.Mid()
			}
		}
		o.Sources = append(o.Sources, signal.SourceLine{Mid: s.line.Mid(), Kind: s.kind})
	}
	for i, l := range lines {
		o.Seats = append(o.Seats, signal.SeatLine{Seat: i, Audio: l.audio.Mid(), Video: l.video.Mid()})
		r.in.lines[l.audio.Mid()], r.in.lines[l.video.Mid()] = place{i, false}, place{i, true}
	}
	return o, nil
}

// accept applies the room's answer.
func (r *Robot) accept(answer string) error {
	if err := r.PC.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		return fmt.Errorf("robot: answer: %w", err)
	}
	r.in.mu.Lock()
	defer r.in.mu.Unlock()
	for line := range strings.Lines(answer) {
		var media, repair uint32 // RFC 5576 §4.2
		if n, _ := fmt.Sscanf(line, "a=ssrc-group:FID %d %d", &media, &repair); n == 2 {
			r.in.repairs[repair] = media
		}
	}
	for _, t := range r.PC.GetTransceivers() {
		if t.Direction() != webrtc.RTPTransceiverDirectionRecvonly {
			continue
		}
		for _, e := range t.Receiver().GetParameters().HeaderExtensions {
			switch e.URI {
			case extMid:
				r.in.midID = uint8(e.ID)
			case extTWCC:
				r.in.twccID = uint8(e.ID)
			}
		}
	}
	return nil
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

// sourceLine is an own source and its m-line.
type sourceLine struct {
	kind string
	line *webrtc.RTPTransceiver
}

// addSources adds the lines of what the robot publishes.
func (r *Robot) addSources(cfg Config) (lines []sourceLine, err error) {
	if cfg.Mute {
		return nil, nil
	}
	add := func(kind string, streams ...*outgoing) error {
		t, err := r.PC.AddTransceiverFromTrack(streams[0], webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		if err != nil {
			return fmt.Errorf("robot: %w", err)
		}
		for _, more := range streams[1:] {
			if err := t.Sender().AddEncoding(more); err != nil {
				return fmt.Errorf("robot: %w", err)
			}
		}
		r.out = append(r.out, streams...)
		lines = append(lines, sourceLine{kind, t})
		return nil
	}
	if err := add(signal.KindMic, &outgoing{kind: signal.KindMic, mime: webrtc.MimeTypeOpus}); err != nil {
		return nil, err
	}
	if cfg.SoundOnly {
		return lines, nil
	}
	if r.camera, err = newCamera(cfg); err != nil {
		return nil, err
	}
	var streams []*outgoing
	for i := range r.camera.layers {
		l := &r.camera.layers[i]
		l.out = &outgoing{kind: signal.KindCamera, mime: webrtc.MimeTypeVP8, rid: l.rid}
		streams = append(streams, l.out)
	}
	return lines, add(signal.KindCamera, streams...)
}

// listen takes what comes over the data channel.
func (r *Robot) listen() {
	r.dc.OnOpen(func() { close(r.open) })
	var once sync.Once
	r.dc.OnClose(func() { once.Do(func() { close(r.closed) }) })
	var up sync.Once
	r.PC.OnConnectionStateChange(func(c webrtc.PeerConnectionState) {
		if c == webrtc.PeerConnectionStateConnected {
			up.Do(func() { close(r.connected) })
		}
		if c == webrtc.PeerConnectionStateDisconnected || c == webrtc.PeerConnectionStateFailed {
			r.leaveBehind()
		}
	})
	r.dc.OnMessage(func(m webrtc.DataChannelMessage) {
		f, err := signal.ParseFrame(m.Data, signal.MaxDataBytes)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.frames[f.Type] = f
		r.mu.Unlock()
		r.in.trace.frame(f)
		if f.Type == signal.TypePublish {
			r.wanted(f)
		}
	})
}

// rids returns the names of n simulcast layers, the smallest first; one layer has none.
func rids(n int) []string {
	if n <= 1 {
		return []string{""}
	}
	return slices.Clone([]string{"q", "h", "f"}[:min(n, 3)])
}

func unixNano() int64 { return time.Now().UnixNano() }
