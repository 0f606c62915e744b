package ingest

import (
	"bytes"
	"sync/atomic"
	"testing"

	"github.com/pion/rtcp"
	"github.com/pion/transport/v4/packetio"

	"mayfly/roomtask/rtpx"
	"mayfly/shared/signal"
)

// FuzzWrite feeds foreign bytes to a stream of a bound publisher, as RTP and as RTCP,
// and checks that whatever is delivered fits what came.
func FuzzWrite(f *testing.F) {
	f.Add(packet{ssrc: 10, pt: ptVP8, seq: 1, ext: ids("2", "q", ""), payload: keyStart}.bytes(f))
	f.Add(packet{ssrc: 10, pt: ptRTX, seq: 1, ext: ids("2", "", "q"), payload: append([]byte{0, 1}, delta...)}.bytes(f))
	f.Add(packet{ssrc: 10, pt: ptRED, seq: 1, ext: ids("1", "", ""), payload: []byte{ptOpus, 1}}.bytes(f))
	sr, err := (&rtcp.SenderReport{SSRC: 10, Reports: []rtcp.ReceptionReport{{SSRC: 10}}}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sr)
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		var now atomic.Int64 // the writer goroutine reads it too
		now.Store(1e9)
		p := NewPublisher(Config{
			Participant: "alice", Pool: rtpx.NewPool(1 << 20), Now: now.Load,
			WriteRTCP: func([]rtcp.Packet) error { return nil },
			Feedback:  func(uint32, rtcp.Packet) {},
		})
		defer p.Close()
		p.Bind([]Line{micLine, cameraLine})
		tap := &catcher{}
		for i := range 3 {
			p.Source(signal.KindCamera).AddTap(i, tap)
		}
		p.Source(signal.KindMic).AddTap(0, tap)
		media := p.BufferFactory(packetio.RTPBufferPacket, 10)
		control := p.BufferFactory(packetio.RTCPBufferPacket, 10)
		for range 3 {
			for _, w := range []interface{ Write([]byte) (int, error) }{media, control} {
				if n, err := w.Write(b); n != len(b) || err != nil {
					t.Fatalf("Write = %d %v", n, err)
				}
			}
			if len(b) > 3 {
				b[3]++ // the next sequence number
			}
			p.Tick(now.Add(1e8))
		}
		for _, g := range tap.got {
			if len(g.Payload) > len(b) {
				t.Errorf("a payload of %d bytes from a packet of %d", len(g.Payload), len(b))
			}
		}
	})
}
