package main

import (
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
)

// yardstick is the obvious relay: what a publisher's track delivers is written to a
// TrackLocalStaticRTP, which fans out to the senders bound to it, with Pion's default
// codecs and interceptors. It knows no layers, no estimate, no pacing.
type yardstick struct {
	api *webrtc.API

	mu     sync.Mutex
	change *sync.Cond // of tracks
	tracks map[string]*published
}

// published is what a publisher sends.
type published struct {
	pc           *webrtc.PeerConnection
	audio, video *webrtc.TrackLocalStaticRTP
	camera       webrtc.SSRC
	askedAt      time.Time
}

// keyframeGap keeps the keyframe requests of many newcomers from becoming a storm.
const keyframeGap = 500 * time.Millisecond

func newYardstick() (*yardstick, error) {
	me, ir := &webrtc.MediaEngine{}, &interceptor.Registry{}
	if err := me.RegisterDefaultCodecs(); err != nil {
		return nil, err
	}
	if err := webrtc.RegisterDefaultInterceptors(me, ir); err != nil {
		return nil, err
	}
	y := &yardstick{tracks: map[string]*published{}}
	y.change = sync.NewCond(&y.mu)
	y.api = webrtc.NewAPI(webrtc.WithMediaEngine(me), webrtc.WithInterceptorRegistry(ir), webrtc.WithSettingEngine(loopback()))
	return y, nil
}

// loopback confines ICE to 127.0.0.1, where all of this takes place.
func loopback() (se webrtc.SettingEngine) {
	se.SetIncludeLoopbackCandidate(true)
	se.SetIPFilter(func(ip net.IP) bool { return ip.IsLoopback() })
	se.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	se.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	return se
}

func (y *yardstick) join(req joinRequest) (reply joinReply, err error) {
	pc, err := y.api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return reply, err
	}
	if len(req.Sources) > 0 {
		y.mu.Lock()
		y.tracks[req.ID] = &published{pc: pc}
		y.mu.Unlock()
		pc.OnTrack(func(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { y.relay(req.ID, t) })
	}
	for _, id := range req.Watch {
		if err := y.watch(pc, id); err != nil {
			return reply, err
		}
	}
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: req.SDP}); err != nil {
		return reply, err
	}
	answer, err := pc.CreateAnswer(nil)
	if err != nil {
		return reply, err
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(answer); err != nil {
		return reply, err
	}
	<-gathered
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateConnected {
			for _, id := range req.Watch {
				y.keyframe(id)
			}
		}
	})
	return joinReply{SDP: pc.LocalDescription().SDP}, nil
}

// relay copies a publisher's track to all who watch it.
func (y *yardstick) relay(id string, remote *webrtc.TrackRemote) {
	local, err := webrtc.NewTrackLocalStaticRTP(remote.Codec().RTPCodecCapability, remote.Kind().String(), id)
	if err != nil {
		return
	}
	y.mu.Lock()
	p := y.tracks[id]
	if remote.Kind() == webrtc.RTPCodecTypeAudio {
		p.audio = local
	} else {
		p.video, p.camera = local, remote.SSRC()
	}
	y.change.Broadcast()
	y.mu.Unlock()
	buf := make([]byte, 1500)
	for {
		n, _, err := remote.Read(buf)
		if err != nil {
			return
		}
		_, _ = local.Write(buf[:n]) // a receiver that is gone is no reason to stop
	}
}

// watch adds the tracks of a publisher, waiting for its first packets.
func (y *yardstick) watch(pc *webrtc.PeerConnection, id string) error {
	late := time.AfterFunc(joinLimit, y.change.Broadcast)
	defer late.Stop()
	deadline := time.Now().Add(joinLimit)
	y.mu.Lock()
	p := y.tracks[id]
	for p != nil && (p.audio == nil || p.video == nil) && time.Now().Before(deadline) {
		y.change.Wait()
	}
	y.mu.Unlock()
	if p == nil || p.audio == nil || p.video == nil {
		return fmt.Errorf("%s publishes nothing", id)
	}
	for _, t := range []*webrtc.TrackLocalStaticRTP{p.audio, p.video} {
		sender, err := pc.AddTrack(t)
		if err != nil {
			return err
		}
		go y.listen(sender, id)
	}
	return nil
}

// listen passes on a receiver's requests for keyframes; reading is also what makes
// the interceptors see its feedback.
func (y *yardstick) listen(s *webrtc.RTPSender, id string) {
	for {
		packets, _, err := s.ReadRTCP()
		if err != nil {
			return
		}
		for _, p := range packets {
			switch p.(type) {
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				y.keyframe(id)
			}
		}
	}
}

func (y *yardstick) keyframe(id string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	p := y.tracks[id]
	if p == nil || time.Since(p.askedAt) < keyframeGap {
		return
	}
	p.askedAt = time.Now()
	_ = p.pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: uint32(p.camera)}})
}

func (y *yardstick) stats() serverStats { return serverStats{} }
