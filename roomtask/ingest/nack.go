package ingest

import (
	"slices"
	"time"
)

// The NACK schedule. A missing packet is first asked for when a second packet has
// come behind it (one may be mere reordering) or after nackDelay; again after
// max(nackRetry, RTT); and given up after nackTries.
const (
	nackDelay = int64(15 * time.Millisecond)
	nackRetry = int64(20 * time.Millisecond)
	nackTries = 10
	nackCap   = 320 // missing packets of one layer; beyond it a keyframe is cheaper
)

type missing struct {
	ext      uint64
	revealed uint64 // the packet whose arrival showed the gap
	since    int64
	sent     int64 // last time it was asked for
	tries    uint8
}

// nackList holds the missing packets of a layer, oldest first.
type nackList struct {
	list []missing // capacity nackCap, never grown
}

// add notes the numbers from..to (inclusive) as missing since now. It returns how
// many old ones it had to forget; if that is not zero, only a keyframe helps.
func (n *nackList) add(from, to, revealed uint64, now int64) (forgotten int) {
	if n.list == nil {
		n.list = make([]missing, 0, nackCap)
	}
	if count := to - from + 1; count > nackCap {
		forgotten = int(count - nackCap)
		from = to - nackCap + 1
	}
	if over := len(n.list) + int(to-from+1) - nackCap; over > 0 {
		forgotten += over
		n.list = slices.Delete(n.list, 0, over)
	}
	for ext := from; ext <= to; ext++ {
		n.list = append(n.list, missing{ext: ext, revealed: revealed, since: now})
	}
	return forgotten
}

// remove takes out a packet that has arrived. ok is false if it was not missing.
func (n *nackList) remove(ext uint64) (m missing, ok bool) {
	i, ok := slices.BinarySearchFunc(n.list, ext, func(m missing, ext uint64) int {
		switch {
		case m.ext < ext:
			return -1
		case m.ext > ext:
			return 1
		}
		return 0
	})
	if !ok {
		return missing{}, false
	}
	m = n.list[i]
	n.list = slices.Delete(n.list, i, i+1)
	return m, true
}

// dropBelow gives up everything older than ext, and returns how many that were.
func (n *nackList) dropBelow(ext uint64) int {
	i := 0
	for i < len(n.list) && n.list[i].ext < ext {
		i++
	}
	n.list = slices.Delete(n.list, 0, i)
	return i
}

// due appends to seqs the numbers to ask for now, and marks them asked. given is how
// many were given up.
func (n *nackList) due(seqs []uint16, now int64, high uint64, rtt int64) (out []uint16, given int) {
	retry := max(nackRetry, rtt)
	kept := n.list[:0]
	for _, m := range n.list {
		switch {
		case m.tries == 0 && high <= m.revealed && now-m.since < nackDelay:
		case m.tries > 0 && now-m.sent < retry:
		case m.tries >= nackTries:
			given++
			continue
		default:
			m.tries++
			m.sent = now
			seqs = append(seqs, uint16(m.ext))
		}
		kept = append(kept, m)
	}
	n.list = kept
	return seqs, given
}
