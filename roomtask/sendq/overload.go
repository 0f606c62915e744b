package sendq

import (
	"sync"
	"sync/atomic"
)

const (
	// lookEvery is the time between two looks at whether the workers keep up.
	lookEvery = 250 * ms
	// behind is how old a packet is that a worker comes to late. A worker that keeps up
	// takes a few milliseconds, and one whose container may use a quarter of a processor
	// stands still for up to 75 ms in each tenth of a second, but not for most packets.
	behind = 60 * ms
	// Of a worker that does not keep up this share of turns at least is late; of one that
	// has time to spare, at most the other.
	lateShare, timelyShare = 0.75, 0.25

	// firstCut is how long workers must be late before the first cut: a machine that does
	// something else for half a second is not too small.
	firstCut = 750 * ms
	// cutEvery is what a cut takes until it shows: a sender decides each 200 ms, and what
	// waits must go.
	cutEvery  = 750 * ms
	cutTo     = 0.7 // of what was sent
	leastSent = 0.1 // of all that is wanted; below it no picture is sent

	raiseBy    = 0.1        // of all that is wanted
	raiseFirst = 4 * second // without a late turn, before the first raise
	raiseMost  = 60 * second
	// failsWithin is the time after a raise within which a worker that does not keep up
	// shows that the raise was too much. It is taken back, and the next is waited for twice
	// as long.
	failsWithin = 8 * second
)

// governor finds the share of the wanted pictures for which the task has time. It is
// pure. The zero value withholds nothing.
type governor struct {
	withheld float64 // share of the wanted pictures, 0 to 1; 2 = the loudest speakers only
	before   float64 // withheld, before the newest raise
	lateAt   int64   // since when turns are late, ns; 0 = they are not
	cutAt    int64   // 0 = never
	raisedAt int64   // likewise
	since    int64   // since when all turns were timely; 0 = they are not
	wait     int64   // before the next raise; 0 = raiseFirst
}

// onlySpeakers is withheld when there is no time even for all the sound.
const onlySpeakers = 2

// look decides anew. late is the share of the newest turns in which a packet was late, of
// the worker that is worst off.
func (g *governor) look(late float64, now int64) {
	switch {
	case late >= lateShare:
		g.since = 0
		if g.lateAt == 0 {
			g.lateAt = now - lookEvery // it was the time before this look that was late
		}
		if now-g.lateAt >= firstCut && now-g.cutAt >= cutEvery {
			g.cut(now)
		}
		return
	case late > timelyShare:
		g.since = 0
	case g.since == 0:
		g.since = now
	case g.withheld > 0 && now-g.since >= max(g.wait, raiseFirst):
		g.raise(now)
	}
	g.lateAt = 0
}

func (g *governor) cut(now int64) {
	switch {
	case g.raisedAt != 0 && now-g.raisedAt < failsWithin:
		g.wait = min(2*max(g.wait, raiseFirst), raiseMost)
		g.withheld, g.raisedAt = g.before, 0
	case g.withheld >= 1:
		g.withheld = onlySpeakers
	default:
		if g.withheld = 1 - cutTo*(1-g.withheld); g.withheld > 1-leastSent {
			g.withheld = 1
		}
		g.raisedAt = 0
	}
	g.cutAt = now
}

func (g *governor) raise(now int64) {
	if g.raisedAt != 0 && now-g.raisedAt >= failsWithin { // the one before has held
		g.wait = 0
	}
	g.before, g.raisedAt, g.since = g.withheld, now, now
	if g.withheld > 1 {
		g.withheld = 1
		return
	}
	if g.withheld -= raiseBy; g.withheld < raiseBy/2 {
		g.withheld = 0
	}
}

// overload is the state of a wheel's workers together.
type overload struct {
	at       atomic.Int64 // of the next look
	thousand atomic.Int32 // what is withheld, in thousandths

	mu  sync.Mutex
	gov governor // guarded by mu
}

// turned counts a turn whose oldest packet arrived at such a time. It is called by the
// worker's goroutine.
func (k *worker) turned(arrival, now int64) {
	k.turns.Add(1)
	if now-arrival >= behind {
		k.late.Add(1)
	}
}

// look decides anew what is withheld, and tells it, if it is time to. Any sender calls it at its ticks.
func (w *Wheel) look(now int64) {
	at := w.load.at.Load()
	if now < at || !w.load.at.CompareAndSwap(at, now+lookEvery) {
		return
	}
	worst := 0.0
	for _, k := range w.workers {
		if turns, late := k.turns.Swap(0), k.late.Swap(0); turns > 0 {
			worst = max(worst, float64(late)/float64(turns))
		}
	}
	w.load.mu.Lock()
	defer w.load.mu.Unlock()
	before := w.load.gov.withheld
	w.load.gov.look(worst, now)
	w.load.thousand.Store(int32(1000 * w.load.gov.withheld))
	if after := w.load.gov.withheld; after != before && w.Overloaded != nil {
		w.Overloaded(after)
	}
}

// Withheld is the share of the wanted pictures for which the task has no time, 0 to 1.
// Above 1 the loudest speakers alone are sent.
func (w *Wheel) Withheld() float64 { return float64(w.load.thousand.Load()) / 1000 }

// withheld is that of one viewer. Viewers differ by up to half of the smaller part, so
// that what is withheld of them all can be any share, and that not all begin again at
// the same moment.
func (s *Sender) withheld() float64 {
	all := s.cfg.Wheel.Withheld()
	if all <= 0 || all >= 1 {
		return all
	}
	return all + (s.luck-0.5)*min(all, 1-all)
}

// oldest is the packet that a turn comes to first: of pictures if there are any, since
// sound does not wait for its turn.
func (s *Sender) oldest() (arrival int64, ok bool) {
	v, a := &s.work.video, &s.work.audio
	switch {
	case s.next < len(v.slots):
		return v.slots[max(s.next, v.head)].p.Arrival, true
	case len(a.slots) > 0:
		return a.slots[a.head].p.Arrival, true
	}
	return 0, false
}
