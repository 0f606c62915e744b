package alloc

// smoothFPS is the rate of pictures from which on a face is better larger than smoother.
const smoothFPS = 15

// filling is one division of a budget. What each call of run finds out is in its lower
// fields.
type filling struct {
	budget, audio int64
	silent        bool   // audio is cut short: no video at all
	reason        string // why what does not fit is not sent
	demands       []Demand
	held          []held

	ups     int   // steps that are left to take, beyond what is held and fresh
	used    int64 // audio and grants
	up      int64 // used after the step that was taken, 0 = none
	waiting int64 // likewise, of the first step that has headroom but may not be taken
	next    int64 // likewise, of the first step that is not taken, whatever the reason
	fell    bool  // something that was held does not fit
	fresh   bool  // something fresh was raised
}

// run divides the budget and returns the grants. ups is how many steps above what is held
// it may take.
func (f *filling) run(grants []Grant, ups int) []Grant {
	f.ups, f.used, f.up, f.waiting, f.next, f.fell, f.fresh = ups, f.audio, 0, 0, 0, false, false
	grants = grants[:0]
	for i := range f.demands {
		h := &f.held[i]
		grants = append(grants, Grant{None, 0, withheld(&f.demands[i], h), h.want})
	}
	f.minimum(grants)
	for c := Class(0); c < numClasses && f.raise(c, grants); c++ {
	}
	for i := range grants {
		g, h := &grants[i], &f.held[i]
		if g.Layer < h.layer || (g.Layer == h.layer && g.TID < h.tid) {
			f.fell = true
		}
		if g.Layer != None && g.TID == f.demands[i].Layers[g.Layer].tids()-1 {
			g.TID = MaxTemporal - 1 // whatever there may be
		}
	}
	return grants
}

// minimum gives each video its smallest layer. A class in which one does not fit pauses
// those below it.
func (f *filling) minimum(grants []Grant) {
	short := false
	for c := Class(0); c < numClasses; c++ {
		above := short
		for i := range f.demands {
			d, g := &f.demands[i], &grants[i]
			if d.Class != c || g.Want == None {
				continue
			}
			low := nextActive(d.Layers, None)
			if above || !f.take(i, low, 0, Bps(d.Layers, low, 0)) {
				g.Reason, short = f.reason, true
				continue
			}
			g.Layer, g.TID = low, 0
		}
	}
}

// raise lifts the grants of one class in turn while it can. Nothing is raised beside or
// behind a video that could not get even its minimum; then it returns false.
func (f *filling) raise(c Class, grants []Grant) bool {
	for i := range f.demands {
		if f.demands[i].Class <= c && grants[i].Reason == f.reason {
			return false
		}
	}
	for moved := true; moved; {
		moved = false
		for i := range f.demands {
			if f.demands[i].Class == c && grants[i].Layer != None && f.step(i, &grants[i]) {
				moved = true
			}
		}
	}
	return true
}

// step lifts one grant by one step, if one can be taken: the preferred one, else the other.
func (f *filling) step(i int, g *Grant) bool {
	d := &f.demands[i]
	now := Bps(d.Layers, g.Layer, g.TID)
	smoother := g.TID+1 < d.Layers[g.Layer].tids()
	if smoother && d.Class != Screen && d.Layers[g.Layer].fps(g.TID) < smoothFPS {
		return f.lift(i, g, g.Layer, g.TID+1, now)
	}
	if g.Layer < g.Want {
		layer := nextActive(d.Layers, g.Layer)
		if f.lift(i, g, layer, d.entry(layer), now) {
			return true
		}
	}
	return smoother && f.lift(i, g, g.Layer, g.TID+1, now)
}

// entry is the temporal layer with which a larger layer begins.
func (d *Demand) entry(layer int) int {
	l := &d.Layers[layer]
	if d.Class == Screen {
		return 0
	}
	for tid := range l.tids() {
		if l.fps(tid) >= smoothFPS {
			return tid
		}
	}
	return l.tids() - 1
}

func (f *filling) lift(i int, g *Grant, layer, tid int, now int64) bool {
	if !f.take(i, layer, tid, Bps(f.demands[i].Layers, layer, tid)-now) {
		return false
	}
	g.Layer, g.TID = layer, tid
	return true
}

// take spends cost on a step of demand i to layer and tid, if it may.
func (f *filling) take(i, layer, tid int, cost int64) bool {
	h := &f.held[i]
	total := f.used + cost
	room := total <= f.budget && !f.silent
	if h.has(layer, tid) {
		return f.settle(room, total)
	}
	fresh := h.freshUntil != 0
	if fresh && h.layer == None && tid == 0 && layer == nextActive(f.demands[i].Layers, None) && room {
		f.fresh = true
		return f.settle(true, total) // the first picture at once, even without headroom
	}
	switch room = room && total*headroomNum/headroomDen <= f.budget; {
	case room && fresh:
		f.fresh = true
	case room && f.ups > 0:
		f.ups--
		f.up = total
	case room:
		if f.waiting == 0 {
			f.waiting = total
		}
		room = false
	}
	return f.settle(room, total)
}

func (f *filling) settle(ok bool, total int64) bool {
	switch {
	case ok:
		f.used = total
	case f.next == 0:
		f.next = total
	}
	return ok
}

// nextActive is the next active layer above i. The caller knows that there is one.
func nextActive(layers []Layer, i int) int {
	for i++; i < len(layers)-1 && !layers[i].Active; i++ {
	}
	return i
}
