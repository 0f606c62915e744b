package sendq

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"mayfly/roomtask/ingest"
	"mayfly/roomtask/rtpx"
	"mayfly/shared/signal"
)

const (
	ptVP8, ptOpus = 96, 111
	extMid        = 1
	extRid        = 2
	extLevel      = 3
)

func clock() int64 { return time.Now().UnixNano() }

// publisher is somebody who sends a microphone and a camera with three layers.
type publisher struct {
	t    testing.TB
	name string
	in   *ingest.Publisher
	pool *rtpx.Pool

	mu    sync.Mutex
	asked map[uint32]int   // keyframe requests by SSRC
	told  map[uint32]uint8 // fraction lost of the last report, by SSRC

	next map[uint32]*stream
}

type stream struct {
	seq, pid uint16
	ts       uint32
}

func newPublisher(t testing.TB, name string, pool *rtpx.Pool) *publisher {
	p := &publisher{t: t, name: name, pool: pool, asked: map[uint32]int{}, told: map[uint32]uint8{}, next: map[uint32]*stream{}}
	p.in = ingest.NewPublisher(ingest.Config{Participant: name, Pool: pool, Now: clock, WriteRTCP: p.rtcp, Limits: ingest.Unlimited})
	ext := map[string]uint8{ingest.ExtMid: extMid, ingest.ExtRid: extRid, ingest.ExtAudioLevel: extLevel}
	p.in.Bind([]ingest.Line{
		{Mid: "0", Kind: signal.KindMic, Codecs: []ingest.Codec{{PT: ptOpus, Name: "opus", ClockRate: 48000}}, Ext: ext},
		{Mid: "1", Kind: signal.KindCamera, Rids: []string{"q", "h", "f"}, Codecs: []ingest.Codec{{PT: ptVP8, Name: "VP8", ClockRate: 90000}}, Ext: ext},
		{Mid: "2", Kind: signal.KindScreen, Codecs: []ingest.Codec{{PT: ptVP8, Name: "VP8", ClockRate: 90000}}, Ext: ext},
	})
	return p
}

func (p *publisher) rtcp(ps []rtcp.Packet) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range ps {
		if pli, ok := k.(*rtcp.PictureLossIndication); ok {
			p.asked[pli.MediaSSRC]++
		}
		p.note(k)
	}
	return nil
}

func (p *publisher) plis(ssrc uint32) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[ssrc]
}

func (p *publisher) camera() *ingest.Source { return p.in.Source(signal.KindCamera) }
func (p *publisher) mic() *ingest.Source    { return p.in.Source(signal.KindMic) }
func (p *publisher) screen() *ingest.Source { return p.in.Source(signal.KindScreen) }

// base gives every publisher its own SSRCs: base+0..2 are the camera's layers, +8 the
// microphone, +9 the screen.
func (p *publisher) base() uint32 { return uint32(p.name[0]) << 8 }

func (p *publisher) send(ssrc uint32, pt uint8, mid, rid string, ts uint32, payload []byte) {
	p.t.Helper()
	st := p.stream(ssrc)
	st.seq++
	st.ts += ts
	k := rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: pt, SequenceNumber: st.seq, Timestamp: st.ts, SSRC: ssrc, Marker: true}, Payload: payload}
	if err := k.SetExtension(extMid, []byte(mid)); err != nil {
		p.t.Fatal(err)
	}
	if rid != "" {
		_ = k.SetExtension(extRid, []byte(rid))
	}
	raw, err := k.Marshal()
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(ssrc, raw)
}

func (p *publisher) stream(ssrc uint32) *stream {
	st := p.next[ssrc]
	if st == nil {
		st = &stream{seq: uint16(ssrc), pid: uint16(ssrc), ts: ssrc * 1000}
		p.next[ssrc] = st
	}
	return st
}

func (p *publisher) write(ssrc uint32, raw []byte) {
	p.t.Helper()
	p.in.Deliver(raw)
}

// frame sends one picture of camera layer l, a single packet of about size bytes.
func (p *publisher) frame(l int, key bool, size int) {
	p.t.Helper()
	p.send(p.base()+uint32(l), ptVP8, "1", []string{"q", "h", "f"}[l], 3000, p.picture(p.base()+uint32(l), key, 320<<l, 180<<l, size))
}

func (p *publisher) screenFrame(key bool) {
	p.t.Helper()
	p.send(p.base()+9, ptVP8, "2", "", 3000, p.picture(p.base()+9, key, 1920, 1080, 100))
}

func (p *publisher) picture(ssrc uint32, key bool, w, h, size int) []byte {
	st := p.stream(ssrc)
	st.pid++
	b := []byte{0x90, 0xE0, byte(st.pid>>8) | 0x80, byte(st.pid), byte(st.pid), 0}
	if key {
		b = append(b, 0x10, 0, 0, 0x9D, 0x01, 0x2A, byte(w), byte(w>>8), byte(h), byte(h>>8))
	} else {
		b = append(b, 1, 0, 0)
	}
	return append(b, make([]byte, max(0, size-len(b)))...)
}

// speak sends one packet of audio.
func (p *publisher) speak() {
	p.t.Helper()
	p.send(p.base()+8, ptOpus, "0", "", 960, []byte{0xFC, 1, 2, 3})
}

// wire is the subscriber's end of all its lines. It can hold a write, and pretend not
// to be connected.
type wire struct {
	mu      sync.Mutex
	packets []rtp.Packet
	off     bool
	hold    chan struct{} // when set, each write takes one from it
	entered chan struct{} // told of each write that is held
	reports []rtcp.Packet
	link    *bottleneck // that packets go through, if any
	forget  bool        // packets are not kept
}

func (w *wire) WriteRTP(h *rtp.Header, payload []byte) (int, error) {
	w.mu.Lock()
	hold, off := w.hold, w.off
	w.mu.Unlock()
	if hold != nil {
		w.entered <- struct{}{}
		<-hold
	}
	if off {
		return 0, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	size := h.MarshalSize() + len(payload) + int(h.PaddingSize)
	if w.link != nil {
		w.link.send(h, size, clock())
	}
	if !w.forget {
		w.packets = append(w.packets, rtp.Packet{Header: h.Clone(), Payload: slices.Clone(payload)})
	}
	return size, nil
}

func (w *wire) writeRTCP(ps []rtcp.Packet) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reports = append(w.reports, ps...)
	return nil
}

func (w *wire) setOff(off bool) {
	w.mu.Lock()
	w.off = off
	w.mu.Unlock()
}

// take waits until all is quiet and returns what was written since the last call.
func (w *wire) take() []rtp.Packet {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	ps := w.packets
	w.packets = nil
	return ps
}

func (w *wire) takeRTCP() []rtcp.Packet {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	ps := w.reports
	w.reports = nil
	return ps
}

// Our SSRCs: seat n has audio 100n+1, video 100n+2 and RTX 100n+3.
func (w *wire) audioOut(seat int) *Out {
	return &Out{W: w, SSRC: uint32(100*seat + 1), PT: ptOpus, ClockRate: 48000, Mid: "a", MidExt: 1, TWCCExt: 4, AudioLevelExt: 3, CNAME: "c"}
}

// videoOut is for a receiver without transport-wide feedback: no limit is known of its
// path until it reports much loss.
func (w *wire) videoOut(seat int) *Out {
	return &Out{W: w, SSRC: uint32(100*seat + 2), RTXSSRC: uint32(100*seat + 3), PT: ptVP8, RTXPT: 97, ClockRate: 90000, Mid: "v", MidExt: 1, CNAME: "c"}
}

// numberedOut is for one with it.
func (w *wire) numberedOut(seat int) *Out {
	o := w.videoOut(seat)
	o.TWCCExt = 4
	return o
}

// rig is one subscriber and the publishers it may see, in a bubble of fake time.
type rig struct {
	t    *testing.T
	pool *rtpx.Pool
	wire *wire
	s    *Sender
	pubs []*publisher

	count    int    // packets answered by lossy
	answered uint16 // the newest number, if known
	known    bool
	first    map[uint32]rtp.Header // of each SSRC, for sight
}

func inBubble(t *testing.T, f func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, pool: rtpx.NewPool(64 << 20), wire: &wire{}}
		r.s = New(Config{Now: clock, WriteRTCP: r.wire.writeRTCP})
		defer func() {
			r.s.Close()
			for _, p := range r.pubs {
				p.in.Close()
			}
			if n := r.pool.Out(); n != 0 {
				t.Errorf("%d bytes of packets were not given back", n)
			}
		}()
		f(t, r)
	})
}

func (r *rig) publisher(name string) *publisher {
	p := newPublisher(r.t, name, r.pool)
	r.pubs = append(r.pubs, p)
	return p
}

// tick lets d pass in steps of 20 ms, with the room's ticker; each is called at every
// step.
func (r *rig) tick(d time.Duration, each ...func()) {
	for range d / (20 * time.Millisecond) {
		time.Sleep(20 * time.Millisecond)
		for _, f := range each {
			f()
		}
		for _, p := range r.pubs {
			p.in.Tick(clock())
		}
		r.s.Tick(clock())
		synctest.Wait()
	}
}

func bySSRC(ps []rtp.Packet, ssrc uint32) (of []rtp.Packet) {
	for _, p := range ps {
		if p.SSRC == ssrc {
			of = append(of, p)
		}
	}
	return of
}

// bindScreen ends all sources, and negotiates the screen anew with another codec.
func (p *publisher) bindScreen(codec string) {
	p.in.Bind(nil)
	p.in.Bind([]ingest.Line{{Mid: "2", Kind: signal.KindScreen,
		Codecs: []ingest.Codec{{PT: 102, Name: codec, ClockRate: 90000}}, Ext: map[string]uint8{ingest.ExtMid: extMid}}})
}

// pass lets the bubble's clock run without a tick.
func (r *rig) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
