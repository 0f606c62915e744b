package transport

import (
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// TestCoturnsClient has coturn's own client relay to the task's media and back, over
// UDP, TCP and TLS: a TURN client that nobody here wrote.
func TestCoturnsClient(t *testing.T) {
	const program = "turnutils_uclient"
	if _, err := exec.LookPath(program); err != nil {
		t.Skip("this machine has no " + program + " (coturn)")
	}
	if os.Getenv("MAYFLY_FIREWALL") == "" {
		t.Skip("takes five seconds: set MAYFLY_FIREWALL=1")
	}
	for via, flags := range map[string][]string{ViaTURNUDP: nil, ViaTURNTCP: {"-t"}, ViaTURNTLS: {"-t", "-S"}} {
		t.Run(via, func(t *testing.T) {
			t.Parallel() // the client mostly waits
			tr, _ := echoing(t)
			cred, port := tr.Grant("p_1"), tr.tcp[0].local.Port()
			switch via {
			case ViaTURNUDP:
				port = tr.udp[0].local.Port()
			case ViaTURNTLS:
				flags = append(flags, "-E", trusted(t, tr)) // it verifies the certificate
			}
			args := append([]string{
				"-c", "-n", "20", "-m", "2", "-l", "200", "-u", cred.Username, "-w", cred.Password,
				"-e", "127.0.0.1", "-r", fmt.Sprint(tr.udp[0].local.Port()), "-p", fmt.Sprint(port),
			}, flags...)
			out, err := exec.Command(program, append(args, "127.0.0.1")...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			total := regexp.MustCompile(`tot_send_msgs=(\d+), tot_recv_msgs=(\d+)`).FindAllStringSubmatch(string(out), -1)
			if len(total) == 0 {
				t.Fatalf("no totals in\n%s", out)
			}
			if last := total[len(total)-1]; last[1] != "40" || last[2] != "40" {
				t.Errorf("sent %s, received %s, want 40 each\n%s", last[1], last[2], out)
			}
		})
	}
}

// trusted is a file with the relay's certificate, which signed itself.
func trusted(t *testing.T, tr *Transport) string {
	t.Helper()
	cert, err := tr.cfg.Certificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
