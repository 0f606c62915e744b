package ingest

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/rtcp"

	"mayfly/shared/signal"
)

func TestSourcesAndBind(t *testing.T) {
	inBubble(t, "sources", func(t *testing.T) {
		r := newRig(t, micLine, cameraLine)
		cam, mic := r.p.Source(signal.KindCamera), r.p.Source(signal.KindMic)
		if cam.ID() != "alice/camera" || !cam.Video() || cam.LayerCount() != 3 || cam.Codec() != "VP8" || cam.ClockRate() != 90000 {
			t.Errorf("camera: %s %v %d %s %d", cam.ID(), cam.Video(), cam.LayerCount(), cam.Codec(), cam.ClockRate())
		}
		for i, rid := range []string{"q", "h", "f"} { // put in order though the SDP says f, q, h
			if got := cam.LayerInfo(i); got.RID != rid || got.Active {
				t.Errorf("layer %d: %+v, want inactive %s", i, got, rid)
			}
		}
		if mic.Video() || mic.LayerCount() != 1 || mic.Codec() != "opus" || mic.ClockRate() != 48000 {
			t.Errorf("mic: %v %d %s %d", mic.Video(), mic.LayerCount(), mic.Codec(), mic.ClockRate())
		}
		if r.p.Source(signal.KindScreen) != nil || cam.LayerInfo(3) != (LayerInfo{}) || cam.Lookup(-1, 5) != nil {
			t.Error("something that is not there was found")
		}
	})
	inBubble(t, "rebind keeps a source and ends another", func(t *testing.T) {
		r := newRig(t, micLine, cameraLine)
		cam := r.p.Source(signal.KindCamera)
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 1, ext: ids("2", "q", ""), payload: keyStart})
		r.send(packet{ssrc: 20, pt: ptOpus, seq: 1, ext: ids("1", "", ""), payload: []byte{1}})
		r.changed = nil
		r.p.Bind([]Line{cameraLine})
		if r.p.Source(signal.KindMic) != nil || r.p.Source(signal.KindCamera) != cam || !slices.Equal(r.changed, []string{"alice/mic"}) {
			t.Errorf("sources %v, changed %v", r.p.Sources(), r.changed)
		}
		// The client no longer sends mid and rid once they were acknowledged.
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 2, payload: keyMore})
		r.send(packet{ssrc: 20, pt: ptOpus, seq: 2, payload: []byte{1}})
		if st := r.p.Stats(); st.Unbound != 1 || st.Layers[0].Packets != 2 {
			t.Errorf("stats %+v", st)
		}
	})
	inBubble(t, "another mid needs its own packets", func(t *testing.T) {
		r := newRig(t, cameraLine)
		cam, tap := r.p.Source(signal.KindCamera), &catcher{}
		cam.AddTap(0, tap)
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 1, ext: ids("2", "q", ""), payload: keyStart})
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 3, payload: keyMore})
		moved := cameraLine
		moved.Mid = "7"
		r.p.Bind([]Line{moved})
		if cam.LayerInfo(0).Active {
			t.Error("layer still active after its m-line went")
		}
		r.advance(100 * ms)
		r.p.Tick(r.now())
		for _, p := range r.settle() {
			if n, ok := p.(*rtcp.TransportLayerNack); ok {
				t.Errorf("asked a stream of the former m-line: %v", n)
			}
		}
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 4, payload: keyMore})
		r.send(packet{ssrc: 11, pt: ptVP8, seq: 1, ext: ids("7", "q", ""), payload: keyStart})
		if len(tap.got) != 3 || tap.got[2].SSRC != 11 || tap.got[2].ExtSeq <= tap.got[1].ExtSeq {
			t.Errorf("got %+v", tap.got)
		}
	})
	inBubble(t, "taps survive a change of layers", func(t *testing.T) {
		r := newRig(t, Line{Mid: "2", Kind: signal.KindCamera, Codecs: videoCodecs, Ext: exts})
		cam, tap := r.p.Source(signal.KindCamera), &catcher{}
		cam.AddTap(0, tap)
		r.p.Bind([]Line{cameraLine})
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 1, ext: ids("2", "q", ""), payload: keyStart})
		if cam.LayerCount() != 3 || len(tap.got) != 1 {
			t.Errorf("%d layers, got %+v", cam.LayerCount(), tap.got)
		}
	})
}

func TestBindingOfStreams(t *testing.T) {
	camera := Line{
		Mid: "2", Kind: signal.KindCamera, Codecs: videoCodecs, Ext: exts,
		SSRCs: []uint32{10, 11, 12, 13}, Groups: []Group{{"SIM", []uint32{10, 11}}, {"FID", []uint32{10, 12}}, {"FID", []uint32{11, 13}}},
	}
	screen := Line{
		Mid: "3", Kind: signal.KindScreen, Codecs: videoCodecs, Ext: exts,
		SSRCs: []uint32{30, 31}, Groups: []Group{{"FID", []uint32{30, 31}}},
	}
	for _, tt := range []struct {
		name  string
		lines []Line
		k     packet
		want  string // source and layer, or "" when unbound
	}{
		{"mid and rid", []Line{cameraLine}, packet{ssrc: 5, pt: ptVP8, ext: ids("2", "h", "")}, "alice/camera 1"},
		{"rid unknown", []Line{cameraLine}, packet{ssrc: 5, pt: ptVP8, ext: ids("2", "x", "")}, ""},
		{"rid missing", []Line{cameraLine}, packet{ssrc: 5, pt: ptVP8, ext: ids("2", "", "")}, ""},
		{"mid unknown", []Line{cameraLine}, packet{ssrc: 5, pt: ptVP8, ext: ids("9", "q", "")}, ""},
		{"mid without simulcast", []Line{screen}, packet{ssrc: 5, pt: ptVP8, ext: ids("3", "", "")}, "alice/screen 0"},
		{"SDP without extensions", []Line{screen}, packet{ssrc: 30, pt: ptVP8}, "alice/screen 0"},
		{"SDP's simulcast group", []Line{camera, screen}, packet{ssrc: 11, pt: ptVP8}, "alice/camera 1"},
		{"media on a stream declared for retransmission", []Line{camera}, packet{ssrc: 13, pt: ptVP8}, ""},
		{"nothing known", []Line{camera, screen}, packet{ssrc: 99, pt: ptVP8}, ""},
		{"mid of the other kind", []Line{micLine}, packet{ssrc: 5, pt: ptVP8, ext: ids("1", "", "")}, ""},
		{"payload type unknown", []Line{screen}, packet{ssrc: 30, pt: 100}, ""},
		{"probe on SSRC 0", []Line{screen}, packet{ssrc: 0, pt: ptVP8, ext: ids("3", "", "")}, ""},
		{"nothing negotiated", nil, packet{ssrc: 30, pt: ptVP8}, ""},
	} {
		inBubble(t, tt.name, func(t *testing.T) {
			r := newRig(t, tt.lines...)
			tt.k.payload = keyStart
			r.send(tt.k)
			got := ""
			for _, l := range r.p.Stats().Layers {
				if l.Packets > 0 {
					got += l.Source + " " + string(rune('0'+l.Layer))
				}
			}
			if got != tt.want {
				t.Errorf("bound to %q, want %q", got, tt.want)
			}
		})
	}
}

func TestStreamTakesLayerOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, cameraLine)
		cam, tap := r.p.Source(signal.KindCamera), &catcher{}
		cam.AddTap(0, tap)
		q := ids("2", "q", "")
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 500, ext: q, payload: keyStart})
		r.send(packet{ssrc: 11, pt: ptVP8, seq: 500, ext: q, payload: keyStart})
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 501, ext: q, payload: keyMore}) // the old one may not come back
		r.send(packet{ssrc: 11, pt: ptVP8, seq: 501, payload: keyMore})
		var ssrcs []uint32
		for _, g := range tap.got {
			ssrcs = append(ssrcs, g.SSRC)
		}
		if !slices.Equal(ssrcs, []uint32{10, 11, 11}) || !slices.IsSorted(tap.exts()) || tap.exts()[1]-tap.exts()[0] < 1<<16 {
			t.Errorf("got %+v", tap.got)
		}
		r.advance(6 * int64(time.Second))
		r.p.Tick(r.now())
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 502, ext: q, payload: keyStart})
		if len(tap.got) != 4 || cam.LayerInfo(0).SSRC != 10 {
			t.Errorf("the dry layer was not taken: %+v", tap.got)
		}
	})
}

func TestPacketsReachTap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, cameraLine)
		cam, tap := r.p.Source(signal.KindCamera), &catcher{}
		cam.AddTap(1, tap)
		cam.AddTap(1, tap) // twice is once
		h := ids("2", "h", "")
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 65535, ts: 1, ext: h, payload: keyStart})
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 0, ts: 1, ext: h, payload: keyMore})
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 0, ts: 1, ext: h, payload: keyMore}) // duplicate
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 1, ts: 2, ext: h, payload: delta})
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 2, ts: 2, ext: h, padding: 20})           // padding only
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 3, ts: 2, ext: h, payload: []byte{0x80}}) // not VP8
		const base = 1 << 16
		want := []caught{
			{base + 65535, 10, 1, true, true, 320, string(keyStart)},
			{2 * base, 10, 1, false, true, 0, string(keyMore)},
			{2*base + 1, 10, 1, true, false, 0, string(delta)},
			{2*base + 2, 10, 1, false, false, 0, ""},
		}
		if d := cmp.Diff(want, tap.got); d != "" {
			t.Error(d)
		}
		if i := cam.LayerInfo(1); !i.Active || i.Width != 320 || i.Height != 180 || i.SSRC != 10 {
			t.Errorf("layer %+v", i)
		}
		if st := r.p.Stats(); st.Duplicate != 1 || st.Malformed != 1 || st.Packets != 6 {
			t.Errorf("stats %+v", st)
		}
		p := cam.Lookup(1, 2*base)
		if p == nil || !bytes.Equal(p.Payload(), keyMore) {
			t.Fatal("packet is not in the ring")
		}
		cam.RemoveTap(1, tap)
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 4, ts: 3, ext: h, payload: delta})
		if len(tap.got) != 4 {
			t.Error("a removed tap got a packet")
		}
		r.advance(3 * int64(time.Second))
		r.p.Tick(r.now())
		if cam.Lookup(1, 2*base) != nil {
			t.Error("an old packet is still in the ring")
		}
		if !bytes.Equal(p.Payload(), keyMore) {
			t.Error("a retained packet changed")
		}
		p.Release()
		r.p.Close()
		if out := r.p.cfg.Pool.Out(); out != 0 {
			t.Errorf("%d bytes not given back", out)
		}
	})
}

func TestRepair(t *testing.T) {
	rtx := func(seq, of uint16, rrid string, payload []byte) packet {
		return packet{
			ssrc: 50, pt: ptRTX, seq: seq, ts: 1, ext: ids("2", "", rrid),
			payload: append([]byte{byte(of >> 8), byte(of)}, payload...),
		}
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, cameraLine)
		cam, tap := r.p.Source(signal.KindCamera), &catcher{}
		cam.AddTap(0, tap)
		q := ids("2", "q", "")
		for _, seq := range []uint16{65533, 65534, 1} { // 65535 and 0 are lost
			r.send(packet{ssrc: 10, pt: ptVP8, seq: seq, ts: 1, ext: q, payload: delta})
		}
		if got := r.nacked(10); got != nil {
			t.Errorf("asked for %v after one later packet", got)
		}
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 2, ts: 1, ext: q, payload: delta})
		if got := r.nacked(10); !slices.Equal(got, []uint16{65535, 0}) {
			t.Errorf("asked for %v, want 65535 and 0", got)
		}
		r.advance(10 * ms)
		r.p.Tick(r.now())
		if got := r.nacked(10); got != nil {
			t.Errorf("asked again after 10 ms: %v", got)
		}
		r.advance(30 * ms)
		r.send(rtx(1, 65535, "q", delta))
		r.send(rtx(2, 65535, "q", delta)) // a probe repeats it
		r.send(rtx(3, 9, "q", delta))     // and one of a packet to come
		r.send(packet{ssrc: 50, pt: ptRTX, seq: 4, ts: 1, ext: ids("2", "", "q"), padding: 200})
		if got := r.p.Stats(); got.Repaired != 1 || got.RTT != 40*ms || got.Duplicate != 1 {
			t.Errorf("stats %+v", got)
		}
		r.p.Tick(r.now())
		if got := r.nacked(10); !slices.Equal(got, []uint16{0}) {
			t.Errorf("asked for %v, want what is still missing", got)
		}
		r.advance(39 * ms) // less than the round trip
		r.p.Tick(r.now())
		if got := r.nacked(10); got != nil {
			t.Errorf("asked again within the round trip: %v", got)
		}
		const base = 1 << 16
		if got := tap.exts(); !slices.Equal(got, []uint64{base + 65533, base + 65534, 2*base + 1, 2*base + 2, base + 65535}) {
			t.Errorf("tap got %v", got)
		}
		// A keyframe makes the rest pointless.
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 3, ts: 2, ext: q, payload: keyStart})
		r.advance(100 * ms)
		r.p.Tick(r.now())
		if got := r.nacked(10); got != nil || r.p.Stats().Lost != 1 {
			t.Errorf("asked for %v after a keyframe, %d lost", got, r.p.Stats().Lost)
		}
	})
	inBubble(t, "paired by FID", func(t *testing.T) {
		r := newRig(t, Line{
			Mid: "2", Kind: signal.KindScreen, Codecs: videoCodecs,
			SSRCs: []uint32{10, 50}, Groups: []Group{{"FID", []uint32{10, 50}}},
		})
		tap := &catcher{}
		r.p.Source(signal.KindScreen).AddTap(0, tap)
		for _, seq := range []uint16{1, 3} {
			r.send(packet{ssrc: 10, pt: ptVP8, seq: seq, payload: delta})
		}
		r.send(packet{ssrc: 50, pt: ptRTX, seq: 9, payload: append([]byte{0, 2}, delta...)})
		if got := tap.exts(); !slices.Equal(got, []uint64{1<<16 + 1, 1<<16 + 3, 1<<16 + 2}) {
			t.Errorf("tap got %v", got)
		}
	})
	inBubble(t, "other layer's repair does not mix", func(t *testing.T) {
		r := newRig(t, cameraLine)
		tap := &catcher{}
		r.p.Source(signal.KindCamera).AddTap(0, tap)
		for _, seq := range []uint16{1, 3} {
			r.send(packet{ssrc: 10, pt: ptVP8, seq: seq, ext: ids("2", "q", ""), payload: delta})
			r.send(packet{ssrc: 11, pt: ptVP8, seq: seq, ext: ids("2", "h", ""), payload: delta})
		}
		r.send(rtx(1, 2, "h", delta))
		if len(tap.got) != 2 {
			t.Errorf("tap got %v", tap.exts())
		}
	})
	inBubble(t, "audio without retransmission is not asked for", func(t *testing.T) {
		r := newRig(t, micLine)
		for _, seq := range []uint16{1, 2, 5, 6, 7} {
			r.send(packet{ssrc: 20, pt: ptOpus, seq: seq, ext: ids("1", "", ""), payload: []byte{1}})
		}
		r.advance(100 * ms)
		r.p.Tick(r.now())
		if got := r.nacked(20); got != nil || r.p.Stats().Lost != 2 {
			t.Errorf("asked for %v, %d lost", got, r.p.Stats().Lost)
		}
	})
	inBubble(t, "an outage asks for a keyframe", func(t *testing.T) {
		r := newRig(t, cameraLine)
		for _, seq := range []uint16{1, 500} {
			r.send(packet{ssrc: 10, pt: ptVP8, seq: seq, ext: ids("2", "q", ""), payload: delta})
		}
		r.p.Tick(r.now())
		if got := plis(r.settle()); !slices.Equal(got, []uint32{10}) {
			t.Errorf("keyframe requests %v, want one", got)
		}
	})
}

func TestRED(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, micLine)
		tap := &catcher{}
		r.p.Source(signal.KindMic).AddTap(0, tap)
		word := uint32(960)<<10 | 2
		r.send(packet{
			ssrc: 20, pt: ptRED, seq: 1, ext: ids("1", "", ""),
			payload: []byte{0x80 | ptOpus, byte(word >> 16), byte(word >> 8), byte(word), ptOpus, 1, 2, 7, 8, 9},
		})
		if len(tap.got) != 1 || tap.got[0].Payload != "\x07\x08\x09" || r.p.Source(signal.KindMic).Codec() != "opus" {
			t.Errorf("got %+v", tap.got)
		}
		r.send(packet{ssrc: 20, pt: ptRED, seq: 2, payload: []byte{0x80}})
		if len(tap.got) != 1 || r.p.Stats().Malformed != 1 {
			t.Errorf("malformed: %+v", r.p.Stats())
		}
	})
}
