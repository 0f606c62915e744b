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

// Unlimited is the budget of a path that shows no sign of congestion.
const Unlimited int64 = math.MaxInt64

// Reasons why a video is not sent. They are those of signal.Seat.Paused.
const (
	ReasonHidden    = "hidden"    // the viewer does not show it
	ReasonMuted     = "muted"     // the publisher sends nothing
	ReasonBandwidth = "bandwidth" // the viewer's path has no room for it
)

// Demand is one video that a viewer wants to see.
type Demand struct {
	Class         Class
	Layers        []Layer
	Width, Height int // as shown, 0×0 = hidden
}

// Grant answers one Demand. Reason is set exactly when Layer is None.
type Grant struct {
	Layer  int
	Reason string
}

// Allocate divides budget, in bits per second, over the demands, whose order matters
// within a class. Audio is paid first, and never paused: audio is its rate. Then each
// video gets its smallest active layer, in the order of the classes; the first that
// does not fit pauses the whole class below it, so that a face never takes what the
// screen needs. What is left raises them in the same order, one layer at a time and
// each in turn, up to the layer that its view asks for.
//
// The grants never cost more than budget−audio together. grants is reused if it is
// large enough.
func Allocate(budget, audio int64, demands []Demand, grants []Grant) []Grant {
	grants = grants[:0]
	for i := range demands {
		grants = append(grants, want(&demands[i]))
	}
	if budget == Unlimited {
		return grants
	}
	wants := make([]int, len(demands))
	for i := range grants {
		wants[i] = grants[i].Layer
	}
	left := giveMinimum(max(0, budget-audio), demands, wants, grants)
	for c := Class(0); c < numClasses; c++ {
		left = raise(left, c, demands, wants, grants)
	}
	return grants
}

// want is what d would be granted without a limit.
func want(d *Demand) Grant {
	if d.Width <= 0 && d.Height <= 0 {
		return Grant{None, ReasonHidden}
	}
	l := LayerFor(d.Layers, d.Width, d.Height)
	if l == None {
		return Grant{None, ReasonMuted}
	}
	return Grant{Layer: l}
}

// giveMinimum sets the grants to the smallest layers that fit and returns what is left.
func giveMinimum(left int64, demands []Demand, wants []int, grants []Grant) int64 {
	short := false
	for c := Class(0); c < numClasses; c++ {
		above := short
		for i := range demands {
			if demands[i].Class != c || wants[i] == None {
				continue
			}
			low := lowest(demands[i].Layers)
			cost := Bps(demands[i].Layers, low)
			if above || cost > left {
				grants[i] = Grant{None, ReasonBandwidth}
				short = true
				continue
			}
			grants[i].Layer = low
			left -= cost
		}
	}
	return left
}

// raise lifts the grants of one class in turn, while it can, and returns what is left.
// Nothing is raised behind a video of the same or a higher class that could not get
// even its minimum.
func raise(left int64, c Class, demands []Demand, wants []int, grants []Grant) int64 {
	for i := range demands {
		if demands[i].Class <= c && grants[i].Reason == ReasonBandwidth {
			return left
		}
	}
	for moved := true; moved; {
		moved = false
		for i := range demands {
			d := &demands[i]
			if d.Class != c || grants[i].Layer == None || grants[i].Layer >= wants[i] {
				continue
			}
			next := nextActive(d.Layers, grants[i].Layer)
			more := Bps(d.Layers, next) - Bps(d.Layers, grants[i].Layer)
			if more > left {
				continue
			}
			grants[i].Layer, left, moved = next, left-more, true
		}
	}
	return left
}

func lowest(layers []Layer) int { return nextActive(layers, None) }

// nextActive is the next active layer above i. The caller knows that there is one.
func nextActive(layers []Layer, i int) int {
	for i++; i < len(layers)-1 && !layers[i].Active; i++ {
	}
	return i
}
