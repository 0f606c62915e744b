package bwe_test

import (
	"fmt"
	"testing"

	"mayfly/test/linksim"
)

// TestGone: nothing at all gets through for a while, as at a change of networks. What
// follows is another path, of which the one before tells only where to begin.
func TestGone(t *testing.T) {
	for _, c := range []struct {
		gone, rate int64 // s; bits per second afterwards
		back       int64 // ms, to 80 % of what the path carries then
		queue95    int64 // ms
	}{
		{5, 2_000_000, 2500, 60},
		{10, 2_000_000, 2500, 60},
		{25, 2_000_000, 2500, 60},
		{10, 600_000, 2500, 300}, // narrower than before
		{10, 200_000, 1000, 1200},
	} {
		for seed := range uint64(seeds) {
			t.Run(fmt.Sprintf("%ds %dk/%d", c.gone, c.rate/1000, seed), func(t *testing.T) {
				n := linksim.New(seed)
				l := n.Link(path(2_000_000))
				f := n.Flow(l, newProbed(), want(1_500_000))
				n.Run(20 * second)
				l.Loss = 1
				n.Run(c.gone * second)
				l.Loss, l.Rate = 0, c.rate
				n.Run(20 * second)
				draw(t, f)
				from := 20 + c.gone // s
				measure(f, from-1, from).check(t, "gone", limits{highest: 200_000})
				within(t, "back to 80 %", reaches(f, from, min(c.rate, 1_500_000)*8/10), c.back)
				measure(f, from+4, from+20).check(t, "after", limits{received: min(c.rate, 1_500_000) * 8 / 10, queue95: c.queue95})
			})
		}
	}
}
