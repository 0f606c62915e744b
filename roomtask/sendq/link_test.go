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
	free      int64 // when the link is free again
	flying    []flight
	sum       map[uint32]*passed // by SSRC
	high      int64              // bytes that waited at most
}

// flight is a packet that is told of in the next report.
type flight struct {
	seq     uint16
	arrival int64 // 0 = lost
	known   int64 // when the receiver knows
}

// passed is what became of the packets of one SSRC.
type passed struct {
	got, lost int
	bytes     int64
	lastAt    int64
	delay     int64 // the longest way, ns
}

func newBottleneck(bps int64) *bottleneck {
	return &bottleneck{bps: bps, queue: 300 * ms, delay: 20 * ms, rng: rand.New(rand.NewPCG(1, 1)), sum: map[uint32]*passed{}}
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

// send takes a packet of size bytes at now.
func (b *bottleneck) send(h *rtp.Header, size int, now int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	of := b.sum[h.SSRC]
	if of == nil {
		of = &passed{}
		b.sum[h.SSRC] = of
	}
	f := flight{known: now + b.delay}
	if e := h.GetExtension(4); len(e) == 2 {
		f.seq = binary.BigEndian.Uint16(e)
	}
	start := max(b.free, now)
	if b.bad > 0 {
		b.burst = b.rng.Float64() < b.bad || (b.burst && b.rng.Float64() < 0.9)
	}
	if start-now > b.queue || b.rng.Float64() < b.loss || b.burst || (b.noPadding && h.Padding) {
		of.lost++
	} else {
		b.free = start + int64(size)*8*second/b.bps
		f.arrival = b.free + b.delay
		if b.pause != nil {
			b.readAt = max(b.pause(f.arrival), b.readAt+ms/10)
			f.arrival = b.readAt
		}
		f.known = f.arrival
		of.got++
		of.bytes += int64(size)
		of.lastAt = f.arrival
		of.delay = max(of.delay, f.arrival-now)
		b.high = max(b.high, (start-now)*b.bps/8/second)
	}
	b.flying = append(b.flying, f)
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
// What is known later is left for the next one, with all that was sent after it.
func (b *bottleneck) report(now int64) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pause != nil && b.pause(now-b.delay) > now-b.delay {
		return nil // it does not report either
	}
	n := 0
	for n < len(b.flying) && b.flying[n].known <= now-b.delay {
		n++
	}
	told := b.flying[:n]
	b.flying = b.flying[n:]
	if n == 0 {
		return nil
	}
	return feedbackOf(told)
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
	b = binary.BigEndian.AppendUint16(b, told[0].seq)
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
