package room

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"mayfly/shared/signal"
)

// line is a connection that carries full streams for as long as a test runs: each
// second 50 packets of sound and 150 of picture over each direction.
type line struct {
	m            *fakeMedia
	upLoss, loss float64
	audio, video int64
	layer        int
	paused       string
}

// run lets d pass, in steps short enough to look continuous.
func (w *world) run(d time.Duration, lines ...*line) {
	const step = 100 * time.Millisecond
	for ; d > 0; d -= step {
		for _, l := range lines {
			l.audio, l.video = l.audio+5, l.video+15
			l.m.mu.Lock()
			l.m.health = Health{
				RTT: 40 * time.Millisecond, Bps: 2_000_000, Loss: l.loss, Heard: l.audio, Transport: "udp",
				Up: []UpHealth{
					{Kind: signal.KindMic, Expected: l.audio, Received: int64(float64(l.audio) * (1 - l.upLoss))},
					{Kind: signal.KindCamera, Expected: l.video, Received: int64(float64(l.video) * (1 - l.upLoss))},
				},
				Down: []DownHealth{{Seat: 0, Audio: l.audio, Video: l.video, AudioLoss: l.loss, VideoLoss: l.loss, RED: 1, Layer: l.layer, Paused: l.paused}},
			}
			l.m.mu.Unlock()
		}
		w.sleep(step)
	}
}

// levels are those of all quality messages since the last call, without repetitions.
func levels(t *testing.T, m *fakeMedia, of func(signal.Quality) string) (out []string) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.sent {
		var q signal.Quality
		if f.Type != signal.TypeQuality {
			continue
		}
		if err := signal.DecodeStrict(f, &q); err != nil {
			t.Fatal(err)
		}
		if l := of(q); len(out) == 0 || out[len(out)-1] != l {
			out = append(out, l)
		}
	}
	m.sent = nil
	return out
}

func ownLevel(q signal.Quality) string { return q.Level }

func firstSeat(q signal.Quality) string {
	if len(q.Seats) == 0 {
		return "none"
	}
	if q.Seats[0].Far {
		return q.Seats[0].Level + ", far"
	}
	return q.Seats[0].Level
}

// called is a room in which bob looks at ann, both well connected.
func called(t *testing.T) (w *world, ann, bob *line) {
	w = newWorld(t)
	w.register()
	w.join("ann", 1)
	w.join("bob", 1, want("ann/camera", 640, 360))
	w.open("ann")
	w.open("bob")
	ann, bob = &line{m: w.media["ann"]}, &line{m: w.media["bob"], layer: 1}
	w.run(8*time.Second, ann, bob)
	return w, ann, bob
}

func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestQualityIsToldWhenItChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ann, bob := called(t)
		q := last[signal.Quality](t, bob.m, signal.TypeQuality)
		want := signal.Quality{
			Participant: "bob", Score: q.Score, Level: "excellent", Up: q.Up, Down: q.Down, RTTMS: 40, BandwidthKbps: 2000, Transport: "udp",
			Seats: []signal.SeatQuality{{Seat: 0, Level: "excellent"}},
		}
		if diff := cmp.Diff(want, q); diff != "" || q.Score < 95 || q.Score > q.Up || q.Score > q.Down {
			t.Errorf("a good connection (-want +got):\n%s\n%+v", diff, q)
		}
		levels(t, bob.m, ownLevel)
		bob.loss = 0.25
		w.run(3*time.Second, ann, bob)
		same(t, "falls with the next interval", levels(t, bob.m, ownLevel), "poor")
		if p := levels(t, ann.m, ownLevel); len(p) > 1 || len(p) == 1 && p[0] != "excellent" {
			t.Errorf("the publisher's own connection: %v", p)
		}
		bob.loss = 0
		w.run(6*time.Second, ann, bob)
		same(t, "climbs one level each interval", levels(t, bob.m, ownLevel), "good", "excellent")
		w.finish()
	})
}

func TestQualityOfTheOtherEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ann, bob := called(t)
		levels(t, ann.m, ownLevel)
		ann.upLoss = 0.3
		w.run(3*time.Second, ann, bob)
		same(t, "what ann sends is lost on its way", levels(t, ann.m, ownLevel), "poor")
		if seat := firstSeat(last[signal.Quality](t, bob.m, signal.TypeQuality)); seat != "poor, far" {
			t.Errorf("bob's seat: %s", seat)
		}
		same(t, "and bob's own connection is fine", levels(t, bob.m, ownLevel), "excellent")
		ann.upLoss = 0
		w.run(8*time.Second, ann, bob)
		levels(t, bob.m, ownLevel)

		w.media["ann"].post(Event{Kind: EventDisconnected})
		synctest.Wait()
		same(t, "ann's path is gone: told at once", levels(t, bob.m, firstSeat), "lost, far")
		w.media["ann"].post(Event{Kind: EventConnected})
		synctest.Wait()
		same(t, "and back", levels(t, bob.m, firstSeat), "excellent")
		w.finish()
	})
}

func TestQualityResetsWithMute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ann, bob := called(t)
		ann.upLoss = 0.3
		w.run(3*time.Second, ann, bob)
		ann.upLoss = 0
		w.data("ann", signal.TypeMute, signal.Mute{Kind: signal.KindMic, Muted: true})
		w.data("ann", signal.TypeMute, signal.Mute{Kind: signal.KindCamera, Muted: true})
		levels(t, ann.m, ownLevel)
		w.run(3*time.Second, ann, bob)
		same(t, "muted: nothing to complain of", levels(t, ann.m, ownLevel), "excellent")
		w.finish()
	})
}

func TestQualityOfAPictureBelowItsView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ann, bob := called(t)
		levels(t, bob.m, ownLevel)
		w.data("bob", signal.TypeView, signal.View{Rev: 2, Wants: []signal.Want{want("ann/camera", 1280, 720)}})
		w.run(2*time.Second, ann, bob)
		bob.layer = 2
		w.run(4*time.Second, ann, bob)
		same(t, "a larger layer may take a moment", levels(t, bob.m, ownLevel), "excellent")
		bob.layer = 1
		w.run(6*time.Second, ann, bob)
		same(t, "but not for long", levels(t, bob.m, ownLevel), "good")
		bob.layer, bob.paused = -1, "bandwidth"
		w.run(4*time.Second, ann, bob)
		same(t, "no picture at all", levels(t, bob.m, ownLevel), "poor")
		w.data("bob", signal.TypeView, signal.View{Rev: 3, Wants: []signal.Want{want("ann/camera", 0, 0)}})
		w.run(4*time.Second, ann, bob)
		same(t, "which is not looked at", levels(t, bob.m, ownLevel), "excellent")
		w.finish()
	})
}

func TestQualityWithoutAWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ann, bob := called(t)
		levels(t, bob.m, ownLevel)
		// Packets go out, and nothing comes back.
		w.run(2*time.Second, ann)
		for range 8 {
			bob.m.mu.Lock()
			bob.m.health.Down[0].Audio += 50
			bob.m.health.Down[0].Video += 150
			bob.m.mu.Unlock()
			w.run(time.Second, ann)
		}
		same(t, "nobody is there", levels(t, bob.m, ownLevel), "excellent", "lost")
		w.finish()
	})
}
