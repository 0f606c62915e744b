package forward

// MaxRED is the largest distance: how many former packets of audio each packet
// carries again. Two repair two losses in a row; a third would cost as much, and
// repair bursts that a retransmission repairs better.
const MaxRED = 2

// Loss thresholds, as fractions. Each way down lies well below its way up, so that
// noise about one of them does not switch back and forth.
const (
	red1Up, red1Down = 0.025, 0.010
	red2Up, red2Down = 0.080, 0.040
)

// redHold is how long the loss must have stayed low before protection is reduced:
// losses come in spells, and too much protection costs less than too little.
const redHold = 8 * second

// REDPolicy decides how many former packets each packet of audio carries for one
// receiver. It is pure: the caller brings the loss and the time. Its zero value
// protects nothing.
type REDPolicy struct {
	distance int
	calmAt   int64 // since when the loss has asked for less, 0 = it does not
}

// Next takes the loss of the last second or so, 0…1, and returns the distance to use,
// 0 to MaxRED. More comes at once, less one step at a time.
func (r *REDPolicy) Next(loss float64, now int64) int {
	up, down := 0, 0
	switch {
	case loss >= red2Up:
		up = 2
	case loss >= red1Up:
		up = 1
	}
	switch {
	case loss >= red2Down:
		down = 2
	case loss >= red1Down:
		down = 1
	}
	switch {
	case up > r.distance:
		r.distance, r.calmAt = up, 0
	case down >= r.distance:
		r.calmAt = 0
	case r.calmAt == 0:
		r.calmAt = now
	case now-r.calmAt >= redHold:
		r.distance, r.calmAt = r.distance-1, now
	}
	return r.distance
}

// Distance is what Next returned last.
func (r *REDPolicy) Distance() int { return r.distance }
