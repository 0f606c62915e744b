package alloc

// MaxTemporal is the number of temporal layers that can be told apart.
const MaxTemporal = 4

// Layer is the state of one simulcast layer, as ingest measures it. A source lists
// its layers from the smallest; one without simulcast has one.
type Layer struct {
	Active        bool // packets are coming
	Width, Height int  // of its last keyframe, in pixels; 0 = not known yet
	TIDs          int  // temporal layers in it; 0 and 1 both mean that none can be left out
	FPS           int  // pictures per second with all of them; 0 = not known
	// Bps[t] is the rate with the temporal layers up to t, in bits per second; the last
	// that exists is that of the whole layer. 0 = not measured yet.
	Bps [MaxTemporal]int64
}

// coverage is the part of the wanted size from which on a layer is large enough: at
// 80 % the upscaling is hardly seen, and the next layer costs three times the bits.
const (
	coverageNum = 8
	coverageDen = 10
)

// None says that no layer is sent.
const None = -1

// LayerFor returns the smallest active layer that covers about the wanted size, in
// device pixels, else the largest active one. It is None for 0×0, which means hidden,
// and when no layer is active.
//
// Layer and view may have different shapes. The video is shown whole, so the side
// where it fills the view decides: the larger of the two ratios. A side of 0 does not
// count.
func LayerFor(layers []Layer, width, height int) int {
	if width <= 0 && height <= 0 {
		return None
	}
	best := None
	for i := range layers {
		if !layers[i].Active {
			continue
		}
		best = i
		if w, h := sizeOf(layers, i); covers(w, width) || covers(h, height) {
			return i
		}
	}
	return best
}

func covers(have, want int) bool {
	return want > 0 && have*coverageDen >= want*coverageNum
}

// sizeOf is the size of layer i. Before its first keyframe that is guessed from any
// layer that is known, or from a 720p camera: each layer has twice the sides of the
// one below, as browsers scale by default.
func sizeOf(layers []Layer, i int) (w, h int) {
	if l := &layers[i]; l.Height > 0 && l.Width > 0 {
		return l.Width, l.Height
	}
	for j := range layers {
		if l := &layers[j]; l.Height > 0 && l.Width > 0 {
			return scale(l.Width, i-j), scale(l.Height, i-j)
		}
	}
	top := len(layers) - 1
	return scale(1280, i-top), scale(720, i-top)
}

// scale doubles v by times, or halves it for a negative by. Layers are few, so the
// clamp is never reached by a real source.
func scale(v, by int) int {
	by = max(-12, min(12, by))
	if by < 0 {
		return v >> -by
	}
	return v << by
}

// temporalShare is the part of a layer's rate, in per cent, that its temporal layers up
// to an index take, by how many there are: as libwebrtc divides it for VP8.
var temporalShare = [MaxTemporal + 1][MaxTemporal]int64{
	{100}, {100}, {60, 100}, {40, 60, 100}, {25, 40, 60, 100},
}

// tids is the number of temporal layers of l, at least 1.
func (l *Layer) tids() int { return max(1, min(l.TIDs, MaxTemporal)) }

// fps is the rate of pictures with the temporal layers up to tid: each doubles it.
func (l *Layer) fps(tid int) int {
	full := l.FPS
	if full <= 0 {
		full = 30
	}
	return full >> (l.tids() - 1 - tid)
}

// Bps is the rate of layer i with its temporal layers up to tid, in bits per second: as
// measured, or before there is a measurement a typical one for its size.
func Bps(layers []Layer, i, tid int) int64 {
	l := &layers[i]
	n := l.tids()
	tid = min(max(tid, 0), n-1)
	whole := l.Bps[n-1]
	if whole <= 0 {
		w, h := sizeOf(layers, i)
		whole = int64(w) * int64(h) * 2 // 0.07 bit per pixel at 30 frames/s: 720p ≈ 1.8 Mbit/s
	}
	if b := l.Bps[tid]; b > 0 && b <= whole {
		return b
	}
	return whole * temporalShare[n][tid] / 100
}
