package sendq

import (
	"sync"

	"github.com/pion/rtcp"

	"mayfly/roomtask/forward"
	"mayfly/roomtask/rtpx"
)

// Bounds of an inbox. Video is what one sender is behind by when 1024 packets wait,
// 0.4 s at 30 Mbit/s: it will not catch up. Audio has its own room, so that no video
// can push it out.
const (
	videoRoom    = 1024
	audioRoom    = 256
	feedbackRoom = 256 // RTCP that a subscriber may have waiting
)

// entry is one packet on its way to one line. The inbox holds a reference to p.
type entry struct {
	line *line
	tap  *forward.Tap
	p    *rtpx.Packet
}

// feedback is RTCP about our stream ssrc.
type feedback struct {
	ssrc uint32
	p    rtcp.Packet
}

// fifo is a bounded ring of entries.
type fifo struct {
	slots []entry // set once
	first int
	n     int
}

// put adds e, pushing out the oldest entry when there is no room.
func (q *fifo) put(e entry) (out entry, full bool) {
	if q.n == len(q.slots) {
		out, full = q.slots[q.first], true
		q.first = (q.first + 1) % len(q.slots)
		q.n--
	}
	q.slots[(q.first+q.n)%len(q.slots)] = e
	q.n++
	return out, full
}

// moveTo appends all entries to dst and forgets them.
func (q *fifo) moveTo(dst []entry) []entry {
	for ; q.n > 0; q.n-- {
		dst = append(dst, q.slots[q.first])
		q.slots[q.first] = entry{}
		q.first = (q.first + 1) % len(q.slots)
	}
	return dst
}

// inbox is where other goroutines leave things for the sender's. One wake announces
// any number of them.
type inbox struct {
	wake chan struct{} // capacity 1, set once

	mu       sync.Mutex
	audio    fifo
	video    fifo
	commands []func() // from the room: few, never dropped, in order
	feedback []feedback
	tickAt   int64 // 0 = no tick waits
	closed   bool
	drops    Drops
}

func (b *inbox) init() {
	b.wake = make(chan struct{}, 1)
	b.audio.slots = make([]entry, audioRoom)
	b.video.slots = make([]entry, videoRoom)
}

func (b *inbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// push leaves a packet. The oldest of its kind is dropped when there is no room; a
// video line that lost one is told, since it must wait for a keyframe.
func (b *inbox) push(e entry) {
	e.p.Retain()
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		e.p.Release()
		return
	}
	q, count := &b.audio, &b.drops.AudioOverflow
	if e.line.out.video {
		q, count = &b.video, &b.drops.VideoOverflow
	}
	old, full := q.put(e)
	if full {
		*count++
	}
	b.mu.Unlock()
	if full {
		old.tap.Lost.Store(true)
		old.p.Release()
	}
	b.signal()
}

// command leaves a change for the sender's goroutine. It returns false after close.
func (b *inbox) command(f func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.commands = append(b.commands, f)
	b.signal()
	return true
}

func (b *inbox) addFeedback(f feedback) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	if len(b.feedback) >= feedbackRoom {
		b.drops.Feedback++
		return
	}
	b.feedback = append(b.feedback, f)
	b.signal()
}

func (b *inbox) tick(now int64) {
	b.mu.Lock()
	b.tickAt = now // one that still waits is as good as two
	b.mu.Unlock()
	b.signal()
}

// batch is what the sender's goroutine took from the inbox at one time. Its slices
// are reused.
type batch struct {
	audio, video []entry
	commands     []func()
	feedback     []feedback
	tickAt       int64
	closed       bool
}

// take moves everything to c; video only when c has none left, so that what is
// waiting stays bounded.
func (b *inbox) take(c *batch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.audio = b.audio.moveTo(c.audio[:0])
	if len(c.video) == 0 {
		c.video = b.video.moveTo(c.video)
	}
	c.commands, b.commands = b.commands, c.commands[:0]
	c.feedback, b.feedback = b.feedback, c.feedback[:0]
	c.tickAt, b.tickAt = b.tickAt, 0
	c.closed = b.closed
}

func (b *inbox) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.signal()
}

func (b *inbox) dropped() Drops {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.drops
}
