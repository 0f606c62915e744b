package room

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"mayfly/shared/signal"
)

func TestLayersFor(t *testing.T) {
	camera := []Layer{{RID: "q", Width: 320, Height: 180}, {RID: "h", Width: 640, Height: 360}, {RID: "f", Width: 1280, Height: 720}}
	resting := slices.Clone(camera) // nothing comes, and nothing is known yet
	for i := range resting {
		resting[i].Width, resting[i].Height = 0, 0
	}
	for _, c := range []struct {
		name          string
		layers        []Layer
		width, height int
		want          int
	}{
		{"hidden", camera, 0, 0, 0},
		{"a thumbnail", camera, 160, 90, 1},
		{"a tile", camera, 640, 360, 2},
		{"a little more than a layer shows", camera, 700, 394, 2},
		{"the stage", camera, 1280, 720, 3},
		{"more than there is", camera, 3840, 2160, 3},
		{"before the first keyframe, a 720p camera is assumed", resting, 640, 360, 2},
		{"one layer", camera[:1], 1280, 720, 1},
		{"no source", nil, 1280, 720, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := layersFor(c.layers, c.width, c.height); got != c.want {
				t.Errorf("%d layers, want %d", got, c.want)
			}
		})
	}
}

// Each line is a wish at a time, and what is to be sent then.
func TestOutlet(t *testing.T) {
	type at struct {
		ms           int
		wanted, send int
	}
	for _, c := range []struct {
		name  string
		count int
		steps []at
	}{
		{"a new source is sent until nobody can want it any more", 3, []at{{0, 0, 3}, {1999, 0, 3}, {2000, 0, 1}, {4999, 0, 1}, {5000, 0, 0}, {60_000, 0, 0}}},
		{"up at once, from any state", 3, []at{{5000, 0, 0}, {5001, 3, 3}, {7100, 0, 1}, {7101, 2, 2}}},
		{"down after two seconds", 3, []at{{0, 3, 3}, {100, 1, 3}, {1999, 1, 3}, {2000, 1, 1}}},
		{"down to the most of the last two seconds", 3, []at{{0, 3, 3}, {500, 2, 3}, {1900, 1, 3}, {2000, 1, 2}, {2499, 1, 2}, {2500, 1, 1}}},
		{"a look away for less than the wait changes nothing", 3, []at{{0, 3, 3}, {1000, 1, 3}, {1900, 3, 3}, {3800, 1, 3}, {3899, 1, 3}, {3900, 1, 1}}},
		{"a wish for all of it, every two seconds, never lets it go", 2, []at{{0, 2, 2}, {1900, 0, 2}, {1990, 2, 2}, {3900, 0, 2}, {3980, 2, 2}}},
		{"a screen has one layer, and waits five seconds", 1, []at{{0, 1, 1}, {4999, 0, 1}, {5000, 0, 0}, {5100, 1, 1}}},
		{"more than there is", 1, []at{{0, 3, 1}, {100, 3, 1}}},
		{"no layers", 0, []at{{0, 3, 0}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := time.Unix(1000, 0)
			o := newOutlet(c.count, start)
			for _, s := range c.steps {
				if got := o.step(start.Add(time.Duration(s.ms)*time.Millisecond), s.wanted); got != s.send {
					t.Errorf("at %d ms, %d wanted: %d sent, want %d", s.ms, s.wanted, got, s.send)
				}
			}
		})
	}
}

// published tells what a participant was last told to publish of a camera.
func publishes(t *testing.T, m *fakeMedia) (all []signal.Publish) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.sent {
		if f.Type == signal.TypePublish {
			var p signal.Publish
			if err := signal.DecodeStrict(f, &p); err != nil {
				t.Fatal(err)
			}
			all = append(all, p)
		}
	}
	m.sent = nil
	return all
}

func TestLayersThatNobodyWantsAreNotPublished(t *testing.T) {
	const camera = signal.KindCamera
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.join("ann", 1)
		w.open("ann")
		ann := w.media["ann"]
		expect := func(what string, want ...signal.Publish) {
			t.Helper()
			if diff := cmp.Diff(want, publishes(t, ann)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		all := signal.Publish{Kind: camera, Layers: 3, Rids: []string{"q", "h", "f"}}
		low := signal.Publish{Kind: camera, Layers: 1, Rids: []string{"q"}}
		none := signal.Publish{Kind: camera}

		w.sleep(10 * time.Second)
		expect("nobody is there to look", low, none)

		c := w.client("bob", 1, []signal.Want{want("ann/camera", 1280, 720)})
		c.Session.JoinSeq = 2
		w.frame(signal.LinkClient, c)
		expect("the join itself wakes what it will look at", all)
		w.open("bob")
		w.sleep(10 * time.Second)
		expect("while it is looked at, nothing changes")

		w.data("bob", signal.TypeView, signal.View{Rev: 2, Wants: []signal.Want{want("ann/camera", 160, 90)}})
		expect("a smaller view waits")
		w.sleep(2100 * time.Millisecond)
		expect("and tells after two seconds", low)

		w.joins = 2
		w.join("cat", 1, want("ann/camera", 640, 360))
		w.open("cat")
		expect("a second viewer wants more, at once", signal.Publish{Kind: camera, Layers: 2, Rids: []string{"q", "h"}})
		w.data("cat", signal.TypeLeave, signal.Leave{})
		w.sleep(2100 * time.Millisecond)
		expect("and has left", low)

		w.data("bob", signal.TypeView, signal.View{Rev: 3, Wants: []signal.Want{want("ann/camera", 0, 0)}})
		w.sleep(4900 * time.Millisecond)
		expect("the last viewer hides, less than five seconds ago")
		w.sleep(200 * time.Millisecond)
		expect("and now", none)
		w.data("bob", signal.TypeView, signal.View{Rev: 4, Wants: []signal.Want{want("ann/camera", 160, 90)}})
		expect("a viewer comes back", low)
		w.finish()
	})
}

// What a publisher could not be told is told as soon as it can be.
func TestPublishWaitsForTheDataChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.join("ann", 1)
		w.sleep(10 * time.Second)
		if got := publishes(t, w.media["ann"]); len(got) != 0 {
			t.Fatalf("told without a channel: %+v", got)
		}
		w.open("ann")
		w.sleep(200 * time.Millisecond)
		if diff := cmp.Diff([]signal.Publish{{Kind: signal.KindCamera}}, publishes(t, w.media["ann"])); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		w.join("ann", 1) // anew: its client sends all layers, and the room knows
		w.open("ann")
		w.sleep(time.Second)
		if got := publishes(t, w.media["ann"]); len(got) != 0 {
			t.Errorf("told of the connection before: %+v", got)
		}
		w.finish()
	})
}
