package sendq

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/pion/rtp"
)

// bottleneck is the way from a wire to the subscriber's browser: a rate, a queue that
// drops what it has no room for, a delay, random loss. It reports as browsers do.
type bottleneck struct {
	mu    sync.Mutex
	bps   int64
	queue int64 // ns of waiting that there is room for
	delay int64 // ns, each way
	loss  float64
	// noPadding lets the receiver report packets of padding as lost.
	noPadding bool
	rng       *rand.Rand
	pause     func(at int64) int64 // the end of the receiver's pause, in which it reads nothing; nil = there is none
	readAt    int64                // when it reads the last packet that waits
	bad       float64              // chance of a burst of losses to begin, which ends with each tenth packet
	burst     bool
	free      int64    // when the link is free again
	newest    int64    // transport-wide number of the last packet
	flying    []flight // what arrives and was not reported yet, by arrival
	in        receiver
	sum       map[uint32]*passed // by SSRC
	high      int64              // bytes that waited at most
	// trunk is the link that this one is a part of: its rate, room and queue are those of
	// all its parts. nil = this one is the link itself.
	trunk *bottleneck
}

// flight is a packet that arrives.
type flight struct {
	seq     int64 // the transport-wide number, which does not wrap
	arrival int64
}

// receiver is what the browser knows of transport-wide numbers. It tells of each once, and
// again if one that it told of as lost came after all; of two that are the same the first
// counts.
type receiver struct {
	got   [1 << 11]flight // by the last bits of their numbers
	next  int64           // the first that was in no report
	first int64           // of those that arrived since the last report
	last  int64
	fresh bool
}

func (r *receiver) take(f flight) {
	if r.arrival(f.seq) != 0 {
		return
	}
	if r.next == 0 {
		r.next = f.seq
	}
	if !r.fresh {
		r.first, r.last, r.fresh = f.seq, f.seq, true
	}
	r.first, r.last = min(r.first, f.seq), max(r.last, f.seq)
	r.got[f.seq%int64(len(r.got))] = f
}

// arrival is when a packet came, 0 = it has not.
func (r *receiver) arrival(seq int64) int64 {
	if f := r.got[seq%int64(len(r.got))]; f.seq == seq {
		return f.arrival
	}
	return 0
}

// report lists from the first number that is new to the last that arrived; arrival 0 = lost.
func (r *receiver) report() (told []flight) {
	if !r.fresh {
		return nil
	}
	r.fresh = false
	for seq := min(r.first, r.next); seq <= max(r.last, r.next-1); seq++ {
		told = append(told, flight{seq, r.arrival(seq)})
	}
	r.next = max(r.next, r.last+1)
	return told
}

// passed is what became of the packets of one SSRC.
type passed struct {
	got, lost int
	overflow  int // of those that were lost, for want of room
	bytes     int64
	lastAt    int64
	delay     int64 // the longest way, ns
}

func newBottleneck(bps int64) *bottleneck {
	return &bottleneck{bps: bps, queue: 300 * ms, delay: 20 * ms, newest: 1 << 20,
		rng: rand.New(rand.NewPCG(1, 1)), sum: map[uint32]*passed{}}
}

func (b *bottleneck) set(bps int64) {
	b.mu.Lock()
	b.bps = bps
	b.mu.Unlock()
}

// change lets f change what the path is like.
func (b *bottleneck) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// beside returns another receiver's way over the same link, with a delay and losses of
// its own.
func (b *bottleneck) beside() *bottleneck {
	o := newBottleneck(0)
	o.trunk = b
	o.rng = rand.New(rand.NewPCG(3, 3))
	return o
}

// pass lets a packet of size bytes wait for its turn at now, and returns when it
// has left; false = there is no room.
func (b *bottleneck) pass(size int, now int64) (end int64, ok bool) {
	if b.trunk != nil {
		b.trunk.mu.Lock()
		defer b.trunk.mu.Unlock()
		return b.trunk.pass(size, now)
	}
	start := max(b.free, now)
	if start-now > b.queue {
		return 0, false
	}
	b.free = start + int64(size)*8*second/b.bps
	b.high = max(b.high, (start-now)*b.bps/8/second)
	return b.free, true
}

// line is the rate of the link, and how long a packet that comes at now would wait.
func (b *bottleneck) line(now int64) (bps, wait int64) {
	if b.trunk != nil {
		b = b.trunk
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bps, max(0, b.free-now)
}

// send takes a packet of size bytes at now.
func (b *bottleneck) send(h *rtp.Header, size int, now int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	of := b.sum[h.SSRC]
	if of == nil {
		of = &passed{}
		b.sum[h.SSRC] = of
	}
	e := h.GetExtension(4)
	numbered := len(e) == 2
	if numbered {
		b.newest += int64(int16(binary.BigEndian.Uint16(e) - uint16(b.newest)))
	}
	f := flight{seq: b.newest}
	if b.bad > 0 {
		b.burst = b.rng.Float64() < b.bad || (b.burst && b.rng.Float64() < 0.9)
	}
	if b.rng.Float64() < b.loss || b.burst || (b.noPadding && h.Padding) {
		of.lost++
	} else if end, ok := b.pass(size, now); !ok {
		of.lost++
		of.overflow++
	} else {
		f.arrival = end + b.delay
		if b.pause != nil {
			b.readAt = max(b.pause(f.arrival), b.readAt+ms/10)
			f.arrival = b.readAt
		}
		of.got++
		of.bytes += int64(size)
		of.lastAt = f.arrival
		of.delay = max(of.delay, f.arrival-now)
		if numbered {
			b.flying = append(b.flying, f)
		}
	}
}

// take returns what became of each SSRC's packets since the last call.
func (b *bottleneck) take() map[uint32]*passed {
	b.mu.Lock()
	defer b.mu.Unlock()
	sum := b.sum
	b.sum = map[uint32]*passed{}
	return sum
}

// report is the feedback about all that the receiver knows at now, nil if nothing.
func (b *bottleneck) report(now int64) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pause != nil && b.pause(now-b.delay) > now-b.delay {
		return nil // it does not report either
	}
	n := 0
	for n < len(b.flying) && b.flying[n].arrival <= now-b.delay {
		b.in.take(b.flying[n])
		n++
	}
	b.flying = b.flying[n:]
	if told := b.in.report(); told != nil {
		return feedbackOf(told)
	}
	return nil
}

// feedbackOf builds transport-wide feedback, with two bytes for each delta.
func feedbackOf(told []flight) []byte {
	var at int64
	for _, f := range told {
		if f.arrival != 0 {
			at = f.arrival / (64 * ms)
			break
		}
	}
	b := []byte{0x8F, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2}
	b = binary.BigEndian.AppendUint16(b, uint16(told[0].seq))
	b = binary.BigEndian.AppendUint16(b, uint16(len(told)))
	b = binary.BigEndian.AppendUint32(b, uint32(at)<<8)
	for i := 0; i < len(told); i += 7 {
		word := uint16(0xC000)
		for j, f := range told[i:min(i+7, len(told))] {
			if f.arrival != 0 {
				word |= 2 << (12 - 2*j)
			}
		}
		b = binary.BigEndian.AppendUint16(b, word)
	}
	last := (at & 0xFFFFFF) * 256
	origin := (at &^ 0xFFFFFF) * 256
	for _, f := range told {
		if f.arrival != 0 {
			tick := f.arrival/250_000 - origin
			b = binary.BigEndian.AppendUint16(b, uint16(int16(tick-last)))
			last = tick
		}
	}
	if pad := (4 - len(b)%4) % 4; pad > 0 {
		b[0] |= 0x20
		b = append(b, make([]byte, pad)...)
		b[len(b)-1] = byte(pad)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)/4-1))
	return b
}

// through lets w send over b from now on; each call of the result reports to s, when
// 50 ms have passed since the last report.
func (w *wire) through(b *bottleneck, s *Sender) (report func()) {
	w.mu.Lock()
	w.link = b
	w.mu.Unlock()
	var next time.Time
	return func() {
		if now := time.Now(); !now.Before(next) {
			next = now.Add(50 * time.Millisecond)
			if fb := b.report(now.UnixNano()); fb != nil {
				s.TransportFeedback(fb)
			}
		}
	}
}
