package ingest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mayfly/roomtask/rtpx"
	"mayfly/shared/signal"
)

const (
	ptVP9, ptH264, ptAV1 = 98, 102, 104
	idDD                 = 12
)

var svcLine = Line{Mid: "2", Kind: signal.KindCamera, Ext: exts,
	Codecs: []Codec{{PT: ptVP9, Name: "VP9", ClockRate: 90000}}}

// vp9Layer is one layer frame in one packet, of three spatial layers in flexible mode.
func vp9Layer(pid uint16, sid, tid uint8, key bool, size int) []byte {
	b := []byte{0x80 | 0x20 | 0x10 | 0x08 | 0x04, 0x80 | byte(pid>>8), byte(pid), tid<<5 | sid<<1}
	if sid > 0 && key {
		b[3] |= 1 // predicted from the layer below
	}
	if !key {
		b[0] |= 0x40
		b = append(b, 1<<1) // from the picture before
	}
	if key && sid == 0 {
		b[0] |= 0x02
		b = append(b, 2<<5|0x10, 0, 160, 0, 90, 1, 64, 0, 180, 2, 128, 1, 104)
	}
	return append(b, make([]byte, size-len(b))...)
}

// TestSpatialLayersOfOneStream expects a scalable stream to look like simulcast, with
// the rates of a layer including those below, and a layer that ends to be told.
func TestSpatialLayersOfOneStream(t *testing.T) {
	inBubble(t, "svc", func(t *testing.T) {
		r := newRig(t, svcLine)
		src := r.p.Source(signal.KindCamera)
		tap := &catcher{}
		src.AddTap(0, tap)
		if src.LayerCount() != 1 || src.Stream(0) != 0 {
			t.Errorf("%d layers before the first packet", src.LayerCount())
		}
		seq, pic := uint16(7), uint16(0)
		second := func(layers uint8) {
			for range 20 {
				for sid := range layers {
					// Every other picture is of temporal layer 1.
					r.send(packet{ssrc: 9, pt: ptVP9, seq: seq, ts: 4500 * uint32(pic), ext: ids("2", "", ""),
						payload: vp9Layer(pic, sid, uint8(pic&1), pic == 0, 100<<sid)})
					seq++
				}
				pic++
				r.advance(int64(50 * time.Millisecond))
				r.p.Tick(r.now())
			}
		}
		second(3)
		second(3)
		if src.LayerCount() != 3 || src.Stream(2) != 0 {
			t.Fatalf("%d layers, the third in stream %d", src.LayerCount(), src.Stream(2))
		}
		for i, want := range []LayerInfo{
			{Active: true, Width: 160, Height: 90, Bps: 16_000, TIDs: 2, TIDBps: [4]int64{8_000, 16_000, 16_000, 16_000}, SSRC: 9},
			{Active: true, Width: 320, Height: 180, Bps: 48_000, TIDs: 2, TIDBps: [4]int64{24_000, 48_000, 48_000, 48_000}, SSRC: 9},
			{Active: true, Width: 640, Height: 360, Bps: 112_000, TIDs: 2, TIDBps: [4]int64{56_000, 112_000, 112_000, 112_000}, SSRC: 9},
		} {
			if diff := cmp.Diff(want, src.LayerInfo(i)); diff != "" {
				t.Errorf("layer %d (-want +got):\n%s", i, diff)
			}
		}
		if !tap.got[0].Start || !tap.got[2].Key || tap.got[2].Start || tap.got[3].Key {
			t.Errorf("the keyframe was not seen: %+v", tap.got[:4])
		}
		changes := len(r.changed)
		second(2)
		second(2)
		if src.LayerInfo(2).Active || !src.LayerInfo(1).Active || len(r.changed) == changes {
			t.Errorf("the top layer is %v, the middle one %v, %d changes told",
				src.LayerInfo(2).Active, src.LayerInfo(1).Active, len(r.changed)-changes)
		}
		if p := src.Lookup(1, tap.got[len(tap.got)-1].ExtSeq); p == nil || p.Codec != rtpx.CodecVP9 {
			t.Error("a packet is not found by the number of its layer")
		} else {
			p.Release()
		}
	})
}
