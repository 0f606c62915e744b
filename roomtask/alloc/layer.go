package alloc

// Layer is the state of one simulcast layer, as ingest measures it. A source lists
// its layers from the smallest; one without simulcast has one.
type Layer struct {
	Active        bool // packets are coming
	Width, Height int  // of its last keyframe, in pixels; 0 = not known yet
	Bps           int64
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

// Bps is the rate of layer i in bits per second: as measured, or before there is a
// measurement a typical one for its size.
func Bps(layers []Layer, i int) int64 {
	if b := layers[i].Bps; b > 0 {
		return b
	}
	w, h := sizeOf(layers, i)
	return int64(w) * int64(h) * 2 // 0.07 bit per pixel at 30 frames/s: 720p ≈ 1.8 Mbit/s
}
