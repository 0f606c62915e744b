// Package speaker decides who speaks: the dominant speaker, and the few loudest
// people whose audio everybody should hear.
//
// The room feeds it audio levels and asks it at a steady pace. It is pure: no I/O,
// no clock, no goroutine; the time is an argument, in nanoseconds on any clock that
// does not go back. It is not safe for concurrent use.
package speaker

import (
	"cmp"
	"slices"
	"time"
)

// The rule, as LiveKit and Jitsi use it in similar form: a person speaks when at
// least Ratio of the samples in the last Window are loud. A change of dominant
// speaker needs a reason that lasts, so that a cough or a short "yes" moves nothing.
const (
	window     = 500 * time.Millisecond
	loudRatio  = 0.4
	loudLevel  = 35 // −dBov: louder than this is speech even without the voice flag
	voiceLevel = 50 // −dBov: with the voice flag, a quiet microphone counts too
	margin     = 6  // dB by which a challenger must exceed somebody who speaks on

	takeover = 300 * time.Millisecond  // speaking this long wins over a silent speaker
	hold     = 1500 * time.Millisecond // the same over one who speaks on; and silence that ends a turn
)

// DefaultLoudest is the number of people kept as loudest.
const DefaultLoudest = 3

const samples = 32 // of one window; more frequent updates are thinned by overwriting

type sample struct {
	at   int64
	lvl  uint8
	loud bool
}

// voice is what is known about one participant.
type voice struct {
	id   string
	ring [samples]sample
	next int // ring index of the next sample; it counts on

	// Computed by Tick.
	speaking bool
	loudness float64 // mean of 127−level over the loud samples, 0 when not speaking
	anyLoud  bool    // at least one loud sample in the window
	since    int64   // when speaking began
	last     int64   // when speaking or a loud sample was last seen
	louder   int64   // since when this one exceeds the dominant speaker by the margin, 0 if not
}

// Detector holds the levels of everybody in a room.
type Detector struct {
	n       int // set once: size of the loudest set
	voices  map[string]*voice
	order   []*voice // by id, so that ties resolve the same way each time
	active  string
	loudest Set
}

// New makes a detector that keeps the n loudest; 0 means DefaultLoudest.
func New(n int) *Detector {
	if n <= 0 {
		n = DefaultLoudest
	}
	return &Detector{n: n, voices: make(map[string]*voice)}
}

// Update notes a level in −dBov (0 loudest, 127 silence) and the sender's own
// voice flag. Samples may come at any pace from 20 to 100 ms.
func (d *Detector) Update(participant string, level uint8, voiced bool, now int64) {
	v := d.voices[participant]
	if v == nil {
		v = &voice{id: participant}
		d.voices[participant] = v
		at, _ := slices.BinarySearchFunc(d.order, v, byID)
		d.order = slices.Insert(d.order, at, v)
	}
	loud := level <= loudLevel || voiced && level <= voiceLevel
	v.ring[v.next%samples] = sample{at: now, lvl: min(level, 127), loud: loud}
	v.next++
}

// Remove forgets a participant who left. The next Tick tells the consequences.
func (d *Detector) Remove(participant string) {
	if v := d.voices[participant]; v != nil {
		delete(d.voices, participant)
		d.order = slices.DeleteFunc(d.order, func(o *voice) bool { return o == v })
	}
}

// Tick decides anew. active is "" when nobody speaks. loudest keeps its order as
// long as its members stay: one who comes takes the place of one who goes, and
// somebody silent stays until the place is needed. The slice must not be changed.
func (d *Detector) Tick(now int64) (active string, loudest []string, changed bool) {
	for _, v := range d.order {
		v.judge(now)
	}
	before := d.active
	d.chooseActive(now)
	moved := d.Choose(&d.loudest, d.n, nil, now)
	return d.active, d.loudest.Members(), d.active != before || moved
}

// judge looks at the samples of the window.
func (v *voice) judge(now int64) {
	total, loud, sum := 0, 0, 0.0
	for i := range min(v.next, samples) {
		s := &v.ring[i]
		if now-s.at >= int64(window) {
			continue
		}
		total++
		if s.loud {
			loud++
			sum += float64(127 - s.lvl)
		}
	}
	was := v.speaking
	v.anyLoud = loud > 0
	v.speaking = loud >= 2 && float64(loud) >= loudRatio*float64(total)
	v.loudness = 0
	if v.speaking {
		v.loudness = sum / float64(loud)
		v.last = now
		if !was {
			v.since = now
		}
	}
}

func (d *Detector) chooseActive(now int64) {
	cur := d.voices[d.active]
	if cur == nil {
		d.active = ""
	}
	var best *voice
	for _, v := range d.order {
		if v != cur && v.speaking && (best == nil || v.loudness > best.loudness) {
			best = v
		}
		d.challenge(v, cur, now)
	}
	switch {
	case cur == nil:
		if best != nil {
			d.setActive(best)
		}
	case best == nil:
		if !cur.speaking && now-cur.last >= int64(hold) {
			d.active = ""
		}
	case cur.speaking:
		if best.louder != 0 && now-best.louder >= int64(hold) {
			d.setActive(best)
		}
	case now-best.since >= int64(takeover):
		d.setActive(best)
	}
}

// challenge keeps how long v has been clearly louder than the dominant speaker.
func (d *Detector) challenge(v, cur *voice, now int64) {
	switch {
	case v == cur || cur == nil || !v.speaking || v.loudness < cur.loudness+margin:
		v.louder = 0
	case v.louder == 0:
		v.louder = now
	}
}

func (d *Detector) setActive(v *voice) {
	d.active = v.id
	for _, o := range d.order {
		o.louder = 0
	}
}

func byID(a, b *voice) int { return cmp.Compare(a.id, b.id) }
