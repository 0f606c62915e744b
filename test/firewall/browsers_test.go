package firewall

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mayfly/test/robot"
	"mayfly/test/system"
)

// browserRow is a row as test/e2e/firewall.mjs takes it.
type browserRow struct {
	Name  string `json:"name"`
	Rules string `json:"rules"`
	Relay bool   `json:"relay"`
	MTU   int    `json:"mtu,omitempty"`
	URL   string `json:"url"`
}

// plan is what test/e2e/firewall.mjs is to do: the rows, or one call that goes on.
type plan struct {
	Browser string       `json:"browser"`
	Origin  string       `json:"origin"`
	Router  string       `json:"router"`
	Rows    []browserRow `json:"rows,omitempty"`
	Live    *liveCall    `json:"live,omitempty"`
}

type liveCall struct {
	URL string `json:"url"`
}

// browsers are those to try.
func browsers(t *testing.T) []string {
	list := os.Getenv("MAYFLY_FIREWALL_BROWSERS") // "chromium,firefox"
	if list == "" {
		t.Skip("takes minutes: set MAYFLY_FIREWALL_BROWSERS=chromium,firefox")
	}
	return strings.Split(list, ",")
}

// TestBrowsers has Chromium and Firefox join through the same networks.
func TestBrowsers(t *testing.T) {
	for _, kind := range browsers(t) {
		t.Run(kind, func(t *testing.T) {
			n := open(t)
			n.serve(serverIP)
			n.middlebox()
			n.browse(kind, rows)
		})
		t.Run(kind+" IPv6", func(t *testing.T) {
			n := open(t)
			n.without4()
			n.serve("[" + serverIP6 + "]")
			n.browse(kind, rows6)
		})
	}
}

// TestBrowsersRecover has them lose their network, and get another.
func TestBrowsersRecover(t *testing.T) {
	for _, kind := range browsers(t) {
		t.Run(kind, func(t *testing.T) {
			n := open(t)
			n.serve(serverIP)
			people := n.create(len(recoveries) + 1)
			ann := n.guest(n.wires.server, order{WS: n.ws, Ticket: people[0].Ticket, Seats: len(people)})
			system.Until(t, 15*time.Second, "the first one is in", func() bool { return n.up(ann) })
			for i, r := range recoveries {
				if only := os.Getenv("MAYFLY_FIREWALL_ROW"); only != "" && !strings.Contains(r.name, only) {
					continue
				}
				t.Run(r.name, func(t *testing.T) {
					n.recovers(t, r, ann, kind == "chromium", func() *guest { return n.follow(n.node(kind, plan{Live: &liveCall{people[i+1].CallURL}})) })
				})
			}
		})
	}
}

// node is the script in the client's namespace.
func (n *network) node(kind string, p plan) *exec.Cmd {
	n.t.Helper()
	p.Browser, p.Origin, p.Router = kind, n.url, n.router
	raw, err := json.Marshal(p)
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := n.command(n.client, "node", "test/e2e/firewall.mjs")
	cmd.Dir = filepath.Join("..", "..")
	home, certificates := n.trust()
	cmd.Env = append(os.Environ(), "FIREWALL="+string(raw), "HOME="+home, "FIREWALL_CERTIFICATES="+certificates)
	cmd.Stderr = os.Stderr
	return cmd
}

// browse has a browser go through rows, in the company of a robot.
func (n *network) browse(kind string, rows []row) {
	people := n.create(len(rows) + 1)
	ann := n.guest(n.wires.server, order{WS: n.ws, Ticket: people[0].Ticket})
	system.Until(n.t, 15*time.Second, "the first one is in", func() bool { return n.up(ann) })
	var p plan
	want := map[string]row{}
	only := os.Getenv("MAYFLY_FIREWALL_ROW")
	for i, r := range rows {
		want[r.name] = r
		if only == "" || strings.Contains(r.name, only) {
			p.Rows = append(p.Rows, browserRow{r.name, r.rules, strings.HasPrefix(r.way, robot.WayRelay), r.mtu, people[i+1].CallURL})
		}
	}
	cmd := n.node(kind, p)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		n.t.Fatal(err)
	}
	n.judge(kind, bufio.NewScanner(out), want, len(p.Rows))
	if err := cmd.Wait(); err != nil {
		n.t.Error("node:", err)
	}
}

// judge reads what the browser's script prints.
func (n *network) judge(kind string, lines *bufio.Scanner, want map[string]row, count int) {
	seen := 0
	for ; lines.Scan(); seen++ {
		var got struct {
			Name, Error, Transport string
			Connected, Media       int64
		}
		if err := json.Unmarshal(lines.Bytes(), &got); err != nil {
			n.t.Errorf("%s: %v", lines.Text(), err)
			continue
		}
		r := want[got.Name]
		if got.Error != "" {
			n.t.Errorf("%s, %s: %s", kind, got.Name, got.Error)
			continue
		}
		fmt.Printf("| %s | %s | %s | %d ms | %d ms |\n", got.Name, kind, got.Transport, got.Connected, got.Media)
		if !strings.HasPrefix(got.Transport, r.want) {
			n.t.Errorf("%s, %s: by %s, want %s", kind, got.Name, got.Transport, r.want)
		}
		if d := time.Duration(got.Connected) * time.Millisecond; d > r.limit*slack() {
			n.t.Errorf("%s, %s: connected after %v, want %v", kind, got.Name, d, r.limit)
		}
	}
	if seen != count {
		n.t.Errorf("%s: %d of %d rows", kind, seen, count)
	}
}

// trust makes a home in which Chromium trusts the test's CA, and the database in it that a
// profile of Firefox needs to do so.
func (n *network) trust() (home, db string) {
	home = n.t.TempDir()
	if _, err := exec.LookPath("certutil"); err != nil {
		n.t.Log("no certutil: browsers will not trust the relay (libnss3-tools)")
		return home, ""
	}
	db = filepath.Join(home, ".pki", "nssdb")
	if err := os.MkdirAll(db, 0o700); err != nil {
		n.t.Fatal(err)
	}
	for _, args := range [][]string{{"-N", "--empty-password"}, {"-A", "-t", "C,,", "-n", "test", "-i", n.ca}} {
		if err := run("certutil", append([]string{"-d", "sql:" + db}, args...)...); err != nil {
			n.t.Fatal(err)
		}
	}
	return home, db
}
