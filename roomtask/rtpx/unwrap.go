package rtpx

// Unwrapper16 extends a 16-bit counter that wraps. Its first value v becomes
// 1<<16 + v, so that a packet from before the first one still has a number.
type Unwrapper16 struct {
	last    uint64
	started bool
}

// Unwrap returns the extended number nearest to the highest one seen so far.
func (u *Unwrapper16) Unwrap(v uint16) uint64 {
	if !u.started {
		u.started = true
		u.last = 1<<16 + uint64(v)
		return u.last
	}
	d := int16(v - uint16(u.last))
	ext := u.last + uint64(int64(d))
	u.last = max(u.last, ext)
	return ext
}

// Peek is Unwrap without moving on. It returns false before the first Unwrap.
func (u *Unwrapper16) Peek(v uint16) (uint64, bool) {
	if !u.started {
		return 0, false
	}
	return u.last + uint64(int64(int16(v-uint16(u.last)))), true
}

// Last is the highest extended number so far.
func (u *Unwrapper16) Last() (uint64, bool) { return u.last, u.started }

// Restart makes the next number continue above all former ones although the
// counter begins anew at v, as when a layer comes back under another SSRC. The gap
// is at least one whole cycle, so no old number can be taken for a new one.
func (u *Unwrapper16) Restart(v uint16) uint64 {
	if !u.started {
		return u.Unwrap(v)
	}
	u.last = (u.last>>16+2)<<16 | uint64(v)
	return u.last
}

// Unwrapper32 extends a 32-bit counter that wraps, as RTP timestamps do.
type Unwrapper32 struct {
	last    uint64
	started bool
}

// Unwrap returns the extended number nearest to the last one. The first value v
// becomes 1<<32 + v.
func (u *Unwrapper32) Unwrap(v uint32) uint64 {
	if !u.started {
		u.started = true
		u.last = 1<<32 + uint64(v)
		return u.last
	}
	u.last += uint64(int64(int32(v - uint32(u.last))))
	return u.last
}
