package arch

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// floors are the first versions of what is linked in which a published fault is mended that
// a packet from outside could reach, with its entry in Go's vulnerability database.
var floors = []struct{ module, version, why string }{
	{"github.com/pion/dtls/v3", "v3.1.4", "GO-2026-6165: a ServerKeyExchange that panics; GO-2026-4479: nonces of AES-GCM"},
	{"github.com/pion/interceptor", "v0.1.39", "GO-2025-3748: padding that panics"},
	{"github.com/pion/webrtc/v4", "v4.0.0", "GO-2021-0104: a fingerprint that nobody looked at"},
	{"golang.org/x/net", "v0.59.0", "HTTP/2 of the stand-in"},
}

// older are modules of which no version is linked, because their faults were mended in the
// next major version alone.
var older = []string{"github.com/pion/dtls/v2", "github.com/pion/dtls ", "github.com/pion/webrtc/v3", "github.com/pion/stun ", "github.com/pion/turn/v2"}

// TestVersionsHaveTheirMends: an upgrade that goes back, or a replacement, is noticed without
// the database at hand.
func TestVersionsHaveTheirMends(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	required := map[string]string{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(f) >= 2 && strings.HasPrefix(f[1], "v") {
			required[f[0]] = f[1]
		}
		for _, module := range older {
			if strings.Contains(line, module) {
				t.Errorf("%s is required", module)
			}
		}
		if strings.HasPrefix(line, "replace") {
			t.Errorf("replaced: %s", line)
		}
	}
	for _, f := range floors {
		switch have, ok := required[f.module]; {
		case !ok:
			t.Errorf("%s is not required", f.module)
		case less(have, f.version):
			t.Errorf("%s %s, at least %s: %s", f.module, have, f.version, f.why)
		}
	}
	for _, c := range []struct {
		a, b string
		less bool
	}{{"v3.1.4", "v3.1.15", true}, {"v3.1.15", "v3.1.4", false}, {"v0.59.0", "v0.59.0", false}, {"v0.9.9", "v0.10.0", true}} {
		if less(c.a, c.b) != c.less {
			t.Errorf("%s before %s: %v", c.a, c.b, !c.less)
		}
	}
}

// less compares versions without pre-releases.
func less(a, b string) bool {
	var x, y [3]int
	for _, v := range []struct {
		text string
		to   *[3]int
	}{{a, &x}, {b, &y}} {
		_, _ = fmt.Sscanf(v.text, "v%d.%d.%d", &v.to[0], &v.to[1], &v.to[2])
	}
	for i := range x {
		if x[i] != y[i] {
			return x[i] < y[i]
		}
	}
	return false
}
