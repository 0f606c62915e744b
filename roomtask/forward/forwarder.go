package forward

import (
	"sync/atomic"

	"github.com/pion/rtp"

	"mayfly/roomtask/ingest"
	"mayfly/roomtask/rtpx"
)

// State of a Forwarder.
type State int8

// The states. A forwarder in WaitKey sends nothing; one in Switch sends the current
// layer until the wanted one has a keyframe.
const (
	Off State = iota
	WaitKey
	Live
	Switch
)

func (s State) String() string { return [...]string{"off", "wait-key", "live", "switch"}[s] }

const (
	// maxGap is the largest hole in a source's sequence that is forwarded as a loss.
	// Behind a larger one the stream starts again: nobody could repair the hole, and
	// jumps of 2^15 would make SRTP lose count (RFC 3711 §3.3.1).
	maxGap = 1024
	// maxLead is how far a timestamp may run ahead of the time that has passed since
	// the previous source's last frame. More would make receivers grow their delay.
	maxLead = 75 * second / 1000
	// keyframeEvery is the time between requests while a keyframe is awaited. ingest
	// merges the requests of all subscribers and spaces them out for the publisher.
	keyframeEvery = 200 * second / 1000
)

// Source is what a forwarder needs of a published source. *ingest.Source is one;
// tests drive another by hand. All methods may be called from any goroutine.
type Source interface {
	// Stream is the number of the stream that carries a layer: the other methods
	// take that.
	Stream(layer int) int
	AddTap(layer int, t ingest.Tap)
	AddSeeded(layer int, t ingest.Tap) (ingest.Seed, bool)
	RemoveTap(layer int, t ingest.Tap)
	RequestKeyframe(layer int)
	Lookup(layer int, ext uint64) *rtpx.Packet
	SenderReport(layer int) (ingest.SR, bool)
}

// Sink takes packets from the goroutine that received them to the one that owns the
// forwarder. Push must not block, and must retain p to keep it.
type Sink interface {
	Push(t *Tap, p *rtpx.Packet)
}

// Tap listens to one stream of one source on behalf of a forwarder. A forwarder
// makes a new one for each selection, so a packet that was on its way when the
// selection changed is known by its stale tap.
type Tap struct {
	F     *Forwarder  // set once
	Lost  atomic.Bool // set by the sink when it had to throw away a packet of this tap
	sink  Sink        // set once
	src   Source      // set once
	layer int         // set once: the stream, which with simulcast is the layer

	seed    ingest.Seed // owned by the forwarder: what it was given when it was added
	high    uint64      // owned by the forwarder: newest extended sequence number that arrived
	started bool        // owned by the forwarder: high is valid
}

// Deliver implements ingest.Tap.
func (t *Tap) Deliver(p *rtpx.Packet) { t.sink.Push(t, p) }

// stint is the time between two switches: one layer of one source under one SSRC.
type stint struct {
	tap      *Tap
	ssrc     uint32
	first    uint64 // extended sequence number of its first packet
	high     uint64 // newest one
	seqs     ranges
	tsOff    uint32 // source's timestamp − ours
	seed     ingest.Seed
	newTS    uint32 // source's timestamp of the newest packet
	dropTS   uint32 // the same, if that was dropped
	dropping bool
	svc      bool       // the stream carries all layers of the source
	codec    rtpx.Codec // of all its packets
	lim      limit      // that applies to the present picture
}

// Stats count what a forwarder did since it was made.
type Stats struct {
	Packets, Octets uint32 // sent on the media SSRC; octets of payload, as in sender reports
	Resent          uint64 // packets sent on the RTX SSRC
	Switches        uint64 // stints begun
	Swallowed       uint64 // padding-only packets and dropped temporal layers
	Stale           uint64 // packets of a former selection, or older than the switch
	Duplicate       uint64
	Unrepaired      uint64 // NACKs for packets that are not to be had any more
}

// Forwarder carries one source at a time over one m-line of one subscriber: it
// chooses the layer's packets, rewrites them into one continuous stream, sends them
// again when asked, and reports on the stream. It has no channel, clock or socket;
// one goroutine, its Sender's, calls all methods.
type Forwarder struct {
	line Line
	sink Sink // set once
	head headers

	state   State
	cur     stint     // meaningful from the first stint on; cur.tap is nil while nothing is sent
	next    *Tap      // awaited: in WaitKey and Switch
	waiting int64     // since when a keyframe is awaited, ns
	askedAt int64     // last keyframe request, ns
	want    limit     // of the next picture
	red     int       // former packets that each packet of audio carries
	last    reference // where the last stint ended

	out          uint64 // newest sequence number used, extended
	keyOut       uint64 // first packet of the newest keyframe, or of the stint for audio
	ts           uint32 // newest timestamp sent
	tsAt         int64  // arrival of the first packet that had it
	marker       bool   // the newest packet ended its frame
	begun        bool   // something was sent
	rtxSeq       uint16
	reportAt     int64 // when the next sender report may be due, ns; 0 = at once
	told         told
	fastest      timeline // the present as the fastest packet of the stint tells it
	sent         sentRing
	munger       munger       // of the stint's codec: one of those below, or nil
	vp8          *vp8Pictures // nil until a packet of the codec comes, like the next two
	vp9          *vp9Munger
	av1          *av1Munger
	firstPicture uint64           // of our own numbers, extended
	types        rtpx.PayloadType // of the stint's codec
	room         *Scratch         // nil until one is needed
	stats        Stats
}

// Scratch is where a forwarder writes what differs from the source's payload. It is of use
// to one at a time: until the packet that was written there has been sent.
type Scratch [rtpx.MaxPayload + 4]byte

// Share makes the forwarder use b, which forwarders of the same goroutine share. Without
// it has one of its own.
func (f *Forwarder) Share(b *Scratch) { f.room = b }

func (f *Forwarder) scratch() []byte {
	if f.room == nil {
		f.room = &Scratch{}
	}
	return f.room[:]
}

// reference is the source and layer whose timestamps continue in ours.
type reference struct {
	src   Source
	layer int
	ssrc  uint32
	tsOff uint32
}

// New makes a forwarder in state Off. Sequence numbers and timestamps begin at seq
// and ts, which should be random (RFC 3550 §5.1); seq is taken modulo 2^15, so that
// the first wrap is far from the first packet.
func New(line Line, sink Sink, seq uint16, ts uint32) *Forwarder {
	f := &Forwarder{line: line, sink: sink, ts: ts, want: limit{rtpx.MaxSpatial - 1, rtpx.MaxTemporal - 1}}
	f.out = 1<<16 + uint64(seq&0x7FFF)
	f.sent.high = f.out
	f.rtxSeq = seq & 0x7FFF
	first := 1<<15 + uint64(seq&0x7FFF)
	f.firstPicture = first
	f.head.init(&f.line)
	f.setTypes(rtpx.CodecUnknown)
	return f
}

// Rebind takes over what a later negotiation changed. The SSRCs must be the same:
// another SSRC is another stream, and needs another forwarder.
func (f *Forwarder) Rebind(line Line) {
	f.line = line
	f.head.init(&f.line)
	f.setTypes(f.cur.codec)
	f.SetRED(f.red)
}

// setTypes chooses the payload types of a codec.
func (f *Forwarder) setTypes(c rtpx.Codec) {
	f.types = f.line.typesOf(c)
	f.head.rtx.PayloadType, f.head.padding.PayloadType = f.types.RTX, f.types.RTX
}

// Line returns what was negotiated.
func (f *Forwarder) Line() *Line { return &f.line }

// State returns the state.
func (f *Forwarder) State() State { return f.state }

// Layer is the layer that is being sent, −1 if none.
func (f *Forwarder) Layer() int {
	if f.cur.tap == nil {
		return -1
	}
	if !f.cur.svc {
		return f.cur.tap.layer
	}
	if f.munger == nil {
		return 0
	}
	return int(min(f.munger.spatial(), f.want.sid))
}

// Waiting returns the layer whose keyframe is awaited and since when; −1 if none is.
func (f *Forwarder) Waiting() (layer int, since int64) {
	switch {
	case f.next != nil && f.next.src.Stream(rtpx.MaxSpatial-1) != f.next.layer:
		return f.next.layer, f.waiting
	case f.next != nil || f.climbs():
		return int(f.want.sid), f.waiting
	}
	return -1, 0
}

// climbs says that a higher spatial layer of the stream that is sent is wanted, which
// takes a keyframe.
func (f *Forwarder) climbs() bool {
	return f.cur.tap != nil && f.cur.svc && f.munger != nil && f.munger.spatial() < f.want.sid
}

// Stats returns the counts.
func (f *Forwarder) Stats() Stats { return f.stats }

// SetMaxTID limits the temporal layers. Down takes effect at the next picture, up
// at the next keyframe or layer-sync picture.
func (f *Forwarder) SetMaxTID(tid int8) { f.want.tid = tid }

// Select chooses what is to be sent. A nil src or a negative layer turns the line
// off. The same choice again does nothing. Another layer of the same source is
// switched to at its keyframe, and the current one is sent until then; where one
// stream has all layers, a lower one is switched to with the next picture. Another
// source silences the current one at once, because the viewer has been told that
// somebody else sits here.
func (f *Forwarder) Select(src Source, layer int, now int64) {
	if src == nil || layer < 0 {
		f.off()
		return
	}
	stream := src.Stream(layer)
	same := f.cur.tap != nil && f.cur.tap.src == src
	if same && f.cur.tap.layer == stream {
		f.setNext(nil, now)
		f.setSpatial(src, layer, now)
		return
	}
	f.setSpatial(src, layer, now)
	if !same {
		f.dropCurrent()
	}
	if f.next == nil || f.next.src != src || f.next.layer != stream {
		f.setNext(f.tap(src, stream), now)
	}
	if f.state = WaitKey; same {
		f.state = Switch
	}
}

// setSpatial limits the spatial layers within the stream, where that carries all of
// the source, and sets the state of one that is being sent.
func (f *Forwarder) setSpatial(src Source, layer int, now int64) {
	sid := int8(rtpx.MaxSpatial - 1)
	if src.Stream(rtpx.MaxSpatial-1) == 0 { // of simulcast, the streams are the layers
		sid = int8(min(layer, rtpx.MaxSpatial-1))
	}
	higher := sid > f.want.sid
	f.want.sid = sid
	if f.state = Live; f.climbs() {
		f.state = Switch
		if higher {
			f.waiting = now
			f.askKeyframe(f.cur.tap, now)
		}
	}
}

// Selected says whether src is what is sent or waited for.
func (f *Forwarder) Selected(src Source) bool {
	return (f.cur.tap != nil && f.cur.tap.src == src) || (f.next != nil && f.next.src == src)
}

func (f *Forwarder) tap(src Source, layer int) *Tap {
	return &Tap{F: f, sink: f.sink, src: src, layer: layer}
}

// setNext replaces the awaited tap, asking for a keyframe at once.
func (f *Forwarder) setNext(t *Tap, now int64) {
	if f.next != nil {
		f.next.src.RemoveTap(f.next.layer, f.next)
	}
	f.next = t
	if t == nil {
		return
	}
	f.waiting = now
	if f.seedTap(t, now) {
		return
	}
	t.src.AddTap(t.layer, t)
	f.askKeyframe(t, now)
}

func (f *Forwarder) askKeyframe(t *Tap, now int64) {
	f.askedAt = now
	if f.line.Video {
		t.src.RequestKeyframe(t.layer)
	}
}

func (f *Forwarder) dropCurrent() {
	if t := f.cur.tap; t != nil {
		t.src.RemoveTap(t.layer, t)
		f.cur.tap = nil
	}
}

func (f *Forwarder) off() {
	f.setNext(nil, 0)
	f.dropCurrent()
	f.state = Off
}

// Close removes all taps. The forwarder can be used again with Select.
func (f *Forwarder) Close() { f.off() }

// Resync stops sending until the next keyframe: the stream has a hole that cannot
// be repaired. Audio goes on with its next packet.
func (f *Forwarder) Resync(now int64) {
	t := f.cur.tap
	if t == nil {
		return
	}
	f.cur.tap = nil
	f.state = WaitKey
	if f.next != nil {
		t.src.RemoveTap(t.layer, t) // the layer that was to come will do
		return
	}
	t.started = false
	f.next, f.waiting = t, now
	f.askKeyframe(t, now)
}

// Tick repeats the request for an awaited keyframe.
func (f *Forwarder) Tick(now int64) {
	t := f.next
	if t == nil && f.climbs() {
		t = f.cur.tap
	}
	if t != nil && now-f.askedAt >= keyframeEvery {
		f.askKeyframe(t, now)
	}
}

// Keyframe passes a subscriber's wish for a keyframe on to the layer it sees, or is
// about to see.
func (f *Forwarder) Keyframe() {
	t := f.next
	if f.cur.tap != nil {
		t = f.cur.tap
	}
	if t != nil && f.line.Video {
		t.src.RequestKeyframe(t.layer)
	}
}

// Rewrite makes of a packet that t delivered what the subscriber is to be sent. The
// header and the payload are valid until the next call of any method; ok is false
// if nothing is to be sent. The caller keeps its reference to p.
func (f *Forwarder) Rewrite(t *Tap, p *rtpx.Packet, now int64) (h *rtp.Header, payload []byte, ok bool) {
	if t != f.next && t != f.cur.tap {
		f.stats.Stale++
		return nil, nil, false
	}
	if t.Lost.Load() && t.Lost.Swap(false) && f.line.Video && t == f.cur.tap {
		f.Resync(now)
	}
	late := t.started && p.ExtSeq <= t.high
	jump := t.started && !late && (p.ExtSeq-t.high > maxGap ||
		(t == f.cur.tap && (p.SSRC != f.cur.ssrc || p.Codec != f.cur.codec && len(p.Payload()) > 0)))
	t.high, t.started = max(t.high, p.ExtSeq), true
	if jump && t == f.cur.tap {
		f.Resync(now)
	}
	if t == f.next {
		if late || !p.Start || !p.Key || len(p.Payload()) == 0 {
			return nil, nil, false
		}
		f.begin(t, p)
	}
	if t != f.cur.tap {
		f.stats.Stale++
		return nil, nil, false
	}
	return f.forward(p)
}

// begin starts a stint with p, the first packet of a keyframe (or any of audio).
func (f *Forwarder) begin(t *Tap, p *rtpx.Packet) {
	f.dropCurrent()
	f.next = nil
	f.state = Live
	tsOff := f.startOffset(t, p)
	first := f.out + 1
	if f.begun && !f.marker && f.line.Video {
		first++ // the frame before was cut off: let the receiver see that
	}
	c := &f.cur
	c.tap, c.ssrc, c.first, c.high = t, p.SSRC, p.ExtSeq, p.ExtSeq-1
	c.tsOff, c.dropping, c.newTS, c.seed = tsOff, false, p.TS, t.seed
	c.codec, c.svc, c.lim = p.Codec, t.src.Stream(rtpx.MaxSpatial-1) == 0, f.want
	f.setTypes(p.Codec)
	c.seqs.reset(p.ExtSeq, first)
	f.keyOut = first
	f.out = first - 1
	f.sent.init(&f.line)
	if f.munger = f.mungerFor(p); f.munger != nil {
		f.munger.begin(p, c.lim)
	}
	f.last = reference{src: t.src, layer: t.layer, ssrc: p.SSRC, tsOff: c.tsOff}
	f.reportAt, f.told.at, f.fastest = 0, 0, timeline{}
	f.stats.Switches++
}
