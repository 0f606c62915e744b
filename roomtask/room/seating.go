package room

import (
	"slices"

	"mayfly/shared/signal"
)

// plan is what one seat is to carry. The zero value is an empty seat.
type plan struct {
	participant string
	video       string // kind of the source, "" for an audio-only seat
	audio       string // kind of the source, "" for none
	width       int    // at which the video is shown, device pixels; 0×0 = hidden
	height      int
	pinned      bool
}

// occupant is a participant as the seating sees it.
type occupant struct {
	id    string
	kinds map[string]bool // published kinds → muted
}

func (o occupant) has(kind string) bool { _, ok := o.kinds[kind]; return ok }

// audioOf names the sound that belongs to a picture: a camera's is the microphone,
// a screen's is the sound of what is shared.
var audioOf = map[string]string{signal.KindCamera: signal.KindMic, signal.KindScreen: signal.KindScreenAudio}

// seat decides who sits where for one viewer. Wanted sources come first, in the
// view's order, while seats last; then, if the view says how large it shows them, the
// screens and cameras that it does not list; the seats left over carry the microphones
// of the others, loudest first. Who already sits somewhere stays there, so that a seat
// changes its occupant only when it must.
//
// others are all participants but the viewer, in the order they joined; loudest and
// ears list participant ids: the loudest of all, and those whom this viewer should hear
// of the ones without a picture, both with hysteresis (roomtask/speaker). seats are the viewer's seat numbers; prev is the last result.
func seat(seats []int, view signal.View, others []occupant, loudest, ears []string, prev map[int]plan) map[int]plan {
	wants := view.Wants
	if view.Others != nil {
		wants = append(slices.Clip(wants), unlisted(*view.Others, others, loudest, prev)...)
	}
	chosen := wanted(len(seats), wants, others)
	chosen = append(chosen, heard(len(seats)-len(chosen), others, slices.Concat(ears, loudest), chosen)...)
	next := make(map[int]plan, len(chosen))
	placed := make([]bool, len(chosen))
	for _, n := range seats {
		old, ok := prev[n]
		if !ok {
			continue
		}
		for i, c := range chosen {
			if !placed[i] && c.participant == old.participant && c.video == old.video && (c.video != "" || c.audio == old.audio) {
				next[n], placed[i] = c, true
				break
			}
		}
	}
	free := 0
	for i, c := range chosen {
		if placed[i] {
			continue
		}
		for _, taken := next[seats[free]]; taken; _, taken = next[seats[free]] {
			free++
		}
		next[seats[free]] = c
	}
	return next
}

// unlisted wants everybody's pictures at one size: screens, then cameras, of the
// loudest first, then of those who are shown already, then in the order of joining.
// What the view lists comes twice so; the second is passed over.
func unlisted(at signal.Size, others []occupant, loudest []string, prev map[int]plan) (wants []signal.Want) {
	shown := map[published]bool{}
	for _, p := range prev {
		shown[published{p.participant, p.video}] = true
	}
	for _, kind := range []string{signal.KindScreen, signal.KindCamera} {
		rank := func(o occupant) int {
			if i := slices.Index(loudest, o.id); i >= 0 {
				return i
			}
			if shown[published{o.id, kind}] {
				return len(loudest)
			}
			return len(loudest) + 1
		}
		order := slices.Clone(others)
		slices.SortStableFunc(order, func(a, b occupant) int { return rank(a) - rank(b) })
		for _, o := range order {
			if muted, ok := o.kinds[kind]; ok && !muted {
				wants = append(wants, signal.Want{Source: o.id + "/" + kind, Width: at.Width, Height: at.Height})
			}
		}
	}
	return wants
}

// wanted turns the view into plans: at most n, without unknown, repeated or own sources.
func wanted(n int, wants []signal.Want, others []occupant) []plan {
	var out []plan
	seen := map[string]bool{}
	for _, w := range wants {
		if len(out) == n {
			break
		}
		id, kind, ok := splitSource(w.Source)
		audio, video := audioOf[kind]
		if !ok || !video || seen[w.Source] {
			continue
		}
		for _, o := range others {
			if o.id != id || !o.has(kind) {
				continue
			}
			seen[w.Source] = true
			p := plan{participant: id, video: kind, width: w.Width, height: w.Height, pinned: w.Pinned}
			if o.has(audio) {
				p.audio = audio
			}
			out = append(out, p)
		}
	}
	return out
}

// sounds tells whether an occupant publishes sound that is not muted.
func (o occupant) sounds() bool {
	for _, kind := range []string{signal.KindMic, signal.KindScreenAudio} {
		if muted, ok := o.kinds[kind]; ok && !muted {
			return true
		}
	}
	return false
}

// heard lists audio-only plans for at most n microphones (and sounds of screens)
// that no plan in taken carries: the loudest first, then in the order of joining.
func heard(n int, others []occupant, loudest []string, taken []plan) []plan {
	type sound struct{ id, kind string }
	have := map[sound]bool{}
	for _, p := range taken {
		have[sound{p.participant, p.audio}] = true
	}
	// Few of a large room can be heard, and this runs for each viewer at each change.
	byID := map[string]occupant{}
	order := append([]string(nil), loudest...)
	for _, o := range others {
		if o.sounds() {
			byID[o.id] = o
			order = append(order, o.id)
		}
	}
	var out []plan
	for _, id := range order {
		if len(out) >= n {
			break
		}
		for _, kind := range []string{signal.KindMic, signal.KindScreenAudio} {
			o := byID[id]
			if muted, ok := o.kinds[kind]; !ok || muted || have[sound{id, kind}] || len(out) >= n {
				continue
			}
			have[sound{id, kind}] = true
			out = append(out, plan{participant: id, audio: kind})
		}
	}
	return out
}

// splitSource parses "<participant>/<kind>".
func splitSource(id string) (participant, kind string, ok bool) {
	for i := len(id) - 1; i >= 0; i-- {
		if id[i] == '/' {
			return id[:i], id[i+1:], i > 0 && i < len(id)-1
		}
	}
	return "", "", false
}
