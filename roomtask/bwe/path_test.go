package bwe_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mayfly/roomtask/bwe"
	"mayfly/test/linksim"
)

const (
	ms     = linksim.Millisecond
	second = linksim.Second
)

// probed is an estimator whose owner keeps to it and sends its probes.
type probed struct {
	bwe.Estimator
	acks []bwe.Ack
}

func newProbed() *probed { return &probed{Estimator: bwe.Estimator{Probes: true}} }

func (p *probed) Bps(now int64) int64 { return p.Snapshot(now).Bps }

func (p *probed) OnFeedback(now int64, report []linksim.Arrival) {
	p.acks = p.acks[:0]
	for _, a := range report {
		p.acks = append(p.acks, bwe.Ack{Seq: a.Seq, Received: a.Received, Arrival: a.At})
	}
	p.Estimator.OnFeedback(now, p.acks)
}

func (p *probed) NextProbe(now, want int64) (linksim.Probe, bool) {
	n, ok := p.Estimator.NextProbe(now, want, want)
	return linksim.Probe{ID: n.ID, Bps: n.Bps, Packets: n.Packets, Size: n.Size}, ok
}

// path is what most scenarios begin with: rate, 25 ms each way, 300 ms of queue.
func path(rate int64) linksim.Path {
	return linksim.Path{Rate: rate, Delay: 25 * ms, QueueTime: 300 * ms}
}

func want(bps int64) linksim.FlowConfig {
	return linksim.FlowConfig{Demand: func(int64) int64 { return bps }, Back: 25 * ms, Noise: 0.05}
}

// draw writes the curves of the first seed to out/linksim.
func draw(t *testing.T, flows ...*linksim.Flow) {
	t.Helper()
	name, seeded := strings.CutSuffix(t.Name(), "/0")
	if !seeded && strings.Contains(name, "/") {
		return
	}
	dir := filepath.Join("..", "..", "out", "linksim")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, strings.ReplaceAll(name, "/", "_")+".svg"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := linksim.WriteSVG(f, name, flows...); err != nil {
		t.Fatal(err)
	}
}

// figures of a flow between two seconds of the scenario.
type figures struct {
	estimate, received int64 // mean
	highest, lowest    int64 // estimate
	queue, queue95     int64 // ms
}

func measure(f *linksim.Flow, from, to int64) (m figures) {
	var queues []int64
	m.lowest = 1 << 62
	for _, p := range f.Points {
		if s := p.At - second; s <= from*second || s > to*second {
			continue
		}
		m.estimate += p.Estimate
		m.received += p.Received
		m.highest, m.lowest = max(m.highest, p.Estimate), min(m.lowest, p.Estimate)
		m.queue += p.Queue
		queues = append(queues, p.Queue/ms)
	}
	n := int64(len(queues))
	slices.Sort(queues)
	return figures{m.estimate / n, m.received / n, m.highest, m.lowest, m.queue / n / ms, queues[n*95/100]}
}

// reaches is how many ms after from (in s) the estimate is at least bps for the first time; −1 = never.
func reaches(f *linksim.Flow, from, bps int64) int64 {
	for _, p := range f.Points {
		if p.At-second > from*second && p.Estimate >= bps {
			return (p.At - second - from*second) / ms
		}
	}
	return -1
}

// settles is how many ms after from (in s) the estimate is at most bps, and the queue at most
// 100 ms, for the first time; −1 = never.
func settles(f *linksim.Flow, from, bps int64) int64 {
	for _, p := range f.Points {
		if p.At-second > from*second+100*ms && p.Estimate <= bps && p.Queue <= 100*ms {
			return (p.At - second - from*second) / ms
		}
	}
	return -1
}

func (m figures) log(t *testing.T, what string) {
	t.Helper()
	t.Logf("%-22s estimate %7d (%d…%d), received %7d bit/s, queue %d ms, p95 %d ms", what, m.estimate, m.lowest, m.highest, m.received, m.queue, m.queue95)
}
