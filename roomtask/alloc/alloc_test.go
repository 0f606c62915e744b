package alloc

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func simulcast(active ...bool) []Layer {
	l := []Layer{
		{Width: 320, Height: 180, Bps: [MaxTemporal]int64{150_000}},
		{Width: 640, Height: 360, Bps: [MaxTemporal]int64{500_000}},
		{Width: 1280, Height: 720, Bps: [MaxTemporal]int64{1_700_000}},
	}
	for i := range l {
		l[i].Active = len(active) == 0 || active[i]
	}
	return l
}

func unknown(l []Layer) []Layer {
	for i := range l {
		l[i].Width, l[i].Height = 0, 0
	}
	return l
}

func TestLayerFor(t *testing.T) {
	onlyLow := unknown(simulcast())
	onlyLow[0].Width, onlyLow[0].Height = 160, 90
	for _, c := range []struct {
		name   string
		layers []Layer
		w, h   int
		want   int
	}{
		{"hidden", simulcast(), 0, 0, None},
		{"negative is hidden", simulcast(), -1, -5, None},
		{"thumbnail", simulcast(), 160, 90, 0},
		{"exactly the lowest", simulcast(), 320, 180, 0},
		{"180 covers 225 at 80 %", simulcast(), 400, 225, 0},
		{"but not 226", simulcast(), 402, 226, 1},
		{"middle", simulcast(), 640, 360, 1},
		{"top", simulcast(), 1280, 720, 2},
		{"larger than all", simulcast(), 3840, 2160, 2},
		{"tall tile: the width decides", simulcast(), 400, 1080, 0},
		{"wide tile: the height decides", simulcast(), 1920, 200, 0},
		{"width alone", simulcast(), 640, 0, 1},
		{"height alone", simulcast(), 0, 720, 2},
		{"wanted is off, the next higher will do", simulcast(true, false, true), 640, 360, 2},
		{"top is off", simulcast(true, true, false), 1280, 720, 1},
		{"low is off", simulcast(false, true, true), 100, 50, 1},
		{"nothing comes", simulcast(false, false, false), 640, 360, None},
		{"no layers", nil, 640, 360, None},
		{"sizes unknown: a 720p camera is assumed", unknown(simulcast()), 640, 360, 1},
		{"sizes unknown, thumbnail", unknown(simulcast()), 160, 90, 0},
		{"one size known: the others follow", onlyLow, 640, 360, 2},
		{"single layer", []Layer{{Active: true}}, 160, 90, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := LayerFor(c.layers, c.w, c.h); got != c.want {
				t.Errorf("LayerFor(%dx%d) = %d, want %d", c.w, c.h, got, c.want)
			}
		})
	}
}

// TestFirstGrantsHold checks what must be true for any demands: the budget is kept, a
// grant is an active layer no larger than wanted, a reason is given exactly when
// there is none, nothing is raised while something as important lacks its minimum,
// and the answer does not depend on anything but the calls.
func TestFirstGrantsHold(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 11))
	for round := range 1500 {
		in := Input{Estimate: r.Int64N(8_000_000), Demands: randomDemands(r)}
		in.Audio.Bps = r.Int64N(300_000)
		in.Audio.Top = in.Audio.Bps / 2
		var a, b Allocator
		got := a.Allocate(second, &in)
		if err := checkGrants(&in, got); err != nil {
			t.Fatalf("round %d: %+v\n%+v: %v", round, in, got, err)
		}
		if diff := cmp.Diff(got, b.Allocate(second, &in)); diff != "" {
			t.Fatalf("round %d: second answer differs: %s", round, diff)
		}
	}
}

func randomDemands(r *rand.Rand) []Demand {
	demands := make([]Demand, r.IntN(12))
	for i := range demands {
		layers := make([]Layer, 1+r.IntN(3))
		for j := range layers {
			layers[j] = Layer{Active: r.IntN(4) > 0, Width: 160 << j, Height: 90 << j, TIDs: r.IntN(5)}
			layers[j].Bps[layers[j].tids()-1] = int64(100_000*(j+1)*(j+1)) + r.Int64N(50_000)
		}
		demands[i] = Demand{ID: int64(i), Class: Class(r.IntN(int(numClasses))), Layers: layers, Width: r.IntN(1300), Height: r.IntN(800)}
	}
	return demands
}

func checkGrants(in *Input, res Result) error {
	cost := in.Audio.bps(res.Audio)
	short := numClasses
	for i, g := range res.Grants {
		d := in.Demands[i]
		wanted := LayerFor(d.Layers, d.Width, d.Height)
		if g.Layer != None {
			cost += Bps(d.Layers, g.Layer, g.TID)
			if !d.Layers[g.Layer].Active || g.Layer > wanted {
				return fmt.Errorf("demand %d: layer %d, wanted %d", i, g.Layer, wanted)
			}
			if res.Audio != AudioFull {
				return fmt.Errorf("demand %d is sent while audio is cut short", i)
			}
		}
		if (g.Layer == None) != (g.Reason != "") {
			return fmt.Errorf("demand %d: layer %d with reason %q", i, g.Layer, g.Reason)
		}
		if g.Reason == ReasonBandwidth {
			short = min(short, d.Class)
		}
	}
	if cost > max(budget(in.Estimate), in.Audio.Top) || cost != res.UsedBps {
		return fmt.Errorf("cost %d of %d, said to be %d", cost, budget(in.Estimate), res.UsedBps)
	}
	for i, g := range res.Grants {
		if g.Layer == None {
			continue
		}
		d := in.Demands[i]
		low := nextActive(d.Layers, None)
		raised := g.Layer > low || (g.TID > 0 && d.Layers[low].tids() > 1)
		if d.Class > short || (d.Class == short && raised) {
			return fmt.Errorf("demand %d of class %d has layer %d while class %d lacks a minimum", i, d.Class, g.Layer, short)
		}
	}
	return nil
}

// TestWithheld gives a wide path a task that has time for a share of what is wanted.
func TestWithheld(t *testing.T) {
	demands := []Demand{
		{ID: 1, Class: Speaker, Layers: simulcast(), Width: 640, Height: 360},
		{ID: 2, Class: Other, Layers: simulcast(), Width: 320, Height: 180},
		{ID: 3, Class: Other, Layers: simulcast(), Width: 320, Height: 180},
	}
	audio := Audio{Bps: 120_000, RED: 40_000, Top: 90_000}
	for _, c := range []struct {
		name     string
		withheld float64
		estimate int64
		layers   []int
		reason   string
		mode     AudioMode
	}{
		{"nothing", 0, Unlimited, []int{1, 0, 0}, "", AudioFull},
		{"a third", 0.34, Unlimited, []int{0, 0, 0}, "", AudioFull}, // 528 of 800 kbit/s
		{"two thirds", 0.66, Unlimited, []int{0, 0, None}, ReasonOverload, AudioFull},
		{"all pictures", 1, Unlimited, []int{None, None, None}, ReasonOverload, AudioFull},
		{"sound too", 2, Unlimited, []int{None, None, None}, ReasonOverload, AudioTop},
		{"two thirds, and a path that carries less", 0.66, 400_000, []int{0, None, None}, ReasonBandwidth, AudioFull},
		{"two thirds, and a path that carries more", 0.66, 900_000, []int{0, 0, None}, ReasonOverload, AudioFull},
	} {
		var a Allocator
		in := Input{Estimate: c.estimate, Withheld: c.withheld, Audio: audio, Demands: demands}
		var r Result
		for now := range 100 { // 20 s
			r = a.Allocate(int64(now)*200*ms, &in)
		}
		reason := ""
		for i, g := range r.Grants {
			if g.Layer != c.layers[i] {
				t.Errorf("%s: layer %d of demand %d, want %d", c.name, g.Layer, i, c.layers[i])
			}
			if g.Reason != "" {
				reason = g.Reason
			}
		}
		if reason != c.reason || r.Audio != c.mode {
			t.Errorf("%s: paused for %q, audio %v, want %q, %v", c.name, reason, r.Audio, c.reason, c.mode)
		}
		if c.reason == ReasonOverload && r.StepBps != 0 {
			t.Errorf("%s: the path is probed for %d bit/s", c.name, r.StepBps)
		}
	}
}
