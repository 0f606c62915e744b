package forward

// maxSpans bounds what a ranges remembers. Each drop that does not touch the one
// before takes two; packets older than the oldest span are too late to be of use.
const maxSpans = 128

// firstSpans is the room for them until more is needed: most streams drop nothing.
const firstSpans = 4

// span holds for the numbers from its own From up to the next span's: they are
// either dropped, or sent as n-off (modulo 2^64, so off may stand for a negative).
type span struct {
	from, off uint64
	drop      bool
}

// ranges maps the growing numbers of a source (extended sequence numbers, extended
// picture ids) to those that a subscriber sees, where dropped numbers leave no
// hole. It remembers where it dropped, so that a number that comes late still maps
// to its own place. The zero value maps nothing.
type ranges struct {
	spans []span // a ring, nil until reset; not to be copied
	first int    // index of the oldest span
	n     int    // spans in use; the newest one is open-ended and never dropped
}

// reset forgets everything and maps in to out, and all above it likewise.
func (r *ranges) reset(in, out uint64) {
	if r.spans == nil {
		r.spans = make([]span, firstSpans)
	}
	r.first, r.n = 0, 1
	r.spans[0] = span{from: in, off: in - out}
}

// at is the i-th oldest span.
func (r *ranges) at(i int) *span { return &r.spans[(r.first+i)%len(r.spans)] }

// drop leaves out the numbers lo..hi. Both must lie above every number that was
// sent or dropped before; numbers between those and lo keep their places.
func (r *ranges) drop(lo, hi uint64) {
	open := r.at(r.n - 1)
	off := open.off + (hi - lo + 1)
	if open.from == lo && r.n >= 2 && r.at(r.n-2).drop {
		open.from, open.off = hi+1, off // the dropped span before it just grows
		return
	}
	if open.from == lo {
		open.drop = true
	} else {
		r.push(span{from: lo, drop: true})
	}
	r.push(span{from: hi + 1, off: off})
}

func (r *ranges) push(s span) {
	switch {
	case r.n < len(r.spans):
	case r.n < maxSpans:
		r.grow()
	default:
		r.first = (r.first + 1) % maxSpans
		r.n--
	}
	r.n++
	*r.at(r.n - 1) = s
}

// grow makes room for twice as many, or for the first.
func (r *ranges) grow() {
	wider := make([]span, max(firstSpans, 2*len(r.spans)))
	for i := range r.n {
		wider[i] = *r.at(i)
	}
	r.spans, r.first = wider, 0
}

// get returns the number under which in is sent; false if it is dropped or older
// than what is remembered.
func (r *ranges) get(in uint64) (out uint64, ok bool) {
	for i := r.n - 1; i >= 0; i-- {
		if s := r.at(i); in >= s.from {
			return in - s.off, !s.drop
		}
	}
	return 0, false
}

// inverse returns the number that is sent as out, whether it came or not.
func (r *ranges) inverse(out uint64) (in uint64, ok bool) {
	end := ^uint64(0)
	for i := r.n - 1; i >= 0; i-- {
		s := r.at(i)
		if in = out + s.off; !s.drop && in >= s.from && in < end {
			return in, true
		}
		end = s.from
	}
	return 0, false
}
