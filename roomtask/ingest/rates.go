package ingest

import (
	"time"

	"mayfly/roomtask/rtpx"
)

// rates measures the payload bits per second of one stream by spatial and temporal
// layer, as the mean of the last two intervals.
type rates struct {
	from    int64 // begin of the present interval
	sum     layerSums
	last    layerSums // bit/s of the former interval
	bps     layerSums
	arrived [rtpx.MaxSpatial]int64 // when the newest packet of a spatial layer came; 0 = it rests
}

type layerSums [rtpx.MaxSpatial][rtpx.MaxTemporal]int64

// begin starts anew at now.
func (r *rates) begin(now int64) { *r = rates{from: now} }

// add counts a packet. It returns whether its spatial layer rested before.
func (r *rates) add(p *rtpx.Packet) (woke bool) {
	sid, tid := min(int(p.SID), rtpx.MaxSpatial-1), min(int(p.TID), rtpx.MaxTemporal-1)
	r.sum[sid][tid] += int64(len(p.Payload()))
	woke = r.arrived[sid] == 0
	r.arrived[sid] = p.Arrival
	return woke
}

// measure closes an interval.
func (r *rates) measure(now int64) {
	took := now - r.from
	if took <= 0 {
		return
	}
	for s := range r.sum {
		for t, bytes := range r.sum[s] {
			rate := bytes * 8 * int64(time.Second) / took
			r.bps[s][t] = (rate + r.last[s][t]) / 2
			if r.last[s][t] == 0 {
				r.bps[s][t] = rate
			}
			r.last[s][t] = rate
		}
	}
	r.from, r.sum = now, layerSums{}
}

// rest marks the spatial layers from which nothing has come for dryLayer. The lowest
// one rests only with the stream.
func (r *rates) rest(now int64) (changed bool) {
	for s := 1; s < len(r.arrived); s++ {
		if r.arrived[s] != 0 && now-r.arrived[s] >= dryLayer {
			r.arrived[s], changed = 0, true
			r.last[s], r.bps[s] = [rtpx.MaxTemporal]int64{}, [rtpx.MaxTemporal]int64{}
		}
	}
	return changed
}

// upTo fills in the rates of the spatial layers up to sid together.
func (r *rates) upTo(sid int, info *LayerInfo) {
	var tids [rtpx.MaxTemporal]int64
	for s := range min(sid+1, len(r.bps)) {
		for t, bps := range r.bps[s] {
			tids[t] += bps
		}
	}
	for t, bps := range tids {
		info.Bps += bps
		info.TIDBps[t] = info.Bps
		if bps > 0 {
			info.TIDs = t + 1
		}
	}
}
