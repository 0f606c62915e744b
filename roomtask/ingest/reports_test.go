package ingest

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/rtcp"
	"github.com/pion/transport/v4/packetio"

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
		r.control(10, sr)
		r.control(555, sr) // Pion hands the same packet to whatever else it reports about
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
		r.control(101, rr, sr, nack, pli)
		block := &rtcp.ReceiverReport{SSRC: 5, Reports: []rtcp.ReceptionReport{{SSRC: 101, FractionLost: 2}}}
		want := []rtcp.Packet{block, block, nack, pli}
		if d := cmp.Diff(want, r.feedback); d != "" {
			t.Error(d)
		}
		c := r.p.BufferFactory(packetio.RTCPBufferPacket, 101)
		for _, bad := range [][]byte{nil, {0x80, 200}, {0x81, 200, 0, 1, 0, 0, 0, 1}, {0x9F, 201, 0, 1, 0, 0, 0, 1}, {0x81, 205, 0, 1, 0, 0, 0, 1}} {
			if n, err := c.Write(bad); n != len(bad) || err != nil {
				t.Errorf("%x: %d %v", bad, n, err)
			}
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
		r.control(10, &rtcp.Goodbye{Sources: []uint32{10}})
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

func TestReadGivesFirstPacketsThenBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, cameraLine)
		var want [][]byte
		for seq := range uint16(earlyPackets + 4) {
			k := packet{ssrc: 10, pt: ptVP8, seq: seq, ext: ids("2", "q", ""), payload: delta}
			want = append(want, k.bytes(t))
			r.send(k)
		}
		s := r.sinks[10]
		b := make([]byte, 1500)
		if _, err := s.Read(b[:5]); !errors.Is(err, io.ErrShortBuffer) {
			t.Errorf("short buffer: %v", err)
		}
		for i := range earlyPackets {
			n, err := s.Read(b)
			if err != nil || !bytes.Equal(b[:n], want[i]) {
				t.Fatalf("packet %d: %x %v", i, b[:n], err)
			}
		}
		ended := make(chan error)
		go func() {
			_, err := s.Read(b)
			ended <- err
		}()
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 99, payload: delta})
		synctest.Wait()
		select {
		case err := <-ended:
			t.Errorf("Read returned %v before Close", err)
		default:
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, io.EOF) {
			t.Errorf("Read ended with %v", err)
		}
		if err := s.Close(); err != nil { // Pion closes a stream from two lists
			t.Errorf("second Close: %v", err)
		}
		if _, err := s.Write(want[0]); err != nil {
			t.Errorf("Write after Close: %v", err)
		}
	})
}

func TestEarlyPacketsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, cameraLine)
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 1, ext: ids("2", "q", ""), payload: delta})
		r.advance(earlyFor)
		r.p.Tick(r.now())
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 2, payload: delta})
		ended := make(chan error)
		go func() {
			_, err := r.sinks[10].Read(make([]byte, 1500))
			ended <- err
		}()
		synctest.Wait()
		if err := r.sinks[10].Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, io.EOF) {
			t.Errorf("Read gave a packet after ten seconds: %v", err)
		}
	})
}

func TestCloseEndsReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, cameraLine)
		for _, kind := range []packetio.BufferPacketType{packetio.RTPBufferPacket, packetio.RTCPBufferPacket} {
			s := r.p.BufferFactory(kind, 10)
			go func() { _, _ = s.Read(make([]byte, 10)) }() // the bubble fails if it stays
		}
		synctest.Wait()
		r.p.Close()
		r.p.Close()
		r.p.Tick(r.now())
		r.p.Bind([]Line{cameraLine})
		s := r.p.BufferFactory(packetio.RTPBufferPacket, 11)
		if n, err := s.Write([]byte{1, 2}); n != 2 || err != nil {
			t.Errorf("Write after Close: %d %v", n, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestTooManyStreams(t *testing.T) {
	for kind, limit := range map[packetio.BufferPacketType]int{packetio.RTPBufferPacket: maxStreams, packetio.RTCPBufferPacket: maxReports} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, cameraLine)
			first := r.p.BufferFactory(kind, 1)
			for i := 1; i < limit; i++ {
				r.p.BufferFactory(kind, uint32(1+i))
			}
			if r.abuse != nil {
				t.Fatalf("refused within the limit: %v", r.abuse)
			}
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			r.p.BufferFactory(kind, 1) // what was closed does not count
			for i := range 3 {
				s := r.p.BufferFactory(kind, uint32(5000+i))
				if n, err := s.Write([]byte{1}); n != 1 || err != nil {
					t.Errorf("a refused stream: %d %v", n, err)
				}
			}
			if len(r.abuse) != 1 {
				t.Errorf("told of abuse %d times, want once", len(r.abuse))
			}
		})
	}
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
