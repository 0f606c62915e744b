package robot

import (
	"errors"
	"sync"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"
)

const (
	extMid  = "urn:ietf:params:rtp-hdrext:sdes:mid"
	extRid  = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
	extRRid = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
	extTWCC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"

	sentRing = 1024 // packets kept for retransmission
)

// outgoing is one RTP stream that a robot sends: a microphone, or a layer of a camera.
// It is a webrtc.TrackLocal, so that it may send what a robot needs: header extensions
// of its own choice, and retransmissions over RTX.
type outgoing struct {
	// set once
	kind      string
	mime, rid string
	mid       string // set before the first packet

	mu sync.Mutex
	// guarded by mu
	out                         webrtc.TrackLocalWriter // nil until bound
	ssrc, rtx                   uint32
	pt, rtxPT                   uint8
	midID, ridID, rridID, level uint8
	seq, rtxSeq                 uint16
	packets, octets             uint32 // for sender reports
	sent                        [sentRing]sentPacket
	scratch                     []byte
	keyframe                    bool // asked for
	resent                      int64
}

type sentPacket struct {
	h       rtp.Header
	payload []byte
}

var _ webrtc.TrackLocal = (*outgoing)(nil)

func (o *outgoing) ID() string       { return o.kind }
func (o *outgoing) StreamID() string { return "robot" }
func (o *outgoing) RID() string      { return o.rid }

func (o *outgoing) Kind() webrtc.RTPCodecType {
	if o.video() {
		return webrtc.RTPCodecTypeVideo
	}
	return webrtc.RTPCodecTypeAudio
}

func (o *outgoing) video() bool { return o.mime == webrtc.MimeTypeVP8 }

// Bind is called by Pion once the stream is negotiated.
func (o *outgoing) Bind(ctx webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range ctx.HeaderExtensions() {
		switch e.URI {
		case extMid:
			o.midID = uint8(e.ID)
		case extRid:
			o.ridID = uint8(e.ID)
		case extRRid:
			o.rridID = uint8(e.ID)
		case sdp.AudioLevelURI:
			o.level = uint8(e.ID)
		}
	}
	var of webrtc.RTPCodecParameters
	for _, c := range ctx.CodecParameters() {
		switch {
		case c.MimeType == o.mime && of.MimeType == "":
			of = c
		case c.MimeType == webrtc.MimeTypeRTX && o.video():
			o.rtxPT = uint8(c.PayloadType)
		}
	}
	if of.MimeType == "" {
		return of, errors.New("robot: the room refuses " + o.mime)
	}
	o.out, o.ssrc, o.rtx, o.pt = ctx.WriteStream(), uint32(ctx.SSRC()), uint32(ctx.SSRCRetransmission()), uint8(of.PayloadType)
	return of, nil
}

// Unbind is called by Pion at the end.
func (o *outgoing) Unbind(webrtc.TrackLocalContext) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.out = nil
	return nil
}

// extend writes the header extensions of a packet. h may have some of an earlier one.
func (o *outgoing) extend(h *rtp.Header, rid uint8, level int) {
	if o.midID != 0 && o.mid != "" {
		_ = h.SetExtension(o.midID, []byte(o.mid))
	}
	if rid != 0 && o.rid != "" {
		_ = h.SetExtension(rid, []byte(o.rid))
	}
	if o.level != 0 && level >= 0 {
		_ = h.SetExtension(o.level, []byte{byte(level)})
	}
}

// write sends one packet. level is that of audio (RFC 6464), -1 without.
func (o *outgoing) write(ts uint32, marker bool, payload []byte, level int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.out == nil {
		return
	}
	k := &o.sent[o.seq%sentRing]
	k.h = rtp.Header{Version: 2, PayloadType: o.pt, SSRC: o.ssrc, SequenceNumber: o.seq, Timestamp: ts, Marker: marker}
	o.extend(&k.h, o.ridID, level)
	k.payload = append(k.payload[:0], payload...)
	o.seq++
	o.packets++
	o.octets += uint32(len(payload))
	_, _ = o.out.WriteRTP(&k.h, k.payload) // fails while the connection is down: a packet lost
}

// feedback takes what the room says of this stream.
func (o *outgoing) feedback(p rtcp.Packet) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch p := p.(type) {
	case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
		o.keyframe = true
	case *rtcp.TransportLayerNack:
		for _, n := range p.Nacks {
			n.Range(func(seq uint16) bool { o.resend(seq); return true })
		}
	}
}

// resend repeats a packet over the RTX stream (RFC 4588 §4); audio has none.
func (o *outgoing) resend(seq uint16) {
	k := &o.sent[seq%sentRing]
	if o.out == nil || o.rtx == 0 || o.rtxPT == 0 || k.h.Version == 0 || k.h.SequenceNumber != seq {
		return
	}
	h := rtp.Header{Version: 2, PayloadType: o.rtxPT, SSRC: o.rtx, SequenceNumber: o.rtxSeq, Timestamp: k.h.Timestamp, Marker: k.h.Marker}
	o.extend(&h, o.rridID, -1)
	o.rtxSeq++
	o.resent++
	o.scratch = append(append(o.scratch[:0], byte(seq>>8), byte(seq)), k.payload...)
	_, _ = o.out.WriteRTP(&h, o.scratch)
}

// wantsKeyframe says whether one was asked for since the last call.
func (o *outgoing) wantsKeyframe() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	k := o.keyframe
	o.keyframe = false
	return k
}

// report is the stream's sender report; nil before the first packet.
func (o *outgoing) report(ntp uint64, ts uint32) *rtcp.SenderReport {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.packets == 0 {
		return nil
	}
	return &rtcp.SenderReport{SSRC: o.ssrc, NTPTime: ntp, RTPTime: ts, PacketCount: o.packets, OctetCount: o.octets}
}

func (o *outgoing) owns(ssrc uint32) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return ssrc != 0 && ssrc == o.ssrc
}

// noInterceptors: a robot does by itself what interceptors would.
func noInterceptors() *interceptor.Registry { return &interceptor.Registry{} }
