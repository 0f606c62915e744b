package ingest

import "mayfly/roomtask/rtpx"

// inspect looks into the payload. changed says that the picture's size or layers
// changed; ok is false if the packet must not be forwarded. The caller holds
// Publisher.mu.
func (l *layer) inspect(p *Publisher, pkt *rtpx.Packet, in *incoming) (changed, ok bool) {
	newest := pkt.ExtSeq == l.window.high
	defer func() {
		if newest {
			l.lastTS = pkt.TS
		}
	}()
	switch {
	case !pkt.Video:
		pkt.Start, pkt.Key = true, true
		return false, true
	case len(pkt.Payload()) == 0:
		return false, true
	}
	// The first packet of a frame, as far as timestamps tell: the one before it came,
	// and was of another frame.
	begins := newest && pkt.TS != l.lastTS && l.window.has(pkt.ExtSeq-1)
	var key bool
	var err error
	switch pkt.Codec {
	case rtpx.CodecVP8:
		key, err = l.inspectVP8(pkt)
	case rtpx.CodecVP9:
		key, changed, err = l.inspectVP9(pkt, newest)
	case rtpx.CodecH264:
		key, err = l.inspectH264(pkt, newest, begins)
	case rtpx.CodecAV1:
		key, changed, err = l.inspectAV1(pkt, in.dd, newest, begins)
	default:
		pkt.Start = begins
	}
	if err != nil {
		return false, false
	}
	if key {
		changed = l.keyframe(p, pkt) || changed
	}
	pkt.Key = l.hasKey && pkt.TS == l.keyTS
	return changed, true
}

// keyframe notes that pkt begins one, or goes on to tell its size.
func (l *layer) keyframe(p *Publisher, pkt *rtpx.Packet) (changed bool) {
	if !l.hasKey || l.keyTS != pkt.TS {
		l.keyTS, l.hasKey = pkt.TS, true
		l.keyframes++
		l.gate.keyframe()
		l.asked.Store(false)
		p.stats.Lost += uint64(l.nacks.dropBelow(pkt.ExtSeq))
	}
	if w, h := pkt.Width, pkt.Height; w != 0 && (w != l.width || h != l.height) {
		l.width, l.height, changed = w, h, true
	}
	return changed
}

func (l *layer) inspectVP8(pkt *rtpx.Packet) (key bool, err error) {
	d, err := rtpx.ParseVP8(pkt.Payload())
	if err != nil {
		return false, err
	}
	pkt.VP8, pkt.TID, pkt.Start = d, int8(d.TID), d.FrameStart()
	key, pkt.Width, pkt.Height = rtpx.VP8Key(pkt.Payload(), d)
	return key, nil
}

func (l *layer) inspectVP9(pkt *rtpx.Packet, newest bool) (key, changed bool, err error) {
	var ss rtpx.VP9Structure
	d, err := rtpx.ParseVP9(pkt.Payload(), &ss)
	if err != nil || d.SID >= rtpx.MaxSpatial {
		return false, false, rtpx.ErrVP9
	}
	pkt.VP9, pkt.SID, pkt.TID, pkt.Start = d, int8(d.SID), int8(d.TID), d.FrameStart()
	if d.HasSS && newest {
		changed = l.structure(ss.Layers, ss.Width[:], ss.Height[:])
	}
	if key = d.Begin && d.Key(); key {
		pkt.Width, pkt.Height = rtpx.VP9Size(pkt.Payload(), d)
		if d.HasSS {
			// The size of a source is that of its largest layer.
			top := min(ss.Layers, rtpx.MaxSpatial) - 1
			pkt.Width, pkt.Height = max(pkt.Width, ss.Width[top]), max(pkt.Height, ss.Height[top])
		}
	}
	return key, changed, nil
}

// inspectH264 takes for the beginning of a frame what nothing of the frame can come
// before: parameter sets, or the packet behind the end of another frame.
func (l *layer) inspectH264(pkt *rtpx.Packet, newest, begins bool) (key bool, err error) {
	h, err := rtpx.ParseH264(pkt.Payload())
	if err != nil {
		return false, err
	}
	pkt.Start = begins || newest && pkt.TS != l.lastTS && h.Head
	pkt.Width, pkt.Height = h.Width, h.Height
	return h.Key && newest, nil
}

func (l *layer) inspectAV1(pkt *rtpx.Packet, raw []byte, newest, begins bool) (key, changed bool, err error) {
	a, err := rtpx.ParseAV1(pkt.Payload())
	if err != nil {
		return false, false, err
	}
	pkt.Width, pkt.Height = a.Width, a.Height
	pkt.Start = !a.Continues && (a.Key || begins)
	if len(raw) == 0 {
		return a.Key, false, nil
	}
	d, err := l.dd.Parse(raw, newest)
	if err != nil || !pkt.FillDD(raw) {
		// Of a structure that was lost, or too long to keep: the packet is of use only
		// to those who need no descriptor.
		return a.Key, false, nil
	}
	pkt.DD, pkt.SID, pkt.TID = d, int8(d.SID), int8(d.TID)
	pkt.Start = d.First && d.SID == 0
	if d.HasStructure && newest {
		s := d.S
		changed = l.structure(s.Spatial, s.Width[:], s.Height[:])
		if top := s.Spatial - 1; s.HasSizes {
			pkt.Width, pkt.Height = s.Width[top], s.Height[top]
		}
	}
	return a.Key || d.HasStructure, changed, nil
}

// structure takes in how many spatial layers the stream has, and their sizes. Layers
// that the publisher leaves out for a while rest, and keep their sizes: they are still
// to be had.
func (l *layer) structure(count int, width, height []uint16) (changed bool) {
	count = min(max(count, 1), rtpx.MaxSpatial)
	if int32(count) > l.spatial.Load() {
		l.spatial.Store(int32(count))
		changed = true
	}
	for i := range count {
		if size := (size{width[i], height[i]}); size != l.sizes[i] && size.width != 0 {
			l.sizes[i], changed = size, true
		}
	}
	return changed
}

// size is a picture's, in pixels.
type size struct{ width, height uint16 }
