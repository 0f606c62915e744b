package alloc

import "math"

// Class orders what a viewer sees by what it can do without last.
type Class int8

// The classes, the most important first.
const (
	Screen Class = iota
	Speaker
	Pinned
	Other
	numClasses
)

// Unlimited is the estimate of a path of which no limit is known.
const Unlimited int64 = math.MaxInt64

// Reasons why a video is not sent. They are those of signal.Seat.Paused.
const (
	ReasonHidden    = "hidden"    // the viewer does not show it
	ReasonMuted     = "muted"     // the publisher sends nothing
	ReasonBandwidth = "bandwidth" // the viewer's path has no room for it
	ReasonOverload  = "overload"  // the task has no time for it
)

// Demand is one video that a viewer wants to see.
type Demand struct {
	// ID tells from one call to the next which demand this is. A seat that gets another
	// occupant is another demand.
	ID            int64
	Class         Class
	Layers        []Layer
	Width, Height int // as shown, 0×0 = hidden
}

// Grant answers one Demand. Reason is set exactly when Layer is None.
type Grant struct {
	Layer  int
	TID    int // highest temporal layer; MaxTemporal−1 = all there may be
	Reason string
	Want   int // the layer that the view asks for and the source has, None = hidden or muted
}

// Audio is what all the viewer's audio costs, in bits per second. It is paid before any
// video.
type Audio struct {
	Bps int64 // all lines, once
	RED int64 // what redundancy adds where loss asks for it
	Top int64 // the loudest speakers alone, once
}

// AudioMode is how much of the audio is sent.
type AudioMode int8

// The modes, from the best.
const (
	AudioFull    AudioMode = iota // all lines, with redundancy where it is wanted
	AudioNoRED                    // all lines, once
	AudioTop                      // the loudest speakers alone, once
	numAudioMode = iota
)

func (m AudioMode) String() string { return [...]string{"full", "no_red", "top"}[m] }

// bps is what a mode costs.
func (a *Audio) bps(m AudioMode) int64 {
	switch m {
	case AudioFull:
		return a.Bps + a.RED
	case AudioNoRED:
		return a.Bps
	}
	return min(a.Top, a.Bps)
}

// Input is all that a decision rests on. The order of Demands matters within a class.
type Input struct {
	Estimate int64 // bits per second that the path carries; Unlimited = no limit is known
	// Withheld is the share of the wanted pictures' bits, 0 to 1, for which the task has no
	// time; above 1 it has time for the loudest speakers only.
	Withheld float64
	Audio    Audio
	Demands  []Demand
}

// affordable is the estimate that allows what the task has time for, of pictures that
// would take all bits per second; Unlimited if it has time for everything.
func (in *Input) affordable(all int64) int64 {
	switch {
	case in.Withheld <= 0:
		return Unlimited
	case in.Withheld > 1:
		return estimateFor(min(in.Audio.Top, in.Audio.Bps))
	}
	return estimateFor(in.Audio.bps(AudioFull) + int64((1-in.Withheld)*float64(all)))
}

// Result is a decision. Grants has one for each demand, in their order, and is valid until
// the next call.
type Result struct {
	Grants []Grant
	Audio  AudioMode
	// UsedBps is what the grants and the audio cost; FloorBps the estimate that allows the
	// audio and the smallest layer of all that is wanted; StepBps that which would allow the
	// next step up, 0 if there is none to take; WantBps that which would allow all that is
	// wanted. In bits per second.
	UsedBps, FloorBps, StepBps, WantBps int64
}

const (
	// Of the estimate, 5 % are for what is counted nowhere: reports, retransmissions.
	budgetNum, budgetDen = 95, 100
	// A step up needs this share of the budget to be free beyond its cost: rates vary by
	// 5 %, and estimates too.
	headroomNum, headroomDen = 115, 100
)

// budget is what of an estimate may be spent, estimateFor the reverse with headroom.
func budget(estimate int64) int64 { return estimate / budgetDen * budgetNum }

func estimateFor(cost int64) int64 {
	return (cost*headroomNum/headroomDen)*budgetDen/budgetNum + budgetDen
}

// Allocator divides what a viewer's path carries over what the viewer wants. It remembers
// what it granted, so that it can be slow to raise. The zero value is ready; it belongs to
// one goroutine.
type Allocator struct {
	held, before []held // what each demand has, in the demands' order; before is the list to write next
	grants       []Grant
	audio        audioState
	patience     patience
}

// held is what is known of one demand from call to call.
type held struct {
	id         int64
	class      Class
	want       int   // layer
	layer, tid int   // granted; layer None = nothing
	freshUntil int64 // until then it may rise without waiting; 0 = it may not
}

// has says that the rung is not above what is held.
func (h *held) has(layer, tid int) bool {
	return layer < h.layer || (layer == h.layer && tid <= h.tid)
}

// Allocate decides at now, in ns. What it divides is the estimate, or what the task has time
// for if that is less.
//
// Audio is paid first. Then each video gets its smallest active layer, in the order of the
// classes; the first that does not fit pauses the whole class below it, so that a face
// never takes what the screen needs. What is left raises them in the same order, one step
// at a time and each in turn, up to what its view asks for: cameras to 15 pictures a
// second, then in size, then in pictures; screens in size first.
//
// What does not fit goes at once. What was not granted at the last call is granted if it
// leaves headroom, has done so for a while, and no such step has failed shortly before. A
// video that has just come, or that is shown larger than before, need not wait.
//
// The grants and the audio never cost more than the estimate, unless it is less than the
// loudest speakers cost, who are always sent.
func (a *Allocator) Allocate(now int64, in *Input) Result {
	a.match(now, in.Demands)
	var r Result
	low, all := a.wanted(in.Demands)
	r.FloorBps = estimateFor(in.Audio.bps(AudioNoRED) + low)
	r.WantBps = estimateFor(in.Audio.bps(AudioFull) + all)
	estimate, reason := in.Estimate, ReasonBandwidth
	if most := in.affordable(all); most < estimate {
		estimate, reason = most, ReasonOverload
	}
	if estimate == Unlimited {
		a.audio, a.patience = audioState{}, patience{}
		r.UsedBps = in.Audio.bps(AudioFull) + a.grantAll(in.Demands)
		r.Grants = a.grants
		return r
	}
	f := filling{budget: budget(estimate), reason: reason, demands: in.Demands, held: a.held}
	r.Audio = a.audio.choose(now, f.budget, &in.Audio)
	f.audio, f.silent = in.Audio.bps(r.Audio), r.Audio != AudioFull
	a.grants = f.run(a.grants, 0)
	if f.fell && !f.fresh {
		a.patience.fell(now)
	}
	if a.patience.may(now, f.waiting, f.budget) {
		a.grants = f.run(a.grants, 1)
		a.patience.took(now, f.up)
	}
	a.keep()
	r.Grants, r.UsedBps = a.grants, f.used
	switch {
	case reason == ReasonOverload: // whatever the path carries
	case r.Audio != AudioFull:
		r.StepBps = estimateFor(in.Audio.bps(r.Audio - 1))
	case f.next > 0:
		r.StepBps = max(estimateFor(f.next), a.patience.worth(now, f.next))
	}
	if r.StepBps > 0 && r.StepBps <= in.Estimate {
		// It has room, and waits only for its time: meanwhile, is there room for more?
		r.StepBps = max(r.StepBps, min(r.WantBps, in.Estimate*ampleNum/ampleDen))
	}
	return r
}

// Anew lets everything rise at once again, whatever failed before: the path is another
// one, or back after it was gone.
func (a *Allocator) Anew(now int64) {
	a.patience, a.audio = patience{}, audioState{}
	for i := range a.held {
		a.held[i].freshUntil = now + freshTime
	}
}

// match makes held what is known of the present demands, and no more than they want.
func (a *Allocator) match(now int64, demands []Demand) {
	old := a.held
	a.held, a.before = a.before[:0], old
	for i := range demands {
		d := &demands[i]
		h := find(old, d.ID, i)
		if now >= h.freshUntil {
			h.freshUntil = 0
		}
		want := None
		if d.Width > 0 || d.Height > 0 {
			want = LayerFor(d.Layers, d.Width, d.Height)
		}
		if want > h.want || d.Class < h.class {
			h.freshUntil = now + freshTime
		}
		h.id, h.class, h.want = d.ID, d.Class, want
		h.clamp(d.Layers)
		a.held = append(a.held, h)
	}
}

// find looks for id, which mostly is where it was.
func find(hs []held, id int64, hint int) held {
	if hint < len(hs) && hs[hint].id == id {
		return hs[hint]
	}
	for i := range hs {
		if hs[i].id == id {
			return hs[i]
		}
	}
	return held{want: None, layer: None, class: numClasses}
}

// clamp lowers what is held to what there is and what is wanted.
func (h *held) clamp(layers []Layer) {
	if h.layer > h.want {
		h.layer, h.tid = h.want, MaxTemporal-1
	}
	for h.layer >= 0 && !layers[h.layer].Active {
		h.layer, h.tid = h.layer-1, MaxTemporal-1
	}
	if h.layer >= 0 {
		h.tid = min(h.tid, layers[h.layer].tids()-1)
	}
}

// keep remembers the grants. What falls is not fresh any more: it had its chance.
func (a *Allocator) keep() {
	for i := range a.grants {
		g, h := &a.grants[i], &a.held[i]
		if g.Layer < h.layer || (g.Layer == h.layer && g.TID < h.tid) {
			h.freshUntil = 0
		}
		h.layer, h.tid = g.Layer, g.TID
	}
}

// grantAll grants what is wanted, and returns its cost.
func (a *Allocator) grantAll(demands []Demand) (cost int64) {
	a.grants = a.grants[:0]
	for i := range demands {
		h := &a.held[i]
		h.layer, h.tid = h.want, MaxTemporal-1
		a.grants = append(a.grants, Grant{h.want, MaxTemporal - 1, withheld(&demands[i], h), h.want})
		if h.want != None {
			cost += Bps(demands[i].Layers, h.want, h.tid)
		}
	}
	return cost
}

// wanted is the cost of the smallest layers, and of all, of what is wanted.
func (a *Allocator) wanted(demands []Demand) (low, all int64) {
	for i := range demands {
		if w := a.held[i].want; w != None {
			l := demands[i].Layers
			low += Bps(l, nextActive(l, None), 0)
			all += Bps(l, w, MaxTemporal-1)
		}
	}
	return low, all
}

// withheld is why nothing is wanted, if so.
func withheld(d *Demand, h *held) string {
	switch {
	case h.want != None:
		return ""
	case d.Width <= 0 && d.Height <= 0:
		return ReasonHidden
	}
	return ReasonMuted
}
