package robot_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"mayfly/test/nettest"
	"mayfly/test/robot"
	"mayfly/test/system"
)

// TestRebind: the NAT in front of a robot forgets its ports in the middle of a call, and
// media comes back both ways without another join.
func TestRebind(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the whole system")
	}
	s := system.Start(t)
	room := s.Create([]string{"ann", "bob"}, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	relays := map[netip.AddrPort]*nettest.Relay{}
	behind := func(sdp string) (string, error) {
		return nettest.Through(sdp, func(target netip.AddrPort) (netip.AddrPort, error) {
			if r := relays[target]; r != nil {
				return r.Addr(), nil
			}
			r, err := nettest.Open(nettest.Config{Listen: netip.MustParseAddrPort("127.0.0.1:0"), Target: target})
			if err != nil {
				return netip.AddrPort{}, err
			}
			relays[target] = r
			t.Cleanup(func() { r.Close() })
			return r.Addr(), nil
		})
	}
	join := func(i int, answer func(string) (string, error)) *robot.Robot {
		t.Helper()
		r, err := robot.Join(ctx, robot.Config{WS: s.WS, Ticket: room.Participants[i].Ticket, Answer: answer})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Vanish() })
		return r
	}
	ann, bob := join(0, nil), join(1, behind)
	comes := func(what string) {
		t.Helper()
		a, _ := ann.Received()
		b, _ := bob.Received()
		system.Until(t, 20*time.Second, what, func() bool {
			nowA, _ := ann.Received()
			nowB, _ := bob.Received()
			return nowA > a+20 && nowB > b+20
		})
	}
	comes("media both ways")
	keep, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); bob.Keep(keep, s.WS) }()
	for _, r := range relays {
		if err := r.Rebind(); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	comes("media both ways again")
	t.Logf("back after %v", time.Since(began))
	stop()
	<-ended
}
