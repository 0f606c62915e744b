package sendq

import (
	"mayfly/roomtask/alloc"
	"mayfly/roomtask/bwe"
)

const (
	openingTime  = 3 * second
	openingMost  = 3_000_000 // bits per second
	openingAgain = 5 * second
)

// opening is the time until something is known of what video the path takes. Sound
// proves little more than its own rate, and probes need a line that video was sent on. So
// the smallest layer of each video is sent even if the estimate is less: a source of one
// layer, such as a screen that is shared after an hour of talk, would never be seen.
type opening struct {
	begun   int64 // when video first left, or since then the receiver was heard; 0 = none has left
	guess   int64 // the estimate then
	over    bool
	againAt int64 // when it opens again, if it was over before any video left
}

// look ends the opening when the path proves too narrow, or time is up: an estimate that
// grows meanwhile has only begun to learn. A path that sound alone fills is tried again
// later. sent says whether video has left, heard whether the receiver has reported: what
// leaves before it is there, which takes a busy browser half a second after its last flight
// of DTLS has come, teaches nothing.
func (o *opening) look(e *bwe.Snapshot, sent, heard bool, now int64) {
	if o.begun != 0 && !heard {
		o.begun = now
	}
	switch {
	case e.Bps == 0 || o.over && o.begun != 0:
	case o.over:
		o.over = e.State != bwe.Clear || now < o.againAt
	case o.begun != 0:
		o.over = e.State != bwe.Clear || e.Bps < o.guess || now-o.begun > openingTime
	case sent:
		o.begun, o.guess = now, e.Bps
	case e.State != bwe.Clear:
		o.over, o.againAt = true, now+openingAgain
	}
}

// allow is the estimate to go by.
func (o *opening) allow(bps int64, in *alloc.Input) int64 {
	if o.over {
		return bps
	}
	least := in.Audio.Bps + in.Audio.RED
	for i := range in.Demands {
		d := &in.Demands[i]
		for l := range d.Layers {
			if d.Layers[l].Active && d.Width+d.Height > 0 {
				least += alloc.Bps(d.Layers, l, alloc.MaxTemporal-1)
				break
			}
		}
	}
	return max(bps, min(least*openingRoomNum/openingRoomDen, openingMost))
}

// openingRoom covers the allocator's own reserve and headroom.
const openingRoomNum, openingRoomDen = 125, 100
