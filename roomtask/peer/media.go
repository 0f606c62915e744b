package peer

import (
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"

	"mayfly/roomtask/ingest"
	"mayfly/shared/signal"
)

// byRid orders the rids that docs/protocol.md names; others keep the SDP's order.
var byRid = []string{"q", "h", "f"}

// rids reads simulcast layers, lowest first.
func rids(m *sdp.MediaDescription, mid string) ([]string, *signal.Error) {
	var out []string
	for _, a := range m.Attributes {
		if a.Key != "rid" {
			continue
		}
		f := strings.Fields(a.Value)
		if len(f) < 2 || f[1] != "send" || !validToken(f[0], maxMidLength) || slices.Contains(out, f[0]) {
			return nil, refuse("m-line %s has a rid that cannot be used", mid)
		}
		out = append(out, strings.Clone(f[0]))
	}
	if len(out) > maxRids {
		return nil, refuse("m-line %s has %d simulcast layers, the limit is %d", mid, len(out), maxRids)
	}
	known := func(r string) bool { return slices.Contains(byRid, r) }
	if !slices.ContainsFunc(out, func(r string) bool { return !known(r) }) {
		slices.SortFunc(out, func(a, b string) int { return slices.Index(byRid, a) - slices.Index(byRid, b) })
	}
	return out, nil
}

// readSSRCs takes the declared streams of a source.
func (ln *line) readSSRCs(m *sdp.MediaDescription) *signal.Error {
	for _, a := range m.Attributes {
		switch a.Key {
		case "ssrc":
			id, _, _ := strings.Cut(a.Value, " ")
			n, err := strconv.ParseUint(id, 10, 32)
			if err != nil {
				return refuse("m-line %s has an invalid ssrc", ln.mid)
			}
			if !slices.Contains(ln.ssrcs, uint32(n)) {
				ln.ssrcs = append(ln.ssrcs, uint32(n))
			}
		case "ssrc-group":
			f := strings.Fields(a.Value)
			if len(f) < 2 || len(f) > 1+maxRids {
				return refuse("m-line %s has an invalid ssrc-group", ln.mid)
			}
			g := ingest.Group{Semantics: strings.Clone(f[0])}
			for _, id := range f[1:] {
				n, err := strconv.ParseUint(id, 10, 32)
				if err != nil {
					return refuse("m-line %s has an invalid ssrc-group", ln.mid)
				}
				g.SSRCs = append(g.SSRCs, uint32(n))
			}
			ln.groups = append(ln.groups, g)
		}
		if len(ln.ssrcs) > maxDeclaredSSRCs || len(ln.groups) > maxDeclaredSSRCs {
			return refuse("m-line %s declares more than %d SSRCs", ln.mid, maxDeclaredSSRCs)
		}
	}
	return nil
}

// leavesServerRole says whether a=setup lets us be the DTLS server (RFC 8842 §5.2).
func leavesServerRole(attrs []sdp.Attribute) bool {
	for _, a := range keep(attrs, "setup") {
		if a.Value != "actpass" && a.Value != "active" {
			return false
		}
	}
	return true
}

// bundle are the parameters of the bundle's one transport.
type bundle struct{ ufrag, pwd, fingerprint string }

// sharedTransport reads the transport's parameters where the bundle has them: in
// its first m-line (RFC 8843 §7.2.1), or else in the session part. What the other
// m-lines say would count only without a bundle.
func sharedTransport(desc *sdp.SessionDescription, tag string) (bundle, *signal.Error) {
	var t bundle
	read := func(attrs []sdp.Attribute) {
		for _, a := range attrs {
			switch {
			case a.Key == "ice-ufrag" && t.ufrag == "":
				t.ufrag = a.Value
			case a.Key == "ice-pwd" && t.pwd == "":
				t.pwd = a.Value
			case a.Key == "fingerprint" && t.fingerprint == "":
				// Other hashes of the same certificate may stand beside it.
				if algorithm, hash, _ := strings.Cut(a.Value, " "); strings.EqualFold(algorithm, "sha-256") {
					t.fingerprint = "sha-256 " + strings.ToUpper(hash)
				}
			}
		}
	}
	for _, m := range desc.MediaDescriptions {
		if mid, _ := m.Attribute("mid"); mid == tag {
			read(m.Attributes)
		}
	}
	read(desc.Attributes)
	switch {
	case len(t.ufrag) < 4 || len(t.pwd) < 22 || !iceChars(t.ufrag) || !iceChars(t.pwd):
		return t, refuse("ICE credentials are missing or invalid")
	case !validFingerprint(t.fingerprint):
		return t, refuse("no SHA-256 fingerprint")
	}
	return t, nil
}

// iceChars checks RFC 8839 §5.4.
func iceChars(s string) bool {
	return len(s) <= maxICELength && strings.IndexFunc(s, func(r rune) bool {
		return !alnum(r) && r != '+' && r != '/' && r != '-' && r != '_' && r != '='
	}) < 0
}

// validFingerprint checks 32 hex bytes with colons (RFC 8122 §5).
func validFingerprint(s string) bool {
	hash, ok := strings.CutPrefix(s, "sha-256 ")
	if !ok || len(hash) != 32*3-1 {
		return false
	}
	for i, r := range hash {
		if i%3 == 2 != (r == ':') || r != ':' && !strings.ContainsRune("0123456789ABCDEF", r) {
			return false
		}
	}
	return true
}

func alnum(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

func validToken(s string, limit int) bool {
	return s != "" && len(s) <= limit && strings.IndexFunc(s, func(r rune) bool {
		return !alnum(r) && r != '-' && r != '_'
	}) < 0
}

func has(m *sdp.MediaDescription, key string) bool {
	_, ok := m.Attribute(key)
	return ok
}

// one returns the value of an attribute that must be there exactly once.
func one(m *sdp.MediaDescription, key string) (string, *signal.Error) {
	found := keep(m.Attributes, key)
	if len(found) != 1 {
		return "", refuse("an m-line has %d attributes %s, not one", len(found), key)
	}
	return found[0].Value, nil
}

// direction is the m-line's direction, "" if it is not said exactly once.
func direction(m *sdp.MediaDescription) string {
	if found := keep(m.Attributes, "sendonly", "recvonly", "sendrecv", "inactive"); len(found) == 1 {
		return found[0].Key
	}
	return ""
}

func keep(attrs []sdp.Attribute, keys ...string) []sdp.Attribute {
	var out []sdp.Attribute
	for _, a := range attrs {
		if slices.Contains(keys, a.Key) {
			out = append(out, a)
		}
	}
	return out
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}
