package alloc

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func simulcast(active ...bool) []Layer {
	l := []Layer{
		{Width: 320, Height: 180, Bps: 150_000},
		{Width: 640, Height: 360, Bps: 500_000},
		{Width: 1280, Height: 720, Bps: 1_700_000},
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

func TestAllocate(t *testing.T) {
	big := func(c Class) Demand { return Demand{c, simulcast(), 1280, 720} }
	for _, c := range []struct {
		name          string
		budget, audio int64
		demands       []Demand
		want          []Grant
	}{
		{"no limit: by size alone", Unlimited, 1e9, []Demand{big(Other), {Other, simulcast(), 320, 180}, {Screen, simulcast(), 0, 0}, {Speaker, simulcast(false, false, false), 640, 360}},
			[]Grant{{Layer: 2}, {Layer: 0}, {None, ReasonHidden}, {None, ReasonMuted}}},
		{"exactly the minimum", 150_000, 0, []Demand{big(Other)}, []Grant{{Layer: 0}}},
		{"one bit short", 149_999, 0, []Demand{big(Other)}, []Grant{{None, ReasonBandwidth}}},
		{"audio is paid first", 150_000, 1, []Demand{big(Other)}, []Grant{{None, ReasonBandwidth}}},
		{"audio alone does not fit", 10_000, 80_000, []Demand{big(Screen)}, []Grant{{None, ReasonBandwidth}}},
		{"the screen before a face, whatever the order", 200_000, 0, []Demand{big(Other), big(Screen)},
			[]Grant{{None, ReasonBandwidth}, {Layer: 0}}},
		{"every minimum before any raise", 320_000, 0, []Demand{big(Speaker), big(Other)}, []Grant{{Layer: 0}, {Layer: 0}}},
		{"the speaker is raised first", 150_000 + 500_000, 0, []Demand{big(Other), big(Speaker)}, []Grant{{Layer: 0}, {Layer: 1}}},
		{"raises are shared within a class", 1_000_000, 0, []Demand{big(Other), big(Other)}, []Grant{{Layer: 1}, {Layer: 1}}},
		{"a class that lacks a minimum pauses the one below", 310_000, 0,
			[]Demand{big(Speaker), big(Speaker), big(Speaker), big(Other)},
			[]Grant{{Layer: 0}, {Layer: 0}, {None, ReasonBandwidth}, {None, ReasonBandwidth}}},
		{"an inactive layer is stepped over", 1_700_000, 0, []Demand{{Other, simulcast(true, false, true), 1280, 720}}, []Grant{{Layer: 2}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, Allocate(c.budget, c.audio, c.demands, nil)); diff != "" {
				t.Errorf("grants (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAllocateHolds checks what must be true for any demands: the budget is kept, a
// grant is an active layer no larger than wanted, a reason is given exactly when
// there is none, nothing is raised while something as important lacks its minimum,
// and the answer does not depend on anything but the arguments.
func TestAllocateHolds(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 11))
	for round := range 1500 {
		demands := randomDemands(r)
		budget, audio := r.Int64N(8_000_000), r.Int64N(300_000)
		got := Allocate(budget, audio, demands, nil)
		if err := checkGrants(budget, audio, demands, got); err != nil {
			t.Fatalf("round %d: budget %d, audio %d, demands %+v\ngrants %+v: %v", round, budget, audio, demands, got, err)
		}
		if diff := cmp.Diff(got, Allocate(budget, audio, demands, nil)); diff != "" {
			t.Fatalf("round %d: second answer differs: %s", round, diff)
		}
	}
}

func randomDemands(r *rand.Rand) []Demand {
	demands := make([]Demand, r.IntN(12))
	for i := range demands {
		layers := make([]Layer, 1+r.IntN(3))
		for j := range layers {
			layers[j] = Layer{Active: r.IntN(4) > 0, Width: 160 << j, Height: 90 << j, Bps: int64(100_000*(j+1)*(j+1)) + r.Int64N(50_000)}
		}
		demands[i] = Demand{Class: Class(r.IntN(int(numClasses))), Layers: layers, Width: r.IntN(1300), Height: r.IntN(800)}
	}
	return demands
}

func checkGrants(budget, audio int64, demands []Demand, got []Grant) error {
	var cost int64
	short := numClasses
	for i, g := range got {
		d := demands[i]
		wanted := LayerFor(d.Layers, d.Width, d.Height)
		if g.Layer != None {
			cost += Bps(d.Layers, g.Layer)
			if !d.Layers[g.Layer].Active || g.Layer > wanted {
				return fmt.Errorf("demand %d: layer %d, wanted %d", i, g.Layer, wanted)
			}
		}
		if (g.Layer == None) != (g.Reason != "") {
			return fmt.Errorf("demand %d: layer %d with reason %q", i, g.Layer, g.Reason)
		}
		if g.Reason == ReasonBandwidth {
			short = min(short, d.Class)
		}
	}
	if cost > max(0, budget-audio) {
		return fmt.Errorf("cost %d over budget", cost)
	}
	for i, g := range got {
		if g.Layer == None {
			continue
		}
		if c := demands[i].Class; c > short || (c == short && g.Layer > lowest(demands[i].Layers)) {
			return fmt.Errorf("demand %d of class %d has layer %d while class %d lacks a minimum", i, c, g.Layer, short)
		}
	}
	return nil
}
