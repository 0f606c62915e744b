package peer

import (
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"
)

// mimeRED is redundant audio data (RFC 2198) as browsers offer it.
const mimeRED = "audio/red"

// redundant finds the payload type with which the client offers redundancy of Opus,
// 0 if it does not, and whether it likes that better than plain Opus. Its fmtp lists
// the payload types of the blocks, "111/111": all must be that of opus.
func redundant(m *sdp.MediaDescription, opus uint8) (red uint8, first bool) {
	names, fmtps := map[string]string{}, map[string]string{}
	for _, a := range m.Attributes {
		pt, rest, _ := strings.Cut(a.Value, " ")
		switch a.Key {
		case "rtpmap":
			names[pt] = strings.ToLower(strings.TrimSpace(rest))
		case "fmtp":
			fmtps[pt] = strings.TrimSpace(rest)
		}
	}
	plain := strconv.Itoa(int(opus))
	for i, f := range m.MediaName.Formats {
		if names[f] != "red/48000/2" || payloadType(f) == opus {
			continue
		}
		blocks := strings.Split(fmtps[f], "/")
		if !slices.ContainsFunc(blocks, func(pt string) bool { return pt != plain }) {
			return payloadType(f), i < slices.Index(m.MediaName.Formats, plain)
		}
	}
	return 0, false
}

// withRED adds the payload type of redundancy in the client's order, which Pion keeps
// in the answer: a browser sends with the first.
func (ln *line) withRED(types []string) []string {
	at := 1
	if ln.redFirst {
		at = 0
	}
	return slices.Insert(types, at, strconv.Itoa(int(ln.red)))
}

// withFEC asks for in-band error correction in the fmtp of Opus.
func withFEC(attrs []sdp.Attribute, opus uint8) []sdp.Attribute {
	pt := strconv.Itoa(int(opus))
	for i, a := range attrs {
		if of, params, _ := strings.Cut(a.Value, " "); a.Key == "fmtp" && of == pt {
			attrs[i].Value = pt + " " + fecParams(params)
			return attrs
		}
	}
	return append(attrs, sdp.Attribute{Key: "fmtp", Value: pt + " " + fecParams("")})
}

// fecParams adds in-band error correction (RFC 7587 §6.1) to the parameters that a
// client offers for Opus. We answer with its own, and what the answer says there is what
// the client's encoder may send: it adds the correction when our reports tell of loss.
func fecParams(offered string) string {
	const fec = "useinbandfec="
	list := slices.DeleteFunc(strings.Split(offered, ";"), func(p string) bool {
		return strings.TrimSpace(p) == "" || strings.HasPrefix(strings.TrimSpace(p), fec)
	})
	return strings.Join(append(list, fec+"1"), ";")
}
