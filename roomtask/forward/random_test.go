package forward

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sort"
	"testing"

	"mayfly/roomtask/ingest"
	"mayfly/roomtask/rtpx"
)

// The random test: publishers with simulcast and temporal layers send over a lossy
// path that reorders, repairs late, duplicates and pads; a subscriber changes layers,
// occupants and temporal limits, and asks for packets again. What the forwarder sent
// is then judged as a decoder would.

// origin tells where one packet that was fed came from.
type origin struct {
	source, layer int
	ssrc          uint32
	ext           uint64
	ts            uint32
	frame         int // of this source, counted over all its layers' lives
	tid           int
	first, key    bool
	marker        bool
	at            int64
}

// camera publishes three layers of pictures in the temporal pattern 0 2 1 2.
type camera struct {
	num    int
	feed   *feed
	layers [3]cameraLayer
}

type cameraLayer struct {
	ssrc        uint32
	ext         uint64
	tsOff       uint32
	pid         uint16
	tl0, keyidx uint8
	pattern     int
	asked       int
	late        []pending
}

// pending is a packet that will arrive late.
type pending struct {
	due int
	k   pkt
}

type world struct {
	t       *testing.T
	rng     *rand.Rand
	now     int64
	step    int
	cams    []*camera
	body    uint32
	origins map[uint32]origin // by body
	gone    map[string]bool   // packets that never arrive, by "source/layer/ext"
	d       *direct
	sent    map[uint64]sentOut // by extended sequence number
	seen    map[string]bool    // packets that came while their layer was sent
	unwrap  rtpx.Unwrapper16
	all     []sentOut
	lastRTX uint16
	resent  int
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 99)), now: start,
		origins: map[uint32]origin{}, gone: map[string]bool{}, sent: map[uint64]sentOut{}, seen: map[string]bool{}}
	w.d = newDirect(t, videoLine(), uint16(w.rng.Uint32()))
	w.lastRTX = w.d.f.rtxSeq
	for i := range 2 {
		c := &camera{num: i, feed: newFeed(3)}
		for l := range c.layers {
			w.restart(c, l)
		}
		w.cams = append(w.cams, c)
	}
	return w
}

// restart gives a layer another SSRC, as when the publisher joined again.
func (w *world) restart(c *camera, l int) {
	old := c.layers[l]
	for _, p := range old.late {
		w.gone[key(c, l, p.k.ext)] = true
	}
	c.layers[l] = cameraLayer{
		ssrc: old.ssrc + 1, ext: (old.ext>>16+2)<<16 + uint64(w.rng.Uint32()&0xFFFF), tsOff: w.rng.Uint32(),
		pid: uint16(w.rng.Uint32() & 0x7FFF), tl0: uint8(w.rng.Uint32()), keyidx: uint8(w.rng.Uint32() & 31),
		asked: -1,
	}
	c.feed.layers[l].sr = nil
}

func key(c *camera, l int, ext uint64) string { return fmt.Sprintf("%d/%d/%d", c.num, l, ext) }

// picture makes the next picture of every layer of c.
func (w *world) picture(c *camera, frame int) {
	for l := range c.layers {
		st := &c.layers[l]
		isKey := c.feed.layers[l].asked != st.asked && w.rng.IntN(3) == 0 || st.asked == -1
		if isKey {
			st.asked = c.feed.layers[l].asked
			st.pattern, st.keyidx = 0, (st.keyidx+1)&31
		}
		tid := []int{0, 2, 1, 2}[st.pattern%4]
		// After a picture of the base layer, the first of each higher one needs only that.
		sync := tid > 0 && (st.pattern%4 == 1 || st.pattern%4 == 2)
		st.pattern++
		st.pid = (st.pid + 1) & 0x7FFF
		if tid == 0 {
			st.tl0++
		}
		ts := st.tsOff + uint32(ticks(w.now-start, 90000))
		if w.rng.IntN(10) == 0 {
			c.feed.layers[l].sr = &ingest.SR{NTP: NTP(w.now), RTP: ts, At: w.now}
		}
		n := 1 + w.rng.IntN(4)
		for i := range n {
			desc := pic{id: st.pid, tl0: st.tl0, tid: uint8(tid), y: sync, key: st.keyidx, first: i == 0, isKey: isKey && i == 0}
			w.body++
			k := pkt{ssrc: st.ssrc, ext: st.ext, ts: ts, marker: i == n-1, at: w.now, key: isKey, payload: desc.payload(w.body)}
			w.origins[w.body] = origin{source: c.num, layer: l, ssrc: st.ssrc, ext: st.ext, ts: ts, frame: frame, tid: tid,
				first: i == 0, key: isKey, marker: i == n-1, at: w.now}
			st.ext++
			w.network(c, l, k)
		}
		if w.rng.IntN(6) == 0 {
			w.network(c, l, pkt{ssrc: st.ssrc, ext: st.ext, ts: ts, at: w.now})
			st.ext++
		}
	}
}

// network delivers, delays, doubles or loses k.
func (w *world) network(c *camera, l int, k pkt) {
	st := &c.layers[l]
	switch r := w.rng.IntN(100); {
	case r < 2:
		w.gone[key(c, l, k.ext)] = true
	case r < 10:
		st.late = append(st.late, pending{w.step + 1 + w.rng.IntN(12), k})
	case r < 12:
		w.deliver(c, l, k)
		st.late = append(st.late, pending{w.step + w.rng.IntN(5), k})
	default:
		w.deliver(c, l, k)
	}
	keep := st.late[:0]
	for _, p := range st.late {
		if p.due <= w.step {
			p.k.at = w.now
			w.deliver(c, l, p.k)
		} else {
			keep = append(keep, p)
		}
	}
	st.late = keep
	w.step++
}

// deliver feeds k. What comes while another layer is being sent is lost to this
// subscriber.
func (w *world) deliver(c *camera, l int, k pkt) {
	c.feed.giveVP8(w.t, l, k)
	id, cur := key(c, l, k.ext), &w.d.f.cur
	if cur.tap != nil && cur.tap.src == Source(c.feed) && cur.tap.layer == l && cur.ssrc == k.ssrc {
		w.seen[id] = true
		delete(w.gone, id)
	} else if !w.seen[id] {
		w.gone[id] = true
	}
}

// subscriber does what viewers and receivers do.
func (w *world) subscriber() {
	f := w.d.f
	switch w.rng.IntN(40) {
	case 0:
		f.Select(w.cams[w.rng.IntN(2)].feed, w.rng.IntN(3), w.now)
	case 1, 2:
		for _, c := range w.cams {
			if f.Selected(c.feed) {
				f.Select(c.feed, w.rng.IntN(3), w.now)
			}
		}
	case 3:
		f.SetMaxTID(int8(w.rng.IntN(4)))
	case 4:
		if w.rng.IntN(8) == 0 {
			w.restart(w.cams[w.rng.IntN(2)], w.rng.IntN(3))
		}
	case 5:
		f.Keyframe()
	case 6:
		if w.rng.IntN(10) == 0 {
			f.Select(nil, 0, w.now)
		}
	}
	f.Tick(w.now)
	for range 3 {
		w.nack(uint16(f.out) - uint16(w.rng.IntN(60)))
	}
}

// nack asks for a packet again and compares it with what was sent.
func (w *world) nack(seq uint16) {
	out, ok := w.d.f.CanResend(seq, w.now, 50e6)
	if !ok {
		return
	}
	h, payload, ok := w.d.f.Resend(out)
	if !ok {
		return
	}
	w.resent++
	was, known := w.sent[out]
	if !known {
		// It fills a hole: judged with all the others, as the receiver will take it.
		m := h.Clone()
		m.SequenceNumber = seq
		was = copyOut(w.t, &m, payload[2:], true)
		w.sent[out], w.all = was, append(w.all, was)
	}
	if h.SequenceNumber != w.lastRTX+1 || h.SSRC != 0x2222 || h.Timestamp != was.h.Timestamp || h.Marker != was.h.Marker {
		w.t.Fatalf("step %d: RTX header %+v after sequence %d, of %+v", w.step, h, w.lastRTX, was.h)
	}
	w.lastRTX = h.SequenceNumber
	if binary.BigEndian.Uint16(payload) != seq || !bytes.Equal(payload[2:], was.payload) {
		w.t.Fatalf("step %d: packet %d was sent again with other bytes\n%x\n%x", w.step, seq, was.payload, payload)
	}
}

func TestRandomStreamsDecode(t *testing.T) {
	seeds := uint64(4)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, seed)
			w.d.f.Select(w.cams[0].feed, 2, w.now)
			for frame := 0; w.step < 40_000; frame++ {
				w.now += int64(25e6 + w.rng.IntN(16e6))
				w.d.now = w.now
				for _, c := range w.cams {
					w.picture(c, frame)
				}
				for _, o := range w.d.take() {
					w.sent[w.unwrap.Unwrap(o.h.SequenceNumber)] = o
					w.all = append(w.all, o)
				}
				w.subscriber()
			}
			for _, c := range w.cams {
				for l := range c.layers {
					w.restart(c, l) // what is still on its way never arrives
				}
			}
			st := w.d.f.Stats()
			if len(w.all) < 3_000 || st.Switches < 20 || w.resent < 200 || st.Swallowed < 200 {
				t.Fatalf("too little happened: %d packets, %d resent, %+v", len(w.all), w.resent, st)
			}
			w.judge(w.all)
			checkPool(t, w)
		})
	}
}

// checkPool expects that no reference was lost: once the rings are empty, everything
// is back.
func checkPool(t *testing.T, w *world) {
	t.Helper()
	for _, c := range w.cams {
		for _, l := range c.feed.layers {
			l.ring.Clear()
		}
		if n := c.feed.pool.Out(); n != 0 {
			t.Errorf("%d bytes of packets are lost", n)
		}
	}
}

// outPacket is one sent packet in the order of sequence numbers.
type outPacket struct {
	sentOut
	ext  uint64 // extended sequence number
	from *origin
}

// judge checks the stream in the order in which a receiver puts it.
func (w *world) judge(all []sentOut) {
	w.t.Helper()
	ps := w.order(all)
	stints := splitStints(ps)
	frames := map[string]uint32{}
	for i, st := range stints {
		if st[0].from == nil || !st[0].from.key || !st[0].from.first {
			w.t.Fatalf("stint %d starts with %+v", i, st[0].from)
		}
		if i > 0 {
			w.judgeSwitch(stints[i-1], st)
		}
		w.judgeStint(st, frames)
	}
}

// order sorts by extended sequence number and refuses doubles.
func (w *world) order(all []sentOut) []outPacket {
	var u rtpx.Unwrapper16
	ps := make([]outPacket, len(all))
	for i, o := range all {
		ps[i] = outPacket{sentOut: o, ext: u.Unwrap(o.h.SequenceNumber)}
		if len(o.payload) > 0 {
			from, ok := w.origins[o.body]
			if !ok {
				w.t.Fatalf("packet %d carries nothing that was fed", i)
			}
			ps[i].from = &from
		}
	}
	sort.SliceStable(ps, func(i, j int) bool { return ps[i].ext < ps[j].ext })
	for i := 1; i < len(ps); i++ {
		if ps[i].ext == ps[i-1].ext {
			w.t.Fatalf("sequence number %d was used twice", ps[i].h.SequenceNumber)
		}
	}
	return ps
}

// splitStints cuts where source, layer or SSRC change; a filler belongs to the stint
// before it. Selecting a stream again makes a new stint too, which begins with a
// keyframe after a gap in the source's numbers; that is not told apart here.
func splitStints(ps []outPacket) (stints [][]outPacket) {
	var last *origin
	for _, p := range ps {
		if f := p.from; f != nil && (last == nil || f.source != last.source || f.layer != last.layer || f.ssrc != last.ssrc) {
			stints = append(stints, nil)
		}
		if p.from != nil {
			last = p.from
		}
		stints[len(stints)-1] = append(stints[len(stints)-1], p)
	}
	return stints
}

func lastReal(st []outPacket) outPacket {
	for i := len(st) - 1; ; i-- {
		if st[i].from != nil {
			return st[i]
		}
	}
}

func (w *world) judgeSwitch(a, b []outPacket) {
	w.t.Helper()
	end, begin := a[len(a)-1], b[0]
	if gap := begin.ext - end.ext - 1; gap > 1 {
		w.t.Fatalf("%d numbers missing at a switch, packet %d", gap, begin.h.SequenceNumber)
	}
	var high outPacket // what had the highest timestamp
	for _, p := range a {
		if high.from == nil || int32(p.h.Timestamp-high.h.Timestamp) > 0 {
			if p.from != nil {
				high = p
			}
		}
	}
	d := int32(begin.h.Timestamp - high.h.Timestamp)
	limit := int32(ticks(begin.from.at-high.from.at+maxLead, 90000)) + 2
	if d < 1 || d > limit {
		w.t.Fatalf("timestamp advanced by %d at a switch, %d allowed", d, limit)
	}
	if pid := lastReal(a).vp8.PictureID; begin.vp8.PictureID != (pid+1)&0x7FFF {
		w.t.Fatalf("picture id %d after %d at a switch", begin.vp8.PictureID, pid)
	}
	if k := lastReal(a).vp8; begin.vp8.TL0PicIdx != k.TL0PicIdx+1 || begin.vp8.KeyIdx != (k.KeyIdx+1)&31 {
		w.t.Fatalf("TL0PICIDX %d → %d, KEYIDX %d → %d at a switch", k.TL0PicIdx, begin.vp8.TL0PicIdx, k.KeyIdx, begin.vp8.KeyIdx)
	}
}

// judgeStint checks what lies between two switches.
func (w *world) judgeStint(st []outPacket, frames map[string]uint32) {
	w.t.Helper()
	var prev *outPacket
	for i := range st {
		p := &st[i]
		if p.from == nil {
			continue // a filler only takes a number
		}
		id := fmt.Sprintf("%d/%d/%d/%d", p.from.source, p.from.layer, p.from.ssrc, p.from.frame)
		if ts, ok := frames[id]; ok && ts != p.h.Timestamp {
			w.t.Fatalf("picture %s has timestamps %d and %d", id, ts, p.h.Timestamp)
		}
		frames[id] = p.h.Timestamp
		if p.h.Marker != p.from.marker || p.vp8.TID != uint8(p.from.tid) {
			w.t.Fatalf("packet %+v is not what was fed, %+v", p.h, p.from)
		}
		if prev != nil {
			w.judgePair(prev, p, st, i)
		}
		prev = p
	}
}

// judgePair checks two neighbours in the order of sequence numbers.
func (w *world) judgePair(a, b *outPacket, st []outPacket, at int) {
	w.t.Helper()
	fa, fb := a.from, b.from
	if fb.ext <= fa.ext {
		w.t.Fatalf("source packets %d, %d are sent as %d, %d", fa.ext, fb.ext, a.ext, b.ext)
	}
	// Holes in ours come only from packets that never arrived, or arrived when another
	// layer was being sent. Padding and dropped pictures leave none.
	var missing, fillers uint64
	for q := fa.ext + 1; q < fb.ext; q++ {
		if w.gone[key(w.cams[fa.source], fa.layer, q)] {
			missing++
		}
	}
	for j := at - 1; j >= 0 && st[j].from == nil; j-- {
		fillers++
	}
	hole := b.ext - a.ext - 1 - fillers
	resumed := fb.key && fb.first // possibly a new stint of the same stream
	if hole > missing && !resumed {
		w.t.Fatalf("%d numbers are missing between source packets %d and %d, of which %d were lost",
			hole, fa.ext, fb.ext, missing)
	}
	d := int32(b.h.Timestamp - a.h.Timestamp)
	if (fa.frame == fb.frame) != (d == 0) || d < 0 {
		w.t.Fatalf("timestamps %d, %d of pictures %d, %d", a.h.Timestamp, b.h.Timestamp, fa.frame, fb.frame)
	}
	w.judgePictures(a, b, missing+fillers, resumed) // a filler may stand for a picture that came too late
}

// judgePictures checks the picture ids of two neighbours.
func (w *world) judgePictures(a, b *outPacket, missing uint64, resumed bool) {
	w.t.Helper()
	step := (b.vp8.PictureID - a.vp8.PictureID) & 0x7FFF
	switch {
	case a.from.frame == b.from.frame:
		if step != 0 {
			w.t.Fatalf("one picture has ids %d and %d", a.vp8.PictureID, b.vp8.PictureID)
		}
		return
	case resumed:
		if step == 0 || step > 1+uint16(missing) && step > 64 {
			w.t.Fatalf("picture id %d after %d at a keyframe", b.vp8.PictureID, a.vp8.PictureID)
		}
		return
	case step == 0 || uint64(step-1) > missing:
		w.t.Fatalf("picture id %d after %d, with %d packets lost in between", b.vp8.PictureID, a.vp8.PictureID, missing)
	}
	// Every picture of the base layer must be there, or have been lost.
	if b.from.tid == 0 && b.vp8.TL0PicIdx-a.vp8.TL0PicIdx > uint8(1+missing) {
		w.t.Fatalf("TL0PICIDX %d after %d, with %d packets lost", b.vp8.TL0PicIdx, a.vp8.TL0PicIdx, missing)
	}
}
