package forward

const (
	second = int64(1e9)
	// ntpUnix is the time from the NTP epoch (1900) to Unix's (1970), in seconds.
	ntpUnix = 2208988800
)

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

// nanos is the inverse of ticks, for less than a day.
func nanos(ticks int64, rate uint32) int64 { return ticks * second / int64(rate) }
