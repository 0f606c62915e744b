package shape

import (
	"fmt"
	"reflect"
	"testing"
)

func TestResolve(t *testing.T) {
	for _, tt := range []struct {
		name         string
		participants int
		media        string
		want         string
	}{
		{Auto, 1, Video, "s"},
		{Auto, 2, Video, "s"},
		{Auto, 22, Video, "s"},
		{Auto, 25, Video, "m"},
		{Auto, 46, Video, "l"},
		{Auto, 100, Video, "xl"},
		{Auto, 250, Video, "xl"}, // the largest there is
		{Auto, 25, Audio, "s"},
		{Auto, 100, Audio, "m"},
		{Auto, 250, Audio, "l"},
		{Auto, 25, "", "m"},
		{"", 2, Video, "s"},
		{"xl", 2, Audio, "xl"},
	} {
		if got := Resolve(tt.name, tt.participants, tt.media); got != tt.want {
			cpu, memory := Load(tt.participants, tt.media)
			t.Errorf("%q for %d with %q: %s, want %s (%d units, %d MiB)", tt.name, tt.participants, tt.media, got, tt.want, cpu, memory)
		}
	}
	for n := range 250 { // more people never make a task smaller
		for _, media := range []string{Video, Audio} {
			small, large := Of(Resolve(Auto, n, media)), Of(Resolve(Auto, n+1, media))
			if large.CPU < small.CPU || large.Memory < small.Memory {
				t.Errorf("%s: %d participants get %+v, one more %+v", media, n, small, large)
			}
		}
	}
}

// fargate is what Fargate offers of memory, in MiB, with so many CPU units: from, to,
// and in which steps.
var fargate = map[int][3]int{
	256: {512, 2048, 512}, 512: {1024, 4096, 1024}, 1024: {2048, 8192, 1024}, 2048: {4096, 16384, 1024},
	4096: {8192, 30720, 1024}, 8192: {16384, 61440, 4096}, 16384: {32768, 122880, 8192},
}

func TestEverySizeIsOffered(t *testing.T) {
	for _, s := range sizes {
		offer, ok := fargate[s.cpu]
		if !ok || s.memory < offer[0] || s.memory > offer[1] || (s.memory-offer[0])%offer[2] != 0 {
			t.Errorf("%s: Fargate has no task of %d units and %d MiB", s.name, s.cpu, s.memory)
		}
		if !Known(s.name) {
			t.Errorf("%s is not known", s.name)
		}
	}
	for _, name := range []string{"", "xxl", "M", " m"} {
		if Known(name) {
			t.Errorf("%q is known", name)
		}
	}
}

func TestPlan(t *testing.T) {
	m, l, xl := Shape{CPU: 1024, Memory: 2048}, Shape{CPU: 2048, Memory: 4096}, Shape{CPU: 4096, Memory: 8192}
	zone := func(s Shape, n int) Shape { s.Zone = n; return s }
	spot := func(s Shape) Shape { s.Spot = true; return s }
	for _, tt := range []struct {
		size  string
		spot  bool
		zones int
		want  []Shape
	}{
		{"m", false, 3, []Shape{m, zone(m, 1), zone(m, 2), zone(m, 3), l}},
		{"m", true, 2, []Shape{spot(m), m, zone(m, 1), zone(m, 2), l}},
		{"m", true, 1, []Shape{spot(m), m, l}},
		{"xl", false, 2, []Shape{xl, zone(xl, 1), zone(xl, 2)}},
		{"", false, 0, []Shape{{}}},
		{"", true, 2, []Shape{{Spot: true}, {}, {Zone: 1}, {Zone: 2}}},
	} {
		got := Plan(tt.size, tt.spot, tt.zones)
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q spot %v over %d zones: %+v, want %+v", tt.size, tt.spot, tt.zones, got, tt.want)
		}
		for i := range 3 * len(got) {
			if At(got, i) != got[i%len(got)] {
				t.Errorf("attempt %d is %+v", i, At(got, i))
			}
		}
	}
}

func TestRevisions(t *testing.T) {
	r := Revisions{Stable: "41", Canary: "42", Percent: 10}
	canaries := 0
	for i := range 10_000 {
		room := fmt.Sprintf("room_01JDN%021d", i)
		got := r.Of(room, "")
		if again := r.Of(room, ""); again != got || got != "41" && got != "42" {
			t.Fatalf("%s: %s, then %s", room, got, again)
		}
		if got == "42" {
			canaries++
		}
		if asked := r.Of(room, "7"); asked != "7" {
			t.Fatalf("asked for 7, got %s", asked)
		}
		if none := (Revisions{Stable: "41", Canary: "42"}).Of(room, ""); none != "41" {
			t.Fatalf("without a share: %s", none)
		}
		if all := (Revisions{Stable: "41", Canary: "42", Percent: 100}).Of(room, ""); all != "42" {
			t.Fatalf("with all of it: %s", all)
		}
	}
	if canaries < 800 || canaries > 1200 {
		t.Errorf("%d canaries of 10,000 at 10 %%", canaries)
	}
}
