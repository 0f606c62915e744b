package robot

import (
	"encoding/json"
	"slices"
	"sync"
	"time"

	"mayfly/shared/signal"
)

// Arrival is one packet that came, and whose it was.
type Arrival struct {
	At    int64 // Unix nanoseconds
	From  string
	Video bool
}

// trace keeps what arrived, for tests that look for gaps (Config.Trace).
type trace struct {
	mu    sync.Mutex
	seats map[int]string // occupants, as last told; guarded by mu
	list  []Arrival      // guarded by mu
}

// seat notes who sits where.
func (t *trace) seat(seats []signal.Seat) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seats = map[int]string{}
	for _, s := range seats {
		t.seats[s.Seat] = s.Participant
	}
}

// frame looks for a seating among what comes over the data channel.
func (t *trace) frame(f signal.Frame) {
	var m signal.Seating
	if t != nil && f.Type == signal.TypeSeating && json.Unmarshal(f.Body, &m) == nil {
		t.seat(m.Seats)
	}
}

func (t *trace) add(at int64, seat int, video bool) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if from := t.seats[seat]; from != "" {
		t.list = append(t.list, Arrival{at, from, video})
	}
}

// Arrivals is what came so far.
func (r *Robot) Arrivals() []Arrival {
	if r.in.trace == nil {
		return nil
	}
	r.in.trace.mu.Lock()
	defer r.in.trace.mu.Unlock()
	return slices.Clone(r.in.trace.list)
}

// Heard says whether sound of everybody in people has come.
func (r *Robot) Heard(people []string) bool {
	heard := map[string]bool{}
	for _, a := range r.Arrivals() {
		heard[a.From] = heard[a.From] || !a.Video
	}
	return !slices.ContainsFunc(people, func(p string) bool { return !heard[p] })
}

// Gap is the longest time between two packets of sound from one participant, over
// everything that one listener received, whatever connection it came by.
func Gap(from string, received ...[]Arrival) (gap time.Duration, at int64) {
	var times []int64
	for _, list := range received {
		for _, a := range list {
			if a.From == from && !a.Video {
				times = append(times, a.At)
			}
		}
	}
	slices.Sort(times)
	for i := 1; i < len(times); i++ {
		if d := time.Duration(times[i] - times[i-1]); d > gap {
			gap, at = d, times[i-1]
		}
	}
	return gap, at
}
