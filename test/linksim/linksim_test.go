package linksim

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"testing"
)

// blast sends count packets of 1000 bytes, one each gap, and returns when they arrive.
func blast(n *Net, l *Link, count int, gap int64) (at []int64) {
	for i := range count {
		n.After(int64(i)*gap, func() { l.Send(1000, func(t int64) { at = append(at, t) }) })
	}
	n.Run(int64(count)*gap + 20*Second)
	return at
}

func TestLinkHasItsRateAndDelay(t *testing.T) {
	n := New(1)
	l := n.Link(Path{Rate: 800_000, Delay: 30 * Millisecond})
	at := blast(n, l, 100, 0)
	if len(at) != 100 || at[0] != Second+40*Millisecond || at[99] != Second+1030*Millisecond {
		t.Errorf("%d packets, from %d to %d", len(at), at[0], at[len(at)-1])
	}
	if mean, longest := l.TakeQueue(); longest != 990*Millisecond || mean < 400*Millisecond || mean > 600*Millisecond {
		t.Errorf("waited %d ms in the mean, %d ms at most", mean/Millisecond, longest/Millisecond)
	}
}

func TestQueueDropsItsTail(t *testing.T) {
	for name, p := range map[string]Path{
		"bytes": {Rate: 800_000, QueueBytes: 10_000},
		"time":  {Rate: 800_000, QueueTime: 95 * Millisecond},
	} {
		n := New(1)
		l := n.Link(p)
		at := blast(n, l, 100, 0)
		if len(at) != 10 || l.Overflow != 90 || !slices.IsSorted(at) {
			t.Errorf("%s: %d of 100 passed, %d did not fit", name, len(at), l.Overflow)
		}
	}
}

func TestLossHasItsShare(t *testing.T) {
	b := Burst{Enter: 0.01, Leave: 0.1, Loss: 0.9}
	for name, c := range map[string]struct {
		p    Path
		want float64
	}{
		"none":   {Path{Rate: 1e9}, 0},
		"random": {Path{Rate: 1e9, Loss: 0.1}, 0.1},
		"bursts": {Path{Rate: 1e9, Burst: &b}, b.Share()},
	} {
		n := New(1)
		const count = 50_000
		got := len(blast(n, n.Link(c.p), count, Millisecond/10))
		if share := 1 - float64(got)/count; share < c.want*0.9 || share > c.want*1.1 {
			t.Errorf("%s: lost %.4f, want %.4f", name, share, c.want)
		}
	}
}

func TestJitterKeepsTheOrderAndReorderDoesNot(t *testing.T) {
	n := New(1)
	var order []int
	send := func(l *Link) {
		order = nil
		for i := range 1000 {
			n.After(int64(i)*Millisecond, func() { l.Send(100, func(int64) { order = append(order, i) }) })
		}
		n.Run(5 * Second)
	}
	send(n.Link(Path{Rate: 1e9, Jitter: 50 * Millisecond}))
	if len(order) != 1000 || !slices.IsSorted(order) {
		t.Error("jitter changed the order")
	}
	send(n.Link(Path{Rate: 1e9, Reorder: 0.1, ReorderBy: 10 * Millisecond}))
	late := 0
	for i := 1; i < len(order); i++ {
		if order[i] < order[i-1] {
			late++
		}
	}
	if len(order) != 1000 || late < 50 || late > 150 {
		t.Errorf("%d of 1000 came, %d late, want about 100", len(order), late)
	}
}

// fixed is an estimator that allows one rate.
type fixed struct {
	bps     int64
	reports [][]Arrival
}

func (f *fixed) Bps(int64) int64                         { return f.bps }
func (f *fixed) OnSent(uint16, int, int64, int32)        {}
func (f *fixed) OnFeedback(_ int64, r []Arrival)         { f.reports = append(f.reports, r) }
func (f *fixed) Tick(int64)                              {}
func (f *fixed) ProbeSent(int32, int64)                  {}
func (f *fixed) NextProbe(_, _ int64) (p Probe, ok bool) { return }
func demand(bps int64) (c FlowConfig)                    { c.Demand = func(int64) int64 { return bps }; return }
func play(seed uint64, p Path, bps int64) (*Flow, *fixed) {
	n, e := New(seed), &fixed{bps: bps}
	f := n.Flow(n.Link(p), e, demand(10_000_000))
	n.Run(10 * Second)
	return f, e
}

func TestFlowSendsWhatIsAllowed(t *testing.T) {
	f, e := play(1, Path{Rate: 5_000_000, Delay: 10 * Millisecond, Loss: 0.05}, 1_000_000)
	if bps := f.Sent * 8 / 10; bps < 950_000 || bps > 1_050_000 {
		t.Errorf("sent %d bit/s, 1 M was allowed", bps)
	}
	told := map[uint16]bool{}
	for _, r := range e.reports {
		for _, a := range r {
			told[a.Seq] = told[a.Seq] || a.Received
		}
	}
	lost := 0
	for _, got := range told {
		if !got {
			lost++
		}
	}
	if share := float64(lost) / float64(len(told)); share < 0.03 || share > 0.07 {
		t.Errorf("%.3f of %d were told of as lost, want 0.05", share, len(told))
	}
}

func TestOneSeedIsOneStory(t *testing.T) {
	p := Path{Rate: 2_000_000, Jitter: 10 * Millisecond, Loss: 0.1, Reorder: 0.1, ReorderBy: 5 * Millisecond}
	a, _ := play(1, p, 3_000_000)
	b, _ := play(1, p, 3_000_000)
	c, _ := play(2, p, 3_000_000)
	if !slices.Equal(a.Points, b.Points) {
		t.Error("the same seed gave two stories")
	}
	if slices.Equal(a.Points, c.Points) {
		t.Error("two seeds gave the same story")
	}
}

func TestSVGIsWellFormed(t *testing.T) {
	f, _ := play(1, Path{Rate: 2_000_000}, 1_000_000)
	var b bytes.Buffer
	if err := WriteSVG(&b, "a title", f, f); err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(&b)
	lines := 0
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := tok.(xml.StartElement); ok && e.Name.Local == "polyline" {
			lines++
		}
	}
	if lines != 5 {
		t.Errorf("%d lines, want the capacity and two for each flow", lines)
	}
	if err := WriteSVG(&b, "nothing", &Flow{}); err == nil {
		t.Error("no error for a flow without points")
	}
}
