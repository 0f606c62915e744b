package ingest

import "mayfly/roomtask/rtpx"

// admitted are the packets that one arrival brought: those restored from its
// redundancy, oldest first, and itself.
type admitted struct {
	pkts [rtpx.MaxREDBlocks]*rtpx.Packet
	n    int
}

func (a *admitted) add(p *rtpx.Packet) {
	if p != nil {
		a.pkts[a.n] = p
		a.n++
	}
}

// peel takes the primary out of a RED payload and leaves the older blocks in p.red,
// count of them. The caller holds mu.
func (p *Publisher) peel(in *incoming) (pt *payloadType, count int, ok bool) {
	n, err := rtpx.ParseRED(in.payload, &p.red)
	if err != nil {
		return nil, 0, false
	}
	in.pt, in.payload = p.red[n-1].PT, p.red[n-1].Data
	return p.table.pt(in.pt), n - 1, true
}

// restore makes packets of what was lost out of the redundant blocks of in, before in
// itself is received: what it restores is in its place then, and need not be asked for.
// A packet that was itself restored before may still bring what lies further back. news is as in receive. The caller holds mu.
func (l *layer) restore(p *Publisher, in *incoming, blocks []rtpx.REDBlock, out *admitted) (news bool) {
	if l.fresh || l.window.high == 0 {
		return false // the stream begins here
	}
	ext, _ := l.window.unwrap.Peek(in.seq)
	if ext+windowSize <= l.window.high || ext > l.window.high+maxDropout {
		return false
	}
	anchor, anchorTS, step := l.pace(ext, in.ts)
	for i := range blocks {
		b := &blocks[i]
		back := uint64(len(blocks) - i)
		if step > 0 && uint32(b.TSOffset)%step == 0 {
			back = uint64(uint32(b.TSOffset) / step)
		}
		lost, ts := ext-back, in.ts-uint32(b.TSOffset)
		switch {
		case b.PT != in.pt || len(b.Data) == 0 || b.TSOffset == 0 || back == 0:
		case lost < l.recv.base || lost == anchor || lost <= l.window.high && (lost+windowSize <= l.window.high || l.window.has(lost)):
		case anchor != 0 && (lost > anchor) != (int32(ts-anchorTS) > 0):
		default:
			old := incoming{codec: in.codec, pt: b.PT, seq: uint16(lost), ts: ts, payload: b.Data, restored: true, now: in.now}
			pkt, changed := l.receive(p, &old)
			out.add(pkt)
			news = news || changed
		}
	}
	return news
}

// pace finds a packet before ext that is there, and how many ticks apart packets are
// from it on if that is even: then the age of a block tells which packet it was.
// Otherwise, after a pause of the encoder, only the order of the blocks does.
func (l *layer) pace(ext uint64, ts uint32) (anchor uint64, anchorTS, step uint32) {
	if ext > l.window.high {
		anchor, anchorTS = l.window.high, l.lastTS
	} else {
		for e := ext - 1; e+rtpx.MaxREDBlocks >= ext; e-- {
			if old := l.ring.Get(e); old != nil {
				anchor, anchorTS = e, old.TS
				old.Release()
				break
			}
		}
	}
	if anchor == 0 {
		return 0, 0, 0
	}
	count, ticks := uint32(ext-anchor), ts-anchorTS
	if ticks == 0 || ticks > 1<<31 || ticks%count != 0 {
		return anchor, anchorTS, 0
	}
	return anchor, anchorTS, ticks / count
}

// restoredKept is how many restored packets are remembered, to know them when the
// original comes after all.
const restoredKept = 32

// restoredList remembers the newest restored packets.
type restoredList struct {
	exts [restoredKept]uint64
	next int
}

func (r *restoredList) add(ext uint64) {
	r.exts[r.next] = ext
	r.next = (r.next + 1) % restoredKept
}

// take says whether ext was restored, once.
func (r *restoredList) take(ext uint64) bool {
	for i, e := range r.exts {
		if e == ext {
			r.exts[i] = 0
			return true
		}
	}
	return false
}
