package ingest

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/rtcp"

	"mayfly/roomtask/rtpx"
	"mayfly/shared/signal"
)

func TestKeyframeRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, micLine, cameraLine)
		cam := r.p.Source(signal.KindCamera)
		cam.RequestKeyframe(0) // before the first packet: it waits
		r.p.Source(signal.KindMic).RequestKeyframe(0)
		cam.RequestKeyframe(7)
		if got := plis(r.settle()); got != nil {
			t.Errorf("asked a layer that does not send: %v", got)
		}
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 1, ext: ids("2", "q", ""), payload: delta})
		if got := plis(r.settle()); !slices.Equal(got, []uint32{10}) {
			t.Errorf("requests at the first packet: %v", got)
		}
		for range 50 {
			cam.RequestKeyframe(0)
			if got := plis(r.settle()); got != nil {
				t.Fatalf("not gated: %v", got)
			}
		}
		r.advance(499 * ms)
		r.p.Tick(r.now())
		if got := plis(r.settle()); got != nil {
			t.Errorf("asked again after 499 ms: %v", got)
		}
		r.advance(ms)
		r.p.Tick(r.now())
		if got := plis(r.settle()); !slices.Equal(got, []uint32{10}) {
			t.Errorf("after 500 ms: %v", got)
		}
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 2, ts: 1, payload: keyStart})
		r.advance(10_000 * ms)
		r.p.Tick(r.now())
		if got := plis(r.settle()); got != nil || r.p.Stats().PLIs != 2 {
			t.Errorf("asked after the keyframe: %v", got)
		}
	})
}

func TestReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, micLine, cameraLine)
		r.p.Tick(r.now()) // the next reports are due in one second
		r.settle()
		r.send(packet{ssrc: 20, pt: ptOpus, seq: 9, ext: ids("1", "", ""), payload: []byte{1}})
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 65535, ext: ids("2", "q", ""), payload: delta})
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 0, ts: 3000, payload: delta})
		sr := &rtcp.SenderReport{SSRC: 10, NTPTime: 0xAAAA_BBBB_CCCC_DDDD, RTPTime: 77}
		r.control(sr)
		if got, ok := r.p.Source(signal.KindCamera).SenderReport(0); !ok || got != (SR{NTP: sr.NTPTime, RTP: 77, At: r.now(), Local: r.now()}) {
			t.Errorf("sender report %+v %v", got, ok)
		}
		if _, ok := r.p.Source(signal.KindMic).SenderReport(0); ok {
			t.Error("the microphone has a sender report")
		}
		r.advance(1000 * ms)
		r.p.Tick(r.now())
		var got *rtcp.ReceiverReport
		for _, p := range r.settle() {
			if rr, ok := p.(*rtcp.ReceiverReport); ok {
				got = rr
			}
		}
		want := []rtcp.ReceptionReport{
			{SSRC: 20, LastSequenceNumber: 9},
			{SSRC: 10, LastSequenceNumber: 1 << 16, LastSenderReport: 0xBBBB_CCCC, Delay: 65536},
		}
		if got == nil {
			t.Fatal("no receiver report")
		}
		for i := range got.Reports {
			got.Reports[i].Jitter = 0
		}
		if d := cmp.Diff(want, got.Reports); d != "" {
			t.Error(d)
		}
	})
}

func TestTransportFeedbackToPublisher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, micLine, cameraLine)
		r.p.Tick(r.now())
		r.settle()
		seq := func(n byte) map[uint8]string {
			m := ids("2", "q", "")
			m[idSeq] = string([]byte{0, n})
			return m
		}
		first := r.now()
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 1, ext: seq(1), payload: delta})
		r.advance(10 * ms)
		r.send(packet{ssrc: 50, pt: ptRTX, seq: 1, ext: seq(3), padding: 100}) // a probe counts
		r.send(packet{ssrc: 0, pt: ptRTX, seq: 1, ext: seq(4), padding: 100})
		r.advance(50 * ms)
		r.p.Tick(r.now())
		pkts := r.settle()
		if len(pkts) != 1 {
			t.Fatalf("sent %v, want one feedback", pkts)
		}
		base, got := decode(t, pkts[0])
		tick := func(at int64) int64 { return at / twccTick % (1 << 32) } // as wide as the wire's time
		want := []int64{tick(first), -1, tick(first + 10*ms), tick(first + 10*ms)}
		if d := cmp.Diff(want, got); base != 1 || d != "" {
			t.Errorf("base %d %s", base, d)
		}
	})
}

func TestFeedbackAboutOurStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		rr := &rtcp.ReceiverReport{SSRC: 5, Reports: []rtcp.ReceptionReport{{SSRC: 100, FractionLost: 1}, {SSRC: 101, FractionLost: 2}}}
		sr := &rtcp.SenderReport{SSRC: 5, Reports: rr.Reports}
		nack := &rtcp.TransportLayerNack{SenderSSRC: 5, MediaSSRC: 101, Nacks: []rtcp.NackPair{{PacketID: 7}}}
		pli := &rtcp.PictureLossIndication{SenderSSRC: 5, MediaSSRC: 101}
		r.control(rr, sr, nack, pli)
		other := &rtcp.ReceiverReport{SSRC: 5, Reports: []rtcp.ReceptionReport{{SSRC: 100, FractionLost: 1}}}
		block := &rtcp.ReceiverReport{SSRC: 5, Reports: []rtcp.ReceptionReport{{SSRC: 101, FractionLost: 2}}}
		want := []rtcp.Packet{other, block, other, block, nack, pli}
		if d := cmp.Diff(want, r.feedback); d != "" {
			t.Error(d)
		}
		for _, bad := range [][]byte{nil, {0x80, 200}, {0x81, 200, 0, 1, 0, 0, 0, 1}, {0x9F, 201, 0, 1, 0, 0, 0, 1}, {0x81, 205, 0, 1, 0, 0, 0, 1},
			{0x81, 201, 0, 9, 0, 0, 0, 1}, {0x80, 201, 0, 0, 0, 0, 0, 1}, {0x9F, 203, 0, 1, 0, 0, 0, 1}} {
			r.p.DeliverControl(bad)
		}
		if len(r.feedback) != len(want) {
			t.Errorf("malformed packets gave %v", r.feedback[len(want):])
		}
	})
}

func TestLiveness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, cameraLine)
		cam := r.p.Source(signal.KindCamera)
		send := func(ssrc uint32, rid string, seq uint16) {
			r.send(packet{ssrc: ssrc, pt: ptVP8, seq: seq, ts: uint32(seq), ext: ids("2", rid, ""), payload: delta})
		}
		active := func() (got []bool) {
			for i := range 3 {
				got = append(got, cam.LayerInfo(i).Active)
			}
			return got
		}
		for i := range uint16(60) { // both layers for a second, 7 bytes each 20 ms
			send(10, "q", i)
			send(11, "h", i)
			r.advance(20 * ms)
			r.p.Tick(r.now())
		}
		if got := active(); !slices.Equal(got, []bool{true, true, false}) {
			t.Errorf("active %v", got)
		}
		if bps := cam.LayerInfo(0).Bps; bps < 2500 || bps > 3000 {
			t.Errorf("%d bit/s, want 2800", bps)
		}
		r.changed = nil
		for i := range uint16(52) { // the encoder drops the upper one
			send(10, "q", 60+i)
			r.advance(20 * ms)
			r.p.Tick(r.now())
		}
		if got := active(); !slices.Equal(got, []bool{true, false, false}) || !slices.Equal(r.changed, []string{"alice/camera"}) {
			t.Errorf("active %v, changed %v", got, r.changed)
		}
		r.advance(3000 * ms) // the whole camera pauses
		r.p.Tick(r.now())
		if !cam.LayerInfo(0).Active {
			t.Error("the only layer ended after three seconds")
		}
		r.advance(2000 * ms)
		r.p.Tick(r.now())
		if i := cam.LayerInfo(0); i.Active || i.Bps != 0 {
			t.Errorf("after five seconds: %+v", i)
		}
		send(10, "q", 200)
		r.control(&rtcp.Goodbye{Sources: []uint32{10}})
		if cam.LayerInfo(0).Active {
			t.Error("active after BYE")
		}
	})
}

func TestAudioLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, micLine)
		mic := r.p.Source(signal.KindMic)
		e := ids("1", "", "")
		e[idLevel] = string([]byte{0x80 | 33})
		r.send(packet{ssrc: 20, pt: ptOpus, seq: 1, ext: e, payload: []byte{1}})
		if level, voice, at := mic.Level(); level != 33 || !voice || at != r.now() {
			t.Errorf("level %d %v at %d", level, voice, at)
		}
	})
}

func TestNothingAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, cameraLine)
		r.p.Close()
		r.p.Close()
		r.p.Tick(r.now())
		r.p.Bind([]Line{cameraLine})
		r.send(packet{ssrc: 11, pt: ptVP8, seq: 1, ext: ids("2", "q", ""), payload: keyStart})
		r.control(&rtcp.Goodbye{Sources: []uint32{11}})
		if st := r.p.Stats(); st.Packets != 0 || len(r.changed) != 0 {
			t.Errorf("a packet was taken after Close: %+v", st)
		}
	})
}

// TestTooManyStreams sends from one SSRC more than anybody may have, then from it and
// others again: those that were there go on.
func TestTooManyStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, cameraLine)
		for i := range uint32(maxStreams) {
			r.send(packet{ssrc: 1 + i, pt: ptVP8, seq: 1, payload: delta})
		}
		if r.abuse != nil {
			t.Fatalf("refused within the limit: %v", r.abuse)
		}
		for i := range uint32(3) {
			r.send(packet{ssrc: 5000 + i, pt: ptVP8, seq: 1, ext: ids("2", "q", ""), payload: keyStart})
		}
		if len(r.abuse) != 1 {
			t.Errorf("told of abuse %d times, want once", len(r.abuse))
		}
		if info := r.p.Source(signal.KindCamera).LayerInfo(0); info.Active {
			t.Errorf("one stream too many feeds a layer: %+v", info)
		}
		r.send(packet{ssrc: 7, pt: ptVP8, seq: 2, ext: ids("2", "q", ""), payload: keyStart})
		if info := r.p.Source(signal.KindCamera).LayerInfo(0); info.SSRC != 7 {
			t.Errorf("a stream within the limit does not: %+v", info)
		}
	})
}

func TestPoolExhausted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, cameraLine)
		r.p.cfg.Pool = rtpx.NewPool(0)
		tap := &catcher{}
		r.p.Source(signal.KindCamera).AddTap(0, tap)
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 1, ext: ids("2", "q", ""), payload: keyStart})
		if len(tap.got) != 0 || r.p.Stats().NoBuffer != 1 {
			t.Errorf("got %v, stats %+v", tap.got, r.p.Stats())
		}
	})
}
