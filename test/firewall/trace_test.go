package firewall

import (
	"bufio"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"
)

// trace is what a capture in the client's namespace has seen.
type trace struct {
	mu    sync.Mutex
	first []seen // guarded by mu; in the order of coming
}

// trace captures from now on what is sent from and to an address of the client's.
func (n *network) trace(address string) *trace {
	n.t.Helper()
	cmd := n.role(n.client, "capture", address)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		n.t.Fatal("the capture does not start")
	}
	t := &trace{}
	go func() {
		for lines.Scan() {
			var s seen
			if json.Unmarshal(lines.Bytes(), &s) == nil {
				t.mu.Lock()
				t.first = append(t.first, s)
				t.mu.Unlock()
			}
		}
	}()
	return t
}

// sought is how long after moment the client's first check left with a new address; 0 if
// none was seen.
func (t *trace) sought(moment time.Time) time.Duration {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.first {
		if s.Kind == "out: STUN" {
			return max(0, time.Duration(s.At-moment.UnixMicro())*time.Microsecond)
		}
	}
	return 0
}

// since tells when the first packet of each kind came, from a moment on.
func (t *trace) since(moment time.Time) string {
	if t == nil {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var out strings.Builder
	for _, s := range t.first {
		fmt.Fprintf(&out, "%s %d, ", s.Kind, (s.At-moment.UnixMicro())/1000)
	}
	return out.String()
}
