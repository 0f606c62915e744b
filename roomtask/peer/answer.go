package peer

import (
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"

	"mayfly/roomtask/rtpx"
)

// sctpPort is the port of our end of the data channel's association. Nothing listens
// on it, since the association has the DTLS connection to itself (RFC 8841 §5).
const sctpPort = 5000

// local is what an answer says of our own end.
type local struct {
	session     uint64   // of all answers of the Peer, below 2^63
	version     uint64   // grows with every answer (RFC 3264 §8)
	ufrag, pwd  string   // of the ICE agent; others after a restart
	fingerprint string   // of the certificate, with the hash's name
	candidates  []string // attributes without their name (RFC 8839 §5.1); the agent's before those of transport.Candidates
	streams     map[string]streams
}

// format is a payload type of an m-line, as the answer describes it.
type format struct {
	pt       uint8
	codec    string // name, clock rate and channels as in a=rtpmap
	fmtp     string
	feedback feedback
}

// feedback is a set of RTCP messages that one end may send about what it receives.
type feedback uint8

const (
	feedbackTWCC feedback = 1 << iota
	feedbackFIR
	feedbackNACK
	feedbackPLI

	feedbackVideo = feedbackTWCC | feedbackFIR | feedbackNACK | feedbackPLI
	// No nack for Opus: without an rtx stream a resend would repeat an SRTP nonce.
	feedbackAudio = feedbackTWCC
)

// feedbackNames are those of a=rtcp-fb, by bit.
var feedbackNames = [...]string{"transport-cc", "ccm fir", "nack", "nack pli"}

// feedbackOf reads the value of an a=rtcp-fb behind its payload type; 0 if it is
// none of ours.
func feedbackOf(s string) feedback {
	for i, name := range feedbackNames {
		if s == name {
			return 1 << i
		}
	}
	return 0
}

// describe finds what the answer says of each payload type of a line that was read:
// the client's own parameters, which say what we may be sent, and those of its
// feedback messages that we know.
func (ln *line) describe(m *sdp.MediaDescription) []format {
	list, known := ln.answered(), feedbackAudio
	if ln.video {
		known = feedbackVideo
	}
	for _, a := range m.Attributes {
		if a.Key != "fmtp" && a.Key != "rtcp-fb" {
			continue
		}
		pt, rest, _ := strings.Cut(a.Value, " ")
		number := payloadType(pt)
		for i := range list {
			switch f := &list[i]; {
			case f.codec == rtxFormat || f.pt != number && (pt != "*" || a.Key == "fmtp"):
			case a.Key == "rtcp-fb":
				f.feedback |= feedbackOf(rest) & known
			case f.codec != vp8Format: // whose fmtp only says what the client would like to receive at most
				f.fmtp = strings.TrimSpace(rest)
			}
		}
	}
	for i := range list {
		if f := &list[i]; f.pt == ln.codec && !ln.video {
			f.fmtp = fecParams(f.fmtp)
		}
	}
	return list
}

// Values of a=rtpmap.
const (
	opusFormat = "opus/48000/2"
	redFormat  = "red/48000/2"
	rtxFormat  = "rtx/90000"
	vp8Format  = "VP8/90000"
)

// videoFormats are the values of a=rtpmap by codec.
var videoFormats = [rtpx.NumCodecs]string{
	rtpx.CodecVP8: vp8Format, rtpx.CodecVP9: "VP9/90000", rtpx.CodecH264: "H264/90000", rtpx.CodecAV1: "AV1/90000",
}

// answered are the payload types of a line's answer. They stand in the client's
// order: a browser sends with the first.
func (ln *line) answered() []format {
	if ln.video {
		list := make([]format, 0, 2*len(ln.order))
		for _, c := range ln.order {
			t := ln.types[c]
			list = append(list, format{pt: t.PT, codec: videoFormats[c]})
			if t.RTX != 0 {
				list = append(list, format{pt: t.RTX, codec: rtxFormat, fmtp: "apt=" + strconv.Itoa(int(t.PT))})
			}
		}
		return list
	}
	plain, red := format{pt: ln.codec, codec: opusFormat}, format{pt: ln.red, codec: redFormat}
	switch {
	case ln.red == 0:
		return []format{plain}
	case ln.redFirst:
		return []format{red, plain}
	}
	return []format{plain, red}
}

// answerTo writes the answer to an offer (RFC 3264, RFC 8829 §5.3): every m-line is
// accepted with what checkOffer has found in it. l has streams for all seat lines.
func answerTo(c *checked, l *local) string {
	var w answerWriter
	size := 512
	for _, list := range c.formats {
		size += 512 + 128*len(list)
	}
	w.Grow(size)
	w.session(c, l)
	for i, mid := range c.layout.mids {
		if ln, ok := c.layout.lines[mid]; ok {
			w.media(&ln, c.formats[i], l)
		} else {
			w.data(mid, l)
		}
		if mid == c.bundle[0] {
			w.candidates(l.candidates)
		}
	}
	return w.String()
}

// answerWriter writes SDP, line by line.
type answerWriter struct{ strings.Builder }

// put writes a line of several parts.
func (w *answerWriter) put(parts ...string) {
	for _, p := range parts {
		w.WriteString(p)
	}
	w.WriteString("\r\n")
}

func (w *answerWriter) number(n uint64) {
	var digits [20]byte
	w.Write(strconv.AppendUint(digits[:0], n, 10))
}

// session writes what holds for all m-lines.
func (w *answerWriter) session(c *checked, l *local) {
	w.put("v=0")
	w.WriteString("o=- ")
	w.number(l.session)
	w.WriteByte(' ')
	w.number(l.version)
	w.put(" IN IP4 0.0.0.0")
	w.put("s=-")
	w.put("t=0 0")
	w.put("a=msid-semantic:WMS *")
	w.put("a=fingerprint:", l.fingerprint)
	if c.mixed {
		w.put("a=extmap-allow-mixed")
	}
	w.WriteString("a=group:BUNDLE")
	for _, mid := range c.bundle {
		w.WriteByte(' ')
		w.WriteString(mid)
	}
	w.put()
}

// transport writes what all kinds of m-line begin with, behind the list of formats. We
// are the DTLS server.
func (w *answerWriter) transport(mid string, l *local) {
	w.put("c=IN IP4 0.0.0.0")
	w.put("a=setup:passive")
	w.put("a=mid:", mid)
	w.put("a=ice-ufrag:", l.ufrag)
	w.put("a=ice-pwd:", l.pwd)
}

// candidates writes all that there will be: nothing is trickled.
func (w *answerWriter) candidates(list []string) {
	for _, c := range list {
		w.put("a=candidate:", c)
	}
	w.put("a=end-of-candidates")
}

// data writes the data channel's m-line (RFC 8841).
func (w *answerWriter) data(mid string, l *local) {
	w.put("m=application 9 UDP/DTLS/SCTP webrtc-datachannel")
	w.transport(mid, l)
	w.put("a=sendrecv")
	w.attribute("sctp-port", sctpPort)
	w.put()
	w.attribute("max-message-size", maxMessage)
	w.put()
}

// attribute begins a line that goes on behind a number.
func (w *answerWriter) attribute(key string, n uint64) {
	w.WriteString("a=")
	w.WriteString(key)
	w.WriteByte(':')
	w.number(n)
}

// media writes the m-line of a source or of half a seat.
func (w *answerWriter) media(ln *line, formats []format, l *local) {
	w.WriteString("m=")
	w.WriteString(ln.media())
	w.WriteString(" 9 UDP/TLS/RTP/SAVPF")
	for _, f := range formats {
		w.WriteByte(' ')
		w.number(uint64(f.pt))
	}
	w.put()
	w.transport(ln.mid, l)
	w.put("a=rtcp-mux")
	w.put("a=rtcp-rsize")
	for _, f := range formats {
		w.format(f)
	}
	for _, uri := range extensions {
		if id, ok := ln.ext[uri]; ok {
			w.attribute("extmap", uint64(id))
			w.put(" ", uri)
		}
	}
	if ln.isSeat() {
		w.seat(ln, l.streams[ln.mid])
		return
	}
	for _, rid := range ln.rids {
		w.put("a=rid:", rid, " recv")
	}
	for i, rid := range ln.rids {
		if i == 0 {
			w.WriteString("a=simulcast:recv ")
		} else {
			w.WriteByte(';')
		}
		w.WriteString(rid)
	}
	if len(ln.rids) > 0 {
		w.put()
	}
	w.put("a=recvonly")
}

func (w *answerWriter) format(f format) {
	pt := uint64(f.pt)
	w.attribute("rtpmap", pt)
	w.put(" ", f.codec)
	if f.fmtp != "" {
		w.attribute("fmtp", pt)
		w.put(" ", f.fmtp)
	}
	for i, name := range feedbackNames {
		if f.feedback&(1<<i) != 0 {
			w.attribute("rtcp-fb", pt)
			w.put(" ", name)
		}
	}
}

// seat writes what a line sends. The msid stands before the SSRCs: that is where Pion's
// clients look for it. A stream's name is its CNAME too, for lip-sync.
func (w *answerWriter) seat(ln *line, s streams) {
	name := streamID(ln.seat)
	w.put("a=sendonly")
	w.put("a=msid:", name, " ", name, "-", ln.media())
	if s.rtx != 0 {
		w.WriteString("a=ssrc-group:FID ")
		w.number(uint64(s.ssrc))
		w.WriteByte(' ')
		w.number(uint64(s.rtx))
		w.put()
	}
	for _, ssrc := range [...]uint32{s.ssrc, s.rtx} {
		if ssrc != 0 {
			w.attribute("ssrc", uint64(ssrc))
			w.put(" cname:", name)
		}
	}
}
