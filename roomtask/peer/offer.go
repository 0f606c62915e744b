package peer

import (
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"

	"mayfly/roomtask/ingest"
	"mayfly/shared/signal"
)

// Bounds of an offer beyond those of shared/signal.
const (
	maxSeatNumber    = 9999
	maxMidLength     = 16  // what the one-byte header extension carries (RFC 8285 §4.2)
	maxRids          = 3   // simulcast layers
	maxDeclaredSSRCs = 64  // of all lines
	maxICELength     = 256 // of the user fragment and the password (RFC 8839 §5.4)
	opusClock        = 48000
	videoClock       = 90000
)

// extensions are the header extensions that we negotiate, the same ones for every line.
var extensions = []string{ingest.ExtMid, ingest.ExtRid, ingest.ExtRepairedRid, ingest.ExtTransportSeq, ingest.ExtAudioLevel, ingest.ExtDD}

// checked is an offer that can be answered.
type checked struct {
	layout layout
	fresh  []line // seat lines that known did not have, in SDP order
	client bundle // the client's end of the transport

	// What the answer says beside the layout.
	formats [][]format // of the m-lines, by their order; nil of the data channel
	bundle  []string   // mids, as the offer's group has them: the first one's line has the transport
	mixed   bool       // a=extmap-allow-mixed for all m-lines (RFC 8285 §6)
}

// checkOffer decides whether an offer may be applied after what is known, and finds what
// its answer will say: the codecs of rtpx that are video with their rtx, Opus with its red, and our
// header extensions only, and the transport's parameters once. Candidates are not read:
// the task answers checks and never starts one towards an address that a client wrote down.
func checkOffer(o signal.Offer, known *layout) (*checked, *signal.Error) {
	if len(o.SDP) > signal.MaxDataBytes || strings.Count(o.SDP, "\n") > signal.MaxSDPLines {
		return nil, signal.Fault(signal.CodeTooLarge, "SDP over %d bytes or %d lines", signal.MaxDataBytes, signal.MaxSDPLines)
	}
	wanted, fault := roles(o)
	if fault != nil {
		return nil, fault
	}
	var desc sdp.SessionDescription
	if err := desc.UnmarshalString(o.SDP); err != nil {
		return nil, refuse("SDP cannot be parsed")
	}
	if !leavesServerRole(desc.Attributes) {
		return nil, refuse("the offer takes the DTLS server's part, which is ours")
	}
	c := &checked{layout: layout{lines: map[string]line{}}}
	for _, m := range desc.MediaDescriptions {
		if fault := c.addMedia(m, wanted); fault != nil {
			return nil, fault
		}
	}
	for mid := range wanted {
		if _, ok := c.layout.lines[mid]; !ok {
			return nil, refuse("mid %.16q has no m-line", mid)
		}
	}
	if c.layout.data == "" {
		return nil, refuse("no m-line for the data channel")
	}
	if fault := c.finish(&desc, known); fault != nil {
		return nil, fault
	}
	return c, nil
}

// addMedia checks one m-line.
func (c *checked) addMedia(m *sdp.MediaDescription, wanted map[string]role) *signal.Error {
	mid, fault := one(m, "mid")
	mid = strings.Clone(mid) // the layout stays, the SDP need not stay with it
	switch {
	case fault != nil:
		return fault
	case !validToken(mid, maxMidLength):
		return refuse("invalid mid %.16q", mid)
	case slices.Contains(c.layout.mids, mid):
		return refuse("two m-lines with mid %s", mid)
	case !leavesServerRole(m.Attributes):
		return refuse("m-line %s takes the DTLS server's part, which is ours", mid)
	case m.MediaName.Port.Value == 0 && !has(m, "bundle-only"):
		return refuse("m-line %s is stopped; m-lines are kept, their tracks are replaced", mid)
	}
	c.layout.mids = append(c.layout.mids, mid)
	if m.MediaName.Media == "application" {
		return c.addData(m, mid)
	}
	r, ok := wanted[mid]
	if !ok {
		return refuse("m-line %s is neither a source nor part of a seat", mid)
	}
	if m.MediaName.Media != r.media() {
		return refuse("m-line %s is %.16q, not %s", mid, m.MediaName.Media, r.media())
	}
	want := "sendonly"
	if r.isSeat() {
		want = "recvonly"
	}
	if dir := direction(m); dir != want {
		return refuse("m-line %s is %q, not %s", mid, dir, want)
	}
	if !has(m, "rtcp-mux") {
		return refuse("m-line %s is without rtcp-mux", mid)
	}
	ln := line{mid: mid, role: r}
	if fault := ln.read(m); fault != nil {
		return fault
	}
	c.layout.lines[mid] = ln
	c.formats = append(c.formats, ln.describe(m))
	return nil
}

func (c *checked) addData(m *sdp.MediaDescription, mid string) *signal.Error {
	if c.layout.data != "" {
		return refuse("two m-lines for data channels")
	}
	if !slices.Equal(m.MediaName.Formats, []string{"webrtc-datachannel"}) {
		return refuse("the data channel is not webrtc-datachannel (RFC 8841)")
	}
	c.layout.data = mid
	c.formats = append(c.formats, nil)
	return nil
}

// read takes codec, extensions, simulcast and SSRCs from an m-line.
func (ln *line) read(m *sdp.MediaDescription) *signal.Error {
	if ln.video {
		ln.readVideo(m)
	} else if ln.codec = opus(m); ln.codec != 0 {
		ln.red, ln.redFirst = redundant(m, ln.codec)
	}
	if ln.codec == 0 {
		return refuse("m-line %s offers no codec that the room forwards", ln.mid)
	}
	var fault *signal.Error
	if ln.ext, fault = extmaps(m, ln.mid); fault != nil {
		return fault
	}
	if ln.isSeat() {
		return nil
	}
	if ln.video {
		if ln.rids, fault = rids(m, ln.mid); fault != nil {
			return fault
		}
	}
	return ln.readSSRCs(m)
}

// finish checks what concerns all m-lines together.
func (c *checked) finish(desc *sdp.SessionDescription, known *layout) *signal.Error {
	group, _ := desc.Attribute("group")
	members := strings.Fields(group)
	if len(members) == 0 || members[0] != "BUNDLE" || !sameSet(members[1:], c.layout.mids) {
		return refuse("all m-lines must be in one BUNDLE group")
	}
	t, fault := sharedTransport(desc, members[1])
	if fault != nil {
		return fault
	}
	c.client, c.layout.fingerprint = t, t.fingerprint
	c.bundle = members[1:]
	_, c.mixed = desc.Attribute("extmap-allow-mixed")
	return c.consistent(known)
}

// consistent compares the lines with each other and with what is known. All lines are in
// one bundle, so there is one table of payload types and one of extensions.
func (c *checked) consistent(known *layout) *signal.Error {
	if len(c.layout.mids) < len(known.mids) || !slices.Equal(known.mids, c.layout.mids[:len(known.mids)]) {
		return refuse("m-lines of an earlier offer are missing or moved")
	}
	if known.fingerprint != "" && (known.fingerprint != c.layout.fingerprint || known.data != c.layout.data) {
		return refuse("the offer comes from another PeerConnection: join again")
	}
	all := tables{types: map[uint8]string{}, names: map[string]uint8{}, ids: map[uint8]string{}, uris: map[string]uint8{}}
	ssrcs := map[uint32]bool{}
	for _, mid := range c.layout.mids {
		ln, ok := c.layout.lines[mid]
		if !ok {
			continue
		}
		old, ok := known.lines[mid]
		switch {
		case ok && old.role != ln.role:
			return refuse("m-line %s has changed its meaning", mid)
		case ok && (old.codec != ln.codec || old.types != ln.types || old.red != ln.red):
			return refuse("m-line %s has changed its payload types", mid)
		case !all.add(ln):
			return refuse("m-line %s uses a payload type or extension id otherwise than another m-line", mid)
		}
		if !ok && ln.isSeat() {
			c.fresh = append(c.fresh, ln)
		}
		for _, s := range ln.ssrcs {
			if ssrcs[s] = true; len(ssrcs) > maxDeclaredSSRCs {
				return refuse("more than %d SSRCs", maxDeclaredSSRCs)
			}
		}
	}
	return nil
}

// tables are the mappings that all m-lines of a bundle share.
type tables struct {
	types map[uint8]string // payload type → what it is
	ids   map[uint8]string // extension id → URI
	uris  map[string]uint8
	names map[string]uint8
}

func (t *tables) add(ln line) bool {
	meanings := map[string]uint8{}
	if !ln.video {
		meanings["opus"], meanings["red"] = ln.codec, ln.red
	}
	for _, c := range ln.order {
		meanings[c.String()], meanings[c.String()+" rtx"] = ln.types[c].PT, ln.types[c].RTX
	}
	for name, pt := range meanings {
		if pt == 0 {
			continue
		}
		if old, ok := t.types[pt]; ok && old != name {
			return false
		}
		if old, ok := t.names[name]; ok && old != pt {
			return false
		}
		t.types[pt], t.names[name] = name, pt
	}
	for uri, id := range ln.ext {
		if old, ok := t.ids[id]; ok && old != uri {
			return false
		}
		if old, ok := t.uris[uri]; ok && old != id {
			return false
		}
		t.ids[id], t.uris[uri] = uri, id
	}
	return true
}

// opus finds the payload type of Opus that the client likes best; 0 if there is none.
func opus(m *sdp.MediaDescription) uint8 {
	names := map[string]string{}
	for _, a := range keep(m.Attributes, "rtpmap") {
		pt, rest, _ := strings.Cut(a.Value, " ")
		names[pt] = strings.ToLower(strings.TrimSpace(rest))
	}
	for _, f := range m.MediaName.Formats {
		if names[f] == "opus/48000/2" {
			return payloadType(f)
		}
	}
	return 0
}

// payloadType reads a dynamic payload type; 0 if it is not one. 64–95 would be
// mistaken for RTCP (RFC 5761 §4).
func payloadType(s string) uint8 {
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || n < 35 || n > 127 || (n >= 64 && n <= 95) {
		return 0
	}
	return uint8(n)
}

// extmaps reads the ids of our extensions. An extension that is offered for one
// direction counts if that is the m-line's (RFC 8285 §5): Firefox offers rids so. An
// id of more than four bits would need two-byte headers on every packet; such an
// extension is not used.
func extmaps(m *sdp.MediaDescription, mid string) (map[string]uint8, *signal.Error) {
	out := map[string]uint8{}
	for _, a := range m.Attributes {
		if a.Key != "extmap" {
			continue
		}
		f := strings.Fields(a.Value)
		if len(f) < 2 {
			continue
		}
		known := slices.Index(extensions, f[1])
		if known < 0 {
			continue
		}
		uri := extensions[known]
		number, dir, oneWay := strings.Cut(f[0], "/")
		if oneWay && dir != "sendrecv" && dir != direction(m) {
			continue
		}
		id, err := strconv.ParseUint(number, 10, 8)
		if err != nil || id < 1 || id > 14 {
			continue
		}
		if _, twice := out[uri]; twice {
			return nil, refuse("m-line %s maps one extension twice", mid)
		}
		out[uri] = uint8(id)
	}
	return out, nil
}
