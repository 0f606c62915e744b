package room

import (
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/shared/signal"
)

// TestNamelessRelayIsNamedLater: a room whose registration brought no name asks with each
// heartbeat until it is told, and then tells everybody at once of the servers by TLS.
func TestNamelessRelayIsNamedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		name := "" // owned by the room's loop
		w := newWorld(t, func(c *Config) {
			c.Named = func() bool { return name != "" }
			c.Renewed = func(m signal.Registered) { name = m.RelayTLS.Name }
			c.Servers = func(string) []signal.ICEServer {
				return []signal.ICEServer{{URLs: []string{"turns:" + name}}}
			}
		})
		w.register()
		w.join("a", 1)
		w.open("a")
		asks := func() (nameless []bool) {
			w.sleep(30 * time.Second)
			for _, f := range w.take(signal.LinkHeartbeat) {
				var h signal.Heartbeat
				if err := json.Unmarshal(f.Body, &h); err != nil {
					t.Fatal(err)
				}
				nameless = append(nameless, h.Nameless)
			}
			return nameless
		}
		if said := asks(); len(said) < 3 || said[0] != true || said[len(said)-1] != true {
			t.Errorf("without a name the heartbeats say %v", said)
		}
		if n := w.media["a"].count(signal.TypeServers); n != 0 {
			t.Errorf("told of the servers %d times for no reason", n)
		}
		w.frame(signal.LinkAck, signal.Ack{Seq: 1, RelayTLS: &signal.RelayTLS{Name: "x.relay.example"}})
		w.sleep(2 * time.Second)
		if got := last[signal.Servers](t, w.media["a"], signal.TypeServers); got.ICEServers[0].URLs[0] != "turns:x.relay.example" {
			t.Errorf("told %+v", got)
		}
		w.take(signal.LinkHeartbeat)
		if said := asks(); len(said) < 2 || said[len(said)-1] != false {
			t.Errorf("with a name the heartbeats say %v", said)
		}
		w.finish()
	})
}

// A handshake without a certificate fails, and does not fault.
func TestNamelessRelayRefusesTLS(t *testing.T) {
	f := &Peers{Log: slogDiscard}
	f.Renewed(signal.Registered{})
	f.Renewed(signal.Registered{RelayTLS: &signal.RelayTLS{Name: "x", Chain: "no PEM", Key: "no PEM"}})
	if _, err := f.relayCertificate(nil); !errors.Is(err, errNameless) || f.Named() {
		t.Errorf("%v, named %v", err, f.Named())
	}
}
