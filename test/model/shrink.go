package model

import "slices"

// Shrink finds a small part of what struck with which a run still fails (delta
// debugging: Zeller and Hildebrandt, 2002). fails runs the world with a part; tries
// bounds how often.
func Shrink(fired []Fired, tries int, fails func([]Fired) bool) []Fired {
	for size := max(1, len(fired)/2); tries > 0; {
		smaller := false
		for from := 0; from < len(fired) && tries > 0; {
			part := slices.Delete(slices.Clone(fired), from, min(len(fired), from+size))
			tries--
			if fails(part) {
				fired, smaller = part, true
				continue
			}
			from += size
		}
		if size == 1 && !smaller {
			break
		}
		if !smaller || size > len(fired)/2 {
			size = max(1, min(size/2, len(fired)/2))
		}
	}
	return fired
}
