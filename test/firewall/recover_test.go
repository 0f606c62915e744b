package firewall

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"mayfly/test/robot"
	"mayfly/test/system"
)

// recovery is what happens to a call's network, and how soon media must be back.
type recovery struct {
	name  string
	rules string // of the router, from the start
	lasts time.Duration
	limit time.Duration // from its end
	cut   func(*wires) error
	heal  func(*wires) error
	after func(*wires) error // leaves the network as it was before
	here  string             // the client's next addresses, of whose first packets is told
}

const (
	hole    = 10 * time.Second
	blocked = forward + `drop; }
}`
)

var (
	nothing    = func(*wires) error { return nil }
	recoveries = []recovery{
		{"10 s without network", "", hole, 3 * time.Second, func(w *wires) error { return w.rules(blocked) }, func(w *wires) error { return w.rules("") }, nothing, ""},
		{"another address: the NAT's", noIPv6 + nat + `oifname "rs" masquerade; }
}`, 0, 2 * time.Second, (*wires).renumber, nothing, (*wires).renumberBack, ""},
		{"another address: the interface's", "", 0, 2 * time.Second, (*wires).readdress, nothing, (*wires).readdressBack, clientAlso + " " + clientAlso6},
		{"another address: another interface", "", 0, 2 * time.Second, (*wires).roam, nothing, (*wires).roamBack, roamIP},
	}
)

// roam takes the client's interface away and gives it another one, in another network.
func (w *wires) roam() error {
	return errors.Join(
		w.in(w.client, "ip", "link", "set", "c0", "down"),
		w.in(w.client, "ip", "link", "set", "c1", "up"),
		w.in(w.client, "ip", "addr", "replace", roamIP+"/24", "dev", "c1"),
		w.in(w.client, "ip", "route", "replace", "default", "via", "192.0.2.1"),
	)
}

func (w *wires) roamBack() error {
	return errors.Join(
		w.in(w.client, "ip", "link", "set", "c1", "down"),
		w.in(w.client, "ip", "link", "set", "c0", "up"),
		w.in(w.client, "ip", "addr", "replace", clientIP6+"/64", "dev", "c0", "nodad"),
		w.in(w.client, "ip", "route", "replace", "default", "via", "198.51.100.1"),
		w.in(w.client, "ip", "-6", "route", "replace", "default", "via", "2001:db8:1::1"),
	)
}

// readdress gives the client's interface other addresses, as another lease does.
func (w *wires) readdress() error { return w.change(clientIP, clientIP6, clientAlso, clientAlso6) }

func (w *wires) readdressBack() error {
	return w.change(clientAlso, clientAlso6, clientIP, clientIP6)
}

func (w *wires) change(old, old6, next, next6 string) error {
	return errors.Join(
		w.in(w.client, "ip", "addr", "del", old+"/24", "dev", "c0"),
		w.in(w.client, "ip", "addr", "del", old6+"/64", "dev", "c0"),
		w.in(w.client, "ip", "addr", "add", next6+"/64", "dev", "c0", "nodad"),
		w.in(w.client, "ip", "-6", "route", "replace", "default", "via", "2001:db8:1::1"),
		w.in(w.client, "ip", "addr", "add", next+"/24", "dev", "c0"),
		w.in(w.client, "ip", "route", "replace", "default", "via", "198.51.100.1"),
	)
}

// renumber gives the NAT another outside address: what it had translated is forgotten
// with the old one, as when a router comes back from a new dial-in.
func (w *wires) renumber() error {
	return errors.Join(
		w.in(w.router, "sysctl", "-qw", "net.ipv4.conf.rs.promote_secondaries=1"),
		w.in(w.router, "ip", "addr", "add", routerAlso+"/24", "dev", "rs"),
		w.in(w.router, "ip", "addr", "del", routerSeen+"/24", "dev", "rs"),
	)
}

func (w *wires) renumberBack() error {
	return errors.Join(
		w.in(w.router, "ip", "addr", "add", routerSeen+"/24", "dev", "rs"),
		w.in(w.router, "ip", "addr", "del", routerAlso+"/24", "dev", "rs"),
	)
}

// TestRecoveries: media comes back both ways after a call's network was gone, or has
// become another one, without anybody joining again.
func TestRecoveries(t *testing.T) {
	n := open(t)
	n.serve(serverIP)
	tickets := n.room(len(recoveries) + 1)
	ann := n.guest(n.wires.server, order{WS: n.ws, Ticket: tickets[0]})
	system.Until(t, 15*time.Second, "the first one is in", func() bool { return n.up(ann) })
	for i, r := range recoveries {
		t.Run(r.name, func(t *testing.T) {
			n.recovers(t, r, ann, false, func() *guest {
				return n.guest(n.client, order{WS: n.ws, Ticket: tickets[i+1], Way: robot.WayAny, Keep: true})
			})
		})
	}
}

// recovers runs one of them. A patient client is Chromium.
func (n *network) recovers(t *testing.T, r recovery, ann *guest, patient bool, enter func() *guest) {
	outer := n.t
	n.t = t
	defer func() { n.t = outer }()
	if err := n.rules(r.rules); err != nil {
		t.Fatal(err)
	}
	before := ann.status()
	bob := enter()
	defer bob.leave()
	since := func(a, b status) func() bool {
		return func() bool {
			nowA, nowB := ann.status(), bob.status()
			return nowA.Audio > a.Audio+5 && nowA.Video > a.Video+5 && nowB.Audio > b.Audio+5 && nowB.Video > b.Video+1
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("at last: the client %+v, the other %+v", bob.status(), ann.status())
		}
	})
	system.Until(t, 40*time.Second, "connected", func() bool { return n.up(bob) })
	// Who left while its network was gone is still in its seat, until the room misses it.
	system.Until(t, time.Minute, "media both ways", since(before, status{}))
	<-time.After(2 * time.Second) // a call that has settled
	was, at := bob.status(), time.Now()
	system.Until(t, 30*time.Second, "pictures come, which the room has stopped for a while where the machine is too busy", func() bool {
		if time.Since(at) < 500*time.Millisecond {
			return false
		}
		now := bob.status()
		come := now.Video > was.Video+5
		was, at = now, time.Now()
		return come
	})
	joined := n.count("participant.joined")
	var trace *trace
	if r.here != "" {
		trace = n.trace(r.here)
	}
	if err := r.cut(n.wires); err != nil {
		t.Fatal(err)
	}
	ends := time.Now()
	<-time.After(max(r.lasts, 100*time.Millisecond)) // what was under way has arrived
	a, b := ann.status(), bob.status()
	if r.lasts > 0 {
		ends = time.Now()
	}
	defer func() {
		if err := r.after(n.wires); err != nil {
			t.Error(err)
		}
	}()
	if err := r.heal(n.wires); err != nil {
		t.Fatal(err)
	}
	var parts times
	again := since(a, b)
	system.Until(t, 30*time.Second, "media both ways again", func() bool {
		parts.look(time.Since(ends), ann.status(), bob.status(), a, b)
		return again()
	})
	back := time.Since(ends)
	s := bob.status()
	fmt.Printf("| %s | %s | media back after %d ms | %v; %v%s |\n", r.name, s.Transport, back.Milliseconds(), parts, trace.since(ends), s.Way)
	// Chromium on Linux waits for 1.5 s after a link has changed, and 2 s after an address
	// has, before it looks for a way at all (NetworkChangeCalculatorParamsLinux).
	limit := r.limit
	if patient {
		limit += min(trace.sought(ends), 2500*time.Millisecond)
	}
	if os.Getenv("MAYFLY_FIREWALL_STRICT") != "" && back > limit {
		t.Errorf("media back after %v, want %v", back, limit)
	}
	if again := n.count("participant.joined"); again != joined {
		t.Errorf("%d joins during the recovery", again-joined)
	}
}

// times are when the first came again of what the client receives, and of what it sends.
type times [4]time.Duration

func (p *times) look(now time.Duration, nowA, nowB, a, b status) {
	for i, came := range []bool{nowB.Audio > b.Audio, nowB.Video > b.Video, nowA.Audio > a.Audio, nowA.Video > a.Video} {
		if came && p[i] == 0 {
			p[i] = now
		}
	}
}

func (p times) String() string {
	return fmt.Sprintf("in: sound %d, picture %d; out: sound %d, picture %d ms", p[0].Milliseconds(), p[1].Milliseconds(), p[2].Milliseconds(), p[3].Milliseconds())
}

// count is how often a word was said by the system so far.
func (n *network) count(word string) int { return strings.Count(n.output.String(), word) }
