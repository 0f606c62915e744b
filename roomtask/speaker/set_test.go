package speaker

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// babble feeds n equally loud people who differ by a few dB from sample to sample.
type babble struct {
	d   *Detector
	rng *rand.Rand
	at  int64 // ms
}

// run lets d pass, with levels for those who are not at 30 ± 4 dB, and returns how often
// each set changed.
func (b *babble) run(ms_ int64, n int, levels map[string]uint8, choose ...func(now int64) bool) []int {
	changes := make([]int, len(choose))
	for end := b.at + ms_; b.at < end; b.at += 100 {
		for i := range n {
			id := fmt.Sprintf("p%02d", i)
			level, set := levels[id]
			if !set {
				level = uint8(26 + b.rng.IntN(9))
			}
			b.d.Update(id, level, false, b.at*ms)
		}
		b.d.Tick(b.at * ms)
		for i, c := range choose {
			if c(b.at * ms) {
				changes[i]++
			}
		}
	}
	return changes
}

// More talk than there are seats: who is heard stays so, for any number of seats.
func TestSetsDoNotFlap(t *testing.T) {
	b := &babble{d: New(3), rng: rand.New(rand.NewPCG(3, 4))}
	sets := make([]Set, 5)
	var choose []func(int64) bool
	for i := range sets {
		choose = append(choose, func(now int64) bool { return b.d.Choose(&sets[i], i, nil, now) })
	}
	b.run(1000, 12, nil, choose...)
	for i, n := range b.run(60_000, 12, nil, choose...) {
		if got := len(sets[i].Members()); got != i || n != 0 {
			t.Errorf("a set of %d: %d members, %d changes in a minute of even talk", i, got, n)
		}
	}
	// One of those outside begins to shout: it gets in, everywhere but into no seats.
	out := "p11"
	if slices.Contains(sets[4].Members(), out) {
		out = "p10"
	}
	for i, n := range b.run(4000, 12, map[string]uint8{out: 10}, choose...) {
		if in := slices.Contains(sets[i].Members(), out); in != (i > 0) || n != min(i, 1) {
			t.Errorf("a set of %d: %v, %d changes", i, sets[i].Members(), n)
		}
	}
}

// A listener's own set passes over those it hears otherwise, follows the number of its
// seats, and gives the place of one who is silent to the next who speaks.
func TestSetOfOneListener(t *testing.T) {
	const quiet, talk = 127, 30
	b := &babble{d: New(3), rng: rand.New(rand.NewPCG(5, 6))}
	var s Set
	n, skipped := 2, "p00"
	choose := func(now int64) bool {
		return b.d.Choose(&s, n, func(id string) bool { return id == skipped }, now)
	}
	is := func(what, want string) {
		t.Helper()
		if got := strings.Join(s.Members(), ","); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	levels := map[string]uint8{"p00": talk, "p01": quiet, "p02": talk, "p03": quiet, "p04": quiet}
	b.run(2000, 5, levels, choose)
	is("one of two who talk has a picture", "p02")
	levels["p03"] = talk
	b.run(1000, 5, levels, choose)
	is("a free seat is taken at once", "p02,p03")
	levels["p02"], levels["p04"] = quiet, talk
	b.run(1500, 5, levels, choose)
	is("a pause for breath costs no seat", "p02,p03")
	b.run(1500, 5, levels, choose)
	is("silence does, when somebody else speaks", "p04,p03")
	levels["p03"] = quiet
	b.run(600, 5, levels, choose)
	n = 1
	b.run(100, 5, levels, choose)
	is("a seat goes to a picture: who has been silent for longer leaves", "p04")
	n, skipped = 3, "p04"
	b.run(600, 5, levels, choose)
	is("the picture is another's", "p00")
	b.d.Remove("p00")
	b.d.Choose(&s, n, nil, b.at*ms)
	is("and left", "p04")
}
