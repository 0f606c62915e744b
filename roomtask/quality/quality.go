// Package quality scores how a connection does, as a person would notice it: from 100
// (excellent) to 0 (lost).
//
// The room keeps one Meter for each stream of each participant, feeds it what was
// counted in an interval, and tells the scores. It is pure: no I/O, no clock; times are
// arguments. Read Meter.Add first.
package quality

import (
	"math"
	"time"
)

// Level is a score in a word.
type Level int8

// The levels, the worst first.
const (
	Lost Level = iota
	Poor
	Good
	Excellent
)

func (l Level) String() string { return [...]string{"lost", "poor", "good", "excellent"}[l] }

// Scores from which on a level begins.
const (
	excellentFrom = 80
	goodFrom      = 40
	poorFrom      = 1
	most          = 100
)

// LevelOf is the level of a score.
func LevelOf(score int) Level {
	switch {
	case score >= excellentFrom:
		return Excellent
	case score >= goodFrom:
		return Good
	case score >= poorFrom:
		return Poor
	}
	return Lost
}

// top is the best score of a level.
func (l Level) top() int { return [...]int{0, goodFrom - 1, excellentFrom - 1, most}[l] }

// Media says what a stream carries, and what it does against loss.
type Media struct {
	Video bool
	RED   bool // each packet repeats earlier ones (RFC 2198)
	FEC   bool // Opus's own low-rate copy of the packet before (RFC 6716 §2.1.7)
}

// perPercent is by how much one per cent of lost packets lowers the score. Good ends
// at 20 points lost and Poor begins at 60: for Opus at 2.5 and 7.5 % of loss, with
// in-band FEC at 3.75 and 11.25, with RED at 5 and 15, with both at 7.5 and 22.5, and
// for video, of which one lost packet spoils many, at 2 and 6 %.
func (m Media) perPercent() float64 {
	switch {
	case m.Video:
		return 10
	case m.RED && m.FEC:
		return 8.0 / 3
	case m.RED:
		return 4
	case m.FEC:
		return 16.0 / 3
	}
	return 8
}

// fullRate is the packets per second below which loss says less: with DTX, or a still
// screen, a single lost packet is a large share of very little.
func (m Media) fullRate() float64 {
	if m.Video {
		return 20
	}
	return 40
}

// Window is what was observed of a stream in one interval.
type Window struct {
	Media   Media
	Took    time.Duration
	Packets int64         // expected, the lost ones included
	Loss    float64       // share of them that was lost, 0…1
	RTT     time.Duration // 0 = not known
	Jitter  time.Duration
	Missing int  // layers by which the picture is below what its view asks for
	Paused  bool // for want of bandwidth
	Muted   bool // by its publisher, or not looked at: nothing is to be judged
	Heard   bool // the other end has reported, or, of what comes in, something came
}

const (
	perLayer    = 25              // points for each missing layer
	pausedScore = goodFrom / 2    // at best, while the picture is paused
	silentLimit = 6 * time.Second // without a word from an end that is sent to; audio alone is reported on every 5 s
)

// Meter keeps the score of one stream. The zero value is a stream that nothing is known
// of, which is excellent until proved otherwise.
type Meter struct {
	lost   int           // points below most
	silent time.Duration // for how long the other end has not reported
}

// Score is the present score.
func (m *Meter) Score() int { return most - m.lost }

// Add takes an interval, and returns the new score. It falls at once, and climbs by at
// most one level each interval. An interval in which nothing was to be sent says
// nothing; a muted one makes everything good again, for the next picture or word is a
// new beginning.
func (m *Meter) Add(w Window) (score int) {
	switch {
	case w.Muted:
		*m = Meter{}
		return m.Score()
	case w.Heard:
		m.silent = 0
	case w.Packets > 0 || m.silent > 0:
		m.silent += w.Took
		if m.silent >= silentLimit {
			m.lost = most
			return m.Score()
		}
	}
	if w.Packets == 0 && !w.Paused {
		return m.Score()
	}
	next := w.score()
	if up := LevelOf(m.Score()) + 1; up <= Excellent && next > up.top() {
		next = up.top()
	}
	m.lost = most - next
	return m.Score()
}

// score judges an interval by itself: the worse of how the packets came through and of
// what the picture lacks.
func (w *Window) score() int {
	through := most - delayPoints(w.RTT, w.Jitter) - w.lossPoints()
	picture := most - perLayer*w.Missing
	if w.Paused {
		picture = min(picture, pausedScore)
	}
	// A connection over which something comes is never lost.
	return max(poorFrom, int(math.Round(min(through, float64(picture)))))
}

// lossPoints weighs loss by the media, and by how much there was to lose.
func (w *Window) lossPoints() float64 {
	points := w.Loss * 100 * w.Media.perPercent()
	if s := w.Took.Seconds(); s > 0 {
		if full := w.Media.fullRate() * s; float64(w.Packets) < full {
			points *= float64(w.Packets) / full
		}
	}
	return points
}

// delayPoints follows the E-model's delay impairment (ITU-T G.107, simplified): hardly
// noticed up to 160 ms one way, then ten times as steep. A receiver's buffer holds about
// twice the jitter.
func delayPoints(rtt, jitter time.Duration) float64 {
	way := float64(rtt.Milliseconds())/2 + 2*float64(jitter.Milliseconds())
	if way < 160 {
		return way / 40
	}
	return (way - 120) / 10
}

// MOS is the mean opinion score that the E-model (ITU-T G.107) gives a voice of which a
// share is missing and which is on its way for so long: from 1 (bad) to 4.5. A decoder's
// concealment is taken for that of G.711, as ITU-T G.113 has none for Opus (Appendix I:
// Ie 0, Bpl 25.1).
func MOS(way time.Duration, missing float64) float64 {
	const best, robust, late = 93.2, 25.1, 177.3
	ms, percent := float64(way.Microseconds())/1000, 100*max(0, min(1, missing))
	r := best - 0.024*ms - 0.11*max(0, ms-late) - 95*percent/(percent+robust)
	switch {
	case r <= 0:
		return 1
	case r >= 100:
		return 4.5
	}
	return max(1, 1+0.035*r+r*(r-60)*(100-r)*7e-6)
}

// Concealed estimates the share of a stream's packets that stay missing after repair,
// if losses are independent: a retransmission (repaired) makes up for what its own loss
// spares, redundancy for all but distance+1 losses in a row.
func Concealed(loss float64, distance int, repaired bool) float64 {
	loss = max(0, min(1, loss))
	left := math.Pow(loss, float64(distance+1))
	if repaired {
		left *= loss
	}
	return left
}
