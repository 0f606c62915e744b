package ingest

import "time"

// clockWindow is the time over which the smallest offset counts: long enough for a few
// reports of each source, short enough to follow a clock that drifts by 100 parts per
// million within 3 ms.
const clockWindow = int64(15 * time.Second)

// senderClock relates a publisher's wall clock, as its sender reports tell it, to ours.
// Packets that come faster than the reports did make it more exact.
// All its sources share one: then what the network does to a single report moves audio
// and video by the same amount, and lip-sync holds. The offset is the smallest seen in
// the last 15 to 30 s, because a delayed report only makes it larger. It is guarded by
// Publisher.mu.
type senderClock struct {
	cur, prev   int64 // smallest (our time − publisher's time) of this window and of the last, ns
	start       int64 // of this window, our time
	have, older bool
}

// update takes in a report of the publisher's time ntp that arrived at our time at.
func (c *senderClock) update(ntp uint64, at int64) {
	c.note(at-NTPNanos(ntp), at)
}

const (
	// clockReach is how far a packet may be from the report by which its time is told:
	// two of libwebrtc's intervals for video.
	clockReach = int64(2 * time.Second)
	// clockTrust is by how much a single packet may make the offset smaller: a report has
	// rarely waited longer. A stream whose timestamps leap would make it anything.
	clockTrust = int64(250 * time.Millisecond)
)

// packet takes in a packet that arrived at our time at, whose timestamp the last report of
// its stream explains. It cannot have come before it was captured, so it may show that
// all reports so far were late, as the first one of a publisher may be on a path with
// jitter.
func (c *senderClock) packet(sr *SR, ts, rate uint32, at int64) {
	if !c.have || rate == 0 {
		return
	}
	since := int64(int32(ts-sr.RTP)) * int64(time.Second) / int64(rate)
	off := at - NTPNanos(sr.NTP) - since
	if since < -clockReach || since > clockReach || off >= c.cur || off < c.cur-clockTrust {
		return
	}
	c.note(off, at)
}

func (c *senderClock) note(off, at int64) {
	switch {
	case !c.have:
		c.have, c.cur, c.start = true, off, at
	case at-c.start > clockWindow:
		c.prev, c.older = c.cur, true
		c.cur, c.start = off, at
	default:
		c.cur = min(c.cur, off)
	}
}

// local converts the publisher's time to ours. It means something only after the first
// update.
func (c *senderClock) local(ntp uint64) int64 {
	off := c.cur
	if c.older {
		off = min(off, c.prev)
	}
	return NTPNanos(ntp) + off
}

// NTPNanos converts a 32.32 fixed-point NTP time to nanoseconds since 1900. The largest
// one is 4.3e18, which fits.
func NTPNanos(ntp uint64) int64 {
	const second = int64(time.Second)
	return int64(ntp>>32)*second + int64((ntp&0xFFFFFFFF)*uint64(second)>>32)
}
