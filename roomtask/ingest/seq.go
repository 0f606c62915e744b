package ingest

import "mayfly/roomtask/rtpx"

// windowSize is how far back, in packets, the duplicate filter remembers: more than
// two seconds of a 4 Mbit/s stream.
const windowSize = 1024

// maxDropout is the forward jump (RFC 3550 A.1) above which the stream is taken as
// begun anew: nothing between is asked for or counted as lost.
const maxDropout = 3000

// verdict is what a sequence number means for the stream.
type verdict uint8

const (
	vNext      verdict = iota // newer than all before
	vFill                     // fills a gap
	vDuplicate                // seen before
	vLate                     // too old to tell
	vJump                     // far ahead: a new beginning
)

// seqWindow extends sequence numbers and remembers which of the last windowSize
// were seen.
type seqWindow struct {
	unwrap rtpx.Unwrapper16
	seen   [windowSize / 64]uint64
	high   uint64 // highest accepted, 0 before the first packet
}

// accept notes seq as received. For vNext, the numbers strictly between the former
// highest (prev) and ext are missing.
func (w *seqWindow) accept(seq uint16) (ext, prev uint64, v verdict) {
	prev = w.high
	if prev == 0 {
		ext = w.unwrap.Unwrap(seq)
		w.begin(ext)
		return ext, ext - 1, vNext
	}
	ext, _ = w.unwrap.Peek(seq)
	switch {
	case ext > prev+maxDropout:
		w.unwrap.Unwrap(seq)
		w.begin(ext)
		return ext, prev, vJump
	case ext > prev:
		w.unwrap.Unwrap(seq)
		for e := prev + 1; e < ext; e++ {
			w.clear(e)
		}
		w.set(ext)
		w.high = ext
		return ext, prev, vNext
	case prev-ext >= windowSize:
		return ext, prev, vLate
	case w.has(ext):
		return ext, prev, vDuplicate
	}
	w.set(ext)
	return ext, prev, vFill
}

// restart continues above all former numbers with the first packet of another SSRC.
func (w *seqWindow) restart(seq uint16) (ext uint64) {
	ext = w.unwrap.Restart(seq)
	w.begin(ext)
	return ext
}

// begin forgets what was seen before ext. Numbers just below ext count as unseen, so
// that a packet that overtook its elders at the very start is no loss to them.
func (w *seqWindow) begin(ext uint64) {
	w.seen = [windowSize / 64]uint64{}
	w.set(ext)
	w.high = ext
}

func (w *seqWindow) set(ext uint64)      { w.seen[ext%windowSize/64] |= 1 << (ext % 64) }
func (w *seqWindow) clear(ext uint64)    { w.seen[ext%windowSize/64] &^= 1 << (ext % 64) }
func (w *seqWindow) has(ext uint64) bool { return w.seen[ext%windowSize/64]&(1<<(ext%64)) != 0 }
