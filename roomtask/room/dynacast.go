package room

import (
	"time"

	"mayfly/roomtask/alloc"
)

// How long nobody must want a layer before its publisher is told to stop it, and a
// whole source before it is paused. The other way there is no wait: somebody looks
// at an empty tile.
const (
	layerDownAfter = 2 * time.Second
	pauseAfter     = 5 * time.Second
)

// maxLayers of one source are told apart; browsers send three at most.
const maxLayers = 8

// Layer is one simulcast (or spatial) layer of a published video, lowest first.
type Layer struct {
	RID           string // "" without simulcast
	Active        bool   // packets are coming
	Width, Height int    // of its last keyframe, 0 before the first
}

// layersFor is how many layers a publisher must send for one viewer: all up to the
// one that covers the size of its view. What is granted on the viewer's path plays no
// part, or a layer that is short of bandwidth for a moment would go away for good; nor
// does it matter which layers come at present, for those are what is decided here.
func layersFor(layers []Layer, width, height int) int {
	var all [maxLayers]alloc.Layer
	n := min(len(layers), maxLayers)
	for i := range n {
		all[i] = alloc.Layer{Active: true, Width: layers[i].Width, Height: layers[i].Height}
	}
	return alloc.LayerFor(all[:n], width, height) + 1
}

// outlet decides how many layers of one published video are worth sending. It is
// pure: the room's loop feeds it what the views want, and tells the publisher.
type outlet struct {
	count    int                  // layers the source has
	told     int                  // layers the publisher sends, as it was told; all at first
	wantedAt [maxLayers]time.Time // when layer i, or one above it, was last wanted
}

// newOutlet is for a source of count layers that begins now: nobody can want it yet.
func newOutlet(count int, now time.Time) *outlet {
	o := &outlet{count: min(count, maxLayers), told: min(count, maxLayers)}
	for i := range o.wantedAt {
		o.wantedAt[i] = now
	}
	return o
}

// step takes how many layers are wanted at now, and returns how many to send: the
// highest count that was wanted in the last layerDownAfter, and at least the lowest
// layer until nobody has wanted anything for pauseAfter.
func (o *outlet) step(now time.Time, wanted int) (layers int) {
	for i := range min(wanted, o.count) {
		o.wantedAt[i] = now
	}
	for i := range o.count {
		hold := layerDownAfter
		if i == 0 {
			hold = pauseAfter
		}
		if now.Sub(o.wantedAt[i]) < hold {
			layers = i + 1
		}
	}
	return layers
}
