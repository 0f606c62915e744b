package signal

import "time"

// Bounds of a reorder window.
const (
	ReorderHeld = 64              // frames that wait for an earlier one
	ReorderGap  = 2 * time.Second // how long a frame waits for an earlier one
	MaxSeq      = 1<<53 - 1       // the highest Seq that JavaScript counts exactly
)

// Reorder puts the frames of one connection and direction in the order of their
// Seq, once each. API Gateway runs each frame as an invocation of its own, so
// frames overtake one another and may come twice. A frame with Seq 0 stands
// outside the order and is handed out at once.
//
// It is pure: it holds no clock and no timer. The owner calls Expire at the time
// that Deadline tells. The zero value expects Seq 1. It has one owner and no lock.
type Reorder struct {
	next uint64 // lowest Seq not handed out yet; 0 stands for 1
	held map[uint64]heldFrame

	// Counters, for the owner's logs and statistics.
	Doubled uint64 // frames dropped because they came twice, or after they were given up
	Skipped uint64 // frames given up
	Refused uint64 // frames whose Seq cannot be counted
}

type heldFrame struct {
	frame Frame
	since time.Time
}

// NewReorder expects first as the lowest Seq. The task uses it: its window opens
// with the join, which is seldom a connection's first frame.
func NewReorder(first uint64) *Reorder {
	return &Reorder{next: first}
}

// Push takes one frame and returns those that are due, in order.
func (r *Reorder) Push(now time.Time, f Frame) []Frame {
	if f.Seq == 0 {
		return append([]Frame{f}, r.Expire(now)...)
	}
	if f.Seq > MaxSeq {
		r.Refused++
		return r.Expire(now)
	}
	if r.next == 0 {
		r.next = 1
	}
	if _, twice := r.held[f.Seq]; twice || f.Seq < r.next {
		r.Doubled++
		return r.Expire(now)
	}
	if r.held == nil {
		r.held = make(map[uint64]heldFrame)
	}
	r.held[f.Seq] = heldFrame{f, now}
	return r.Expire(now)
}

// Expire returns the frames that are due at now: those with no gap before them,
// those that waited ReorderGap, and the lowest ones when too many are held.
func (r *Reorder) Expire(now time.Time) []Frame {
	due := r.drain(nil)
	for len(r.held) > ReorderHeld || r.late(now) {
		low := r.lowest()
		r.Skipped += low - r.next
		r.next = low
		due = r.drain(due)
	}
	return due
}

// Deadline tells when Expire is due, if any frame waits.
func (r *Reorder) Deadline() (time.Time, bool) {
	var first time.Time
	for _, h := range r.held {
		if first.IsZero() || h.since.Before(first) {
			first = h.since
		}
	}
	return first.Add(ReorderGap), len(r.held) > 0
}

// drain moves the frames without a gap before them from the window to due.
func (r *Reorder) drain(due []Frame) []Frame {
	for {
		h, ok := r.held[r.next]
		if !ok {
			return due
		}
		delete(r.held, r.next)
		r.next++
		due = append(due, h.frame)
	}
}

func (r *Reorder) late(now time.Time) bool {
	at, any := r.Deadline()
	return any && !now.Before(at)
}

func (r *Reorder) lowest() uint64 {
	low := uint64(MaxSeq)
	for seq := range r.held {
		low = min(low, seq)
	}
	return low
}
