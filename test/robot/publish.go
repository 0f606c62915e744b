package robot

import (
	"context"
	"encoding/json"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"

	"mayfly/shared/signal"
)

const (
	fps        = 30
	maxPayload = 1100             // bytes of VP8 in a packet, as libwebrtc
	keyEvery   = 10 * time.Second // a keyframe comes unasked after this long
	keyTimes   = 4                // a keyframe is so many times the size of another frame
)

// Layer describes one layer of the camera that a robot publishes.
type Layer struct {
	Width, Height int    // of the generated picture: 320×180, 640×360 or 1280×720
	Bps           int64  // bits per second, without headers
	File          string // an IVF file of VP8 to play instead, at its own size and rate
}

// Layers are what robots publish as one, two or three layers, the smallest first.
var Layers = []Layer{{320, 180, 150_000, ""}, {640, 360, 500_000, ""}, {1280, 720, 1_500_000, ""}}

// camera is what a robot films.
type camera struct {
	layers []filmed
	active atomic.Int32 // how many layers, from the smallest, are sent
}

type filmed struct {
	Layer
	rid  string
	mark uint16
	clip *clip
	out  *outgoing
	pid  uint16 // owned by film, as all below
	buf  []byte
	last time.Duration // of the last keyframe
	on   bool
}

func newCamera(cfg Config) (*camera, error) {
	layers := cfg.Camera
	if len(layers) == 0 {
		layers = []Layer{{320, 180, 900_000, ""}}
	}
	c := &camera{}
	c.active.Store(int32(len(layers)))
	names := rids(len(layers))
	for i, l := range layers[:len(names)] {
		var err error
		f := filmed{Layer: l, rid: names[i], mark: cfg.Mark}
		if l.File != "" {
			f.clip, err = openClip(l.File)
		} else {
			f.clip, err = plainClip(l.Width, l.Height)
		}
		if err != nil {
			return nil, err
		}
		c.layers = append(c.layers, f)
	}
	return c, nil
}

// wanted obeys a publish message: layers that nobody looks at are not sent.
func (r *Robot) wanted(f signal.Frame) {
	var m signal.Publish
	if r.camera == nil || json.Unmarshal(f.Body, &m) != nil || m.Kind != signal.KindCamera {
		return
	}
	r.camera.active.Store(int32(min(m.Layers, len(r.camera.layers))))
}

// publish begins to send everything the robot has.
func (r *Robot) publish(ctx context.Context, cfg Config) error {
	packets, err := voice(cfg.Voice)
	if err != nil {
		return err
	}
	begin := time.Now()
	r.wg.Go(func() { r.speak(ctx, begin, packets, cfg.DTX) })
	if r.camera != nil {
		r.wg.Go(func() { r.film(ctx, begin) })
	}
	r.wg.Go(func() { r.report(ctx, begin) })
	return nil
}

// speak sends 50 packets of sound a second with their level (RFC 6464): 20 dB below full
// scale with the voice flag while loud, else as if silent. With dtx, silence is sent as
// Opus does it, one packet in 400 ms. What a late tick left out is made up for: a
// microphone does not stop when a processor is busy.
func (r *Robot) speak(ctx context.Context, begin time.Time, packets [][]byte, dtx bool) {
	out := r.out[0]
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var buf []byte
	for n := uint32(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for due := uint32(time.Since(begin) / (20 * time.Millisecond)); n < due; n++ {
			level := 127
			if r.loud.Load() {
				level = 0x80 | 20
			} else if dtx && n%20 != 0 {
				continue
			}
			if r.muted.Load() {
				continue
			}
			buf = stampedOpus(buf[:0], packets[int(n)%len(packets)], r.mark, unixNano())
			out.write(n*audioStep, false, buf, level)
		}
	}
}

// film sends frames, of each layer that is wanted, with a keyframe when the room asks.
func (r *Robot) film(ctx context.Context, begin time.Time) {
	tick := time.NewTicker(time.Second / fps)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if r.muted.Load() {
			continue
		}
		at := time.Since(begin)
		for i := range r.camera.layers {
			l := &r.camera.layers[i]
			on := i < int(r.camera.active.Load())
			if on {
				l.frame(at, !l.on)
			}
			l.on = on
		}
	}
}

// frame sends the next frame of a layer. One that begins anew begins with a keyframe.
func (l *filmed) frame(at time.Duration, first bool) {
	key := l.out.wantsKeyframe() || first || l.clip.generated && at-l.last > keyEvery
	data := l.clip.next(key)
	if isKey(data) {
		l.last = at
	}
	size := len(data)
	if l.clip.generated {
		size = int(l.Bps / 8 / fps)
		if key {
			size *= keyTimes
		}
		size = max(size, len(data)+stampSize)
	}
	l.pid = (l.pid + 1) & 0x7fff
	ts := uint32(at * 90 / time.Millisecond)
	for from := 0; from < size; from += maxPayload {
		to := min(from+maxPayload, size)
		l.buf = append(l.buf[:0], 0x80, 0x80, 0x80|byte(l.pid>>8), byte(l.pid)) // RFC 7741 §4.2
		if from == 0 {
			l.buf[0] |= 0x10
		}
		if from < len(data) {
			l.buf = append(l.buf, data[from:min(to, len(data))]...)
		}
		for len(l.buf) < 4+to-from {
			l.buf = append(l.buf, 0)
		}
		if to-stampSize >= max(from, len(data)) {
			putStamp(l.buf[len(l.buf)-stampSize:], l.mark, unixNano())
		}
		l.out.write(ts, to == size, l.buf, -1)
	}
}

// report sends a sender report for each stream once a second (RFC 3550 §6.4.1).
func (r *Robot) report(ctx context.Context, begin time.Time) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		at := now.Sub(begin)
		ntp := uint64(now.Unix()+2208988800)<<32 | uint64(now.Nanosecond())<<32/1e9
		var out []rtcp.Packet
		for _, o := range r.out {
			ts := uint32(at * 48 / time.Millisecond)
			if o.video() {
				ts = uint32(at * 90 / time.Millisecond)
			}
			if sr := o.report(ntp, ts); sr != nil {
				out = append(out, sr)
			}
		}
		for c := range slices.Chunk(out, 8) {
			_ = r.PC.WriteRTCP(c) // fails while the connection is down
		}
	}
}
