package bwe_test

import (
	"fmt"
	"testing"

	"mayfly/test/linksim"
)

// TestStarvedReceiver: a receiver whose processor is busy reads in bursts. Its packets
// are late by up to the length of its pauses, none is lost, and the path has room: the
// estimate stays, or is back soon after.
func TestStarvedReceiver(t *testing.T) {
	const from, to = 10 * second, 30 * second
	for _, c := range []struct {
		name  string
		stall linksim.Stall
		low   int64 // share of the demand, in per cent, below which the estimate never falls
	}{
		{"300 of 1000 ms", linksim.Stall{Period: second, Pause: 300 * ms}, 90},
		{"300 of 1000 ms, slow", linksim.Stall{Period: second, Pause: 300 * ms, Read: 2 * ms}, 90},
		{"500 of 1000 ms", linksim.Stall{Period: second, Pause: 500 * ms}, 90},
		{"500 of 1000 ms, slow", linksim.Stall{Period: second, Pause: 500 * ms, Read: 2 * ms}, 90},
		{"800 of 1000 ms", linksim.Stall{Period: second, Pause: 800 * ms}, 90},
		{"100 of 200 ms", linksim.Stall{Period: 200 * ms, Pause: 100 * ms}, 90},
		{"30 of 50 ms", linksim.Stall{Period: 50 * ms, Pause: 30 * ms}, 90},
		{"370 of 900 ms", linksim.Stall{Period: 900 * ms, Pause: 370 * ms, Read: ms}, 90},
		{"3 s once", linksim.Stall{Period: 40 * second, Pause: 3 * second}, 20},
	} {
		c.stall.From, c.stall.To = from, to
		for seed := range uint64(seeds) {
			t.Run(fmt.Sprintf("%s/%d", c.name, seed), func(t *testing.T) {
				const demand = 1_500_000
				n := linksim.New(seed)
				cfg := want(demand)
				cfg.Stall = c.stall
				f := n.Flow(n.Link(path(10_000_000)), newProbed(), cfg)
				n.Run(60 * second)
				draw(t, f)
				measure(f, 10, 30).check(t, "while it pauses", limits{lowest: demand * c.low / 100})
				within(t, "back", reaches(f, 30, demand), 2500)
				measure(f, 33, 60).check(t, "after", limits{received: demand * 97 / 100})
			})
		}
	}
}

// TestStarvedFromTheStart: the receiver pauses from its first packet on, as a browser
// that starts does, and the path is still found.
func TestStarvedFromTheStart(t *testing.T) {
	for _, pause := range []int64{100, 300, 500} {
		for seed := range uint64(seeds) {
			t.Run(fmt.Sprintf("%d/%d", pause, seed), func(t *testing.T) {
				n := linksim.New(seed)
				cfg := want(2_000_000)
				cfg.Stall = linksim.Stall{Period: second, Pause: pause * ms, To: 10 * second}
				f := n.Flow(n.Link(path(10_000_000)), newProbed(), cfg)
				n.Run(20 * second)
				draw(t, f)
				within(t, "found", reaches(f, 0, 2_000_000), 8000)
				measure(f, 0, 20).check(t, "in all", limits{lowest: 400_000})
				measure(f, 13, 20).check(t, "after", limits{received: 1_900_000})
			})
		}
	}
}

// TestStarvedOnAFullPath: the same while all of a narrow path is used.
func TestStarvedOnAFullPath(t *testing.T) {
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			n := linksim.New(seed)
			cfg := want(4_000_000)
			cfg.Stall = linksim.Stall{Period: second, Pause: 300 * ms, From: 10 * second, To: 30 * second}
			f := n.Flow(n.Link(path(2_000_000)), newProbed(), cfg)
			n.Run(60 * second)
			draw(t, f)
			measure(f, 10, 30).check(t, "while it pauses", limits{received: 1_200_000, lowest: 500_000, queue95: 300})
			measure(f, 33, 60).check(t, "after", limits{received: 1_700_000, queue95: 150})
		})
	}
}

// TestReportsInBursts: the way back holds reports and lets them go together, and loses
// many; what is sent has room.
func TestReportsInBursts(t *testing.T) {
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			const demand = 1_500_000
			n := linksim.New(seed)
			cfg := want(demand)
			cfg.BackStall = linksim.Stall{Period: second, Pause: 400 * ms, From: 5 * second, To: 40 * second}
			cfg.BackLoss = 0.2
			f := n.Flow(n.Link(path(10_000_000)), newProbed(), cfg)
			n.Run(50 * second)
			draw(t, f)
			measure(f, 5, 50).check(t, "", limits{received: demand * 97 / 100, lowest: demand * 9 / 10})
		})
	}
}

// TestAnotherFlowTakesHalf: something that does not yield takes half of the path for a
// while. What is left is found, and so is the whole when it ends.
func TestAnotherFlowTakesHalf(t *testing.T) {
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			n := linksim.New(seed)
			l := n.Link(path(3_000_000))
			f := n.Flow(l, newProbed(), want(4_000_000))
			n.Constant(l, 1_500_000, 20*second, 50*second)
			n.Run(80 * second)
			draw(t, f)
			within(t, "yields", settles(f, 20, 1_500_000), 4500)
			measure(f, 25, 50).check(t, "beside it", limits{received: 1_100_000, highest: 2_200_000, queue: 60, queue95: 150})
			within(t, "back to 80 %", reaches(f, 50, 2_400_000), 10_000)
		})
	}
}

// TestBesideADownload: one that fills the queue until it overflows leaves little to those
// who avoid queues, but not nothing, and is no reason to give up the smallest picture.
func TestBesideADownload(t *testing.T) {
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			n := linksim.New(seed)
			l := n.Link(path(4_000_000))
			f := n.Flow(l, newProbed(), want(3_000_000))
			d := n.Download(l, 25*ms, 20*second, 60*second)
			n.Run(90 * second)
			draw(t, f)
			measure(f, 30, 60).check(t, "beside it", limits{received: 250_000})
			t.Logf("the download got %d bit/s", d.Got*8/40)
			within(t, "back to 80 %", reaches(f, 60, 2_400_000), 10_000)
		})
	}
}
