package forward

import (
	"encoding/binary"
	"sync"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"mayfly/roomtask/ingest"
	"mayfly/roomtask/rtpx"
	"mayfly/shared/signal"
)

// What a publisher of the oracle's test sends, packet by packet, through the real
// ingest: four codecs, simulcast and layers within a stream, with the references of
// every frame on record.

// Extension ids of the publishers' lines.
const (
	oracleMid, oracleRid, oracleRepaired, oracleDD = 4, 10, 11, 12
	oraclePT, oracleRTX                            = 100, 101
)

// style is how a publisher encodes.
type style struct {
	codec    rtpx.Codec
	rids     []string // simulcast
	spatial  int      // layers of each stream
	temporal bool     // pattern 0 2 1 2, else one layer
	flexible bool     // of VP9
}

var styles = []style{
	{codec: rtpx.CodecVP8, rids: []string{"q", "h", "f"}, spatial: 1, temporal: true},
	{codec: rtpx.CodecVP9, spatial: 3, temporal: true, flexible: true},
	{codec: rtpx.CodecVP9, spatial: 2, temporal: true},
	{codec: rtpx.CodecH264, rids: []string{"q", "h"}, spatial: 1},
	{codec: rtpx.CodecAV1, rids: []string{"q", "h"}, spatial: 1, temporal: true},
	{codec: rtpx.CodecAV1, spatial: 3, temporal: true},
}

// frame is one encoded frame, of one spatial layer.
type frame struct {
	id       uint32
	pub      int
	ssrc     uint32
	picture  int // of the publisher; shared by all layers of one moment
	sid, tid int
	key      bool
	refs     []*frame
	packets  []int // places in the stream's count of packets
	number   uint16
}

// stream is one encoding.
type stream struct {
	ssrc    uint32
	rid     string
	seq     uint16
	count   int // packets so far
	tsOff   uint32
	pattern int
	number  uint16 // picture id or frame number
	tl0     uint8
	keyidx  uint8
	wanted  bool               // a keyframe
	refs    [3][3]*frame       // newest frame by spatial and temporal layer
	packets map[uint16]pktCopy // for retransmission
	late    []onTheWay
	rtxSSRC uint32
	rtxSeq  uint16
}

type pktCopy struct {
	h       rtp.Header
	payload []byte
}

// onTheWay is a packet that comes later.
type onTheWay struct {
	due int
	b   []byte
	rtx bool
}

// publisher is one participant.
type publisher struct {
	o       *oracle
	num     int
	style   style
	p       *ingest.Publisher
	src     *ingest.Source
	streams []*stream
	picture int

	mu   sync.Mutex
	rtcp []rtcp.Packet // guarded by mu: what ingest sent us
}

func newPublisher(o *oracle, num int, st style) *publisher {
	pub := &publisher{o: o, num: num, style: st}
	pub.p = ingest.NewPublisher(ingest.Config{
		Participant: string(rune('a' + num)), Pool: o.pool, Now: func() int64 { return o.now.Load() },
		WriteRTCP: func(pkts []rtcp.Packet) error {
			pub.mu.Lock()
			defer pub.mu.Unlock()
			pub.rtcp = append(pub.rtcp, pkts...)
			return nil
		},
	})
	o.t.Cleanup(pub.p.Close) // also after a failure: its goroutine is of the bubble
	pub.p.Bind([]ingest.Line{{Mid: "1", Kind: signal.KindCamera, Rids: st.rids,
		Codecs: []ingest.Codec{{PT: oraclePT, Name: st.codec.String(), ClockRate: 90000}, {PT: oracleRTX, Name: "rtx", ClockRate: 90000, RTXOf: oraclePT}},
		Ext:    map[string]uint8{ingest.ExtMid: oracleMid, ingest.ExtRid: oracleRid, ingest.ExtRepairedRid: oracleRepaired, ingest.ExtDD: oracleDD}}})
	pub.src = pub.p.Source(signal.KindCamera)
	for i := range max(1, len(st.rids)) {
		s := &stream{}
		if len(st.rids) > 0 {
			s.rid = st.rids[i]
		}
		pub.streams = append(pub.streams, s)
		pub.restart(s)
	}
	return pub
}

// restart gives a stream another SSRC, as when the publisher joined again.
func (p *publisher) restart(s *stream) {
	rng := p.o.rng
	p.o.ssrc += 2
	*s = stream{ssrc: p.o.ssrc, rtxSSRC: p.o.ssrc + 1, rid: s.rid, seq: uint16(rng.Uint32()), tsOff: rng.Uint32(), wanted: true,
		number: uint16(rng.Uint32()), tl0: uint8(rng.Uint32()), keyidx: uint8(rng.Uint32() & 31), packets: map[uint16]pktCopy{}}
}

// capture makes the next picture of every stream.
func (p *publisher) capture() {
	p.picture++
	for _, s := range p.streams {
		key := s.wanted && p.o.rng.IntN(3) == 0 || s.refs[0][0] == nil
		tid := 0
		if key {
			s.wanted, s.pattern, s.refs = false, 0, [3][3]*frame{}
			s.keyidx = (s.keyidx + 1) & 31
		}
		if p.style.temporal {
			tid = []int{0, 2, 1, 2}[s.pattern%4]
		}
		if tid == 0 {
			s.tl0++
		}
		place := s.pattern % 4
		s.pattern++
		if p.style.codec != rtpx.CodecAV1 {
			s.number++
		}
		for sid := range p.style.spatial {
			if p.style.codec == rtpx.CodecAV1 {
				s.number++
			}
			p.encode(s, key, sid, tid, place)
		}
		if p.o.rng.IntN(8) == 0 { // padding only
			p.send(s, rtp.Header{Timestamp: p.ts(s)}, nil)
		}
	}
}

func (p *publisher) ts(s *stream) uint32 {
	return s.tsOff + uint32(ticks(p.o.now.Load()-start, 90000))
}

// encode makes one frame and sends it.
func (p *publisher) encode(s *stream, key bool, sid, tid, place int) {
	f := &frame{id: uint32(len(p.o.frames)), pub: p.num, ssrc: s.ssrc, picture: p.picture, sid: sid, tid: tid, key: key, number: s.number}
	p.o.frames = append(p.o.frames, f)
	at := &s.refs[sid]
	switch {
	case key && sid > 0:
		f.refs = []*frame{s.refs[sid-1][0]}
	case key:
	case tid == 2 && place == 3:
		f.refs = []*frame{at[1]}
	default:
		f.refs = []*frame{at[0]}
	}
	at[tid] = f
	n := 1 + p.o.rng.IntN(3)
	if key {
		n++
	}
	for i := range n {
		h := rtp.Header{Timestamp: p.ts(s), Marker: sid == p.style.spatial-1 && i == n-1}
		head := p.head(s, f, i, n, place)
		if p.style.codec == rtpx.CodecAV1 {
			p.describe(&h, s, f, i, n)
		}
		body := binary.BigEndian.AppendUint32(nil, f.id)
		body = append(body, byte(i))
		if p.style.codec == rtpx.CodecH264 && i == 0 && key { // the last NAL unit of a STAP-A
			head = append(head, 0, 6, 6)
		}
		f.packets = append(f.packets, s.count)
		p.send(s, h, append(head, body...))
	}
}

// head is what stands before the body in a payload.
func (p *publisher) head(s *stream, f *frame, i, n, place int) []byte {
	switch p.style.codec {
	case rtpx.CodecVP8:
		return pic{id: f.number & 0x7FFF, tl0: s.tl0, tid: uint8(f.tid), y: place == 1 || place == 2, key: s.keyidx, first: i == 0, isKey: f.key && i == 0}.head()
	case rtpx.CodecVP9:
		return p.headVP9(s, f, i, n, place)
	case rtpx.CodecH264:
		switch {
		case f.key && i == 0:
			return append([]byte{24, 0, byte(len(testSPS))}, testSPS...)
		case f.key:
			return []byte{28, map[bool]byte{true: 0x85, false: 0x05}[i == 1]}
		case i == 0:
			return []byte{28, 0x81}
		}
		return []byte{28, 0x01}
	}
	b := []byte{0x10, 0x30}
	if i > 0 {
		b[0] |= 0x80
	} else if f.key && f.sid == 0 {
		b[0] |= 0x08
	}
	return b
}

// testSPS is a sequence parameter set of Constrained Baseline, 640×360.
var testSPS = []byte{0x67, 0x42, 0xC0, 0x1F, 0x8C, 0x8D, 0x40, 0x50, 0x17, 0xFC, 0xB0, 0x0F, 0x08, 0x84, 0x6A}

func (p *publisher) headVP9(s *stream, f *frame, i, n, place int) []byte {
	b := []byte{0x80 | 0x20, 0x80 | byte(f.number>>8&0x7F), byte(f.number), byte(f.tid)<<5 | byte(f.sid)<<1}
	if i == 0 {
		b[0] |= 0x08
	}
	if i == n-1 {
		b[0] |= 0x04
	}
	if f.key && f.sid > 0 {
		b[3] |= 1
	}
	if place == 1 || place == 2 {
		b[3] |= 0x10
	}
	if !f.key {
		b[0] |= 0x40
	}
	if p.style.flexible {
		b[0] |= 0x10
		if !f.key {
			b = append(b, byte(f.number-f.refs[0].number)<<1)
		}
	} else {
		b = append(b, s.tl0)
	}
	if f.key && f.sid == 0 && i == 0 {
		b[0] |= 0x02
		b = append(b, byte(p.style.spatial-1)<<5|0x10)
		for l := range p.style.spatial {
			b = binary.BigEndian.AppendUint16(b, 160<<l)
			b = binary.BigEndian.AppendUint16(b, 90<<l)
		}
	}
	return b
}

// describe adds the dependency descriptor: a template for each pair of layers, and
// references of the frame's own.
func (p *publisher) describe(h *rtp.Header, s *stream, f *frame, i, n int) {
	var w testBits
	w.put(map[bool]uint32{true: 1}[i == 0], 1)
	w.put(map[bool]uint32{true: 1}[i == n-1], 1)
	w.put(uint32(f.sid*3+f.tid+60)%64, 6)
	w.put(uint32(f.number), 16)
	structure := f.key && f.sid == 0 && i == 0
	w.put(map[bool]uint32{true: 1}[structure], 1)
	w.put(0b0010, 4) // custom fdiffs
	if structure {
		targets := p.style.spatial * 3
		w.put(60, 6)
		w.put(uint32(targets-1), 5)
		for t := range targets {
			next := uint32(1)
			if t == targets-1 {
				next = 3
			} else if t%3 == 2 {
				next = 2
			}
			w.put(next, 2)
		}
		for t := range targets {
			for d := range targets {
				w.put(map[bool]uint32{true: 2}[t/3 == d/3 && t%3 <= d%3], 2)
			}
		}
		w.put(0, targets) // no references in the templates
		w.put(0, map[int]int{3: 2, 9: 3}[targets])
		w.put(0, 1) // no sizes
	}
	for _, r := range f.refs {
		diff := uint32(f.number - r.number)
		w.put((diff-1)/16+1, 2)
		w.put(diff-1, 4*int((diff-1)/16+1))
	}
	w.put(0, 2)
	if err := h.SetExtension(oracleDD, w.b); err != nil {
		p.o.t.Fatal(err)
	}
}

// testBits writes bits.
type testBits struct {
	b []byte
	n int
}

func (w *testBits) put(v uint32, n int) {
	for i := n - 1; i >= 0; i-- {
		if w.n%8 == 0 {
			w.b = append(w.b, 0)
		}
		w.b[w.n/8] |= byte(v>>i&1) << (7 - w.n%8)
		w.n++
	}
}

// send puts a packet on the way to ingest.
func (p *publisher) send(s *stream, h rtp.Header, payload []byte) {
	h.Version, h.SSRC, h.PayloadType, h.SequenceNumber = 2, s.ssrc, oraclePT, s.seq
	set := func(id uint8, v string) {
		if v != "" && h.SetExtension(id, []byte(v)) != nil {
			p.o.t.Fatal("extension")
		}
	}
	set(oracleMid, "1")
	set(oracleRid, s.rid)
	s.packets[s.seq] = pktCopy{h, payload}
	delete(s.packets, s.seq-1000)
	p.o.places[place{s.ssrc, s.seq}] = s.count
	s.seq++
	s.count++
	b := p.marshal(h, payload)
	switch r := p.o.rng.IntN(100); {
	case r < 2: // lost; a NACK may bring it back
	case r < 8:
		s.late = append(s.late, onTheWay{due: p.o.step + 1 + p.o.rng.IntN(6), b: b})
	case r < 10:
		p.p.Deliver(b)
		s.late = append(s.late, onTheWay{due: p.o.step + p.o.rng.IntN(4), b: b})
	default:
		p.p.Deliver(b)
	}
}

func (p *publisher) marshal(h rtp.Header, payload []byte) []byte {
	k := rtp.Packet{Header: h, Payload: payload}
	if len(payload) == 0 {
		k.Padding, k.PaddingSize = true, 50
	}
	b, err := k.Marshal()
	if err != nil {
		p.o.t.Fatal(err)
	}
	return b
}

// network delivers what is due, and answers ingest's requests.
func (p *publisher) network() {
	for _, s := range p.streams {
		due, keep := s.late, s.late[:0:0]
		for _, l := range due {
			if l.due <= p.o.step {
				p.p.Deliver(l.b)
			} else {
				keep = append(keep, l)
			}
		}
		s.late = keep
	}
	p.mu.Lock()
	pkts := p.rtcp
	p.rtcp = nil
	p.mu.Unlock()
	for _, k := range pkts {
		switch k := k.(type) {
		case *rtcp.PictureLossIndication:
			for _, s := range p.streams {
				s.wanted = s.wanted || s.ssrc == k.MediaSSRC
			}
		case *rtcp.TransportLayerNack:
			p.repair(k)
		}
	}
}

func (p *publisher) repair(k *rtcp.TransportLayerNack) {
	for _, s := range p.streams {
		if s.ssrc != k.MediaSSRC {
			continue
		}
		for _, pair := range k.Nacks {
			for _, seq := range pair.PacketList() {
				was, ok := s.packets[seq]
				if !ok || len(was.payload) == 0 || p.o.rng.IntN(5) == 0 {
					continue
				}
				h := was.h.Clone()
				h.SSRC, h.PayloadType, h.SequenceNumber = s.rtxSSRC, oracleRTX, s.rtxSeq
				s.rtxSeq++
				_ = h.DelExtension(oracleRid)
				if s.rid != "" && h.SetExtension(oracleRepaired, []byte(s.rid)) != nil {
					p.o.t.Fatal("extension")
				}
				b := p.marshal(h, binary.BigEndian.AppendUint16(nil, seq))
				b = append(b, was.payload...)
				s.late = append(s.late, onTheWay{due: p.o.step + 1 + p.o.rng.IntN(3), b: b, rtx: true})
			}
		}
	}
}
