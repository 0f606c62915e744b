package robot

import (
	"math"
	"math/bits"

	"github.com/pion/rtp/codecs"
)

// A judge says what of a stream arrived in the end. It is given packets by their
// sequence, unwrapped, whichever way they came: as sent, retransmitted, or recovered
// from redundancy. It is owned by whoever holds the receiver's lock.

// settleAfter is how many packets a missing one is given to come.
const settleAfter = 256

// gaps counts what is missing for good.
type gaps struct {
	have    [1024]bool // by sequence
	started bool
	highest uint64
	settled uint64 // all below are counted
	Lost    int64
	Got     int64
}

// take notes a sequence; false if it was there already, or comes too late to matter.
func (g *gaps) take(seq uint64) bool {
	if !g.started {
		g.started, g.highest, g.settled = true, seq, seq
		g.have[seq%uint64(len(g.have))] = true
		g.Got++
		return true
	}
	if seq < g.settled {
		return false
	}
	for g.highest < seq {
		g.highest++
		if g.highest-g.settled >= settleAfter {
			g.settle()
		}
		g.have[g.highest%uint64(len(g.have))] = false
	}
	h := &g.have[seq%uint64(len(g.have))]
	if *h {
		return false
	}
	*h = true
	g.Got++
	return true
}

func (g *gaps) settle() {
	if !g.have[g.settled%uint64(len(g.have))] {
		g.Lost++
	}
	g.settled++
}

// missing lists what is missing between the oldest that is still waited for and the
// newest, and is not older than so many packets.
func (g *gaps) missing(window uint64, into []uint64) []uint64 {
	if !g.started {
		return into
	}
	from := g.settled
	if g.highest > window && from < g.highest-window {
		from = g.highest - window
	}
	for seq := from; seq < g.highest; seq++ {
		if !g.have[seq%uint64(len(g.have))] {
			into = append(into, seq)
		}
	}
	return into
}

// frames puts video packets in order and says which frames a decoder could show.
type frames struct {
	ring    [1024]piece
	started bool
	next    uint64 // sequence to be looked at
	highest uint64
	chain   bool // all references of the next frame are there
	open    bool // a frame has begun
	key     bool // it is a keyframe
	pid     uint16
	lastPID uint16
	hurt    bool // a frame could not be shown since the last keyframe

	Shown, Keys, Broken int64
	Width, Height       int
}

// piece is what a judge keeps of a packet.
type piece struct {
	seq           uint64
	there         bool
	start, marker bool
	key           bool
	pid           uint16
	width, height int
}

// patience is how many later packets a missing one may hold up its frame.
const patience = 200

// take notes a video packet.
func (f *frames) take(seq uint64, marker bool, payload []byte) {
	var d codecs.VP8Packet
	frame, err := d.Unmarshal(payload)
	if err != nil {
		return
	}
	p := piece{seq: seq, there: true, start: d.S == 1 && d.PID == 0, marker: marker, pid: d.PictureID}
	if p.start {
		p.key = isKey(frame)
		if p.key && len(frame) >= 10 {
			p.width = int(frame[6]) | int(frame[7]&0x3f)<<8
			p.height = int(frame[8]) | int(frame[9]&0x3f)<<8
		}
	}
	if !f.started {
		f.started, f.next, f.highest = true, seq, seq
	}
	if seq < f.next {
		return
	}
	if seq >= f.next+uint64(len(f.ring)) { // too long a hole to wait for
		f.breakOff()
		f.next = seq - patience
	}
	f.ring[seq%uint64(len(f.ring))] = p
	f.highest = max(f.highest, seq)
	f.advance()
}

// breakOff notes that something is missing for good.
func (f *frames) breakOff() {
	if f.open {
		f.Broken++
	}
	f.open, f.chain, f.hurt = false, false, true
}

func (f *frames) advance() {
	for f.next <= f.highest {
		p := &f.ring[f.next%uint64(len(f.ring))]
		if !p.there || p.seq != f.next {
			if f.highest-f.next < patience {
				return
			}
			f.breakOff()
			f.next++
			continue
		}
		f.consume(p)
		p.there = false
		f.next++
	}
}

func (f *frames) consume(p *piece) {
	if p.start {
		if f.open {
			f.breakOff() // the end of the frame before did not come
		}
		f.open, f.key, f.pid = true, p.key, p.pid
		if p.key && p.width > 0 {
			f.Width, f.Height = p.width, p.height
		}
	}
	if !f.open || !p.marker {
		return
	}
	f.open = false
	switch {
	case f.key:
		f.Keys++
		f.chain, f.hurt = true, false
	case !f.chain || (f.lastPID+1)&0x7fff != f.pid&0x7fff:
		f.chain, f.hurt = false, true
		f.Broken++
		return
	}
	f.lastPID = f.pid
	f.Shown++
}

// Histogram counts times between 1 µs and an hour, each to within 6 %. The zero value
// is ready.
type Histogram struct {
	n       [48 * 16]int64
	total   int64
	longest int64
}

// Add counts one time, in ns.
func (h *Histogram) Add(ns int64) {
	us := uint64(max(ns/1000, 1))
	e := bits.Len64(us) - 1
	i := e * 16
	if e >= 4 {
		i += int(us>>(e-4)) & 15
	} else {
		i += int(us<<(4-e)) & 15
	}
	h.n[min(i, len(h.n)-1)]++
	h.total++
	h.longest = max(h.longest, ns)
}

// Merge adds what another has counted.
func (h *Histogram) Merge(o *Histogram) {
	for i, n := range o.n {
		h.n[i] += n
	}
	h.total += o.total
	h.longest = max(h.longest, o.longest)
}

// Count is how many times were added, Max the longest of them in ns.
func (h *Histogram) Count() int64 { return h.total }
func (h *Histogram) Max() int64   { return h.longest }

// Quantile returns the time in ns that a share q does not exceed; 0 without any.
func (h *Histogram) Quantile(q float64) int64 {
	want := int64(math.Ceil(q * float64(h.total)))
	for i, n := range h.n {
		if want -= n; want <= 0 && h.total > 0 {
			upper := math.Ldexp(1+float64(i%16+1)/16, i/16)
			return min(int64(upper*1000), h.longest)
		}
	}
	return h.longest
}
