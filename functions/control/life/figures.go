package life

import (
	"context"

	"mayfly/functions/control/figures"
	"mayfly/shared/lifecycle"
)

// count tells what a committed step says of a start.
func (l *Life) count(ctx context.Context, prev, next *Room) {
	var vs []figures.Value
	starting := prev.State == lifecycle.Requested || prev.State == lifecycle.Starting
	if starting && prev.FirstLiveMS == 0 && next.Phase != prev.Phase && (!next.State.Final() && next.State != lifecycle.Draining) {
		vs = append(vs, figures.RoomStart.Is(figures.Since(prev.PhaseMS, next.PhaseMS), prev.Phase))
	}
	if prev.FirstLiveMS == 0 && next.FirstLiveMS != 0 {
		vs = append(vs, figures.RoomStart.Is(figures.Since(next.CreatedMS, next.FirstLiveMS), figures.PhaseTotal))
	}
	if next.State == lifecycle.Failed && prev.State != lifecycle.Failed {
		vs = append(vs, figures.RoomFailures.Is(1, next.Reason))
	}
	for i := range vs {
		vs[i] = vs[i].About(next.ID)
	}
	figures.Record(ctx, l.Meter, vs...)
}

// census is what one pass of the sweep saw of the rooms that are not settled.
type census struct {
	nowMS        int64
	active, open int
	oldestMS     int64 // end of the first that is over; 0 = none
	partial      bool  // some could not be listed: the numbers mean nothing
}

func (c *census) count(r *Room) {
	if !r.State.Final() {
		c.active++
		return
	}
	c.open++
	if c.oldestMS == 0 || r.EndedMS < c.oldestMS {
		c.oldestMS = r.EndedMS
	}
}

func (c *census) record(ctx context.Context, m figures.Meter) {
	if c.partial {
		return
	}
	age := 0.0
	if c.open > 0 {
		age = figures.Since(c.oldestMS, c.nowMS)
	}
	figures.Record(ctx, m, figures.RoomsActive.Is(float64(c.active)), figures.LedgerOpen.Is(float64(c.open)), figures.LedgerOpenAge.Is(age))
}
