package ingest

import (
	"bytes"
	"maps"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/pion/rtcp"

	"mayfly/roomtask/rtpx"
	"mayfly/shared/signal"
)

// FuzzWrite feeds foreign bytes to a stream of a bound publisher, as RTP and as RTCP,
// and checks that whatever is delivered fits what came.
func FuzzWrite(f *testing.F) {
	f.Add(packet{ssrc: 10, pt: ptVP8, seq: 1, ext: ids("2", "q", ""), payload: keyStart}.bytes(f))
	f.Add(packet{ssrc: 10, pt: ptRTX, seq: 1, ext: ids("2", "", "q"), payload: append([]byte{0, 1}, delta...)}.bytes(f))
	f.Add(packet{ssrc: 10, pt: ptVP9, seq: 1, ext: ids("2", "q", ""), payload: vp9Layer(7, 0, 0, true, 60)}.bytes(f))
	f.Add(packet{ssrc: 10, pt: ptH264, seq: 1, ext: ids("2", "q", ""), payload: []byte{24, 0, 4, 0x67, 0x42, 0xC0, 0x1F, 0, 2, 0x65, 0x88}}.bytes(f))
	av1 := ids("2", "q", "")
	av1[idDD] = "\x80\x00\x01\x80\x01\x80\x00\x00"
	f.Add(packet{ssrc: 10, pt: ptAV1, seq: 1, ext: av1, payload: []byte{0x18, 0x0A, 0x0B, 0, 0, 0, 0x24, 0xC4, 0xFF, 0xDF, 0x3F, 0x40}}.bytes(f))
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
		camera := cameraLine
		camera.Codecs = append(slices.Clone(videoCodecs), Codec{PT: ptVP9, Name: "VP9", ClockRate: 90000},
			Codec{PT: ptH264, Name: "H264", ClockRate: 90000}, Codec{PT: ptAV1, Name: "AV1", ClockRate: 90000})
		camera.Ext = maps.Clone(exts)
		camera.Ext[ExtDD] = idDD
		p.Bind([]Line{micLine, camera})
		tap := &catcher{}
		for i := range 3 {
			p.Source(signal.KindCamera).AddTap(i, tap)
		}
		p.Source(signal.KindMic).AddTap(0, tap)
		for range 3 {
			p.Deliver(b)
			p.DeliverControl(b)
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
