package forward

import "mayfly/roomtask/ingest"

const (
	second      = int64(1e9)
	clockWindow = 15 * second
	// ntpUnix is the time from the NTP epoch (1900) to Unix's (1970), in seconds.
	ntpUnix = 2208988800
)

// Clock relates one publisher's wall clock, as its sender reports tell it, to ours.
// All sources of a publisher must share one Clock: then what the network does to a
// single report moves audio and video by the same amount, and lip-sync holds. The
// offset is the smallest seen in the last 15 to 30 s, because a delayed report only
// makes it larger. It is owned by one goroutine.
type Clock struct {
	cur, prev   int64 // smallest (our time − publisher's time) of this window and of the last, ns
	start       int64 // of this window, our time
	have, older bool
}

// Update takes in a sender report.
func (c *Clock) Update(sr ingest.SR) {
	off := sr.At - ntpNanos(sr.NTP)
	switch {
	case !c.have:
		c.have, c.cur, c.start = true, off, sr.At
	case sr.At-c.start > clockWindow:
		c.prev, c.older = c.cur, true
		c.cur, c.start = off, sr.At
	default:
		c.cur = min(c.cur, off)
	}
}

// Local converts the publisher's NTP time to our time in nanoseconds; false before
// the first Update.
func (c *Clock) Local(ntp uint64) (ns int64, ok bool) {
	if !c.have {
		return 0, false
	}
	off := c.cur
	if c.older {
		off = min(off, c.prev)
	}
	return ntpNanos(ntp) + off, true
}

// ntpNanos converts a 32.32 fixed-point NTP time to nanoseconds since 1900. The
// largest one is 4.3e18, which fits.
func ntpNanos(ntp uint64) int64 {
	return int64(ntp>>32)*second + int64((ntp&0xFFFFFFFF)*uint64(second)>>32)
}

// NTP converts our time, nanoseconds since 1970, to 32.32 fixed-point NTP time.
func NTP(ns int64) uint64 {
	sec, frac := uint64(ns/second)+ntpUnix, uint64(ns%second)
	return sec<<32 | frac<<32/uint64(second)
}

// ticks converts nanoseconds to RTP clock units, also negative ones. It is split so
// that hours do not overflow.
func ticks(ns int64, rate uint32) int64 {
	return ns/second*int64(rate) + ns%second*int64(rate)/second
}
