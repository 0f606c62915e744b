package forward

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/pion/rtp"

	"mayfly/roomtask/ingest"
	"mayfly/roomtask/rtpx"
)

const start = 1_700_000_000 * second // the tests' clock begins here

// feed is a Source that a test drives by hand: packets go to the taps at once.
type feed struct {
	pool   *rtpx.Pool
	layers []*feedLayer
}

type feedLayer struct {
	taps  []ingest.Tap
	ring  *rtpx.Ring
	sr    *ingest.SR
	asked int       // keyframe requests
	seed  [2]uint64 // first and last packet of what AddSeeded gives; zero = it has none
}

func newFeed(layers int) *feed {
	f := &feed{pool: rtpx.NewPool(64 << 20)}
	for range layers {
		f.layers = append(f.layers, &feedLayer{ring: rtpx.NewRing(1024)})
	}
	return f
}

func (f *feed) Stream(i int) int {
	if len(f.layers) == 1 {
		return 0
	}
	return i
}

func (f *feed) AddTap(i int, t ingest.Tap) { f.layers[i].taps = append(f.layers[i].taps, t) }

func (f *feed) AddSeeded(i int, t ingest.Tap) (ingest.Seed, bool) {
	l := f.layers[i]
	defer f.AddTap(i, t)
	if l.seed == [2]uint64{} {
		return ingest.Seed{}, false
	}
	s := ingest.Seed{First: l.seed[0], Last: l.seed[1]}
	for ext := s.First; ext <= s.Last; ext++ {
		p := l.ring.Get(ext)
		t.Deliver(p)
		s.TS, s.At = p.TS, p.Arrival
		p.Release()
	}
	return s, true
}

func (f *feed) RemoveTap(i int, t ingest.Tap) {
	f.layers[i].taps = slices.DeleteFunc(slices.Clone(f.layers[i].taps), func(o ingest.Tap) bool { return o == t })
}
func (f *feed) RequestKeyframe(i int)                 { f.layers[i].asked++ }
func (f *feed) Lookup(i int, ext uint64) *rtpx.Packet { return f.layers[i].ring.Get(ext) }
func (f *feed) SenderReport(i int) (sr ingest.SR, ok bool) {
	if r := f.layers[i].sr; r != nil {
		return *r, true
	}
	return sr, false
}

// pkt describes a packet to feed.
type pkt struct {
	ssrc    uint32
	ext     uint64
	ts      uint32
	marker  bool
	at      int64
	level   int // −1 = no audio level
	start   bool
	key     bool
	payload []byte
}

// give makes the packet, keeps it in the ring, and delivers it.
func (f *feed) give(t testing.TB, layer int, k pkt) {
	t.Helper()
	p := f.make(t, layer, k)
	f.layers[layer].ring.Put(p)
	for _, tap := range f.layers[layer].taps {
		tap.Deliver(p)
	}
	p.Release()
}

func (f *feed) make(t testing.TB, layer int, k pkt) *rtpx.Packet {
	t.Helper()
	p := f.pool.GetFor(len(k.payload))
	if p == nil || !p.Fill(k.payload) {
		t.Fatal("no packet")
	}
	p.SSRC, p.ExtSeq, p.Seq, p.TS, p.Marker, p.Arrival = k.ssrc, k.ext, uint16(k.ext), k.ts, k.marker, k.at
	p.Layer, p.Start, p.Key = int8(layer), k.start, k.key
	if k.level >= 0 {
		p.HasLevel, p.Level, p.Voice = true, uint8(k.level), true
	}
	return p
}

// giveVP8 is give for a VP8 payload, whose descriptor is parsed.
func (f *feed) giveVP8(t testing.TB, layer int, k pkt) {
	t.Helper()
	k.level = -1
	p := f.make(t, layer, k)
	if len(k.payload) > 0 {
		d, err := rtpx.ParseVP8(k.payload)
		if err != nil {
			t.Fatal(err)
		}
		p.Video, p.VP8, p.TID = true, d, int8(d.TID)
		p.Start = d.FrameStart()
	}
	f.layers[layer].ring.Put(p)
	for _, tap := range f.layers[layer].taps {
		tap.Deliver(p)
	}
	p.Release()
}

// pic is a VP8 picture's descriptor, with a 15-bit picture id unless narrow.
type pic struct {
	id     uint16
	narrow bool
	noID   bool
	tl0    uint8
	tid    uint8
	y      bool
	key    uint8
	first  bool // first packet of the picture
	isKey  bool
}

// payload is the descriptor and a body that tells the packets apart.
func (c pic) payload(body uint32) []byte {
	return binary.BigEndian.AppendUint32(c.head(), body)
}

// head is the descriptor and the first byte of the frame.
func (c pic) head() []byte {
	b := []byte{0x80, 0x70}
	if c.first {
		b[0] |= 0x10
	}
	switch {
	case c.noID:
		b[1] &^= 0x80
	case c.narrow:
		b[1] |= 0x80
		b = append(b, byte(c.id&0x7F))
	default:
		b[1] |= 0x80
		b = append(b, byte(c.id>>8)|0x80, byte(c.id))
	}
	last := c.tid<<6 | c.key&0x1F
	if c.y {
		last |= 0x20
	}
	b = append(b, c.tl0, last)
	head := byte(1) // interframe
	if c.isKey {
		head = 0
	}
	return append(b, head)
}

// sentOut is a copy of what the forwarder sent.
type sentOut struct {
	h       rtp.Header
	payload []byte
	vp8     rtpx.VP8Descriptor
	body    uint32 // of payloads made by pic.payload
}

func copyOut(t testing.TB, h *rtp.Header, payload []byte, video bool) sentOut {
	t.Helper()
	o := sentOut{h: h.Clone(), payload: slices.Clone(payload)}
	if video && len(payload) > 0 {
		d, err := rtpx.ParseVP8(payload)
		if err != nil {
			t.Fatalf("sent a payload that is no VP8: %v", err)
		}
		o.vp8 = d
		if n := len(payload) - 4; n >= int(d.Len) {
			o.body = binary.BigEndian.Uint32(payload[n:])
		}
	}
	return o
}

// direct is a Sink that rewrites at once, on the test's clock.
type direct struct {
	t   testing.TB
	f   *Forwarder
	now int64
	out []sentOut
}

func (d *direct) Push(t *Tap, p *rtpx.Packet) {
	if h, payload, ok := t.F.Rewrite(t, p, d.now); ok {
		d.out = append(d.out, copyOut(d.t, h, payload, d.f.line.Video))
	}
}

// take returns what was sent since the last call.
func (d *direct) take() []sentOut {
	o := d.out
	d.out = nil
	return o
}

func videoLine() Line {
	return Line{Video: true, SSRC: 0x1111, RTXSSRC: 0x2222, PT: 96, RTXPT: 97, ClockRate: 90000,
		Mid: "5", MidExt: 1, TWCCExt: 3, CNAME: "c"}
}

func audioLine() Line {
	return Line{SSRC: 0x3333, PT: 111, ClockRate: 48000, Mid: "4", MidExt: 1, TWCCExt: 3, AudioLevelExt: 2, CNAME: "c"}
}

func newDirect(t testing.TB, l Line, seq uint16) *direct {
	d := &direct{t: t, now: start}
	d.f = New(l, d, seq, 5000)
	return d
}

func seqs(os []sentOut) (s []uint16) {
	for _, o := range os {
		s = append(s, o.h.SequenceNumber)
	}
	return s
}

func pids(os []sentOut) (s []uint16) {
	for _, o := range os {
		s = append(s, o.vp8.PictureID)
	}
	return s
}
