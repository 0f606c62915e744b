package forward

import (
	"cmp"
	"slices"

	"mayfly/roomtask/rtpx"
)

// What must be true of everything that a viewer was sent, in the order of sequence
// numbers, which is the receiver's.

// judge checks all viewers, and that enough happened to mean something.
func (o *oracle) judge() {
	seen := map[rtpx.Codec]int{}
	for i, v := range o.viewers {
		all := v.sorted()
		for _, p := range all {
			if p.frame != nil {
				seen[o.pubs[p.frame.pub].style.codec]++
			}
		}
		st := v.f.Stats()
		o.t.Logf("viewer %d: %d packets, %d resent, %+v", i, len(all), v.resent, st)
		if len(all) < o.step/4 || st.Switches < uint64(o.step/200) || v.resent < o.step/40 || st.Swallowed < uint64(o.step/50) {
			o.t.Fatalf("too little happened to viewer %d: %d packets, %d resent, %+v", i, len(all), v.resent, st)
		}
		v.judge(all)
	}
	for c := rtpx.CodecVP8; c < rtpx.NumCodecs; c++ {
		if seen[c] < o.step/20 {
			o.t.Errorf("%d packets of %v", seen[c], c)
		}
	}
}

func (v *oracleViewer) sorted() []out {
	all := make([]out, 0, len(v.outs))
	for _, p := range v.outs {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b out) int { return cmp.Compare(a.ext, b.ext) })
	return all
}

// judge takes the stints one by one.
func (v *oracleViewer) judge(all []out) {
	highest := map[rtpx.Codec]uint16{} // number sent, by codec
	var before []out
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].stint == all[0].stint {
			n++
		}
		st := all[:n]
		all = all[n:]
		v.judgeStart(before, st, highest)
		v.judgeOrder(st)
		v.judgeNumbers(st, highest)
		v.judgeReferences(st)
		before = st
	}
}

// judgeStart checks what a stint begins with.
func (v *oracleViewer) judgeStart(before, st []out, highest map[rtpx.Codec]uint16) {
	t, first := v.o.t, st[0]
	if first.frame == nil || !first.frame.key || first.frame.sid != 0 || first.place != first.frame.packets[0] {
		t.Fatalf("stint %d begins with %+v of frame %+v", first.stint, first.h, first.frame)
	}
	if before == nil {
		return
	}
	last := before[len(before)-1]
	if gap := first.ext - last.ext - 1; gap > 1 {
		t.Fatalf("stint %d: %d numbers are missing before it", first.stint, gap)
	}
	high := before[0].h.Timestamp
	for _, p := range before {
		if int32(p.h.Timestamp-high) > 0 {
			high = p.h.Timestamp
		}
	}
	if d := int32(first.h.Timestamp - high); d < 1 {
		t.Fatalf("stint %d: the timestamp advances by %d", first.stint, d)
	}
	codec := v.o.pubs[first.frame.pub].style.codec
	if was, ok := highest[codec]; ok && codec != rtpx.CodecH264 && first.pid != v.wrap(codec, was+1) {
		t.Fatalf("stint %d: %v begins with number %d, the last was %d", first.stint, codec, first.pid, was)
	}
}

func (v *oracleViewer) wrap(c rtpx.Codec, n uint16) uint16 {
	if c == rtpx.CodecAV1 {
		return n
	}
	return n & 0x7FFF
}

// judgeOrder checks sequence, timestamps and markers within a stint.
func (v *oracleViewer) judgeOrder(st []out) {
	t := v.o.t
	var a *out
	var fillers uint64
	sent := map[int]bool{}
	for _, p := range st {
		sent[p.place] = sent[p.place] || p.frame != nil
	}
	for i := range st {
		b := &st[i]
		if b.frame == nil {
			fillers++
			continue
		}
		if a != nil {
			v.judgeNeighbours(a, b, fillers)
			v.judgeEnd(a, b, fillers, sent)
		}
		// A layer of a keyframe whose beginning is late is joined as it comes.
		if b.h.Marker && i+1 < len(st) && st[i+1].frame != nil && st[i+1].frame.picture == b.frame.picture && !b.frame.key {
			t.Fatalf("stint %d: a marker within picture %d of %+v, behind %+v", b.stint, b.frame.picture, v.o.pubs[b.frame.pub].style, b.frame)
		}
		a, fillers = b, 0
	}
}

// judgeNeighbours checks two packets that follow each other but for fillers.
func (v *oracleViewer) judgeNeighbours(a, b *out, fillers uint64) {
	t := v.o.t
	if b.frame.ssrc != a.frame.ssrc || b.place <= a.place {
		t.Fatalf("stint %d: packets %d, %d of SSRCs %d, %d are sent as %d, %d",
			a.stint, a.place, b.place, a.frame.ssrc, b.frame.ssrc, a.ext, b.ext)
	}
	missing := uint64(0)
	for at := a.place + 1; at < b.place; at++ {
		if !v.arrived[arrivedAt{a.stint, at, a.frame.ssrc}] {
			missing++
		}
	}
	hole := b.ext - a.ext - 1 - fillers
	if hole > missing {
		t.Fatalf("stint %d: %d numbers are missing between packets %d and %d, of which %d were lost",
			a.stint, hole, a.place, b.place, missing)
	}
	same := a.frame.picture == b.frame.picture
	if d := int32(b.h.Timestamp - a.h.Timestamp); same != (d == 0) || d < 0 {
		t.Fatalf("stint %d: pictures %d, %d have timestamps %d, %d", a.stint, a.frame.picture, b.frame.picture, a.h.Timestamp, b.h.Timestamp)
	}
}

// judgeEnd expects a marker on the last packet of a picture, where nothing is missing
// behind it. Of a picture whose references came too late, layers may be left out that
// were to be its last.
func (v *oracleViewer) judgeEnd(a, b *out, fillers uint64, sent map[int]bool) {
	if a.frame.picture == b.frame.picture || b.ext-a.ext-1 > 0 || fillers > 0 || a.h.Marker {
		return
	}
	missing := func(at int) bool { return !sent[at] }
	for _, f := range v.o.frames[a.frame.id:min(int(a.frame.id)+rtpx.MaxSpatial, len(v.o.frames))] {
		if f.ssrc == a.frame.ssrc && f.picture == a.frame.picture && f.sid <= 1+a.frame.sid &&
			slices.ContainsFunc(f.refs, func(r *frame) bool { return slices.ContainsFunc(r.packets, missing) }) {
			return
		}
	}
	v.o.t.Fatalf("stint %d: picture %d of %+v ends without a marker", a.stint, a.frame.picture, v.o.pubs[a.frame.pub].style)
}

// judgeNumbers checks picture ids and frame numbers within a stint: VP8's grow by one
// whatever was left out; those that tell references keep their distances.
func (v *oracleViewer) judgeNumbers(st []out, highest map[rtpx.Codec]uint16) {
	t := v.o.t
	codec := v.o.pubs[st[0].frame.pub].style.codec
	base := highest[codec]
	last := st[0]
	for i := range st {
		p := &st[i]
		if p.frame == nil || codec == rtpx.CodecH264 {
			continue
		}
		switch {
		case codec == rtpx.CodecVP8 && p.frame != last.frame:
			step := v.wrap(codec, p.pid-last.pid)
			if step == 0 || uint64(step-1) > p.ext-last.ext-1 {
				t.Fatalf("stint %d: picture id %d after %d, with %d packets between", p.stint, p.pid, last.pid, p.ext-last.ext-1)
			}
		case codec == rtpx.CodecVP8 && p.pid != last.pid:
			t.Fatalf("stint %d: one picture has ids %d, %d", p.stint, last.pid, p.pid)
		case codec != rtpx.CodecVP8 && v.wrap(codec, p.pid-st[0].pid) != v.wrap(codec, p.frame.number-st[0].frame.number):
			t.Fatalf("stint %d: %v numbers %d, %d were sent as %d, %d", p.stint, codec,
				st[0].frame.number, p.frame.number, st[0].pid, p.pid)
		}
		last = *p
		if v.wrap(codec, p.pid-base) < 0x4000 || i == 0 {
			base = p.pid
		}
	}
	highest[codec] = base
}

// judgeReferences checks that all that a frame needs was sent, or that the receiver
// sees by the sequence that something is missing.
func (v *oracleViewer) judgeReferences(st []out) {
	t := v.o.t
	var real []out // in the order of the source, too
	sent := map[int]bool{}
	for _, p := range st {
		if p.frame != nil {
			real = append(real, p)
			sent[p.place] = true
		}
	}
	done := map[*frame]bool{}
	for _, p := range real {
		if done[p.frame] {
			continue
		}
		done[p.frame] = true
		for _, need := range append([]*frame{p.frame}, p.frame.refs...) {
			for _, at := range need.packets {
				if !sent[at] && !v.visible(real, at) {
					t.Fatalf("stint %d: frame %+v needs packet %d of frame %+v, which was not sent, and no number is missing; lost: %v",
						p.stint, p.frame, at, need, !v.arrived[arrivedAt{p.stint, at, need.ssrc}])
				}
			}
		}
	}
}

// visible says whether the sequence shows that the packet at a place of the source is
// missing. Behind the last packet that was sent, it is about to.
func (v *oracleViewer) visible(real []out, at int) bool {
	i, _ := slices.BinarySearchFunc(real, at, func(p out, at int) int { return p.place - at })
	switch {
	case i == 0:
		return false
	case i == len(real):
		return true
	}
	return real[i].ext-real[i-1].ext > 1
}
