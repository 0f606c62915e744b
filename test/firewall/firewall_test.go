package firewall

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mayfly/test/certs"
	"mayfly/test/robot"
	"mayfly/test/system"
)

func TestMain(m *testing.M) {
	if play() {
		return
	}
	system.Main(m)
}

// row is a network, and what of it a join must not exceed.
type row struct {
	name  string
	rules string // of the router
	way   string // what the client may take
	want  string // transport, as the task sees it, or its beginning
	limit time.Duration
	mtu   int
}

const (
	slow = 3 * time.Second
	fast = time.Second
	// passAPI lets the service's API through, which is another host on AWS.
	passAPI = `tcp dport ` + apiPort + ` accept; tcp sport ` + apiPort + ` accept; `
	forward = `table inet fw { chain forward { type filter hook forward priority 0; policy `
	noIPv6  = `table ip6 no { chain forward { type filter hook forward priority 0; policy drop; }
}
`
	nat = `table ip nat { chain post { type nat hook postrouting priority 100; `
)

var rows = []row{
	{"open", "", robot.WayAny, "udp", fast, 0},
	{"UDP blocked", forward + `accept; meta l4proto udp drop; }
}`, robot.WayAny, "tcp", slow, 0},
	{"only UDP 443", forward + `drop; ` + passAPI + `udp dport 443 accept; udp sport 443 accept; }
}`, robot.WayAny, "udp", slow, 0},
	{"only TCP 443", forward + `drop; ` + passAPI + `tcp dport 443 accept; tcp sport 443 accept; }
}`, robot.WayAny, "tcp", slow, 0},
	{"only TCP 80", forward + `drop; ` + passAPI + `tcp dport 80 accept; tcp sport 80 accept; }
}`, robot.WayAny, "tcp", slow, 0},
	{"only TLS on 443", forward + `drop; ` + passAPI + `}
}
		table ip nat { chain pre { type nat hook prerouting priority -100; iifname "rc" tcp dport 443 redirect to :` + middlebox + `; }
}`,
		robot.WayAny, "turn-tls", slow, 0},
	{"symmetric NAT", noIPv6 + nat + `oifname "rs" masquerade fully-random; }
}`, robot.WayAny, "udp", slow, 0},
	{"MTU 1280", "", robot.WayAny, "udp", slow, 1280},
	{"relay alone", "", robot.WayRelay, "turn-", slow, 0},
	{"relay alone, UDP blocked", forward + `accept; meta l4proto udp drop; }
}`, robot.WayRelay, "turn-t", slow, 0},
	{"relay alone, symmetric NAT", noIPv6 + nat + `oifname "rs" masquerade fully-random; }
}`, robot.WayRelay, "turn-", slow, 0},
}

// rows6 are without IPv4.
var rows6 = []row{
	{"IPv6 only", "", robot.WayAny, "udp", slow, 0},
	{"IPv6 only, UDP blocked", forward + `accept; meta l4proto udp drop; }
}`, robot.WayAny, "tcp", slow, 0},
	{"IPv6 only, relay alone", "", robot.WayRelay6, "turn-", slow, 0},
	{"IPv6 only, relay alone, UDP blocked", forward + `accept; meta l4proto udp drop; }
}`, robot.WayRelay6, "turn-t", slow, 0},
}

// network is a set of wires with the whole system at the server's end.
type network struct {
	*wires
	t      *testing.T
	dir    string
	ca     string // certificate of the CA that clients trust
	pem    string // of the relay's certificate and key
	ws     string
	key    string
	url    string
	server *exec.Cmd
	output output
}

// output is what a program has said so far.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func open(t *testing.T) *network {
	t.Helper()
	if os.Getenv("MAYFLY_FIREWALL") == "" {
		t.Skip("takes half a minute: set MAYFLY_FIREWALL=1")
	}
	for _, need := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(need); err != nil {
			t.Skip("this machine has no", need)
		}
	}
	if os.Getuid() != 0 {
		t.Skip("making networks needs root")
	}
	w, err := lay()
	t.Cleanup(w.cut)
	if err != nil {
		t.Skip("no network namespace can be made here:", err)
	}
	n := &network{wires: w, t: t, dir: t.TempDir()}
	issued := certs.Issue(t, n.dir, relayName)
	n.ca, n.pem = issued.CA, issued.Both
	return n
}

// serve starts the system at an address of the server's.
func (n *network) serve(host string) {
	n.t.Helper()
	bin, err := system.Programs()
	if err != nil {
		n.t.Fatal(err)
	}
	out := filepath.Join(n.dir, strings.Trim(host, "[]"))
	n.server = n.command(n.wires.server, filepath.Join(bin, "mayfly"), "local", "-addr", host+":"+apiPort, "-out", out,
		"-media-ip", serverIP+","+serverIP6, "-relay-name", relayName, "-relay-cert", n.pem)
	n.server.Env = append(os.Environ(), "MAYFLY_UDP_PORT=3478,443", "MAYFLY_TCP_PORT=443,80")
	n.server.Stdout, n.server.Stderr = &n.output, &n.output
	if err := n.server.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(n.stop)
	var is struct {
		URL    string `json:"url"`
		WS     string `json:"ws_url"`
		APIKey string `json:"api_key"`
	}
	system.Until(n.t, 20*time.Second, "mayfly local is up", func() bool {
		data, err := os.ReadFile(filepath.Join(out, "local.json"))
		return err == nil && json.Unmarshal(data, &is) == nil
	})
	n.url, n.ws, n.key = is.URL, is.WS, is.APIKey
}

func (n *network) stop() {
	if n.server == nil {
		return
	}
	_ = n.server.Process.Signal(os.Interrupt)
	done := make(chan struct{})
	go func() { defer close(done); _ = n.server.Wait() }()
	select {
	case <-done:
	case <-time.After(15 * time.Second):
		_ = n.server.Process.Kill()
		n.t.Error("mayfly local does not stop")
		<-done
	}
	n.server = nil
	if n.t.Failed() {
		n.t.Logf("output of mayfly local:\n%s", n.output.String())
	}
}

// room makes a room, and gives tickets for it. The API is called from the server's
// namespace: this process is in none.
func (n *network) room(people int) (tickets []string) {
	n.t.Helper()
	for _, p := range n.create(people) {
		tickets = append(tickets, p.Ticket)
	}
	return tickets
}

// invited is somebody who may join.
type invited struct {
	Ticket  string
	CallURL string `json:"call_url"`
}

// create makes a room.
func (n *network) create(people int) []invited {
	n.t.Helper()
	var body struct {
		Participants []map[string]string `json:"participants"`
	}
	for i := range people {
		body.Participants = append(body.Participants, map[string]string{"identity": fmt.Sprint("p", i), "name": fmt.Sprint("P", i)})
	}
	raw, err := json.Marshal(body)
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := n.command(n.wires.server, "curl", "-sS", "-g", "-X", "POST", "-H", "Authorization: Bearer "+n.key, "-H", "Content-Type: application/json",
		"-d", string(raw), n.url+"/v1/rooms")
	out, err := cmd.Output()
	var answer struct {
		Participants []invited
	}
	if err == nil {
		err = json.Unmarshal(out, &answer)
	}
	if err != nil || len(answer.Participants) != people {
		n.t.Fatalf("create: %v %s", err, out)
	}
	return answer.Participants
}

// guest is a client in a namespace.
type guest struct {
	cmd  *exec.Cmd
	in   io.Closer
	done chan struct{}

	mu   sync.Mutex
	last status // guarded by mu
}

func (n *network) guest(ns string, o order) *guest {
	n.t.Helper()
	arg, err := json.Marshal(o)
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := n.role(ns, "client", string(arg))
	cmd.Env = append(cmd.Env, "SSL_CERT_FILE="+n.ca)
	return n.follow(cmd)
}

// role is this program, in a namespace, as one of roles.
func (n *network) role(ns, role, arg string) *exec.Cmd {
	n.t.Helper()
	self, err := os.Executable()
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := n.command(ns, self)
	cmd.Env = append(os.Environ(), envRole+"="+role, envRole+"_ARG="+arg)
	cmd.Stderr = os.Stderr
	return cmd
}

// follow starts a client and reads what it says of itself.
func (n *network) follow(cmd *exec.Cmd) *guest {
	n.t.Helper()
	g := &guest{cmd: cmd, done: make(chan struct{})}
	var err error
	out, err1 := g.cmd.StdoutPipe()
	g.in, err = g.cmd.StdinPipe()
	if err != nil || err1 != nil {
		n.t.Fatal(err, err1)
	}
	if err := g.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	go func() {
		defer close(g.done)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var s status
			if json.Unmarshal(lines.Bytes(), &s) == nil {
				g.mu.Lock()
				g.last = s
				g.mu.Unlock()
			}
		}
		_ = g.cmd.Wait()
	}()
	n.t.Cleanup(g.leave)
	return g
}

func (g *guest) status() status {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last
}

func (g *guest) leave() {
	_ = g.in.Close()
	select {
	case <-g.done:
	case <-time.After(8 * time.Second):
		_ = g.cmd.Process.Kill()
		<-g.done
	}
}

// TestFirewalls has a client join through each network, and hear and see, and be heard
// and seen by, one who is in the room already.
func TestFirewalls(t *testing.T) {
	n := open(t)
	n.serve(serverIP)
	tickets := n.room(len(rows) + 1)
	ann := n.guest(n.wires.server, order{WS: n.ws, Ticket: tickets[0]})
	system.Until(t, 15*time.Second, "the first one is in", func() bool { return n.up(ann) })
	for i, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			n.try(t, r, ann, tickets[i+1])
		})
	}
}

// up says whether a client has connected; an error of its ends the test.
func (n *network) up(g *guest) bool {
	s := g.status()
	if s.Error != "" {
		n.t.Fatal(s.Error)
	}
	return s.ConnectedMS > 0
}

func (n *network) try(t *testing.T, r row, ann *guest, ticket string) {
	outer := n.t
	n.t = t
	defer func() { n.t = outer }()
	if err := n.rules(r.rules); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(r.rules, middlebox) {
		n.middlebox()
	}
	if r.mtu > 0 {
		for ns, link := range map[string]string{n.client: "c0", n.router: "rc"} {
			if err := n.in(ns, "ip", "link", "set", link, "mtu", fmt.Sprint(r.mtu)); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = n.in(ns, "ip", "link", "set", link, "mtu", "1500") }()
		}
	}
	before := ann.status()
	bob := n.guest(n.client, order{WS: n.ws, Ticket: ticket, Way: r.way})
	defer bob.leave()
	system.Until(t, 15*time.Second, "connected", func() bool { return n.up(bob) })
	system.Until(t, 10*time.Second, "media both ways", func() bool {
		a, b := ann.status(), bob.status()
		return b.Audio > 20 && b.Video > 20 && a.Audio > before.Audio+20 && a.Video > before.Video+20
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the client at last: %+v", bob.status())
		}
	})
	system.Until(t, 10*time.Second, "the task says how it is reached: "+r.want, func() bool { return strings.HasPrefix(bob.status().Transport, r.want) })
	s := bob.status()
	fmt.Printf("| %s | %s | %d ms | %d ms | %s |\n", r.name, s.Transport, s.ConnectedMS, s.MediaMS, s.Way)
	if d := time.Duration(s.ConnectedMS) * time.Millisecond; d > r.limit*slack() {
		t.Errorf("joined after %v, want %v", d, r.limit)
	}
}

// slack widens the limits on a machine that is busy with other things.
func slack() time.Duration {
	if os.Getenv("MAYFLY_FIREWALL_STRICT") != "" {
		return 1
	}
	return 3
}

// middlebox starts the router's proxy, which ends with the test.
func (n *network) middlebox() {
	n.t.Helper()
	cmd := n.role(n.router, "middlebox", serverIP+":443")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		n.t.Fatal("the middlebox does not start:", err)
	}
}

// TestIPv6Alone has a client without IPv4 join.
func TestIPv6Alone(t *testing.T) {
	n := open(t)
	n.without4()
	n.serve("[" + serverIP6 + "]")
	tickets := n.room(len(rows6) + 1)
	ann := n.guest(n.wires.server, order{WS: n.ws, Ticket: tickets[0]})
	system.Until(t, 15*time.Second, "the first one is in", func() bool { return n.up(ann) })
	for i, r := range rows6 {
		t.Run(r.name, func(t *testing.T) { n.try(t, r, ann, tickets[i+1]) })
	}
}

// without4 takes the client's IPv4 address away.
func (n *network) without4() {
	n.t.Helper()
	if err := n.in(n.client, "ip", "-4", "addr", "flush", "dev", "c0"); err != nil {
		n.t.Fatal(err)
	}
}
