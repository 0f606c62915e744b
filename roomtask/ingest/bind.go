package ingest

import (
	"slices"
	"strings"

	"mayfly/roomtask/rtpx"
	"mayfly/shared/signal"
)

// codec is what a payload type means to ingest.
type codec uint8

const (
	codecNone codec = iota
	codecAudio
	codecVideo
	codecRTX
	codecRED
)

type payloadType struct {
	codec   codec
	form    rtpx.Codec
	name    string
	clock   uint32
	rtxOf   uint8 // of codecRTX
	repairs bool  // whether some payload type retransmits this one
}

// maxLayers bounds the simulcast layers of a source. Browsers send three.
const maxLayers = 4

// table is what the last Bind said, in the form that the packet path reads. All
// m-lines are bundled, so payload types and extension ids mean the same on each.
type table struct {
	pts      [128]uint8    // by payload type: index into kinds; 0 = none
	kinds    []payloadType // the first is of what was not negotiated
	mids     map[string]*Source
	declared map[uint32]declaration
	// extension ids, 0 when not negotiated
	mid, rid, rrid, level, transport, dd uint8
}

// pt returns what a payload type means. What it points to is set by add alone.
func (t *table) pt(pt uint8) *payloadType { return &t.kinds[t.pts[pt&0x7F]] }

// make returns a payload type's entry, which is there from now on.
func (t *table) make(pt uint8) *payloadType {
	if t.pts[pt] == 0 {
		t.pts[pt] = uint8(len(t.kinds))
		t.kinds = append(t.kinds, payloadType{})
	}
	return &t.kinds[t.pts[pt]]
}

// nothing is the table of who publishes nothing, as most viewers.
var nothing = &table{kinds: make([]payloadType, 1)}

// declaration is what the SDP says about an SSRC.
type declaration struct {
	src     *Source
	layer   int    // −1 when only the rid tells
	primary uint32 // the SSRC that this one retransmits, or 0
}

// extensions are the values that ingest takes from one packet.
type extensions struct {
	mid, rid, rrid  []byte
	dd              []byte
	transportSeq    uint16
	hasTransportSeq bool
	level           uint8
	voice, hasLevel bool
}

func (t *table) read(h *rtpx.Header) (x extensions) {
	for id, val, pos, ok := h.NextExt(0); ok; id, val, pos, ok = h.NextExt(pos) {
		switch id { // which is never 0
		case t.mid:
			x.mid = val
		case t.rid:
			x.rid = val
		case t.rrid:
			x.rrid = val
		case t.level:
			x.level, x.voice, x.hasLevel = rtpx.ParseAudioLevel(val)
		case t.dd:
			x.dd = val
		case t.transport:
			x.transportSeq, x.hasTransportSeq = rtpx.ParseTransportSeq(val)
		}
	}
	return x
}

// Bind says what the m-lines mean. Call it after each negotiation, before the answer
// goes out, so that no packet comes before it. A source whose kind and mid stay keeps
// its state; one that is no longer listed ends.
func (p *Publisher) Bind(lines []Line) {
	var gone []*Source
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	t := nothing
	if len(lines) > 0 {
		t = &table{kinds: make([]payloadType, 1), mids: make(map[string]*Source), declared: make(map[uint32]declaration)}
	}
	var sources []*Source
	for i := range lines {
		s := p.bindLine(&lines[i])
		sources = append(sources, s)
		t.add(&lines[i], s)
	}
	for _, s := range p.sources {
		if !slices.Contains(sources, s) {
			gone = append(gone, s)
			p.unbind(s)
		}
	}
	p.table, p.sources = t, sources
	p.mu.Unlock()
	for _, s := range gone {
		p.changed(s)
	}
}

// bindLine finds or makes the source of a line. The caller holds mu.
func (p *Publisher) bindLine(line *Line) *Source {
	var s *Source
	for _, old := range p.sources {
		if old.kind == line.Kind {
			s = old
		}
	}
	rids, count := orderRids(line.Rids[:min(len(line.Rids), maxLayers)]), 1
	for _, g := range line.Groups {
		if strings.EqualFold(g.Semantics, "SIM") {
			count = min(len(g.SSRCs), maxLayers)
		}
	}
	if len(rids) > 0 {
		count = len(rids)
	}
	if s == nil {
		s = newSource(p, line.Kind, line.Mid)
	} else if s.mid != line.Mid {
		p.unbind(s)
		s.mid = line.Mid
	}
	for _, c := range line.Codecs {
		if k := classify(c.Name); s.codec == "" && (k == codecAudio || k == codecVideo) {
			s.codec, s.clock = c.Name, c.ClockRate
		}
	}
	s.setLayers(rids, count)
	return s
}

// unbind ends every layer of s and forgets which streams fed it. The caller holds mu.
func (p *Publisher) unbind(s *Source) {
	for _, l := range s.all() {
		l.active, l.ssrc = false, 0
		l.nacks.list = l.nacks.list[:0]
	}
	for _, k := range p.streams {
		if k.media != nil && k.media.src == s {
			k.media = nil
		}
		if k.repairs != nil && k.repairs.src == s {
			k.repairs = nil
		}
	}
}

func (t *table) add(line *Line, s *Source) {
	t.mids[line.Mid] = s
	for _, c := range line.Codecs {
		if k := classify(c.Name); k != codecNone && c.PT < 128 {
			pt := t.make(c.PT)
			*pt = payloadType{codec: k, form: rtpx.CodecOf(c.Name), name: c.Name, clock: c.ClockRate, rtxOf: c.RTXOf, repairs: pt.repairs}
			if k == codecRTX && c.RTXOf < 128 {
				t.make(c.RTXOf).repairs = true
			}
		}
	}
	for _, e := range [...]struct {
		uri string
		id  *uint8
	}{
		{ExtMid, &t.mid}, {ExtRid, &t.rid}, {ExtRepairedRid, &t.rrid},
		{ExtAudioLevel, &t.level}, {ExtTransportSeq, &t.transport}, {ExtDD, &t.dd},
	} {
		if id := line.Ext[e.uri]; id != 0 {
			*e.id = id
		}
	}
	layer := 0
	if len(s.all()) > 1 {
		layer = -1
	}
	for _, ssrc := range line.SSRCs {
		t.declared[ssrc] = declaration{src: s, layer: layer}
	}
	for _, g := range line.Groups {
		switch {
		case strings.EqualFold(g.Semantics, "SIM") && len(line.Rids) == 0:
			for i, ssrc := range g.SSRCs {
				t.declared[ssrc] = declaration{src: s, layer: i}
			}
		case strings.EqualFold(g.Semantics, "FID") && len(g.SSRCs) == 2:
			t.declared[g.SSRCs[1]] = declaration{src: s, layer: -1, primary: g.SSRCs[0]}
		}
	}
}

func classify(name string) codec {
	switch form := rtpx.CodecOf(name); {
	case form.Video():
		return codecVideo
	case form != rtpx.CodecUnknown:
		return codecAudio
	}
	switch strings.ToLower(name) {
	case "rtx":
		return codecRTX
	case "red":
		return codecRED
	}
	return codecNone
}

// orderRids puts rids of a usual naming in order from the lowest layer; others stay
// as they are.
func orderRids(rids []string) []string {
	for _, names := range [][]string{{"q", "h", "f"}, {"l", "m", "h"}, {"0", "1", "2"}, {"1", "2", "3"}} {
		ranked := slices.Clone(rids)
		if !slices.ContainsFunc(rids, func(r string) bool { return !slices.Contains(names, r) }) {
			slices.SortFunc(ranked, func(a, b string) int { return slices.Index(names, a) - slices.Index(names, b) })
			return ranked
		}
	}
	return rids
}

// route finds the layer that a packet belongs to, and undoes retransmission and
// redundancy. It returns nil for a packet that is not media. The caller holds mu.
func (p *Publisher) route(s *sink, h *rtpx.Header, x *extensions) (in incoming, l *layer) {
	pt := p.table.pt(h.PT)
	in = incoming{
		pt: h.PT, seq: h.Seq, ts: h.TS, marker: h.Marker, payload: h.Payload,
		dd: x.dd, level: x.level, voice: x.voice, hasLevel: x.hasLevel,
	}
	switch {
	case s.ssrc == 0 || pt.codec == codecNone:
		// SSRC 0 carries bandwidth probes made of padding.
		p.stats.Unbound++
		return in, nil
	case pt.codec == codecRTX:
		if s.repairs == nil {
			s.repairs = p.findRepaired(s.ssrc, x)
		}
		l = s.repairs
		seq, original, ok := rtpx.DecapRTX(h.Payload)
		if l == nil || l.ssrc == 0 || !ok || len(original) == 0 {
			return in, nil
		}
		in.pt, in.seq, in.payload, in.repaired = pt.rtxOf, seq, original, true
		pt = p.table.pt(in.pt)
	default:
		if s.media == nil && !p.adopt(s, x) {
			p.stats.Unbound++
			return in, nil
		}
		l = s.media
	}
	if pt.codec == codecRED {
		var ok bool
		if pt, in.blocks, ok = p.peel(&in); !ok {
			p.stats.Malformed++
			return in, nil
		}
	}
	in.codec = pt
	if video := pt.codec == codecVideo; pt.codec == codecNone || pt.codec == codecRTX ||
		pt.codec == codecRED || video != l.src.video {
		p.stats.Malformed++
		return in, nil
	}
	return in, l
}

// adopt finds the layer that an unknown media stream belongs to and makes the stream
// its feeder. Two streams that claim the same layer do not alternate: one that was
// replaced comes back only when the layer has gone dry.
func (p *Publisher) adopt(s *sink, x *extensions) bool {
	l := p.findLayer(s.ssrc, x)
	if l == nil || s.retired && l.active {
		return false
	}
	if l.ssrc != 0 && l.ssrc != s.ssrc {
		if old := p.streams[l.ssrc]; old != nil {
			old.media, old.retired = nil, true
		}
		// The retransmissions of the former stream speak of its numbers.
		for _, k := range p.streams {
			if k.repairs == l {
				k.repairs = nil
			}
		}
	}
	s.media, s.retired = l, false
	if l.ssrc != s.ssrc {
		l.begin(s.ssrc)
	}
	return true
}

func (p *Publisher) findLayer(ssrc uint32, x *extensions) *layer {
	d, declared := p.table.declared[ssrc]
	src := d.src
	if len(x.mid) > 0 {
		src = p.table.mids[string(x.mid)]
	}
	switch {
	case src == nil || d.primary != 0:
		return nil
	case len(src.all()) == 1:
		return src.all()[0]
	case len(x.rid) > 0:
		return src.byRid(x.rid)
	case declared && d.src == src && d.layer >= 0 && d.layer < len(src.all()):
		return src.all()[d.layer]
	}
	return nil
}

// findRepaired finds the layer that an RTX stream repairs: by mid and repaired rid,
// or by the SDP's FID group.
func (p *Publisher) findRepaired(ssrc uint32, x *extensions) *layer {
	d := p.table.declared[ssrc]
	src := d.src
	if len(x.mid) > 0 {
		src = p.table.mids[string(x.mid)]
	}
	switch {
	case src == nil:
		return nil
	case len(src.all()) == 1:
		return src.all()[0]
	case len(x.rrid) > 0:
		return src.byRid(x.rrid)
	case d.primary != 0 && p.streams[d.primary] != nil:
		return p.streams[d.primary].media
	}
	return nil
}

func isVideo(kind string) bool { return kind == signal.KindCamera || kind == signal.KindScreen }
