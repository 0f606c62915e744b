package peer

import (
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"

	"mayfly/roomtask/rtpx"
)

// readVideo finds the payload types of the codecs that the room forwards, in the
// client's order, each with its rtx. Of several with one codec the first that fits
// counts: VP9 of profile 0, H.264 of Constrained Baseline in packetization mode 1, AV1
// of the main profile, which is what every decoder has.
func (ln *line) readVideo(m *sdp.MediaDescription) {
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
	for _, f := range m.MediaName.Formats {
		name, clock, _ := strings.Cut(names[f], "/")
		c := rtpx.CodecOf(name)
		pt := payloadType(f)
		if !c.Video() || clock != "90000" || pt == 0 || ln.types[c].PT != 0 || !usable(c, fmtps[f]) || ln.uses(pt) {
			continue
		}
		ln.types[c].PT = pt
		ln.order = append(ln.order, c)
	}
	for _, f := range m.MediaName.Formats {
		apt, ok := strings.CutPrefix(fmtps[f], "apt=")
		of, pt := payloadType(apt), payloadType(f)
		if names[f] != "rtx/90000" || !ok || of == 0 || pt == 0 || ln.uses(pt) {
			continue
		}
		for _, c := range ln.order {
			if ln.types[c].PT == of && ln.types[c].RTX == 0 {
				ln.types[c].RTX = pt
			}
		}
	}
	if len(ln.order) > 0 {
		ln.codec, ln.rtx = ln.types[ln.order[0]].PT, ln.types[ln.order[0]].RTX
	}
}

// uses says whether a payload type has a meaning on the line already.
func (ln *line) uses(pt uint8) bool {
	return slices.ContainsFunc(ln.types[:], func(t rtpx.PayloadType) bool { return t.PT == pt || t.RTX == pt })
}

// usable says whether the parameters of a codec are those that the room forwards.
func usable(c rtpx.Codec, fmtp string) bool {
	get := func(key, without string) string {
		for p := range strings.SplitSeq(fmtp, ";") {
			if k, v, _ := strings.Cut(strings.TrimSpace(p), "="); strings.EqualFold(k, key) {
				return v
			}
		}
		return without
	}
	switch c {
	case rtpx.CodecVP9:
		return get("profile-id", "0") == "0"
	case rtpx.CodecAV1:
		return get("profile", "0") == "0"
	case rtpx.CodecH264:
		// profile_idc 66 with constraint_set1_flag (RFC 6184 §8.1).
		id, err := strconv.ParseUint(get("profile-level-id", "420010"), 16, 24)
		return err == nil && id>>16 == 0x42 && id>>8&0x40 != 0 && get("packetization-mode", "0") == "1"
	}
	return c == rtpx.CodecVP8
}
