package robot_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"mayfly/shared/signal"
	"mayfly/test/nettest"
	"mayfly/test/robot"
	"mayfly/test/system"
)

func TestMain(m *testing.M) { system.Main(m) }

// TestRobotsInACall: three layers published, one watched at each of two sizes, one of
// the viewers behind a link that loses packets; everything is repaired and decodable.
func TestRobotsInACall(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the whole system")
	}
	s := system.Start(t)
	room := s.Create([]string{"ann", "large", "small"}, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	join := func(i int, cfg robot.Config) *robot.Robot {
		t.Helper()
		cfg.WS, cfg.Ticket = s.WS, room.Participants[i].Ticket
		r, err := robot.Join(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Vanish() })
		return r
	}
	ann := join(0, robot.Config{Camera: robot.Layers})
	ann.Speak(true)
	camera := ann.Joined.Participant + "/camera"
	var relay *nettest.Relay
	lossy := func(sdp string) (string, error) {
		return nettest.Through(sdp, func(target netip.AddrPort) (netip.AddrPort, error) {
			var err error
			relay, err = nettest.Open(nettest.Config{
				Listen: netip.MustParseAddrPort("127.0.0.1:0"), Target: target, Seed: 1, Down: nettest.Settings{Loss: 0.03},
			})
			if err != nil {
				return netip.AddrPort{}, err
			}
			return relay.Addr(), nil
		})
	}
	large := join(1, robot.Config{Mute: true, RED: true, View: []signal.Want{{Source: camera, Width: 1280, Height: 720}}, Answer: lossy})
	t.Cleanup(func() { relay.Close() })
	small := join(2, robot.Config{Mute: true, View: []signal.Want{{Source: camera, Width: 320, Height: 180}}})

	// video is the picture of whichever seat has one.
	video := func(r *robot.Robot) (v robot.Stream) {
		seats, _, _ := r.Report()
		for _, seat := range seats {
			if seat.Video.Packets > v.Packets {
				v = seat.Video
			}
		}
		return v
	}
	system.Until(t, 15*time.Second, "two sizes of one camera", func() bool {
		l, m := video(large), video(small)
		return l.Width == 1280 && l.Frames > 100 && m.Width == 320 && m.Frames > 100
	})
	v := video(large)
	if v.Missed == 0 || v.Repaired == 0 || v.Lost > v.Missed/10 {
		t.Errorf("lossy viewer: %+v", v)
	}
	if v := video(small); v.Missed != 0 || v.Lost != 0 || v.Duplicates != 0 {
		t.Errorf("clean viewer: %+v", v)
	}
	seats, audio, latency := small.Report()
	if audio.Count() < 50 || latency.Count() < 100 || latency.Quantile(0.5) <= 0 || latency.Quantile(0.5) > int64(time.Second) {
		t.Errorf("%d times of sound, %d of pictures, p50 %v", audio.Count(), latency.Count(), time.Duration(latency.Quantile(0.5)))
	}
	if seats[0].Audio.Lost != 0 || seats[0].Audio.Packets < 50 {
		t.Errorf("sound: %+v", seats[0].Audio)
	}
	t.Logf("p50 %v, p99 %v", time.Duration(latency.Quantile(0.5)), time.Duration(latency.Quantile(0.99)))
	if err := small.Leave(); err != nil {
		t.Error(err)
	}
}
