package peer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/pion/dtls/v3"
	curves "github.com/pion/dtls/v3/pkg/crypto/elliptic"
	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"
)

const (
	// receiveMTU holds the longest UDP payload on an Ethernet path; more is cut off.
	receiveMTU = 1500
	// replayWindow is in packets. At 2 Mbit/s it covers 4 s of reordering.
	replayWindow = 1024
	// sctpBuffer bounds what a client may have under way to us unread.
	sctpBuffer = 256 << 10
	// maxMessage is the longest data channel message. A chunk's 12 KB may double when
	// JSON escapes them.
	maxMessage = 64 << 10
)

// NewCertificate makes the DTLS certificate of a task: ECDSA P-256, self-signed, its
// fingerprint travels in every answer.
func NewCertificate() (webrtc.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return webrtc.Certificate{}, fmt.Errorf("peer: certificate key: %w", err)
	}
	cert, err := webrtc.GenerateCertificate(key)
	if err != nil {
		return webrtc.Certificate{}, fmt.Errorf("peer: certificate: %w", err)
	}
	return *cert, nil
}

// newConnection makes a bare PeerConnection: no interceptors, so that packets go
// straight between SRTP and our own code.
func (p *Peer) newConnection() (*webrtc.PeerConnection, error) {
	var se webrtc.SettingEngine
	p.cfg.Net.SettingEngine(&se)
	se.BufferFactory = p.bufferFactory
	p.direct.listen(&se)
	se.DetachDataChannels()
	// ICE has proved the client's address, so DTLS need not (RFC 6347 §4.2.1).
	se.SetDTLSInsecureSkipHelloVerify(true)
	se.SetDTLSRetransmissionInterval(100 * time.Millisecond)
	// AEAD alone: Pion's own list has CBC and short tags in it as well.
	se.SetDTLSCipherSuites(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384)
	se.SetDTLSEllipticCurves(curves.X25519, curves.P256)
	// GCM-128 costs a tenth of SHA1_80 per packet; our order wins.
	se.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AEAD_AES_256_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80)
	se.SetSRTPReplayProtectionWindow(replayWindow)
	se.SetSRTCPReplayProtectionWindow(replayWindow)
	se.SetReceiveMTU(receiveMTU)
	se.SetFireOnTrackBeforeFirstRTP(true) // nobody reads tracks: packets come through bufferFactory
	se.SetIgnoreRidPauseForRecv(true)
	se.SetSCTPMaxReceiveBufferSize(sctpBuffer)
	se.SetSCTPMaxMessageSize(maxMessage)
	se.EnableSCTPZeroChecksum(true) // DTLS authenticates already (RFC 9653)
	if err := se.SetAnsweringDTLSRole(webrtc.DTLSRoleServer); err != nil {
		return nil, fmt.Errorf("DTLS role: %w", err)
	}
	media, err := mediaEngine()
	if err != nil {
		return nil, err
	}
	api := webrtc.NewAPI(webrtc.WithMediaEngine(media), webrtc.WithSettingEngine(se),
		webrtc.WithInterceptorRegistry(&interceptor.Registry{}))
	pc, err := api.NewPeerConnection(webrtc.Configuration{Certificates: []webrtc.Certificate{p.cfg.Cert}})
	if err != nil {
		return nil, fmt.Errorf("PeerConnection: %w", err)
	}
	return pc, nil
}

// mediaEngine knows the room's codecs and no more: Pion's cost per m-line grows with
// the list. Pion uses the payload types of the offer instead of these.
func mediaEngine() (*webrtc.MediaEngine, error) {
	const opus, red = 111, 63
	twcc := webrtc.RTCPFeedback{Type: webrtc.TypeRTCPFBTransportCC}
	me := &webrtc.MediaEngine{}
	for _, c := range []struct {
		webrtc.RTPCodecParameters
		kind webrtc.RTPCodecType
	}{
		// No nack for Opus: without an rtx stream a resend would repeat an SRTP nonce.
		{webrtc.RTPCodecParameters{PayloadType: opus, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: webrtc.MimeTypeOpus, ClockRate: opusClock, Channels: 2, RTCPFeedback: []webrtc.RTCPFeedback{twcc},
		}}, webrtc.RTPCodecTypeAudio},
		{webrtc.RTPCodecParameters{PayloadType: red, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: mimeRED, ClockRate: opusClock, Channels: 2, SDPFmtpLine: fmt.Sprintf("%d/%d", opus, opus),
			RTCPFeedback: []webrtc.RTCPFeedback{twcc},
		}}, webrtc.RTPCodecTypeAudio},
	} {
		if err := me.RegisterCodec(c.RTPCodecParameters, c.kind); err != nil {
			return nil, fmt.Errorf("register %s: %w", c.MimeType, err)
		}
	}
	if err := registerVideo(me); err != nil {
		return nil, err
	}
	for _, uri := range extensions {
		for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo} {
			if err := me.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, kind); err != nil {
				return nil, fmt.Errorf("register %s: %w", uri, err)
			}
		}
	}
	return me, nil
}
