package peer

import (
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"
)

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
