package system_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"mayfly/shared/signal"
	"mayfly/test/certs"
	"mayfly/test/robot"
	"mayfly/test/system"
)

// TestNameComesLater: names take 20 s to be known, as DNS records do. Nobody hears of
// TLS before, whoever is in the room is told then, and by that name alone somebody comes
// in. MAYFLY_NAMES=1: it takes half a minute.
func TestNameComesLater(t *testing.T) {
	needWhole(t)
	if os.Getenv("MAYFLY_NAMES") == "" {
		t.Skip("takes half a minute, and the trust of this process: set MAYFLY_NAMES=1")
	}
	issued := certs.Issue(t, t.TempDir(), "127.0.0.1")
	t.Setenv("SSL_CERT_FILE", issued.CA) // read with the first handshake of this process
	s := system.Start(t, "-relay-name", "127.0.0.1", "-relay-cert", issued.Both, "-relay-spread", "20s")
	room := s.Create([]string{"ann", "bob"}, nil)
	began := time.Now()
	ann := listener(t, s, room.Participants[0].Ticket, robot.WayDirect)
	if of := byTLS(ann.Joined.ICEServers); len(of) != 0 {
		t.Fatalf("told of %v before the name leads anywhere", of)
	}
	var told signal.Servers
	system.Until(t, 2*time.Minute, "ann is told of the relay by TLS", func() bool {
		return ann.Last(signal.TypeServers, &told) && len(byTLS(told.ICEServers)) == 1
	})
	if took := time.Since(began); took < 15*time.Second {
		t.Errorf("told after %v", took)
	} else {
		t.Logf("told after %v", took.Round(100*time.Millisecond))
	}
	only := told.ICEServers[0] // ann's credential: a relay serves whoever has one
	only.URLs = byTLS(told.ICEServers)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	bob, err := robot.Join(ctx, robot.Config{
		WS: s.WS, Ticket: room.Participants[1].Ticket, SoundOnly: true, Trace: true, Way: robot.WayRelay, Servers: []signal.ICEServer{only},
	})
	if err != nil {
		t.Fatal(err)
	}
	bob.Speak(true)
	system.Until(t, 20*time.Second, "both ways by TLS", func() bool {
		return bob.Heard([]string{ann.Joined.Participant}) && ann.Heard([]string{bob.Joined.Participant})
	})
	if pair, err := bob.PC.SCTP().Transport().ICETransport().GetSelectedCandidatePair(); err != nil || pair.Local.Typ != webrtc.ICECandidateTypeRelay {
		t.Errorf("the pair is %v: %v", pair, err)
	}
	for _, r := range []*robot.Robot{bob, ann} { // bob has ann's credential
		if err := r.Leave(); err != nil {
			t.Error(err)
		}
	}
}

// byTLS are the URLs of the relay by TLS.
func byTLS(servers []signal.ICEServer) (urls []string) {
	for _, s := range servers {
		urls = append(urls, slices.DeleteFunc(slices.Clone(s.URLs), func(u string) bool { return !strings.HasPrefix(u, "turns:") })...)
	}
	return urls
}
