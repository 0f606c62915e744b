package peer

import (
	"errors"
	"fmt"
	"slices"

	"github.com/pion/webrtc/v4"

	"mayfly/roomtask/ingest"
	"mayfly/roomtask/rtpx"
	"mayfly/roomtask/sendq"
)

// seatTrack is the outgoing track of one seat line. All it does is to take the
// write stream and SSRCs that Pion has made for the m-line, for the Sender. It is
// used by the goroutine that negotiates; Pion calls Bind on it.
type seatTrack struct {
	line   line
	direct *direct
	out    *sendq.Out // nil before Bind
}

func (t *seatTrack) RID() string      { return "" }
func (t *seatTrack) StreamID() string { return streamID(t.line.seat) }
func (t *seatTrack) ID() string       { return t.StreamID() + "-" + t.line.media() }

// streamID is the msid of both tracks of a seat, so that browsers keep them in sync.
func streamID(seat int) string { return fmt.Sprintf("seat-%d", seat) }

func (t *seatTrack) Kind() webrtc.RTPCodecType {
	if t.line.video {
		return webrtc.RTPCodecTypeVideo
	}
	return webrtc.RTPCodecTypeAudio
}

// Bind is called by Pion while the answer is applied.
func (t *seatTrack) Bind(ctx webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	for _, codec := range ctx.CodecParameters() {
		if uint8(codec.PayloadType) != t.line.codec {
			continue
		}
		t.out = &sendq.Out{
			SSRC: uint32(ctx.SSRC()), PT: t.line.codec, ClockRate: codec.ClockRate,
			Mid: t.line.mid, MidExt: t.line.ext[ingest.ExtMid], TWCCExt: t.line.ext[ingest.ExtTransportSeq],
			// The answer's SDP, which Pion writes, gives the stream's name as the CNAME.
			CNAME: t.StreamID(),
		}
		if t.line.rtx != 0 {
			t.out.RTXSSRC, t.out.RTXPT = uint32(ctx.SSRCRetransmission()), t.line.rtx
		}
		if t.line.video {
			t.out.Types, t.out.DDExt = t.line.types, t.line.ext[ingest.ExtDD]
			if slices.ContainsFunc(t.line.types[:], func(p rtpx.PayloadType) bool { return p.RTX != 0 }) {
				t.out.RTXSSRC = uint32(ctx.SSRCRetransmission())
			}
		} else {
			t.out.AudioLevelExt, t.out.REDPT = t.line.ext[ingest.ExtAudioLevel], t.line.red
		}
		t.out.W = t.direct.writer(ctx.WriteStream(), t.out.SSRC, t.out.RTXSSRC)
		return codec, nil
	}
	return webrtc.RTPCodecParameters{}, errors.New("peer: codec of the m-line was not negotiated")
}

// Unbind is called by Pion when the PeerConnection closes. The Sender is closed
// separately; until then its writes fail harmlessly.
func (t *seatTrack) Unbind(webrtc.TrackLocalContext) error { return nil }
