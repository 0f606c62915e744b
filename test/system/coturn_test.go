package system_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"mayfly/shared/signal"
	"mayfly/test/certs"
	"mayfly/test/robot"
	"mayfly/test/system"
)

// TestThroughCoturn has robots reach their room by somebody else's relay, coturn's, and
// by nothing else, over UDP, TCP and TLS: the room sees an address that nobody signalled.
func TestThroughCoturn(t *testing.T) {
	needWhole(t)
	if _, err := exec.LookPath("turnserver"); err != nil {
		t.Skip("this machine has no turnserver (coturn)")
	}
	if os.Getenv("MAYFLY_FIREWALL") == "" {
		t.Skip("needs coturn, and the trust of this process: set MAYFLY_FIREWALL=1")
	}
	plain, secure := coturn(t)
	s := system.Start(t)
	room := s.Create([]string{"direct", "udp", "tcp", "tls"}, nil)
	join := func(i int, cfg robot.Config) *robot.Robot {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cfg.WS, cfg.Ticket, cfg.SoundOnly, cfg.Trace = s.WS, room.Participants[i].Ticket, true, true
		r, err := robot.Join(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		r.Speak(true)
		return r
	}
	direct := join(0, robot.Config{})
	relayed := map[string]*robot.Robot{}
	for i, url := range []string{
		fmt.Sprintf("turn:127.0.0.1:%d?transport=udp", plain), fmt.Sprintf("turn:127.0.0.1:%d?transport=tcp", plain), fmt.Sprintf("turns:127.0.0.1:%d?transport=tcp", secure),
	} {
		relayed[url] = join(i+1, robot.Config{Way: robot.WayRelay, Servers: []signal.ICEServer{{URLs: []string{url}, Username: "robot", Credential: "secret"}}})
	}
	for url, r := range relayed {
		who := r.Joined.Participant
		system.Until(t, 20*time.Second, url+": heard, and hears", func() bool {
			return r.Heard([]string{direct.Joined.Participant}) && direct.Heard([]string{who})
		})
		pair, err := r.PC.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
		if err != nil || pair == nil || pair.Local.Typ != webrtc.ICECandidateTypeRelay {
			t.Errorf("%s: the pair is %v: %v", url, pair, err)
			continue
		}
		t.Logf("%s: %v", url, pair.Local)
	}
	for _, r := range append(slices.Collect(maps.Values(relayed)), direct) {
		if err := r.Leave(); err != nil {
			t.Error(err)
		}
	}
}

// coturn runs a TURN server on loopback that relays to loopback, trusted by this
// process, and tells its two ports: without TLS and with it.
func coturn(t *testing.T) (plain, secure int) {
	t.Helper()
	dir := t.TempDir()
	issued := certs.Issue(t, dir, "127.0.0.1")
	t.Setenv("SSL_CERT_FILE", issued.CA) // read with the first handshake of this process
	plain, secure = freePort(t), freePort(t)
	cmd := exec.Command("turnserver", "-n", "--no-cli", "--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1", "--allow-loopback-peers",
		"--listening-port", fmt.Sprint(plain), "--tls-listening-port", fmt.Sprint(secure), "--lt-cred-mech", "--user", "robot:secret", "--realm", "test",
		"--cert", issued.Cert, "--pkey", issued.Key, "--no-dtls", "--pidfile", filepath.Join(dir, "pid"), "--userdb", filepath.Join(dir, "db"), "--log-file", filepath.Join(dir, "log"), "--simple-log",
		"--min-port", "30000", "--max-port", "30999")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		if log, err := os.ReadFile(filepath.Join(dir, "log")); t.Failed() && err == nil {
			t.Logf("coturn:\n%s", log)
		}
	})
	for _, port := range []int{plain, secure} {
		system.Until(t, 15*time.Second, "coturn listens", func() bool {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		})
	}
	return plain, secure
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
