package forward

import "mayfly/roomtask/rtpx"

// maxREDPayload bounds a payload with redundancy, so that the packet fits a path of
// 1280 bytes with its headers, extensions and authentication tag. Opus at 128 kbit/s
// with two former packets takes 1000.
const maxREDPayload = 1180

// SetRED makes every packet of audio carry the distance packets before it as well
// (RFC 2198), up to MaxRED; 0 sends plain packets. It takes effect with the next
// packet. A line that did not negotiate RED stays plain.
func (f *Forwarder) SetRED(distance int) {
	if f.line.REDPT == 0 || f.line.Video {
		distance = 0
	}
	f.red = max(0, min(distance, MaxRED))
}

// RED returns the distance in use: each packet costs about 1+RED times its payload.
func (f *Forwarder) RED() int { return f.red }

// protect writes p and the packets before it to the scratch as one RED payload, and
// returns its size; 0 when no redundancy is to be had, and p goes out plain. What it
// adds are packets of this stint that are still in the source's ring. One before a
// pause of the encoder (DTX) is too old for the format; one that is too large for it
// is left out.
func (f *Forwarder) protect(p *rtpx.Packet) (size int) {
	c := &f.cur
	var held [MaxRED]*rtpx.Packet
	var blocks [MaxRED + 1]rtpx.REDBlock
	room := maxREDPayload - 1 - len(p.Payload())
	n := MaxRED // blocks[n:] are filled, from the newest to the oldest
	blocks[n] = rtpx.REDBlock{PT: f.line.PT, Data: p.Payload()}
	for d := uint64(1); d <= uint64(f.red) && p.ExtSeq >= c.first+d; d++ {
		old := c.tap.src.Lookup(c.tap.layer, p.ExtSeq-d)
		if old == nil {
			continue
		}
		offset := p.TS - old.TS
		fits := len(old.Payload()) <= min(rtpx.MaxREDSize, room-4)
		if old.SSRC != p.SSRC || len(old.Payload()) == 0 || offset == 0 || offset > rtpx.MaxREDOffset || !fits {
			old.Release()
			continue
		}
		n--
		held[n] = old
		room -= 4 + len(old.Payload())
		blocks[n] = rtpx.REDBlock{PT: f.line.PT, TSOffset: uint16(offset), Data: old.Payload()}
	}
	if n < MaxRED {
		size = rtpx.WriteRED(f.scratch(), blocks[n:])
	}
	for _, old := range held {
		if old != nil {
			old.Release()
		}
	}
	return size
}
