package ingest

import (
	"encoding/binary"

	"github.com/pion/rtcp"

	"mayfly/roomtask/rtpx"
)

// Limits of transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01).
const (
	twccWindow  = 4096       // sequence numbers kept, at most
	twccFirst   = 1024       // and at first
	twccBack    = 512        // how far a late packet may reopen what was reported
	twccTick    = 250_000    // nanoseconds per receive delta
	twccRefTick = 64_000_000 // nanoseconds per unit of reference time
)

// Packet status symbols.
const (
	symMissing = 0
	symSmall   = 1 // one byte of delta
	symLarge   = 2 // two bytes, signed
)

// recorder keeps the arrival times of transport-wide sequence numbers and makes
// feedback of them. Recording does not allocate.
type recorder struct {
	unwrap  rtpx.Unwrapper16
	arrival []int64 // by extended number modulo its length; 0 is not received
	begin   uint64  // first number that the next feedback tells
	end     uint64  // one above the highest received; 0 before the first packet
	media   uint32  // SSRC of the last packet
	count   uint8   // of feedback packets
	fresh   bool    // something arrived since the last feedback

	symbols []uint8 // scratch of build
	deltas  []int16
}

// at is the place of a number.
func (r *recorder) at(ext uint64) *int64 { return &r.arrival[ext%uint64(len(r.arrival))] }

// reach makes room for ext beside what has not been told, and what may be told again. There
// are some dozens of numbers between two feedbacks, but for large publishers.
func (r *recorder) reach(ext uint64) {
	for n := len(r.arrival); n < twccWindow && ext+1+twccBack > r.begin+uint64(n); n = len(r.arrival) {
		old := *r
		r.arrival = make([]int64, 2*n)
		for e := r.end - min(r.end, uint64(n)); e < r.end; e++ {
			*r.at(e) = *old.at(e)
		}
	}
}

// record notes a packet. Only the first arrival of a number counts.
func (r *recorder) record(ssrc uint32, seq uint16, now int64) {
	if r.arrival == nil {
		r.arrival = make([]int64, twccFirst)
	}
	ext := r.unwrap.Unwrap(seq)
	switch {
	case r.end == 0 || ext >= r.end+twccWindow/2:
		// A beginning, or a jump so far that what lies between is of no use.
		clear(r.arrival)
		r.begin, r.end = ext, ext+1
	case ext >= r.end:
		r.reach(ext)
		for e := r.end; e <= ext; e++ {
			*r.at(e) = 0
		}
		r.end = ext + 1
		if r.end-r.begin > twccWindow/2 {
			r.begin = r.end - twccWindow/2
		}
	case r.end-ext > min(uint64(len(r.arrival))-twccBack, twccWindow/2):
		return // its place may be another's
	case ext < r.begin:
		if r.begin-ext > twccBack || *r.at(ext) != 0 {
			return
		}
		r.begin = ext
	}
	r.media, r.fresh = ssrc, true
	if slot := r.at(ext); *slot == 0 {
		*slot = max(now, 1)
	}
}

// build appends the feedback packets that tell everything since the last build.
func (r *recorder) build(out []rtcp.Packet, sender uint32) []rtcp.Packet {
	if !r.fresh {
		return out
	}
	r.fresh = false
	for r.begin < r.end {
		p := r.buildOne(sender)
		if p == nil {
			break
		}
		out = append(out, p)
	}
	r.begin = r.end
	return out
}

// buildOne makes one feedback from begin, and moves begin behind what it tells.
func (r *recorder) buildOne(sender uint32) rtcp.Packet {
	first := r.begin
	for first < r.end && *r.at(first) == 0 {
		first++
	}
	if first == r.end {
		return nil
	}
	base := r.begin
	ref := *r.at(first) / twccRefTick
	r.collect(ref * twccRefTick)

	b := make([]byte, 20, 256)
	b[0], b[1] = 0x80|rtcp.FormatTCC, byte(rtcp.TypeTransportSpecificFeedback)
	binary.BigEndian.PutUint32(b[4:], sender)
	binary.BigEndian.PutUint32(b[8:], r.media)
	binary.BigEndian.PutUint16(b[12:], uint16(base))
	binary.BigEndian.PutUint16(b[14:], uint16(len(r.symbols)))
	binary.BigEndian.PutUint32(b[16:], uint32(ref)<<8|uint32(r.count))
	r.count++
	b = appendChunks(b, r.symbols)
	for i, s := range r.symbols {
		switch s {
		case symSmall:
			b = append(b, byte(r.deltas[i]))
		case symLarge:
			b = binary.BigEndian.AppendUint16(b, uint16(r.deltas[i]))
		}
	}
	if pad := (4 - len(b)%4) % 4; pad > 0 {
		b[0] |= 0x20
		b = append(b, make([]byte, pad)...)
		b[len(b)-1] = byte(pad)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)/4-1))
	p := rtcp.RawPacket(b)
	return &p
}

// collect fills symbols and deltas from begin as far as one packet can hold, and
// moves begin. Times are told in ticks since the packet before.
func (r *recorder) collect(reference int64) {
	r.symbols, r.deltas = r.symbols[:0], r.deltas[:0]
	last := reference / twccTick
	size := 20 + 3 // header and the most padding there can be
	for ; r.begin < r.end; r.begin++ {
		sym, delta := uint8(symMissing), int64(0)
		if at := *r.at(r.begin); at != 0 {
			delta = at/twccTick - last
			switch {
			case delta >= 0 && delta <= 0xFF:
				sym = symSmall
			case delta >= -0x8000 && delta <= 0x7FFF:
				sym = symLarge
			default:
				return // more than 8 s apart: the next packet has its own reference
			}
			last += delta
		}
		// At worst every seven symbols take a chunk of two bytes.
		need := int(sym)
		if len(r.symbols)%7 == 0 {
			need += 2
		}
		if size+need > maxDatagram {
			return
		}
		size += need
		r.symbols = append(r.symbols, sym)
		r.deltas = append(r.deltas, int16(delta))
	}
}

// appendChunks encodes the symbols: a run length where 14 or more are alike (or all
// that remain), a vector of 14 one-bit symbols where none has a large delta, else a
// vector of seven two-bit symbols. A last vector may be longer than what remains.
func appendChunks(b []byte, syms []uint8) []byte {
	for len(syms) > 0 {
		run := 1
		for run < len(syms) && run < 0x1FFF && syms[run] == syms[0] {
			run++
		}
		if run >= 14 || run == len(syms) {
			b = binary.BigEndian.AppendUint16(b, uint16(syms[0])<<13|uint16(run))
			syms = syms[run:]
			continue
		}
		n, bits, word := min(14, len(syms)), 1, uint16(0x8000)
		for _, s := range syms[:n] {
			if s == symLarge {
				n, bits, word = min(7, len(syms)), 2, 0xC000
				break
			}
		}
		for i, s := range syms[:n] {
			word |= uint16(s) << (14 - bits*(i+1))
		}
		b = binary.BigEndian.AppendUint16(b, word)
		syms = syms[n:]
	}
	return b
}
