package ingest

import (
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"mayfly/roomtask/rtpx"
	"mayfly/shared/signal"
)

// Numbers of the test's negotiation.
const (
	ptVP8, ptRTX, ptOpus, ptRED            = 96, 97, 111, 63
	idMid, idLevel, idSeq, idRid, idRepair = 4, 1, 3, 10, 11
)

var exts = map[string]uint8{
	ExtMid: idMid, ExtAudioLevel: idLevel, ExtTransportSeq: idSeq, ExtRid: idRid, ExtRepairedRid: idRepair,
}

var (
	videoCodecs = []Codec{{PT: ptVP8, Name: "VP8", ClockRate: 90000}, {PT: ptRTX, Name: "rtx", ClockRate: 90000, RTXOf: ptVP8}}
	audioCodecs = []Codec{{PT: ptRED, Name: "red", ClockRate: 48000}, {PT: ptOpus, Name: "opus", ClockRate: 48000}}
	cameraLine  = Line{Mid: "2", Kind: signal.KindCamera, Rids: []string{"f", "q", "h"}, Codecs: videoCodecs, Ext: exts}
	micLine     = Line{Mid: "1", Kind: signal.KindMic, Codecs: audioCodecs, Ext: exts}
)

// rig is a Publisher in a synctest bubble: its clock is the bubble's, and settle can
// wait for the writer goroutine.
type rig struct {
	t *testing.T
	p *Publisher

	mu       sync.Mutex
	sent     []rtcp.Packet
	feedback []rtcp.Packet
	changed  []string
	abuse    []string
}

func newRig(t *testing.T, lines ...Line) *rig {
	r := &rig{t: t}
	r.p = NewPublisher(Config{
		Participant: "alice",
		Pool:        rtpx.NewPool(16 << 20),
		Now:         r.now,
		WriteRTCP: func(pkts []rtcp.Packet) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.sent = append(r.sent, pkts...)
			return nil
		},
		Feedback: func(_ uint32, p rtcp.Packet) { r.feedback = append(r.feedback, p) },
		Changed:  func(s *Source) { r.changed = append(r.changed, s.ID()) },
		Abuse:    func(reason string) { r.abuse = append(r.abuse, reason) },
	})
	t.Cleanup(r.p.Close)
	r.p.Bind(lines)
	return r
}

func (r *rig) now() int64 { return time.Now().UnixNano() }

// advance moves the bubble's clock.
func (r *rig) advance(ns int64) { time.Sleep(time.Duration(ns)) }

// settle lets the writer finish and returns what it sent since the last time.
func (r *rig) settle() []rtcp.Packet {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	sent := r.sent
	r.sent = nil
	return sent
}

// nacked is settle for the sequence numbers asked for of one SSRC.
func (r *rig) nacked(ssrc uint32) (seqs []uint16) {
	for _, p := range r.settle() {
		if n, ok := p.(*rtcp.TransportLayerNack); ok && n.MediaSSRC == ssrc {
			seqs = append(seqs, nackedBy(p)...)
		}
	}
	return seqs
}

// nackedBy are the sequence numbers that a packet asks for.
func nackedBy(p rtcp.Packet) (seqs []uint16) {
	if n, ok := p.(*rtcp.TransportLayerNack); ok {
		for _, pair := range n.Nacks {
			seqs = append(seqs, pair.PacketList()...)
		}
	}
	return seqs
}

func plis(pkts []rtcp.Packet) (ssrcs []uint32) {
	for _, p := range pkts {
		if n, ok := p.(*rtcp.PictureLossIndication); ok {
			ssrcs = append(ssrcs, n.MediaSSRC)
		}
	}
	return ssrcs
}

type packet struct {
	ssrc    uint32
	pt      uint8
	seq     uint16
	ts      uint32
	ext     map[uint8]string
	payload []byte
	padding uint8
}

func (k packet) bytes(t testing.TB) []byte {
	h := rtp.Header{Version: 2, PayloadType: k.pt, SequenceNumber: k.seq, Timestamp: k.ts, SSRC: k.ssrc}
	for _, id := range slices.Sorted(maps.Keys(k.ext)) {
		if err := h.SetExtension(id, []byte(k.ext[id])); err != nil {
			t.Fatal(err)
		}
	}
	p := rtp.Packet{Header: h, Payload: k.payload}
	if k.padding > 0 {
		p.Padding, p.PaddingSize = true, k.padding
	}
	b, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (r *rig) send(k packet) {
	r.t.Helper()
	r.p.Deliver(k.bytes(r.t))
}

// control sends a compound packet.
func (r *rig) control(pkts ...rtcp.Packet) {
	r.t.Helper()
	b, err := rtcp.Marshal(pkts)
	if err != nil {
		r.t.Fatal(err)
	}
	r.p.DeliverControl(b)
}

// catcher is a tap that notes what came.
type catcher struct{ got []caught }

type caught struct {
	ExtSeq     uint64
	SSRC       uint32
	Layer      int8
	Start, Key bool
	Width      uint16
	Payload    string
}

func (c *catcher) Deliver(p *rtpx.Packet) {
	c.got = append(c.got, caught{p.ExtSeq, p.SSRC, p.Layer, p.Start, p.Key, p.Width, string(p.Payload())})
}

func (c *catcher) exts() (out []uint64) {
	for _, g := range c.got {
		out = append(out, g.ExtSeq)
	}
	return out
}

var (
	keyStart = []byte{0x90, 0x80, 0x80, 0x01, 0x50, 0, 0, 0x9D, 0x01, 0x2A, 0x40, 0x01, 0xB4, 0x00} // 320×180
	keyMore  = []byte{0x80, 0x80, 0x80, 0x01, 0xAA}
	delta    = []byte{0x90, 0x80, 0x80, 0x02, 0x51, 0, 0}
)

func ids(mid, rid, rrid string) map[uint8]string {
	m := map[uint8]string{}
	for id, v := range map[uint8]string{idMid: mid, idRid: rid, idRepair: rrid} {
		if v != "" {
			m[id] = v
		}
	}
	return m
}

func inBubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}
