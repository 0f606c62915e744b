package room

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mayfly/shared/signal"
)

var show = cmp.AllowUnexported(plan{})

func person(id string, kinds ...string) occupant {
	o := occupant{id, map[string]bool{}}
	for _, k := range kinds {
		o.kinds[k] = false
	}
	return o
}

func want(source string, w, h int) signal.Want {
	return signal.Want{Source: source, Width: w, Height: h}
}

func TestSeating(t *testing.T) {
	const mic, camera, screen, sound = signal.KindMic, signal.KindCamera, signal.KindScreen, signal.KindScreenAudio
	ann, bob, cat := person("ann", mic, camera), person("bob", mic, camera, screen, sound), person("cat", mic)
	dan := person("dan", mic, camera)
	muted := person("mut", mic, camera)
	muted.kinds[mic], muted.kinds[camera] = true, true
	for _, c := range []struct {
		name    string
		seats   []int
		wants   []signal.Want
		rest    *signal.Size
		others  []occupant
		loudest []string
		ears    []string
		prev    map[int]plan
		next    map[int]plan
	}{
		{
			name: "nobody else", seats: []int{0, 1}, wants: []signal.Want{want("ann/camera", 1, 1)},
			next: map[int]plan{},
		},
		{
			name: "a camera brings its microphone, the rest is audio only", seats: []int{0, 1, 2},
			wants: []signal.Want{want("ann/camera", 640, 360)}, others: []occupant{ann, cat},
			next: map[int]plan{0: {participant: "ann", video: camera, audio: mic, width: 640, height: 360}, 1: {participant: "cat", audio: mic}},
		},
		{
			name: "a screen brings its sound; the sharer's voice needs a seat of its own", seats: []int{0, 1, 2},
			wants: []signal.Want{want("bob/screen", 1280, 720)}, others: []occupant{bob},
			next: map[int]plan{0: {participant: "bob", video: screen, audio: sound, width: 1280, height: 720}, 1: {participant: "bob", audio: mic}},
		},
		{
			name: "camera and screen of one person", seats: []int{0, 1, 2},
			wants: []signal.Want{want("bob/screen", 1280, 720), want("bob/camera", 160, 90)}, others: []occupant{bob},
			next: map[int]plan{0: {participant: "bob", video: screen, audio: sound, width: 1280, height: 720}, 1: {participant: "bob", video: camera, audio: mic, width: 160, height: 90}},
		},
		{
			name: "more wanted than seats", seats: []int{0},
			wants: []signal.Want{want("ann/camera", 1, 1), want("bob/camera", 1, 1)}, others: []occupant{ann, bob},
			next: map[int]plan{0: {participant: "ann", video: camera, audio: mic, width: 1, height: 1}},
		},
		{
			name: "loudest first when seats are short", seats: []int{0}, others: []occupant{ann, bob, cat}, loudest: []string{"cat", "bob"},
			next: map[int]plan{0: {participant: "cat", audio: mic}},
		},
		{
			name: "whom this viewer should hear before the loudest of all", seats: []int{0, 1}, others: []occupant{ann, bob, cat}, loudest: []string{"ann"}, ears: []string{"cat", "bob"},
			next: map[int]plan{0: {participant: "cat", audio: mic}, 1: {participant: "bob", audio: mic}},
		},
		{
			name: "a muted microphone takes no seat of its own", seats: []int{0, 1}, others: []occupant{muted, cat},
			next: map[int]plan{0: {participant: "cat", audio: mic}},
		},
		{
			name: "unknown, doubled and audio wants are passed over", seats: []int{0, 1},
			wants:  []signal.Want{want("eve/camera", 1, 1), want("ann", 1, 1), want("ann/mic", 1, 1), want("ann/camera", 2, 2), want("ann/camera", 3, 3), want("/camera", 1, 1)},
			others: []occupant{ann},
			next:   map[int]plan{0: {participant: "ann", video: camera, audio: mic, width: 2, height: 2}},
		},
		{
			name: "who sits stays, whatever the order of the view", seats: []int{0, 1},
			wants: []signal.Want{want("bob/camera", 9, 9), want("ann/camera", 8, 8)}, others: []occupant{ann, bob},
			prev: map[int]plan{0: {participant: "ann", video: camera, audio: mic, width: 1, height: 1}},
			next: map[int]plan{0: {participant: "ann", video: camera, audio: mic, width: 8, height: 8}, 1: {participant: "bob", video: camera, audio: mic, width: 9, height: 9}},
		},
		{
			name: "pictures that are not listed, after those that are: screens, then the loudest, then by joining", seats: []int{0, 1, 2},
			wants: []signal.Want{want("ann/camera", 9, 9)}, rest: &signal.Size{Width: 64, Height: 36}, others: []occupant{dan, ann, bob}, loudest: []string{"bob"},
			next: map[int]plan{
				0: {participant: "ann", video: camera, audio: mic, width: 9, height: 9},
				1: {participant: "bob", video: screen, audio: sound, width: 64, height: 36},
				2: {participant: "bob", video: camera, audio: mic, width: 64, height: 36},
			},
		},
		{
			name: "who is shown without being listed stays", seats: []int{0}, rest: &signal.Size{Width: 64, Height: 36}, others: []occupant{dan, ann},
			prev: map[int]plan{0: {participant: "ann", video: camera, audio: mic, width: 64, height: 36}},
			next: map[int]plan{0: {participant: "ann", video: camera, audio: mic, width: 64, height: 36}},
		},
		{
			name: "whose camera is off is heard, not shown", seats: []int{0, 1}, rest: &signal.Size{Width: 64, Height: 36}, others: []occupant{muted, cat, dan},
			next: map[int]plan{0: {participant: "dan", video: camera, audio: mic, width: 64, height: 36}, 1: {participant: "cat", audio: mic}},
		},
		{
			name: "a freed seat goes to the next one wanted", seats: []int{0, 1},
			wants: []signal.Want{want("bob/camera", 9, 9)}, others: []occupant{bob},
			prev: map[int]plan{0: {participant: "ann", video: camera, audio: mic}},
			next: map[int]plan{0: {participant: "bob", video: camera, audio: mic, width: 9, height: 9}, 1: {participant: "bob", audio: sound}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.next, seat(c.seats, signal.View{Wants: c.wants, Others: c.rest}, c.others, c.loudest, c.ears, c.prev), show); d != "" {
				t.Error(d)
			}
		})
	}
}

// Whatever happens: no source sits twice, nobody unknown sits, every seat is one of
// the viewer's, and the result is stable when nothing changes.
func TestSeatingProperties(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	kinds := []string{signal.KindMic, signal.KindCamera, signal.KindScreen, signal.KindScreenAudio}
	prev := map[int]plan{}
	for step := range 5000 {
		var others []occupant
		var wants []signal.Want
		var loudest []string
		for i := range rng.IntN(6) {
			o := occupant{fmt.Sprint("p", i), map[string]bool{}}
			for _, k := range kinds {
				if rng.IntN(3) > 0 {
					o.kinds[k] = rng.IntN(4) == 0
				}
			}
			others = append(others, o)
		}
		for range rng.IntN(8) {
			id := fmt.Sprint("p", rng.IntN(7))
			wants = append(wants, want(id+"/"+kinds[rng.IntN(4)], rng.IntN(100), rng.IntN(100)))
			loudest = append(loudest, id)
		}
		view := signal.View{Wants: wants}
		if rng.IntN(2) == 0 {
			view.Others = &signal.Size{Width: rng.IntN(2), Height: 36}
		}
		seats := []int{0, 1, 2, 5, 9}[:rng.IntN(6)]
		next := seat(seats, view, others, loudest, nil, prev)
		sits := map[string]bool{}
		for n, p := range next {
			known := false
			for _, s := range seats {
				known = known || s == n
			}
			for _, kind := range []string{p.video, p.audio} {
				if kind == "" {
					continue
				}
				if sits[p.participant+kind] {
					t.Fatalf("step %d: %s/%s sits twice: %+v", step, p.participant, kind, next)
				}
				sits[p.participant+kind] = true
			}
			if !known || p.video == "" && p.audio == "" {
				t.Fatalf("step %d: seat %d of %v: %+v", step, n, seats, p)
			}
		}
		if again := seat(seats, view, others, loudest, nil, next); !cmp.Equal(next, again, show) {
			t.Fatalf("step %d: not stable: %s", step, cmp.Diff(next, again, show))
		}
		prev = next
	}
}
