package linksim

// Estimator is what a Flow asks how much it may send.
type Estimator interface {
	Bps(now int64) int64
	// OnSent notes a packet; probe is the ID of the probe that it is part of, 0 = none.
	OnSent(seq uint16, size int, now int64, probe int32)
	OnFeedback(now int64, report []Arrival)
	Tick(now int64)
	// NextProbe returns the probe that is to be sent now, if any. want is what the
	// flow could make use of.
	NextProbe(now, want int64) (p Probe, ok bool)
	// ProbeSent says that all of a probe has left.
	ProbeSent(id int32, now int64)
}

// Arrival is one packet in a receiver's report. At is on its own clock.
type Arrival struct {
	Seq      uint16
	Received bool
	At       int64
}

// Probe is a number of packets of a given size at a given rate.
type Probe struct {
	ID      int32
	Bps     int64
	Packets int
	Size    int
}

// FlowConfig describes a sender of video with sound and its receiver.
type FlowConfig struct {
	Demand   func(now int64) int64 // bits per second it would like to send
	Noise    float64               // frames vary by up to this share
	Report   int64                 // time between reports
	Back     int64                 // delay of reports
	BackLoss float64               // share of reports that are lost
	Drift    float64               // of the receiver's clock, seconds per second
	Start    int64                 // when it begins, from the net's beginning
	// Stall is a receiver whose processor is busy: it reads nothing in the first part of
	// each period, and then at once all that came meanwhile. Reports wait likewise.
	Stall Stall
	// BackStall holds the reports in the same way, on their way back.
	BackStall Stall
}

// Stall is a pause that comes back, within a stretch of time from the net's beginning.
type Stall struct {
	Period, Pause int64 // Period 0 = none
	From, To      int64 // To 0 = without end
	Read          int64 // time to read one of the packets that wait; 0 = 0.1 ms
}

// over returns when a pause that holds at now ends, now if there is none.
func (s *Stall) over(now int64) int64 {
	at := now - Second - s.From
	if s.Period == 0 || at < 0 || (s.To > 0 && now-Second >= s.To) {
		return now
	}
	return max(now, now-at%s.Period+s.Pause)
}

// Point is one moment of a flow's life.
type Point struct {
	At       int64 // ns
	Estimate int64 // bits per second
	Received int64 // bits per second, since the point before
	Capacity int64 // of the link
	Queue    int64 // ns
}

const (
	packetSize  = 1200
	audioSize   = 100
	audioEvery  = 20 * Millisecond
	frameEvery  = Second / 30
	paceEvery   = 5 * Millisecond
	paceBurst   = 10 * packetSize
	tickEvery   = 20 * Millisecond
	recordEvery = 100 * Millisecond
	clockOffset = 12345 * Second
	readTime    = Millisecond / 10 // for a receiver to read one of the packets that wait
)

// Flow sends over a link what its estimator allows: frames of video, paced at 2.5
// times the estimate, and audio, which is never held back.
type Flow struct {
	Points       []Point // one each 100 ms
	Sent, Got    int64   // bytes
	AudioSent    int
	AudioGot     int
	PaddingBytes int64

	net     *Net
	link    *Link
	est     Estimator
	cfg     FlowConfig
	seq     uint64
	waiting []int // sizes of packets that wait for the pacer
	tokens  int64 // bytes
	probing bool
	probeID int32
	in      receiver
	readAt  int64 // when the last packet that waited is read
	last    int64 // Got at the last point
}

// Flow starts a flow over l.
func (n *Net) Flow(l *Link, est Estimator, cfg FlowConfig) *Flow {
	if cfg.Report == 0 {
		cfg.Report = 50 * Millisecond
	}
	f := &Flow{net: n, link: l, est: est, cfg: cfg, in: receiver{got: map[uint64]int64{}}}
	n.After(cfg.Start, func() {
		n.Every(frameEvery, f.frame)
		n.Every(audioEvery, func() { f.send(audioSize, f.probeID, true) })
		n.Every(paceEvery, f.pace)
		n.Every(tickEvery, f.tick)
		n.Every(cfg.Report, f.report)
		n.Every(recordEvery, f.record)
	})
	return f
}

func (f *Flow) frame() {
	bps := min(f.cfg.Demand(f.net.now), f.est.Bps(f.net.now)) - audioSize*8*(Second/audioEvery)
	size := float64(max(bps, 0)) / 8 * float64(frameEvery) / float64(Second)
	size *= 1 + f.cfg.Noise*(2*f.net.Rand.Float64()-1)
	for left := int(size); left > 0; left -= packetSize {
		f.waiting = append(f.waiting, max(min(left, packetSize), 50))
	}
}

func (f *Flow) pace() {
	if f.probing {
		return
	}
	f.tokens = min(paceBurst, f.tokens+f.est.Bps(f.net.now)*5/2/8*paceEvery/Second)
	for len(f.waiting) > 0 && f.tokens > 0 {
		f.tokens -= int64(f.waiting[0])
		f.send(f.waiting[0], 0, false)
		f.waiting = f.waiting[1:]
	}
}

func (f *Flow) tick() {
	f.est.Tick(f.net.now)
	if f.probing {
		return
	}
	if p, ok := f.est.NextProbe(f.net.now, f.cfg.Demand(f.net.now)); ok {
		f.probing, f.probeID = true, p.ID
		f.probe(p, p.Packets)
	}
}

// probe sends the packets of p that are left, of media as far as there is any.
func (f *Flow) probe(p Probe, left int) {
	if left == 0 {
		f.probing, f.probeID = false, 0
		f.est.ProbeSent(p.ID, f.net.now)
		return
	}
	size := p.Size
	if len(f.waiting) > 0 {
		size = f.waiting[0]
		f.waiting = f.waiting[1:]
	} else {
		f.PaddingBytes += int64(size)
	}
	f.send(size, p.ID, false)
	f.net.After(int64(size)*8*Second/p.Bps, func() { f.probe(p, left-1) })
}

func (f *Flow) send(size int, probe int32, audio bool) {
	f.seq++
	seq := f.seq
	f.Sent += int64(size)
	if audio {
		f.AudioSent++
	}
	f.est.OnSent(uint16(seq), size, f.net.now, probe)
	f.link.Send(size, func(at int64) {
		f.Got += int64(size)
		if audio {
			f.AudioGot++
		}
		if read := f.cfg.Stall.over(at); read > at || f.readAt > at {
			f.readAt = max(read, f.readAt+max(f.cfg.Stall.Read, readTime))
			f.net.At(f.readAt, func() { f.read(seq) })
			return
		}
		f.read(seq)
	})
}

// read is the receiver taking a packet from its socket.
func (f *Flow) read(seq uint64) {
	f.in.take(seq, f.net.now+clockOffset+int64(f.cfg.Drift*float64(f.net.now)))
}

func (f *Flow) report() {
	if end := f.cfg.Stall.over(f.net.now); end > f.net.now {
		f.net.At(end+readTime, f.report)
		return
	}
	arrivals := f.in.report()
	if len(arrivals) == 0 || f.net.Rand.Float64() < f.cfg.BackLoss {
		return
	}
	f.net.At(f.cfg.BackStall.over(f.net.now+f.cfg.Back), func() { f.est.OnFeedback(f.net.now, arrivals) })
}

func (f *Flow) record() {
	f.Points = append(f.Points, Point{
		At: f.net.now, Estimate: f.est.Bps(f.net.now), Capacity: f.link.Rate, Queue: f.link.QueueDelay(),
		Received: (f.Got - f.last) * 8 * Second / recordEvery,
	})
	f.last = f.Got
}

// receiver makes transport-wide reports as browsers do: from the first packet that
// none has told of to the last that arrived, and further back for one that came late.
type receiver struct {
	got   map[uint64]int64
	next  uint64 // first that was in no report
	first uint64 // of those that arrived since the last report
	last  uint64
	fresh bool
}

func (r *receiver) take(seq uint64, at int64) {
	if r.next == 0 {
		r.next = seq
	}
	if !r.fresh {
		r.first, r.last, r.fresh = seq, seq, true
	}
	r.first, r.last = min(r.first, seq), max(r.last, seq)
	r.got[seq] = at
}

func (r *receiver) report() []Arrival {
	if !r.fresh {
		return nil
	}
	r.fresh = false
	var as []Arrival
	for seq := min(r.first, r.next); seq <= max(r.last, r.next-1); seq++ {
		at, ok := r.got[seq]
		as = append(as, Arrival{uint16(seq), ok, at})
	}
	r.next = max(r.next, r.last+1)
	for seq := range r.got {
		if seq+1000 < r.next {
			delete(r.got, seq)
		}
	}
	return as
}
