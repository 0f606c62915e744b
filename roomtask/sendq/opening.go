package sendq

import (
	"mayfly/roomtask/alloc"
	"mayfly/roomtask/bwe"
)

const (
	openingTime = 3 * second
	openingMost = 3_000_000 // bits per second
)

// opening is the time before anything is known of a path, in which the estimate is a
// guess. Then the smallest layer of each video is sent even if the guess is less: a
// source of one layer would not be seen at all until probes have proved its rate.
type opening struct {
	begun int64 // when the estimator first told a rate; 0 = it has not
	guess int64
	over  bool
}

// look ends the opening when the estimator has learnt something, or time is up.
func (o *opening) look(e *bwe.Snapshot, now int64) {
	switch {
	case e.Bps == 0 || o.over:
	case o.begun == 0:
		o.begun, o.guess = now, e.Bps
	default:
		o.over = e.State != bwe.Clear || e.Bps != o.guess || now-o.begun > openingTime
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
