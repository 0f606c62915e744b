package rtpx

import "sync/atomic"

// Ring keeps the newest packets of one layer by their extended sequence number.
// One goroutine at a time may call Put, Trim and Clear; Get may run on any number
// of others at the same time and takes no lock.
type Ring struct {
	slots []atomic.Pointer[Packet]
	mask  uint64 // set once
	low   uint64 // owned by the writer: nothing below it is in the ring
	high  uint64 // owned by the writer: one above the newest packet, 0 when empty
}

// NewRing makes a ring for size packets, rounded up to a power of two.
func NewRing(size int) *Ring {
	n := 1
	for n < size {
		n <<= 1
	}
	return &Ring{slots: make([]atomic.Pointer[Packet], n), mask: uint64(n - 1)}
}

// Put adds p, retaining it, and releases the packet whose place it takes. A packet
// that is older than the one in its place is not kept.
func (r *Ring) Put(p *Packet) {
	size := uint64(len(r.slots))
	if r.high != 0 && p.ExtSeq+size < r.high {
		return
	}
	slot := &r.slots[p.ExtSeq&r.mask]
	old := slot.Load()
	if old != nil && old.ExtSeq >= p.ExtSeq {
		return
	}
	p.Retain()
	slot.Store(p)
	if old != nil {
		old.Release()
	}
	if r.high == 0 || p.ExtSeq < r.low {
		r.low = p.ExtSeq
	}
	r.high = max(r.high, p.ExtSeq+1)
	if r.high-r.low > size {
		r.low = r.high - size
	}
}

// Get returns the packet with that extended sequence number, retained for the
// caller, or nil.
//
// The packet may be overwritten and recycled between the load and the retain, so
// it counts only if it is in its place afterwards: then the ring held a reference
// at that moment, and the packet cannot have changed since it was put there.
func (r *Ring) Get(ext uint64) *Packet {
	slot := &r.slots[ext&r.mask]
	p := slot.Load()
	if p == nil || !p.tryRetain() {
		return nil
	}
	if slot.Load() != p || p.ExtSeq != ext {
		p.Release()
		return nil
	}
	return p
}

// Trim releases the packets at the old end that arrived before the given time.
// It stops at the first one that is young enough.
func (r *Ring) Trim(before int64) {
	for r.low < r.high {
		slot := &r.slots[r.low&r.mask]
		if p := slot.Load(); p != nil && p.ExtSeq == r.low {
			if p.Arrival >= before {
				return
			}
			slot.Store(nil)
			p.Release()
		} else if p != nil && p.ExtSeq < r.low {
			// Left over from before a jump of the sequence.
			slot.Store(nil)
			p.Release()
		}
		r.low++
	}
}

// Clear releases everything.
func (r *Ring) Clear() {
	for i := range r.slots {
		if p := r.slots[i].Swap(nil); p != nil {
			p.Release()
		}
	}
	r.low, r.high = 0, 0
}

// Len counts the packets in the ring. It is for the writer's own use.
func (r *Ring) Len() int {
	n := 0
	for i := range r.slots {
		if r.slots[i].Load() != nil {
			n++
		}
	}
	return n
}
