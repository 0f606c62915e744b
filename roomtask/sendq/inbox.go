package sendq

import (
	"encoding/binary"
	"slices"
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
	firstRoom    = 16       // of each, until more is needed
	feedbackRoom = 256      // RTCP that a subscriber may have waiting
	twccRoom     = 16 << 10 // bytes of transport-wide feedback, some 300 reports
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

// fifo is a bounded queue of entries that is filled by one and emptied by another
// as a whole. It grows to what is needed, up to room.
type fifo struct {
	slots []entry
	head  int // the oldest; other than 0 only when full
}

// put adds e, pushing out the oldest entry when room entries are there.
func (q *fifo) put(e entry, room int) (out entry, full bool) {
	if len(q.slots) < room {
		if q.slots == nil {
			q.slots = make([]entry, 0, firstRoom)
		}
		q.slots = append(q.slots, e)
		return out, false
	}
	out, q.slots[q.head] = q.slots[q.head], e
	if q.head++; q.head == len(q.slots) {
		q.head = 0
	}
	return out, true
}

// straighten puts the oldest entry first, in place: who is behind overflows at every turn,
// and must not make garbage as well.
func (q *fifo) straighten() {
	if q.head != 0 {
		slices.Reverse(q.slots[:q.head])
		slices.Reverse(q.slots[q.head:])
		slices.Reverse(q.slots)
		q.head = 0
	}
}

// inbox is where other goroutines leave things for the sender's. One wake announces
// any number of them.
type inbox struct {
	owner *Sender // set once

	mu       sync.Mutex
	awake    bool // the sender was woken, and has not found the inbox empty since
	hurried  bool // the sender is among the worker's urgent ones
	audio    fifo
	video    fifo
	commands []func() // from the room: few, never dropped, in order
	feedback []feedback
	twcc     []byte // feedback packets as they came, one after the other
	nudges   nudge
	closed   bool
	drops    Drops
}

// nudge says why the sender was woken beside what lies in the inbox.
type nudge uint8

const (
	nudgeTick nudge = 1 << iota
	nudgeWheel
)

// unlock ends a change that the sender must hear of, and wakes it unless it is awake.
// It finds all that was left before it sleeps again.
func (b *inbox) unlock() {
	wake := !b.awake
	b.awake = true
	b.mu.Unlock()
	if wake {
		b.owner.worker.add(b.owner)
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
	var old entry
	var full, hurry bool
	if e.line.out.video {
		if old, full = b.video.put(e, videoRoom); full {
			b.drops.VideoOverflow++
		}
	} else {
		if old, full = b.audio.put(e, audioRoom); full {
			b.drops.AudioOverflow++
		}
		hurry = b.awake && !b.hurried // it waits for its turn, or has it
		b.hurried = b.hurried || hurry
	}
	b.unlock()
	if hurry {
		b.owner.worker.hurry(b.owner)
	}
	if full {
		old.tap.Lost.Store(true)
		old.p.Release()
	}
}

// command leaves a change for the sender's goroutine. It returns false after close.
func (b *inbox) command(f func()) bool {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return false
	}
	b.commands = append(b.commands, f)
	b.unlock()
	return true
}

func (b *inbox) addFeedback(f feedback) {
	b.mu.Lock()
	if b.closed || len(b.feedback) >= feedbackRoom {
		b.drops.Feedback++
		b.mu.Unlock()
		return
	}
	b.feedback = append(b.feedback, f)
	b.unlock()
}

// addTWCC copies a transport-wide feedback packet. They are told apart again by the
// lengths in their headers.
func (b *inbox) addTWCC(p []byte) {
	if len(p) < 4 || len(p) != 4*(1+int(binary.BigEndian.Uint16(p[2:]))) {
		return
	}
	b.mu.Lock()
	if b.closed || len(b.twcc)+len(p) > twccRoom {
		b.drops.Feedback++
		b.mu.Unlock()
		return
	}
	b.twcc = append(b.twcc, p...)
	b.unlock()
}

// nudge wakes the sender to look at the time.
func (b *inbox) nudge(n nudge) {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return
	}
	b.nudges |= n // one that still waits is as good as two
	b.unlock()
}

// batch is what the sender's goroutine took from the inbox at one time. Its slices
// are reused.
type batch struct {
	audio, video fifo
	commands     []func()
	feedback     []feedback
	twcc         []byte
	nudges       nudge
	closed       bool
}

// take moves everything to c; video only when c has none left, so that what is
// waiting stays bounded. It returns false when there was nothing, and then the next
// thing left wakes the sender; busy says that it goes on anyway.
func (b *inbox) take(c *batch, busy bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.closed = b.closed
	c.nudges, b.nudges = b.nudges, 0
	any := c.nudges != 0 || b.closed || len(b.audio.slots)+len(b.video.slots)+len(b.commands)+len(b.feedback)+len(b.twcc) > 0
	if !any {
		b.awake = busy
		return busy
	}
	c.audio, b.audio = b.audio, fifo{slots: c.audio.slots[:0]}
	if len(c.video.slots) == 0 {
		c.video, b.video = b.video, fifo{slots: c.video.slots[:0]}
	}
	c.commands, b.commands = b.commands, c.commands[:0]
	c.feedback, b.feedback = b.feedback, c.feedback[:0]
	c.twcc, b.twcc = b.twcc, c.twcc[:0]
	return true
}

// takeAudio moves the audio alone to c, which has none, for a sender that was hurried.
func (b *inbox) takeAudio(c *batch) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hurried = false
	if b.closed || len(b.audio.slots) == 0 {
		return false
	}
	c.audio, b.audio = b.audio, fifo{slots: c.audio.slots[:0]}
	return true
}

func (b *inbox) close() {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return
	}
	b.closed = true
	b.unlock()
}

func (b *inbox) dropped() Drops {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.drops
}
