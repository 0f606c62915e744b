package firewall

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Addresses. The task and the service's API share the server's; the router has .1. They
// are public ones, of RFC 5737 and RFC 3849: browsers take no candidate of port 80 or 443
// at a private address.
const (
	serverIP    = "203.0.113.2"
	serverIP6   = "2001:db8:2::2"
	clientIP    = "198.51.100.2"
	clientIP6   = "2001:db8:1::2"
	clientAlso  = "198.51.100.77" // the client's next ones
	clientAlso6 = "2001:db8:1::77"
	roamIP      = "192.0.2.2" // at its other interface
	apiPort     = "8080"
	relayName   = "relay.test.invalid"
	middlebox   = "9443" // port of the router's own proxy
	routerSeen  = "203.0.113.1"
	routerAlso  = "203.0.113.9" // its next one
)

// wires are three namespaces: client – router – server. The client has a second interface
// to the router, c1, which is down.
type wires struct {
	client, router, server string // names
	made                   []string
	files                  string // /etc/netns directory of the client
}

// lay makes the namespaces. Call cut whatever it returns.
func lay() (*wires, error) {
	tag := fmt.Sprintf("mf%d", os.Getpid())
	w := &wires{client: tag + "c", router: tag + "r", server: tag + "s"}
	for _, ns := range []string{w.client, w.router, w.server} {
		if err := run("ip", "netns", "add", ns); err != nil {
			return w, err
		}
		w.made = append(w.made, ns)
		if err := w.in(ns, "ip", "link", "set", "lo", "up"); err != nil {
			return w, err
		}
	}
	err := errors.Join(
		w.wire(w.client, "c0", w.router, "rc"), w.wire(w.client, "c1", w.router, "rd"), w.wire(w.server, "s0", w.router, "rs"),
		w.in(w.client, "ip", "link", "set", "c1", "addrgenmode", "none"), // no IPv6 at the other interface
		w.address(w.client, "c0", clientIP+"/24", clientIP6+"/64", "198.51.100.1", "2001:db8:1::1"),
		w.address(w.server, "s0", serverIP+"/24", serverIP6+"/64", "203.0.113.1", "2001:db8:2::1"),
		w.address(w.router, "rc", "198.51.100.1/24", "2001:db8:1::1/64", "", ""),
		w.address(w.router, "rd", "192.0.2.1/24", "2001:db8:3::1/64", "", ""),
		w.address(w.router, "rs", routerSeen+"/24", "2001:db8:2::1/64", "", ""),
		w.in(w.router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"),
		w.carries(w.client, "c0"), w.carries(w.server, "s0"),
	)
	if err != nil {
		return w, err
	}
	w.files = filepath.Join("/etc/netns", w.client)
	if err := os.MkdirAll(w.files, 0o755); err != nil {
		return w, err
	}
	hosts := "127.0.0.1 localhost\n" + serverIP + " " + relayName + "\n"
	return w, errors.Join(
		os.WriteFile(filepath.Join(w.files, "hosts"), []byte(hosts), 0o644),
		// Nobody answers there, and says so at once: the machine's own servers are out of reach.
		os.WriteFile(filepath.Join(w.files, "resolv.conf"), []byte("nameserver 127.0.0.1\n"), 0o644),
	)
}

func (w *wires) wire(a, aName, b, bName string) error {
	return run("ip", "link", "add", aName, "netns", a, "type", "veth", "peer", "name", bName, "netns", b)
}

// address gives a link its addresses and brings it up. None is looked for among its
// neighbours first: the kernel's own would come a second or two after the rest (RFC 4862
// §5.4), at which Chromium stops all loads.
func (w *wires) address(ns, link, v4, v6, via4, via6 string) error {
	err := errors.Join(
		w.in(ns, "sh", "-c", "cd /proc/sys/net/ipv6/conf && echo 0 > all/accept_dad && echo 0 > "+link+"/accept_dad"),
		w.in(ns, "ip", "addr", "add", v4, "dev", link),
		w.in(ns, "ip", "addr", "add", v6, "dev", link, "nodad"),
		w.in(ns, "ip", "link", "set", link, "up"),
	)
	if via4 != "" {
		err = errors.Join(err, w.in(ns, "ip", "route", "add", "default", "via", via4), w.in(ns, "ip", "-6", "route", "add", "default", "via", via6))
	}
	return err
}

// carries waits until a link is up and has all its addresses: the kernel tells it up to a
// second after the other end is, and then makes the address of its own.
func (w *wires) carries(ns, link string) error {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		out, err := w.command(ns, "ip", "-6", "addr", "show", "dev", link).Output()
		state := string(out)
		switch {
		case err != nil:
			return fmt.Errorf("addresses of %s: %w", link, err)
		case strings.Contains(state, "state UP") && strings.Contains(state, "scope link") && !strings.Contains(state, "tentative"):
			return nil
		case time.Now().After(end):
			return fmt.Errorf("%s is not ready:\n%s", link, state)
		}
	}
}

// in runs a program within a namespace.
func (w *wires) in(ns string, args ...string) error {
	return run("ip", append([]string{"netns", "exec", ns}, args...)...)
}

// rules replaces the router's rules.
func (w *wires) rules(text string) error {
	cmd := exec.Command("ip", "netns", "exec", w.router, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader("flush ruleset\n" + text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w\n%s%s", err, out, text)
	}
	return nil
}

// command is a program that is to run within a namespace.
func (w *wires) command(ns string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", ns}, args...)...)
}

// cut removes everything.
func (w *wires) cut() {
	for _, ns := range w.made {
		_ = run("ip", "netns", "del", ns) // with its last process; nothing else is left to do
	}
	if w.files != "" {
		_ = os.RemoveAll(w.files)
	}
}

func run(name string, args ...string) error {
	var out bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return nil
}
