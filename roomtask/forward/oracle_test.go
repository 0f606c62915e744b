package forward

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/pion/rtp"

	"mayfly/roomtask/ingest"
	"mayfly/roomtask/rtpx"
)

// The decodability oracle: publishers of every codec send through the real ingest over
// a path that loses, delays, doubles and repairs; they come, go and restart. Viewers
// change what they see, its layers and its temporal layers, and ask for packets again.
// What each was sent is then judged with the references of every frame at hand
// (oracle_judge_test.go). A seed that fails is printed; MAYFLY_ORACLE_STEPS and
// MAYFLY_ORACLE_SEED run more, or one again.

const oracleSteps = 10_000

// place names a packet of a publisher.
type place struct {
	ssrc uint32
	seq  uint16
}

// oracle is the world of one seed.
type oracle struct {
	t       *testing.T
	rng     *rand.Rand
	now     atomic.Int64
	step    int
	pool    *rtpx.Pool
	ssrc    uint32
	frames  []*frame
	places  map[place]int // where a packet stands in its stream
	pubs    []*publisher
	viewers []*oracleViewer
	next    int // style of the next publisher
}

// oracleViewer is one subscriber with one seat.
type oracleViewer struct {
	o       *oracle
	f       *Forwarder
	pub     *publisher // that it looks at, nil = none
	inbox   []inboxed
	unwrap  rtpx.Unwrapper16
	outs    map[uint64]out // by extended sequence number
	arrived map[arrivedAt]bool
	rtxSeq  uint16
	resent  int
	dd      map[uint32]*rtpx.DDReader // by stint
}

// inboxed is a packet on its way to the forwarder.
type inboxed struct {
	t *Tap
	p *rtpx.Packet
}

// arrivedAt is a packet that reached a viewer's forwarder in a stint.
type arrivedAt struct {
	stint, place int
	ssrc         uint32
}

// out is one packet that a viewer was sent.
type out struct {
	ext     uint64
	stint   int // how many begun
	h       rtp.Header
	payload []byte
	frame   *frame // nil for a filler
	place   int    // in the source's stream
	pid     uint16 // picture id or frame number, as sent
	tl0     uint8
	hasTL0  bool
	seeded  bool
}

func oracleLine() Line {
	l := videoLine()
	l.DDExt = 7
	for c := rtpx.CodecVP8; c < rtpx.NumCodecs; c++ {
		l.Types[c] = rtpx.PayloadType{PT: 40 + 2*uint8(c), RTX: 41 + 2*uint8(c)}
	}
	return l
}

func newOracle(t *testing.T, seed uint64) *oracle {
	o := &oracle{t: t, rng: rand.New(rand.NewPCG(seed, 2024)), pool: rtpx.NewPool(64 << 20), ssrc: 1000, places: map[place]int{}}
	o.now.Store(start)
	for range 3 {
		o.join()
	}
	for range 3 {
		v := &oracleViewer{o: o, outs: map[uint64]out{}, arrived: map[arrivedAt]bool{}, dd: map[uint32]*rtpx.DDReader{}}
		v.f = New(oracleLine(), v, uint16(o.rng.Uint32()), o.rng.Uint32())
		v.rtxSeq = v.f.rtxSeq
		o.viewers = append(o.viewers, v)
	}
	return o
}

// join adds a publisher, of each style in turn.
func (o *oracle) join() {
	o.pubs = append(o.pubs, newPublisher(o, len(o.pubs), styles[o.next%len(styles)]))
	o.next++
}

// present are the publishers that have not left: the newest three.
func (o *oracle) present() []*publisher { return o.pubs[len(o.pubs)-3:] }

// leave ends the oldest publisher, and another one joins.
func (o *oracle) leave() {
	gone := o.present()[0]
	for _, v := range o.viewers {
		if v.pub == gone {
			v.f.Select(nil, 0, o.now.Load())
			v.pub = nil
		}
	}
	gone.p.Close()
	o.join()
}

func (o *oracle) run(steps int) {
	for o.step = 0; o.step < steps; o.step++ {
		o.now.Add(int64(8e6 + o.rng.IntN(6e6)))
		now := o.now.Load()
		synctest.Wait() // ingest's writers have told the publishers what they want
		for _, p := range o.present() {
			p.network()
		}
		for i, p := range o.present() {
			if o.step%3 == i {
				p.capture()
			}
			p.p.Tick(now)
		}
		for _, v := range o.viewers {
			v.act(now)
		}
		switch o.rng.IntN(400) {
		case 0:
			o.leave()
		case 1, 2:
			p := o.present()[o.rng.IntN(3)]
			p.restart(p.streams[o.rng.IntN(len(p.streams))])
		}
	}
	for _, v := range o.viewers {
		v.drain()
		v.f.Close()
	}
	for _, p := range o.present() {
		p.p.Close()
	}
	synctest.Wait()
	if n := o.pool.Out(); n != 0 {
		o.t.Errorf("%d bytes of packets are lost", n)
	}
}

// act does what viewers and receivers do.
func (v *oracleViewer) act(now int64) {
	rng := v.o.rng
	v.drain()
	defer v.drain()
	switch rng.IntN(60) {
	case 0:
		i := rng.IntN(3)
		v.look(v.o.present()[i], now)
	case 1, 2, 3:
		if v.pub != nil {
			v.f.Select(v.pub.src, rng.IntN(v.pub.src.LayerCount()), now)
		}
	case 4, 5:
		v.f.SetMaxTID(int8(rng.IntN(4)))
	case 6:
		v.f.Keyframe()
	case 7:
		if rng.IntN(6) == 0 {
			v.look(nil, now)
		}
	}
	if v.pub == nil && rng.IntN(20) == 0 {
		v.look(v.o.present()[rng.IntN(3)], now)
	}
	v.f.Tick(now)
	v.f.Report(now)
	for range 2 {
		v.nack(uint16(v.f.out)-uint16(rng.IntN(60)), now)
	}
}

func (v *oracleViewer) look(p *publisher, now int64) {
	if v.pub = p; p == nil {
		v.f.Select(nil, 0, now)
		return
	}
	v.f.Select(p.src, v.o.rng.IntN(p.src.LayerCount()), now)
}

// Push implements Sink.
func (v *oracleViewer) Push(t *Tap, p *rtpx.Packet) {
	p.Retain()
	v.inbox = append(v.inbox, inboxed{t, p})
}

// drain rewrites what was pushed.
func (v *oracleViewer) drain() {
	for _, q := range v.inbox {
		v.rewrite(q.t, q.p)
		q.p.Release()
	}
	v.inbox = v.inbox[:0]
}

func (v *oracleViewer) rewrite(t *Tap, p *rtpx.Packet) {
	before := v.f.stats.Switches
	h, payload, ok := v.f.Rewrite(t, p, v.o.now.Load())
	// What came before the structure that it refers to is as good as lost.
	readable := p.Codec != rtpx.CodecAV1 || p.DD.Len > 0 || len(p.Payload()) == 0
	if v.f.cur.tap == t && p.SSRC == v.f.cur.ssrc && readable {
		stint := int(v.f.stats.Switches)
		v.arrived[arrivedAt{stint, v.o.places[place{p.SSRC, p.Seq}], p.SSRC}] = true
	}
	if !ok {
		return
	}
	v.note(h, payload, v.unwrap.Unwrap(h.SequenceNumber), p.SSRC, p.Seq, v.f.cur.seeded(p), v.f.stats.Switches != before)
}

// note remembers what was sent.
func (v *oracleViewer) note(h *rtp.Header, payload []byte, ext uint64, ssrc uint32, seq uint16, seeded, first bool) {
	o := out{ext: ext, stint: int(v.f.stats.Switches), h: h.Clone(), payload: bytes.Clone(payload), seeded: seeded}
	if first {
		v.dd = map[uint32]*rtpx.DDReader{}
	}
	if old, twice := v.outs[ext]; twice {
		v.o.t.Fatalf("step %d: sequence number %d was used twice, first with %+v", v.o.step, h.SequenceNumber, old.h)
	}
	if len(payload) > 0 {
		o.frame = v.o.frames[binary.BigEndian.Uint32(payload[len(payload)-5:])]
		o.place = v.o.places[place{ssrc, seq}]
		v.read(&o)
	}
	v.outs[ext] = o
}

// read takes the numbers out of a payload as a receiver would.
func (v *oracleViewer) read(o *out) {
	t, st := v.o.t, v.o.pubs[o.frame.pub].style
	if want := v.f.line.Types[st.codec].PT; o.h.PayloadType != want {
		t.Fatalf("step %d: %v has payload type %d, want %d", v.o.step, st.codec, o.h.PayloadType, want)
	}
	switch st.codec {
	case rtpx.CodecVP8:
		d, err := rtpx.ParseVP8(o.payload)
		if err != nil || int(d.TID) != o.frame.tid || !d.Wide {
			t.Fatalf("step %d: VP8 descriptor %+v, %v", v.o.step, d, err)
		}
		o.pid, o.tl0, o.hasTL0 = d.PictureID, d.TL0PicIdx, true
	case rtpx.CodecVP9:
		d, err := rtpx.ParseVP9(o.payload, nil)
		if err != nil || int(d.TID) != o.frame.tid || int(d.SID) != o.frame.sid || !d.Wide {
			t.Fatalf("step %d: VP9 descriptor %+v, %v", v.o.step, d, err)
		}
		o.pid, o.tl0, o.hasTL0 = d.PictureID, d.TL0PicIdx, d.HasTL0
	case rtpx.CodecAV1:
		raw := o.h.GetExtension(7)
		r := v.dd[o.frame.ssrc]
		if r == nil {
			r = &rtpx.DDReader{}
			v.dd[o.frame.ssrc] = r
		}
		d, err := r.Parse(raw, true)
		if err != nil || int(d.SID) != o.frame.sid || int(d.TID) != o.frame.tid {
			t.Fatalf("step %d: dependency descriptor %x is %+v, %v", v.o.step, raw, d, err)
		}
		if len(raw) > 16 != (o.h.ExtensionProfile == rtp.ExtensionProfileTwoByte) {
			t.Fatalf("step %d: a descriptor of %d bytes under profile %x", v.o.step, len(raw), o.h.ExtensionProfile)
		}
		o.pid = d.Frame
	}
}

// nack asks for a packet again and compares it with what was sent.
func (v *oracleViewer) nack(seq uint16, now int64) {
	ext, ok := v.f.CanResend(seq, now, 50e6)
	if !ok {
		return
	}
	s := *v.f.sent.find(ext)
	h, payload, ok := v.f.Resend(ext)
	if !ok {
		return
	}
	v.resent++
	t := v.o.t
	was, known := v.outs[ext]
	if !known { // it fills a hole: judged with all the others
		p := v.f.cur.tap.src.Lookup(v.f.cur.tap.layer, v.f.cur.full(s.ext))
		m := h.Clone()
		m.SequenceNumber, m.PayloadType = seq, v.f.types.PT
		v.note(&m, payload[2:], ext, p.SSRC, p.Seq, v.f.cur.seeded(p), false)
		p.Release()
		was = v.outs[ext]
	}
	v.rtxSeq++
	if h.SequenceNumber != v.rtxSeq || h.SSRC != 0x2222 || h.Timestamp != was.h.Timestamp || h.Marker != was.h.Marker ||
		(len(payload) > 2 && h.PayloadType != was.h.PayloadType+1) || !bytes.Equal(h.GetExtension(7), was.h.GetExtension(7)) {
		t.Fatalf("step %d: RTX header %+v of %+v", v.o.step, h, was.h)
	}
	if binary.BigEndian.Uint16(payload) != seq || !bytes.Equal(payload[2:], was.payload) {
		t.Fatalf("step %d: packet %d was sent again with other bytes\n%x\n%x", v.o.step, seq, was.payload, payload)
	}
}

// TestOracle runs 10,000 steps of each of two seeds.
func TestOracle(t *testing.T) {
	seeds, steps := []uint64{1, 2}, oracleSteps
	if s := os.Getenv("MAYFLY_ORACLE_STEPS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		steps = n
	}
	if s := os.Getenv("MAYFLY_ORACLE_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seeds = []uint64{n}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOracle(t, seed)
				o.run(steps)
				o.judge()
			})
		})
	}
}

var _ Source = (*ingest.Source)(nil)
