package bwe

import (
	"math/rand/v2"
	"testing"
)

// feeder sends and reports without loss or queue: what is sent arrives 30 ms later.
type feeder struct {
	e    *Estimator
	id   int32 // of the probe that is sent
	now  int64
	seq  uint16
	acks []Ack
	late int64 // added to the delay
}

// run sends at bps for dur, in packets of 1000 bytes, with a report each 50 ms.
func (f *feeder) run(bps, dur int64) {
	gap := 8000 * second / bps
	next := f.now
	for end := f.now + dur; f.now < end; f.now += ms {
		for ; next <= f.now; next += gap {
			f.send(1000, f.now+30*ms+f.late)
		}
		if f.now%(50*ms) == 0 {
			f.report()
		}
		if f.now%(20*ms) == 0 {
			f.e.Tick(f.now)
		}
	}
}

func (f *feeder) send(size int, arrival int64) {
	f.seq++
	f.e.OnSent(f.seq, size, f.now, f.id)
	f.acks = append(f.acks, Ack{f.seq, true, arrival})
}

func (f *feeder) report() {
	f.e.OnFeedback(f.now, f.acks)
	f.acks = f.acks[:0]
}

// probe sends what is asked for; the packets arrive slow times as far apart.
func (f *feeder) probe(p Probe, slow float64) {
	start := f.now
	f.id = p.ID
	for range p.Packets {
		f.send(p.Size, start+30*ms+int64(float64(f.now-start)*slow))
		f.now += int64(p.Size) * 8 * second / p.Bps
	}
	f.id = 0
	f.e.ProbeSent(p.ID, f.now)
	f.report()
}

func newFeeder() *feeder {
	f := &feeder{e: &Estimator{Probes: true}, now: second}
	f.send(100, f.now+30*ms)
	return f
}

func TestProbeAtTheStartAndBeforeAStep(t *testing.T) {
	f := newFeeder()
	if _, ok := f.e.NextProbe(f.now, initialBps, initialBps); ok {
		t.Error("a probe for what is allowed already")
	}
	p, ok := f.e.NextProbe(f.now, 10_000_000, 10_000_000)
	if !ok || p.Bps != probeFirst*initialBps {
		t.Fatalf("the first probe: %+v, %v", p, ok)
	}
	if took := int64(p.Packets-1) * int64(p.Size) * 8 * second / p.Bps; p.Packets < probePackets || took > probeTime+ms {
		t.Errorf("%d packets in %d ms", p.Packets, took/ms)
	}
	if _, ok := f.e.NextProbe(f.now, 10_000_000, 10_000_000); ok {
		t.Error("a second probe while the first is sent")
	}
	f.probe(p, 1)
	if got := f.e.Snapshot(f.now).Bps; got < p.Bps*9/10 || got > p.Bps*11/10 {
		t.Errorf("estimate %d after a probe of %d got through", got, p.Bps)
	}
	f.now += second
	if p, ok = f.e.NextProbe(f.now, 1_600_000, 1_600_000); !ok || p.Bps > 1_800_000 {
		t.Errorf("a probe for a step to 1.6 Mbit/s: %+v, %v", p, ok)
	}
}

func TestProbeThatIsSlowedDown(t *testing.T) {
	f := newFeeder()
	p, _ := f.e.NextProbe(f.now, 10_000_000, 10_000_000)
	f.probe(p, 2)
	if got := f.e.Snapshot(f.now).Bps; got < p.Bps*40/100 || got > p.Bps/2 {
		t.Errorf("estimate %d after a probe of %d arrived at half its rate", got, p.Bps)
	}
	f.now += second
	if _, ok := f.e.NextProbe(f.now, 10_000_000, 10_000_000); ok {
		t.Error("another one a second after a probe that filled the path")
	}
	f.now += probePause
	if _, ok := f.e.NextProbe(f.now, 10_000_000, 10_000_000); !ok {
		t.Error("none after the pause")
	}
}

func TestProbeThatIsLostTellsNothing(t *testing.T) {
	f := newFeeder()
	p, _ := f.e.NextProbe(f.now, 10_000_000, 10_000_000)
	f.probe(p, 1)
	g := newFeeder()
	q, _ := g.e.NextProbe(g.now, 10_000_000, 10_000_000)
	g.id = q.ID
	g.acks = g.acks[:0]
	for i := range q.Packets {
		g.send(q.Size, g.now)
		g.acks[i].Received = i == 0
		g.now += 3 * ms
	}
	g.id = 0
	g.e.ProbeSent(q.ID, g.now)
	g.report()
	g.run(400_000, 2*second)
	if got := g.e.Snapshot(g.now).Bps; got > initialBps*12/10 {
		t.Errorf("estimate %d although the probe was lost", got)
	}
}

func TestNoProbeWhileDelayGrows(t *testing.T) {
	f := newFeeder()
	f.run(400_000, 2*second)
	for range 20 {
		f.late += 10 * ms
		f.run(400_000, 50*ms)
		if f.late > 50*ms {
			if _, ok := f.e.NextProbe(f.now, 10_000_000, 10_000_000); ok {
				t.Fatalf("a probe while packets are %d ms late, and ever later", f.late/ms)
			}
		}
	}
}

func TestProbeThatIsNeverSentIsForgotten(t *testing.T) {
	f := newFeeder()
	f.e.NextProbe(f.now, 10_000_000, 10_000_000)
	f.now += 2 * second
	f.e.NextProbe(f.now, 10_000_000, 10_000_000)
	f.now += probeAgain
	if _, ok := f.e.NextProbe(f.now, 10_000_000, 10_000_000); !ok {
		t.Error("no other probe")
	}
}

// TestProbeOverALossyPath: a third of a probe is missing. Where much is lost anyway that is
// no sign, and the rest shows the rate; else it tells nothing.
func TestProbeOverALossyPath(t *testing.T) {
	for _, own := range []float64{0, 0.1, 0.2, 0.3} {
		f := newFeeder()
		f.run(480_000, second)
		f.e.losses.own = own
		p, ok := f.e.NextProbe(f.now, 10_000_000, 10_000_000)
		if !ok {
			t.Fatal("no probe")
		}
		f.id = p.ID
		for i := range p.Packets {
			f.send(p.Size, f.now+30*ms)
			if i%3 == 1 {
				f.acks[len(f.acks)-1].Received = false
			}
			f.now += int64(p.Size) * 8 * second / p.Bps
		}
		f.id = 0
		f.e.ProbeSent(p.ID, f.now)
		f.report()
		f.run(480_000, 100*ms) // what was sent after it arrives: no more of it will
		got := f.e.Snapshot(f.now).Bps
		if proved := got >= p.Bps*9/10; proved != (own >= 0.2) || got > p.Bps*11/10 {
			t.Errorf("own loss %.1f: estimate %d after a probe of %d, of which %d packets were sent", own, got, p.Bps, p.Packets)
		}
	}
}

// TestUnprovedGrowthIsBounded: without a probe the estimate stays near what arrives,
// for however long, and it rests while little is sent.
func TestUnprovedGrowthIsBounded(t *testing.T) {
	f := newFeeder()
	f.run(480_000, 60*second)
	s := f.e.Snapshot(f.now)
	if limit := s.AckedBps * 16 / 10; s.Bps > limit || s.Bps < 500_000 {
		t.Errorf("estimate %d after a minute of %d bit/s", s.Bps, s.AckedBps)
	}
	before := s.Bps
	f.run(100_000, 10*second)
	if s = f.e.Snapshot(f.now); s.Bps != before || !s.Idle {
		t.Errorf("estimate %d, idle %v, after 10 s of 100 kbit/s; it was %d", s.Bps, s.Idle, before)
	}
}

// TestGrowthKeepsToItsBound: whatever is sent, in whatever pieces, however it is reported on
// and whichever probes get through, no growth goes beyond 1.5 times what the last 500 ms
// brought, or what a probe proved. Of a steady rate the 500 ms bring one packet too much at
// most, and with it the bound has nothing left to spare.
func TestGrowthKeepsToItsBound(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 9))
	grown, closest := 0, 0.0
	for range 60 {
		f := newFeeder()
		bps := 60_000 + r.Int64N(1_500_000)
		size := 100 + r.IntN(1100)
		gap := int64(size) * 8 * second / bps
		every := (1 + r.Int64N(6)) * 25 * ms
		probes := r.IntN(2) == 0
		next := f.now
		for end := f.now + 30*second; f.now < end; f.now += ms {
			for ; next <= f.now; next += gap {
				f.seq++
				f.e.OnSent(f.seq, size, f.now, 0)
				f.acks = append(f.acks, Ack{f.seq, true, next + 30*ms})
			}
			if f.now%every == 0 {
				f.report()
			}
			if f.now%(20*ms) != 0 {
				continue
			}
			before := f.e.bps
			f.e.Tick(f.now)
			proved := f.e.proved
			limit := max(float64(f.e.through(f.now)), 0) * 1.5
			steady := (float64(bps) + float64(size)*8*2) * 1.5
			if after := f.e.bps; after > before && before > 0 {
				grown++
				if float64(after) > max(limit, float64(proved)) || (proved == 0 && float64(after) > steady+1) {
					t.Fatalf("from %d to %d: %.0f arrives, %d bit/s is sent in packets of %d, %d is proved", before, after, limit/1.5, bps, size, proved)
				}
				if proved == 0 {
					closest = max(closest, float64(after)/(1.5*float64(bps)))
				}
			}
			if p, ok := f.e.NextProbe(f.now, 2*bps, 2*bps); ok && probes {
				f.probe(p, 1)
				next = max(next, f.now)
			} else if ok {
				f.e.ProbeSent(p.ID, f.now)
				f.e.probe.giveUps = 0
			}
		}
	}
	t.Logf("%d steps, up to %.3f of 1.5 times the steady rate", grown, closest)
	if grown < 1000 || closest < 1 {
		t.Errorf("%d steps of growth up to %.3f of the bound prove nothing", grown, closest)
	}
}

// TestOnlyWhatArrivesIsProof: as much again is sent without numbers, of which nothing is
// told. The estimate, which is not idle then, stays at 1.5 times what arrives; the rest
// are the windows over which that is measured.
func TestOnlyWhatArrivesIsProof(t *testing.T) {
	f := newFeeder()
	for range 600 {
		f.e.OnSentPlain(6000, f.now)
		f.run(480_000, 100*ms)
	}
	s := f.e.Snapshot(f.now)
	if s.Idle || s.SentBps < 900_000 || s.Bps < s.AckedBps*14/10 || s.Bps > s.AckedBps*16/10 {
		t.Errorf("estimate %d after a minute of %d bit/s, of which %d are told to arrive; idle %v", s.Bps, s.SentBps, s.AckedBps, s.Idle)
	}
}

func TestGrowthIsSlow(t *testing.T) {
	f := newFeeder()
	f.run(480_000, 3*second)
	f.e.bps = 500_000
	f.run(480_000, second)
	if got := f.e.Snapshot(f.now).Bps; got <= 500_000 || got > 545_000 {
		t.Errorf("from 500000 to %d in a second", got)
	}
}

func TestClockThatLeaps(t *testing.T) {
	f := newFeeder()
	f.run(480_000, 5*second)
	for _, leap := range []int64{1 << 30 * ms, -2 << 30 * ms, 20 * second} {
		f.late += leap
		f.run(480_000, 5*second)
		s := f.e.Snapshot(f.now)
		if s.State != Clear || s.Bps < 500_000 || s.Queue > 10*ms {
			t.Errorf("after the receiver's clock leapt by %d s: %+v", leap/second, s)
		}
		if got := f.e.arrived.bps(); got < 400_000 || got > 560_000 {
			t.Errorf("arrived %d bit/s of 480000 by the new clock", got)
		}
	}
}

func TestLateIsNotLost(t *testing.T) {
	f := newFeeder()
	f.run(480_000, 2*second)
	for range 10 {
		for range 10 {
			f.send(1000, f.now+30*ms)
			f.now += ms
		}
		held := append([]Ack(nil), f.acks...)
		for i := range f.acks[:9] {
			f.acks[i].Received = false
		}
		f.report()
		f.acks = append(f.acks, held...)
		f.now += 10 * ms
		f.report()
	}
	if s := f.e.Snapshot(f.now); s.Loss > 0.01 || s.State != Clear {
		t.Errorf("packets that came late count as lost: %+v", s)
	}
}

func TestProbingDoesNotAllocate(t *testing.T) {
	f := newFeeder()
	f.acks = make([]Ack, 0, 1000)
	f.run(400_000, second)
	if n := testing.AllocsPerRun(50, func() {
		f.run(400_000, 100*ms)
		if p, ok := f.e.NextProbe(f.now, 1<<40, 1<<40); ok {
			f.probe(p, 1)
		}
	}); n != 0 {
		t.Errorf("%v allocations per 100 ms", n)
	}
}

// FuzzFeedback: reports come from outside, and nothing in them may make the estimate
// unusable.
func FuzzFeedback(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 255, 128, 7, 9, 200, 13})
	f.Add([]byte("any bytes at all, read as reports"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e := &Estimator{Probes: len(b)%2 == 0}
		now := second
		var seq uint16
		for i := 0; i+2 < len(b); i += 3 {
			for range b[i] % 32 {
				seq++
				e.OnSent(seq, int(b[i+1])*8, now, int32(b[i])%3)
				now += int64(b[i+2]) * ms / 16
			}
			at := int64(b[i])<<(b[i+1]%64) - int64(b[i+2])<<(b[i]%64)
			e.OnFeedback(now, []Ack{{seq - uint16(b[i+1]%8), b[i+2]%3 > 0, at}, {seq, b[i+1]%2 > 0, at + int64(b[i])*ms}})
			e.OnLoss(now, b[i+1])
			e.NextProbe(now, int64(b[i])*1e6, int64(b[i+1])*1e6)
			e.Tick(now)
			if s := e.Snapshot(now); s.Bps < 0 || s.Bps > maxBps || (s.State == Congested && s.Bps < minBps) || s.Queue < 0 || s.Loss < 0 || s.Loss > 1 {
				t.Fatalf("%+v", s)
			}
		}
	})
}

// BenchmarkReport is a report on 20 packets, and what it costs to have sent them.
func BenchmarkReport(b *testing.B) {
	e := &Estimator{Probes: true}
	acks := make([]Ack, 20)
	now := second
	var seq uint16
	b.ReportAllocs()
	for b.Loop() {
		for i := range acks {
			seq++
			now += ms
			e.OnSent(seq, 1200, now, 0)
			acks[i] = Ack{seq, true, now + 20*ms}
		}
		e.OnFeedback(now, acks)
		e.Tick(now)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/20, "ns/packet")
}
