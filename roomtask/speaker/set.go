package speaker

import (
	"cmp"
	"slices"
)

// Set is the few loudest of those that somebody could hear: of all, or of those that one
// listener has no other seat for. The zero value is empty. Choose alone changes it.
type Set struct {
	ids      []string         // replaced, never changed, when the members change
	crowding map[string]int64 // since when one outside exceeds the quietest member by the margin
}

// Members lists them. They keep their order as long as they stay: one who comes takes
// the place of one who goes. The slice must not be changed.
func (s *Set) Members() []string { return s.ids }

// Choose brings a set of at most n up to date with the last Tick, and says whether its
// members changed. skip names those that do not come into question; nil means nobody.
// A free place is taken by the first loud sample. Somebody silent stays until the place
// is needed; somebody who speaks on must be exceeded clearly, and for a while, so that
// two of equal loudness do not take turns.
func (d *Detector) Choose(s *Set, n int, skip func(id string) bool, now int64) (changed bool) {
	set := slices.DeleteFunc(slices.Clone(s.ids), func(id string) bool {
		return d.voices[id] == nil || skip != nil && skip(id)
	})
	for len(set) > max(0, n) {
		set = slices.Delete(set, d.stalest(set), d.stalest(set)+1)
	}
	for _, v := range d.waiting(s, set, n, skip) {
		if len(set) < n {
			set = append(set, v.id)
		} else if i := d.place(s, set, v, now); i >= 0 {
			set[i] = v.id
		} else {
			continue
		}
		delete(s.crowding, v.id)
	}
	if slices.Equal(set, s.ids) {
		return false
	}
	s.ids = set
	return true
}

// waiting are those who speak and are not in the set, the loudest first.
func (d *Detector) waiting(s *Set, set []string, n int, skip func(id string) bool) []*voice {
	var out []*voice
	if n > 0 {
		for _, v := range d.order {
			speaks := v.speaking || v.anyLoud && len(set) < n
			if speaks && !slices.Contains(set, v.id) && (skip == nil || !skip(v.id)) {
				out = append(out, v)
			}
		}
	}
	for id := range s.crowding {
		if !slices.ContainsFunc(out, func(v *voice) bool { return v.id == id }) {
			delete(s.crowding, id)
		}
	}
	slices.SortStableFunc(out, func(a, b *voice) int { return cmp.Compare(b.loudness, a.loudness) })
	return out
}

// stalest is the place of the member that has been silent for longest.
func (d *Detector) stalest(set []string) int {
	at := 0
	for i, id := range set {
		if d.voices[id].last < d.voices[set[at]].last {
			at = i
		}
	}
	return at
}

// place finds the member that v may replace, or −1: the one silent for longest, if
// that is at least hold; else the quietest, if v has been clearly louder for as long.
func (d *Detector) place(s *Set, set []string, v *voice, now int64) int {
	if i := d.stalest(set); !d.voices[set[i]].speaking && now-d.voices[set[i]].last >= int64(hold) {
		return i
	}
	quietest := 0
	for i, id := range set {
		if d.voices[id].loudness < d.voices[set[quietest]].loudness {
			quietest = i
		}
	}
	if v.loudness < d.voices[set[quietest]].loudness+margin {
		delete(s.crowding, v.id)
		return -1
	}
	if s.crowding[v.id] == 0 {
		if s.crowding == nil {
			s.crowding = map[string]int64{}
		}
		s.crowding[v.id] = now
	}
	if now-s.crowding[v.id] >= int64(hold) {
		return quietest
	}
	return -1
}
