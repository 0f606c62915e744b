package linksim

// Path describes one direction of a link. Times are in ns.
type Path struct {
	Rate       int64 // of the bottleneck, bits per second
	QueueBytes int   // room before it; 0 = no bound in bytes
	QueueTime  int64 // room before it, at the present rate; 0 = no bound in time
	Delay      int64 // one way, without queue
	Jitter     int64 // added to Delay, uniform between 0 and this; keeps the order
	Loss       float64
	Burst      *Burst  // loss in bursts, beside Loss
	Reorder    float64 // share of packets that are held for ReorderBy, so that others pass
	ReorderBy  int64
}

// Burst is the Gilbert-Elliott model: a good state without loss and a bad one. The
// chances are per packet.
type Burst struct {
	Enter, Leave float64 // of going into the bad state, and out of it
	Loss         float64 // in the bad state
}

// Share is the share of packets that are lost in the long run.
func (b *Burst) Share() float64 { return b.Loss * b.Enter / (b.Enter + b.Leave) }

// Link is a path in use. Several flows may share it.
type Link struct {
	Path         // may be changed between events
	Lost     int // by chance
	Overflow int // for want of room
	Passed   int64

	net    *Net
	queue  []queued
	bytes  int  // in queue
	busy   bool // a packet is being sent
	bad    bool // state of Burst
	last   int64
	sumQ   float64
	numQ   int
	worstQ int64
}

type queued struct {
	size    int
	in      int64
	deliver func(at int64)
}

// Link makes a link of n.
func (n *Net) Link(p Path) *Link { return &Link{Path: p, net: n} }

// Send takes a packet of size bytes; deliver is called when it arrives, if it does.
func (l *Link) Send(size int, deliver func(at int64)) {
	if l.chance() {
		l.Lost++
		return
	}
	if (l.QueueBytes > 0 && l.bytes+size > l.QueueBytes) || (l.QueueTime > 0 && l.QueueDelay() > l.QueueTime) {
		l.Overflow++
		return
	}
	l.queue = append(l.queue, queued{size, l.net.now, deliver})
	l.bytes += size
	if !l.busy {
		l.serve()
	}
}

// QueueDelay is how long a packet that came now would wait.
func (l *Link) QueueDelay() int64 { return int64(l.bytes) * 8 * Second / l.Rate }

// TakeQueue returns the mean and the longest wait in the queue since the last call.
func (l *Link) TakeQueue() (mean, longest int64) {
	if l.numQ > 0 {
		mean = int64(l.sumQ / float64(l.numQ))
	}
	longest = l.worstQ
	l.sumQ, l.numQ, l.worstQ = 0, 0, 0
	return mean, longest
}

func (l *Link) chance() bool {
	if l.Burst != nil {
		if l.bad {
			l.bad = l.net.Rand.Float64() >= l.Burst.Leave
		} else {
			l.bad = l.net.Rand.Float64() < l.Burst.Enter
		}
		if l.bad && l.net.Rand.Float64() < l.Burst.Loss {
			return true
		}
	}
	return l.Loss > 0 && l.net.Rand.Float64() < l.Loss
}

// serve sends the first of the queue, at the rate of this moment.
func (l *Link) serve() {
	l.busy = true
	p := l.queue[0]
	wait := l.net.now - p.in
	l.sumQ += float64(wait)
	l.numQ++
	l.worstQ = max(l.worstQ, wait)
	l.net.After(int64(p.size)*8*Second/l.Rate, func() {
		l.queue = l.queue[1:]
		l.bytes -= p.size
		l.busy = false
		l.Passed += int64(p.size)
		l.propagate(p)
		if len(l.queue) > 0 {
			l.serve()
		}
	})
}

func (l *Link) propagate(p queued) {
	at := l.net.now + l.Delay
	if l.Jitter > 0 {
		at += l.net.Rand.Int64N(l.Jitter)
	}
	if l.Reorder > 0 && l.net.Rand.Float64() < l.Reorder {
		at += l.ReorderBy
	} else {
		at = max(at, l.last)
		l.last = at
	}
	l.net.At(at, func() { p.deliver(at) })
}
