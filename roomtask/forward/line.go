package forward

import (
	"github.com/pion/rtp"

	"mayfly/roomtask/rtpx"
)

// Line is what was negotiated for one m-line of a seat. An extension id of 0 means
// that the extension was not negotiated; so does one above 14, which does not fit
// the one-byte form (RFC 8285 §4.2). The two-byte form is used for the packets alone
// whose dependency descriptor is longer than 16 bytes. A Mid of more than 16 bytes is
// not sent at all.
type Line struct {
	Video         bool
	SSRC, RTXSSRC uint32            // RTXSSRC 0: nothing is ever sent again
	PT, RTXPT     uint8             // where Types has none
	Types         rtpx.PayloadTypes // of the codecs that the receiver takes
	REDPT         uint8             // of Opus with redundancy (RFC 2198); 0: the receiver has none
	ClockRate     uint32
	Mid           string
	MidExt        uint8
	TWCCExt       uint8
	AudioLevelExt uint8
	DDExt         uint8 // dependency descriptor, of AV1
	CNAME         string
}

// typesOf are the payload types of a codec.
func (l *Line) typesOf(c rtpx.Codec) rtpx.PayloadType {
	if l.Types.None() {
		return rtpx.PayloadType{PT: l.PT, RTX: l.RTXPT}
	}
	return l.Types[c]
}

// headers are the reused RTP headers of one line. Their extensions point into
// scratch bytes, so that writing a packet's values allocates nothing; all variants
// share the scratch.
type headers struct {
	media, rtx rtp.Header
	padding    rtp.Header // as rtx
	twcc       [2]byte
	level      [1]byte
	sets       [2][2][]rtp.Extension // [with level][with mid]
	rtxSets    [2][]rtp.Extension    // [with mid]
	dd         *[rtpx.MaxDD]byte     // nil until a descriptor is sent
	withDD     [2][]rtp.Extension    // of media and RTX; reused
	noMid      bool                  // the receiver is known to have learnt the mid
}

// init builds the variants for l. h must not be copied afterwards.
func (h *headers) init(l *Line) {
	*h = headers{}
	h.media = rtp.Header{Version: 2, PayloadType: l.PT, SSRC: l.SSRC, ExtensionProfile: rtp.ExtensionProfileOneByte}
	h.rtx = rtp.Header{Version: 2, PayloadType: l.RTXPT, SSRC: l.RTXSSRC, ExtensionProfile: rtp.ExtensionProfileOneByte}
	h.padding = h.rtx
	h.padding.Padding, h.padding.PaddingSize = true, paddingMax
	mid := []byte(l.Mid)
	for level := range 2 {
		for withMid := range 2 {
			h.sets[level][withMid] = h.extensions(l, mid, level == 1, withMid == 1)
		}
	}
	h.rtxSets = [2][]rtp.Extension{h.extensions(l, mid, false, false), h.extensions(l, mid, false, true)}
}

func (h *headers) extensions(l *Line, mid []byte, level, withMid bool) []rtp.Extension {
	var t rtp.Header
	add := func(id uint8, payload []byte) {
		if id != 0 && len(payload) > 0 && len(payload) <= 16 {
			// An id above 14 is refused, which leaves the extension out.
			_ = t.SetExtension(id, payload)
		}
	}
	add(l.TWCCExt, h.twcc[:])
	if level {
		add(l.AudioLevelExt, h.level[:])
	}
	if withMid {
		add(l.MidExt, mid)
	}
	return t.Extensions
}

// forMedia returns the header of a media packet with the extensions that apply.
func (h *headers) forMedia(hasLevel bool, level uint8, voice bool) *rtp.Header {
	l, m := 0, 0
	if hasLevel {
		l = 1
		h.level[0] = level & 0x7F
		if voice {
			h.level[0] |= 0x80
		}
	}
	if !h.noMid {
		m = 1
	}
	h.media.ExtensionProfile = rtp.ExtensionProfileOneByte
	h.media.Extensions = h.sets[l][m]
	h.media.Extension = len(h.media.Extensions) > 0
	return &h.media
}

// forRTX returns the header of a retransmission.
func (h *headers) forRTX() *rtp.Header {
	m := 0
	if !h.noMid {
		m = 1
	}
	h.rtx.ExtensionProfile = rtp.ExtensionProfileOneByte
	h.rtx.Extensions = h.rtxSets[m]
	h.rtx.Extension = len(h.rtx.Extensions) > 0
	return &h.rtx
}

// forPadding returns the header of a packet of padding alone on the RTX SSRC.
func (h *headers) forPadding() *rtp.Header {
	h.padding.Extensions = h.forRTX().Extensions
	h.padding.Extension = h.rtx.Extension
	return &h.padding
}

// describe adds p's dependency descriptor with the numbers n to hdr, which forMedia or
// forRTX returned.
func (h *headers) describe(hdr *rtp.Header, l *Line, p *rtpx.Packet, n *numbers) {
	if p.DD.Len == 0 || l.DDExt == 0 || l.DDExt > 14 {
		return
	}
	if h.dd == nil {
		h.dd = new([rtpx.MaxDD]byte)
	}
	size := rtpx.RewriteDD(h.dd[:], p.RawDD(), &p.DD, n.pid, n.mask)
	if size == 0 { // the mask would make it too long; a receiver can do without
		size = rtpx.RewriteDD(h.dd[:], p.RawDD(), &p.DD, n.pid, 0)
	}
	if size == 0 {
		return
	}
	set := &h.withDD[0]
	if hdr == &h.rtx {
		set = &h.withDD[1]
	}
	hdr.ExtensionProfile, hdr.Extension = rtp.ExtensionProfileOneByte, true
	if size > 16 {
		hdr.ExtensionProfile = rtp.ExtensionProfileTwoByte
	}
	hdr.Extensions = append((*set)[:0], hdr.Extensions...)
	if hdr.SetExtension(l.DDExt, h.dd[:size]) == nil {
		*set = hdr.Extensions
	}
}
