package forward

import (
	"testing"

	"github.com/pion/rtp"

	"mayfly/roomtask/rtpx"
)

// give9 feeds one layer frame of VP9 in flexible mode, in one packet.
func give9(t testing.TB, s *feed, ext uint64, ts uint32, at int64, pid uint16, sid, tid uint8, key, last bool, back byte) {
	t.Helper()
	b := []byte{0x80 | 0x20 | 0x10 | 0x08 | 0x04, 0x80 | byte(pid>>8), byte(pid), tid<<5 | sid<<1}
	if !key {
		b[0] |= 0x40
		b = append(b, back<<1)
	} else if sid > 0 {
		b[3] |= 1
	}
	p := s.make(t, 0, pkt{ssrc: 1, ext: ext, ts: ts, at: at, marker: last, key: key, level: -1, payload: append(b, byte(ext))})
	d, err := rtpx.ParseVP9(p.Payload(), nil)
	if err != nil {
		t.Fatal(err)
	}
	p.Video, p.Codec, p.VP9, p.SID, p.TID, p.Start = true, rtpx.CodecVP9, d, int8(sid), int8(tid), sid == 0
	s.layers[0].ring.Put(p)
	for _, tap := range s.layers[0].taps {
		tap.Deliver(p)
	}
	p.Release()
}

// sink9 notes what a forwarder sent of VP9.
type sink9 struct {
	t   *testing.T
	f   *Forwarder
	out []out9
}

type out9 struct {
	sid, tid uint8
	pid      uint16
	marker   bool
	seq      uint16
}

func (s *sink9) Push(t *Tap, p *rtpx.Packet) {
	h, payload, ok := s.f.Rewrite(t, p, p.Arrival)
	if !ok {
		return
	}
	d, err := rtpx.ParseVP9(payload, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.out = append(s.out, out9{d.SID, d.TID, d.PictureID, h.Marker, h.SequenceNumber})
}

// TestSpatialLayersWithinAStream goes down with the next picture, and up at a keyframe
// that it asks for; the marker moves to the last layer that is sent, the sequence has
// no holes, and picture ids keep their distances.
func TestSpatialLayersWithinAStream(t *testing.T) {
	s, sink := newFeed(1), &sink9{t: t}
	f := New(oracleLine(), sink, 0, 0)
	sink.f = f
	ext, pid, now := uint64(100), uint16(500), start
	picture := func(key bool) []out9 {
		pid++
		now += 33e6
		for sid := range uint8(3) {
			give9(t, s, ext, uint32(pid)*3000, now, pid, sid, 0, key, sid == 2, 1)
			ext++
		}
		got := sink.out
		sink.out = nil
		return got
	}
	tops := func(got []out9) (layers int, marker bool) {
		for _, o := range got {
			if o.marker && o != got[len(got)-1] {
				t.Errorf("a marker on layer %d", o.sid)
			}
		}
		return len(got), len(got) > 0 && got[len(got)-1].marker
	}
	f.Select(s, 1, now)
	first := picture(true)
	if n, marker := tops(first); n != 2 || !marker || f.Layer() != 1 {
		t.Fatalf("%+v, layer %d", first, f.Layer())
	}
	asked := s.layers[0].asked
	f.Select(s, 2, now)
	if layer, _ := f.Waiting(); f.State() != Switch || layer != 2 || s.layers[0].asked != asked+1 {
		t.Errorf("state %v, waiting for %d, %d keyframes asked for", f.State(), layer, s.layers[0].asked-asked)
	}
	if n, marker := tops(picture(false)); n != 2 || !marker {
		t.Errorf("%d layers without a keyframe", n)
	}
	if f.Tick(now + keyframeEvery); s.layers[0].asked != asked+2 {
		t.Error("the keyframe was not asked for again")
	}
	if n, marker := tops(picture(true)); n != 3 || !marker || f.State() != Live || f.Layer() != 2 {
		t.Errorf("%d layers after the keyframe, state %v, layer %d", n, f.State(), f.Layer())
	}
	f.Select(s, 0, now)
	last := picture(false)
	if n, marker := tops(last); n != 1 || !marker || f.State() != Live || f.Layer() != 0 {
		t.Errorf("%d layers, state %v, layer %d", n, f.State(), f.Layer())
	}
	if last[0].seq != first[0].seq+7 || last[0].pid != first[0].pid+3 {
		t.Errorf("sequence %d after %d, picture id %d after %d", last[0].seq, first[0].seq, last[0].pid, first[0].pid)
	}
}

// TestForwardingOtherCodecsDoesNotAllocate sends VP9 layers, and AV1 with descriptors.
func TestForwardingOtherCodecsDoesNotAllocate(t *testing.T) {
	var h *rtp.Header
	for _, codec := range []rtpx.Codec{rtpx.CodecVP9, rtpx.CodecAV1} {
		t.Run(codec.String(), func(t *testing.T) {
			s := newFeed(1)
			f := New(oracleLine(), sinkFunc(func(*Tap, *rtpx.Packet) {}), 0, 0)
			f.Select(s, 0, start)
			tap, ext := f.next, uint64(1000)
			var q rtpx.DDReader
			one := func() {
				key := ext == 1000
				p := s.make(t, 0, pkt{ssrc: 1, ext: ext, ts: uint32(ext) * 3000, at: start, marker: true, key: key, start: true, level: -1,
					payload: []byte{0x90 | 0x0C, 0x80 | byte(ext>>8&0x7F), byte(ext), 1, 2, 3}})
				p.Video, p.Codec = true, codec
				var err error
				if codec == rtpx.CodecVP9 {
					p.VP9, err = rtpx.ParseVP9(p.Payload(), nil)
				} else {
					var w testBits
					p.FillDD(ddOf(&w, uint16(ext), key))
					p.DD, err = q.Parse(p.RawDD(), true)
				}
				if err != nil {
					t.Fatal(err)
				}
				s.layers[0].ring.Put(p)
				var ok bool
				if h, _, ok = f.Rewrite(tap, p, start); !ok {
					t.Fatalf("packet %d was not sent", ext)
				}
				p.Release()
				ext++
			}
			one()
			for range 2000 {
				one()
			}
			base := 0.0
			if codec == rtpx.CodecAV1 {
				base = testing.AllocsPerRun(1000, func() { // of the test's own descriptor
					var w testBits
					ddOf(&w, 7, false)
				})
			}
			if n := testing.AllocsPerRun(1000, one); n != base {
				t.Errorf("%v allocations per packet, %v of them the test's", n, base)
			}
			if codec == rtpx.CodecAV1 && len(h.GetExtension(7)) < 3 {
				t.Error("no descriptor was sent")
			}
		})
	}
}

// ddOf writes a descriptor of one layer; the first has the structure.
func ddOf(w *testBits, frame uint16, structure bool) []byte {
	w.put(0b11, 2)
	w.put(0, 6)
	w.put(uint32(frame), 16)
	if structure {
		w.put(0b10000, 5)
		w.put(0, 6)       // template offset
		w.put(0, 5)       // one target
		w.put(3, 2)       // one template
		w.put(2, 2)       // which is of the target
		w.put(0b10000, 5) // and refers one back
		w.put(0, 3)       // to nothing else; no chains, no sizes
	}
	return w.b
}
