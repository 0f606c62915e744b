package rtpx

// bitReader reads bits from the most significant one on. Behind the end it gives
// zeros and notes that it did.
type bitReader struct {
	b     []byte
	at    int // next bit
	short bool
}

// bits reads n bits, at most 32.
func (r *bitReader) bits(n int) (v uint32) {
	for range n {
		v <<= 1
		if r.at>>3 >= len(r.b) {
			r.short = true
			continue
		}
		v |= uint32(r.b[r.at>>3]>>(7-r.at&7)) & 1
		r.at++
	}
	return v
}

func (r *bitReader) bit() bool { return r.bits(1) != 0 }

// golomb reads an unsigned Exp-Golomb code (H.264 §9.1) of at most 32 bits.
func (r *bitReader) golomb() uint32 {
	zeros := 0
	for !r.bit() {
		if zeros++; zeros > 31 || r.short {
			r.short = true
			return 0
		}
	}
	return 1<<zeros - 1 + r.bits(zeros)
}

// signed reads a signed Exp-Golomb code (H.264 §9.1.1).
func (r *bitReader) signed() int64 {
	k := int64(r.golomb())
	if k&1 != 0 {
		return (k + 1) / 2
	}
	return -k / 2
}

// nonSymmetric reads a value below n in as few bits as are needed (AV1 §4.10.7).
func (r *bitReader) nonSymmetric(n uint32) uint32 {
	w := 0
	for x := n; x != 0; x >>= 1 {
		w++
	}
	if w == 0 {
		return 0
	}
	m := uint32(1)<<w - n
	v := r.bits(w - 1)
	if v < m {
		return v
	}
	return v<<1 - m + r.bits(1)
}

// bitWriter writes bits over zeroed bytes. Behind the end it drops them and notes so.
type bitWriter struct {
	b     []byte
	at    int
	short bool
}

func (w *bitWriter) bits(v uint32, n int) {
	for i := n - 1; i >= 0; i-- {
		if w.at>>3 >= len(w.b) {
			w.short = true
			return
		}
		w.b[w.at>>3] |= byte(v>>i&1) << (7 - w.at&7)
		w.at++
	}
}
