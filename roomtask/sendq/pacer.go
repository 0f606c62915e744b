package sendq

// queueClass orders what waits to be sent: all of one goes before any of the next.
type queueClass int8

// The queues, the most urgent first.
const (
	queueAudio queueClass = iota
	queueAudioRTX
	queueRTCP
	queueScreenKey
	queueVideoRTX
	queueScreen
	queueSpeaker
	queuePinned
	queueOther
	queueProbe
	numQueues
)

const (
	paceNum, paceDen = 5, 2    // of the estimate: a frame leaves in 13 of its 33 ms
	paceBurstTime    = 10 * ms // two turns of the wheel
	paceBurstMin     = 1500
	paceBurstMax     = 10 * 1200
	paceMinBps       = 100_000
	// Video that waits longer than this at the estimate's rate comes too late to be
	// worth its place; a keyframe of some size must fit at any rate.
	paceRoomTime  = 400 * ms
	paceRoomMin   = 64 << 10
	paceRoomCount = 2 * videoRoom // packets of all sizes
	paceResume    = 4             // what was shed comes back when this part of the room is left in use
)

// waiting is one packet of T in a pacer. Packets of one line and frame are dropped
// together.
type waiting[T any] struct {
	item  T
	size  int
	line  int // of the video, small numbers from 0; −1 = none, as for audio and retransmissions
	frame uint32
}

// keptWaiting is how many packets an empty queue may have room for: what a keyframe took
// is not kept until the next one.
const keptWaiting = 16

// packetQueue is first in, first out; its room is reused.
type packetQueue[T any] struct {
	slots []waiting[T]
	first int
	bytes int64
}

func (q *packetQueue[T]) len() int { return len(q.slots) - q.first }

func (q *packetQueue[T]) put(w waiting[T]) {
	if q.first > 0 && len(q.slots) == cap(q.slots) {
		n := copy(q.slots, q.slots[q.first:])
		clear(q.slots[n:])
		q.slots, q.first = q.slots[:n], 0
	}
	q.slots = append(q.slots, w)
	q.bytes += int64(w.size)
}

func (q *packetQueue[T]) take() (w waiting[T]) {
	w = q.slots[q.first]
	q.slots[q.first] = waiting[T]{}
	q.first++
	q.bytes -= int64(w.size)
	if q.first == len(q.slots) {
		if q.slots, q.first = q.slots[:0], 0; cap(q.slots) > keptWaiting {
			q.slots = nil
		}
	}
	return w
}

type frameOf struct {
	frame uint32
	set   bool
}

// lineFrames is what is true of a line's frames: the one that has begun to go is not
// dropped half way, and of the last that was dropped nothing more is taken. A line that
// lost a frame is shed: the receiver cannot decode what follows, so no new frame of it
// is taken until the queue is short again.
type lineFrames struct {
	begun, gone frameOf
	shed        bool
}

// pacer decides which packet goes out next, and when. Audio and RTCP never wait, but
// what they take is taken from video (spend). It is pure: time and rate are arguments,
// and one goroutine calls it. The zero value with drop set is ready.
type pacer[T any] struct {
	// drop is told of each packet that will not be sent; set before first use.
	drop func(T)

	queues [numQueues]packetQueue[T]
	bps    int64 // the estimate
	tokens int64 // bytes; below 0 after audio
	at     int64 // of the last refill
	rtx    rtxBudget
	lines  []lineFrames // by the line's number
	count  int          // packets that wait
}

// setRate takes the estimate in bits per second. A lower one leaves less room.
func (p *pacer[T]) setRate(bps int64) {
	p.bps = max(bps, paceMinBps)
	p.fit()
}

func (p *pacer[T]) fit() {
	for (p.videoBytes() > p.room() || p.count > paceRoomCount) && p.shed() {
	}
}

// lighten makes those packets of a line that light picks weigh nothing, because they
// will be left out when their turn comes.
func (p *pacer[T]) lighten(line int, light func(T) bool) {
	for c := queueScreenKey; c < numQueues; c++ {
		q := &p.queues[c]
		for i := q.first; i < len(q.slots); i++ {
			if w := &q.slots[i]; w.line == line && light(w.item) {
				q.bytes -= int64(w.size)
				w.size = 0
			}
		}
	}
}

// push lets item wait. When video has no more room, what waits of the least valuable
// line is dropped, in whole frames; never audio.
func (p *pacer[T]) push(class queueClass, item T, size, line int, frame uint32) {
	if class > queueRTCP && line >= 0 && p.refused(p.of(line), frameOf{frame, true}) {
		p.drop(item)
		return
	}
	p.queues[class].put(waiting[T]{item, size, line, frame})
	p.count++
	p.fit()
}

// refused says that a packet of frame f is not taken, because its line was shed.
func (p *pacer[T]) refused(l *lineFrames, f frameOf) bool {
	switch {
	case l.gone == f:
		return true
	case !l.shed || l.begun == f:
		return false
	case p.videoBytes() > p.room()/paceResume:
		l.gone = f
		return true
	}
	l.shed = false
	return false
}

func (p *pacer[T]) room() int64 {
	return max(paceRoomMin, p.bps/8*paceRoomTime/second)
}

// videoBytes is what may be dropped: everything but audio and RTCP.
func (p *pacer[T]) videoBytes() (n int64) {
	for c := queueScreenKey; c < numQueues; c++ {
		n += p.queues[c].bytes
	}
	return n
}

// shed drops all frames that have not begun of a line in the least valuable queue that
// has one, and returns whether there was any. Retransmissions go last but for
// keyframes of screens: each repairs something that was sent already.
func (p *pacer[T]) shed() bool {
	for c := queueProbe; c >= queueScreenKey; c-- {
		if p.shedFrom(&p.queues[c]) {
			return true
		}
	}
	return false
}

func (p *pacer[T]) shedFrom(q *packetQueue[T]) bool {
	for i := q.first; i < len(q.slots); i++ {
		w := &q.slots[i]
		if w.line >= 0 && p.of(w.line).begun == (frameOf{w.frame, true}) {
			continue
		}
		p.dropLine(q, w.line)
		return true
	}
	return false
}

func (p *pacer[T]) dropLine(q *packetQueue[T], line int) {
	var begun frameOf
	if line >= 0 {
		p.of(line).shed = true
		begun = p.of(line).begun
	}
	keep := q.slots[:q.first]
	for _, w := range q.slots[q.first:] {
		if w.line == line && begun != (frameOf{w.frame, true}) {
			if line >= 0 {
				p.of(line).gone = frameOf{w.frame, true}
			}
			q.bytes -= int64(w.size)
			p.count--
			p.drop(w.item)
			continue
		}
		keep = append(keep, w)
	}
	clear(q.slots[len(keep):])
	q.slots = keep
	if q.len() == 0 {
		q.slots, q.first = q.slots[:0], 0
	}
}

// next returns the packet to send now, if one may go.
func (p *pacer[T]) next(now int64) (w waiting[T], class queueClass, ok bool) {
	p.refill(now)
	return p.pick(false)
}

// pick takes the most urgent packet, if one may go; with force, one may.
func (p *pacer[T]) pick(force bool) (w waiting[T], class queueClass, ok bool) {
	for c := queueAudio; c < numQueues; c++ {
		q := &p.queues[c]
		if q.len() == 0 {
			continue
		}
		if c > queueRTCP && p.tokens <= 0 && !force {
			break
		}
		if c == queueVideoRTX && p.rtx.bytes <= 0 && !force {
			continue
		}
		w = q.take()
		p.count--
		p.tokens = max(p.tokens-int64(w.size), -2*p.burst())
		switch {
		case c == queueVideoRTX:
			p.rtx.bytes -= int64(w.size)
		case c >= queueScreenKey && c < queueProbe:
			if w.line >= 0 {
				p.of(w.line).begun = frameOf{w.frame, true}
			}
		}
		return w, c, true
	}
	return w, 0, false
}

// settle corrects what next took for a packet of class, when in the end it was written
// with other than its size, or not at all.
func (p *pacer[T]) settle(class queueClass, size, written int) {
	d := int64(size - written)
	p.tokens = min(p.tokens+d, p.burst())
	if class == queueVideoRTX {
		p.rtx.bytes += d
	}
}

// empty gives up all that waits.
func (p *pacer[T]) empty() {
	for c := range p.queues {
		for q := &p.queues[c]; q.len() > 0; p.count-- {
			p.drop(q.take().item)
		}
	}
}

// spend counts what went out beside the queues.
func (p *pacer[T]) spend(size int, now int64) {
	p.refill(now)
	p.tokens = max(p.tokens-int64(size), -2*p.burst())
}

// delay is how long all that waits takes at the estimate's rate.
func (p *pacer[T]) delay() int64 {
	return p.videoBytes() * 8 * second / max(p.bps, paceMinBps)
}

// of returns what is true of a line's frames.
func (p *pacer[T]) of(line int) *lineFrames {
	for len(p.lines) <= line {
		p.lines = append(p.lines, lineFrames{})
	}
	return &p.lines[line]
}

// wait is how long nothing may go, as far as is known; −1 = nothing waits.
func (p *pacer[T]) wait(now int64) int64 {
	p.refill(now)
	urgent := p.queues[queueAudio].len() + p.queues[queueAudioRTX].len() + p.queues[queueRTCP].len()
	switch {
	case urgent > 0:
		return 0
	case p.videoBytes() == 0:
		return -1
	case p.tokens > 0 && p.videoBytes() > p.queues[queueVideoRTX].bytes:
		return 0
	}
	d := (1-p.tokens)*8*second/p.pace() + 1
	if p.videoBytes() == p.queues[queueVideoRTX].bytes && p.rtx.bytes <= 0 {
		d = max(d, (1-p.rtx.bytes)*8*second/max(p.bps/rtxShare, rtxMinRate)+ms)
	}
	return max(0, d)
}

func (p *pacer[T]) pace() int64 { return max(p.bps, paceMinBps) * paceNum / paceDen }

func (p *pacer[T]) burst() int64 {
	return min(max(p.pace()/8*paceBurstTime/second, paceBurstMin), paceBurstMax)
}

func (p *pacer[T]) refill(now int64) {
	dt := min(now-p.at, second)
	if dt <= 0 {
		return
	}
	// Whole bytes only; what is left of the time counts at the next call.
	bytes := p.pace() / 8 * dt / second
	if bytes == 0 {
		return
	}
	p.tokens = min(p.tokens+bytes, p.burst())
	p.at = now
	p.rtx.refill(now, p.bps)
}
