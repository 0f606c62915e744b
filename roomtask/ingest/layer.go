package ingest

import (
	"sync/atomic"
	"time"

	"mayfly/roomtask/rtpx"
)

// Ring sizes in packets: about two seconds.
const (
	videoRing = 1024
	audioRing = 128
)

// A layer without packets is inactive after dryLayer if another layer of the source
// still sends (the encoder dropped this one), else after drySource: a still screen
// and a silent microphone send little.
const (
	dryLayer  = int64(time.Second)
	drySource = int64(5 * time.Second)
)

// layer is one encoding of a source.
type layer struct {
	// set once
	src   *Source
	index int
	rid   string
	ring  *rtpx.Ring // written under Publisher.mu, read by anyone

	taps  atomic.Pointer[[]Tap]
	asked atomic.Bool // a subscriber needs a keyframe; taken by the writer goroutine

	spatial atomic.Int32 // layers within the stream, 1 without SVC; written under Publisher.mu

	// guarded by Publisher.mu
	ssrc     uint32 // the stream that feeds it, 0 if none
	active   bool
	fresh    bool // the next packet is the first of its SSRC
	closed   bool
	window   seqWindow
	restored restoredList
	nacks    nackList
	gate     keyGate
	recv     reception
	sr       SR
	hasSR    bool
	lastAt   int64  // arrival of the last packet
	lastTS   uint32 // of the newest packet
	keyTS    uint32 // of the newest keyframe
	hasKey   bool
	gop      gop
	width    uint16
	height   uint16
	name     string // codec of the last packet
	rates    rates
	dd       rtpx.DDReader
	sizes    [rtpx.MaxSpatial]size // of the spatial layers, where the codec tells

	packets, bytes, keyframes uint64
}

// incoming is one media packet, with retransmission and redundancy undone.
type incoming struct {
	codec    *payloadType
	pt       uint8
	seq      uint16
	ts       uint32
	marker   bool
	payload  []byte
	dd       []byte // dependency descriptor, empty if there is none
	repaired bool   // brought by a retransmission
	restored bool   // made from the redundancy of a later packet
	blocks   int    // redundant blocks that came with it, in Publisher.red
	level    uint8
	voice    bool
	hasLevel bool
	now      int64
}

func newLayer(s *Source, index int, rid string) *layer {
	size := audioRing
	if s.video {
		size = videoRing
	}
	l := &layer{src: s, index: index, rid: rid, ring: rtpx.NewRing(size)}
	l.taps.Store(new([]Tap))
	l.gate.gap = gateGap
	l.spatial.Store(1)
	return l
}

func (l *layer) changeTaps(change func([]Tap) []Tap) {
	for {
		old := l.taps.Load()
		next := change(*old)
		if l.taps.CompareAndSwap(old, &next) {
			return
		}
	}
}

// deliver hands p to every tap. No lock is held.
func (l *layer) deliver(p *rtpx.Packet) {
	for _, t := range *l.taps.Load() {
		t.Deliver(p)
	}
}

// begin makes ssrc the feeder. Extended sequence numbers go on above the former ones.
func (l *layer) begin(ssrc uint32) {
	l.ssrc, l.fresh = ssrc, true
	l.hasSR, l.hasKey, l.gop = false, false, gop{}
	l.dd.Reset()
	l.spatial.Store(1)
	l.sizes = [rtpx.MaxSpatial]size{}
	l.nacks.list = l.nacks.list[:0]
}

// receive judges one packet and keeps it. It returns the packet to deliver, with a
// reference for the caller, or nil; news says that Config.Changed is due. The caller
// holds Publisher.mu.
func (l *layer) receive(p *Publisher, in *incoming) (pkt *rtpx.Packet, news bool) {
	ext, ok := l.sequence(p, in)
	if !ok || l.closed {
		return nil, false
	}
	l.lastAt = in.now
	if !l.active {
		l.active, news = true, true
		l.rates.begin(in.now)
		l.gate.restart()
	}
	if l.name != in.codec.name {
		l.name, news = in.codec.name, true
		l.src.codec, l.src.clock = in.codec.name, in.codec.clock
	}
	l.packets++
	l.bytes += uint64(len(in.payload))
	if l.hasSR && !in.repaired && !in.restored {
		p.clock.packet(&l.sr, in.ts, in.codec.clock, in.now)
	}
	if in.hasLevel && !in.repaired {
		l.src.level.add(in.level, in.voice, in.now)
	}

	pkt = p.cfg.Pool.GetFor(len(in.payload) + len(in.dd))
	if pkt == nil || !pkt.Fill(in.payload) {
		p.stats.NoBuffer++
		return nil, news
	}
	pkt.SSRC, pkt.PT, pkt.Seq, pkt.ExtSeq = l.ssrc, in.pt, in.seq, ext
	pkt.TS, pkt.Marker, pkt.Arrival = in.ts, in.marker, in.now
	pkt.Layer, pkt.Video, pkt.Codec = int8(l.index), l.src.video, in.codec.form
	pkt.HasLevel, pkt.Level, pkt.Voice = in.hasLevel, in.level, in.voice
	changed, ok := l.inspect(p, pkt, in)
	if !ok {
		p.stats.Malformed++
		pkt.Release()
		return nil, news
	}
	l.ring.Put(pkt)
	l.gop.note(pkt)
	woke := l.rates.add(pkt) && pkt.SID > 0
	return pkt, news || changed || woke
}

// sequence extends the number, filters duplicates, and notes what is missing.
func (l *layer) sequence(p *Publisher, in *incoming) (ext uint64, ok bool) {
	if l.fresh {
		if in.repaired {
			return 0, false
		}
		l.fresh = false
		ext = l.window.restart(in.seq)
		l.recv.reset(in.codec.clock, ext, in.now)
		l.recv.packet(ext, in.ts, in.now)
		l.lastTS = in.ts - 1
		return ext, true
	}
	if in.repaired {
		// A probe may repeat any recent packet, but nothing that is yet to come.
		if ext, _ := l.window.unwrap.Peek(in.seq); ext > l.window.high {
			return 0, false
		}
	}
	ext, prev, v := l.window.accept(in.seq)
	switch v {
	case vDuplicate:
		if !in.repaired && l.restored.take(ext) {
			l.recv.packet(ext, in.ts, in.now) // it was late, not lost
			return 0, false
		}
		p.stats.Duplicate++
		return 0, false
	case vLate:
		p.stats.Late++
		return 0, false
	case vJump:
		p.stats.Lost += uint64(len(l.nacks.list))
		l.nacks.list = l.nacks.list[:0]
		l.recv.reset(in.codec.clock, ext, in.now)
	case vNext:
		if ext-prev > 1 {
			l.missing(p, prev+1, ext-1, ext, in)
		}
	case vFill:
		l.filled(p, ext, in)
	}
	if in.restored {
		p.stats.Restored++
		l.restored.add(ext)
	} else if !in.repaired {
		l.recv.packet(ext, in.ts, in.now)
	}
	return ext, true
}

// missing notes a gap. Without retransmission nothing can be asked for, and video is
// left to the subscribers' own requests for a keyframe.
func (l *layer) missing(p *Publisher, from, to, revealed uint64, in *incoming) {
	if !in.codec.repairs {
		p.stats.Lost += to - from + 1
		return
	}
	if forgotten := l.nacks.add(from, to, revealed, in.now); forgotten > 0 {
		p.stats.Lost += uint64(forgotten)
		if l.src.video {
			// What is left of the list would only delay the keyframe.
			p.stats.Lost += uint64(len(l.nacks.list))
			l.nacks.list = l.nacks.list[:0]
			l.gate.request()
		}
	}
}

// filled notes that a missing packet came. One that came at the first request tells
// the round trip.
func (l *layer) filled(p *Publisher, ext uint64, in *incoming) {
	m, ok := l.nacks.remove(ext)
	if !in.repaired {
		return
	}
	p.stats.Repaired++
	if !ok || m.tries != 1 {
		return
	}
	sample := in.now - m.sent
	if old := p.rtt.Load(); old != 0 {
		sample = old + (sample-old)/8
	}
	p.rtt.Store(sample)
}

// dry ends a layer that no longer receives, and says whether it, or a spatial layer
// in it, did so just now.
func (l *layer) dry(now int64) bool {
	if !l.active {
		return false
	}
	if now-l.lastAt < dryLayer {
		return l.rates.rest(now)
	}
	if now-l.lastAt < drySource {
		alone := true
		for _, o := range l.src.all() {
			if o != l && o.active && now-o.lastAt < dryLayer {
				alone = false
			}
		}
		if alone {
			return false
		}
	}
	l.active, l.rates = false, rates{}
	l.nacks.list = l.nacks.list[:0]
	return true
}

// wholeStream asks info for all spatial layers.
const wholeStream = rtpx.MaxSpatial

// info tells the state of the stream up to spatial layer sid.
func (l *layer) info(sid int) LayerInfo {
	i := LayerInfo{Active: l.active, Width: int(l.width), Height: int(l.height), RID: l.rid, SSRC: l.ssrc}
	if l.spatial.Load() > 1 && sid < rtpx.MaxSpatial {
		i.Active = l.active && l.rates.arrived[sid] != 0
		i.Width, i.Height = int(l.sizes[sid].width), int(l.sizes[sid].height)
	}
	l.rates.upTo(sid, &i)
	return i
}

// close gives the packets back and refuses more.
func (l *layer) close() {
	l.closed, l.active = true, false
	l.ring.Clear()
}

// drop ends a layer that no line lists any more. The caller holds mu.
func (p *Publisher) drop(l *layer) {
	l.close()
	for _, s := range p.streams {
		if s.media == l {
			s.media = nil
		}
		if s.repairs == l {
			s.repairs = nil
		}
	}
}
