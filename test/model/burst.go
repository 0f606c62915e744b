package model

import (
	"fmt"
	"net/http"
)

// Times of a burst, in milliseconds.
const (
	burstMS = 10     // within which its rooms are asked for, and ended
	busyMS  = 15_000 // from there on every call of a function takes its time
	callMS  = 6      // at most
	waitMS  = 10_000 // as long as the product waits when it has too many rooms
)

// bursts makes rooms at one moment and ends them at another, with nobody in them: the
// tenant's counters of rooms are what they meet in.
func (p *product) bursts() {
	w := p.w
	v, yes := w.chance.Draw(Burst, name("burst", 0), 0)
	if !yes {
		return
	}
	from := int64(v % 60_000)
	until := w.now + from + 2_000 + int64(v>>8%40_000)
	w.busy = [2]span{{w.now + from, w.now + from + busyMS}, {until, until + busyMS}}
	for n := range 3 + v>>4%4 {
		actor := name("burst", int(n)+1)
		p.planned++
		w.in(from+int64(mix(w.chance.seed, actor, 15)%burstMS), func() { //nolint:gosec // milliseconds
			p.planned--
			body := map[string]any{"external_id": fmt.Sprint("burst ", n), "max_duration_s": 300, "unused_timeout_s": 60}
			p.order(body, fmt.Sprint("burst ", n), actor, func(room created) {
				w.in(until-w.now+int64(mix(w.chance.seed, actor, 16)%burstMS), func() { p.remove(room.ID, actor) }) //nolint:gosec // milliseconds
			})
		})
	}
}

// takes is how long a call takes in a burst, in ms: those that begin at one moment come
// between each other's reads and commits. At other times calls take none.
func (w *World) takes(inv *invocation) int64 {
	for _, s := range w.busy {
		if w.now >= s.from && w.now < s.to {
			return 1 + int64(mix(inv.actor, uint64(inv.calls), 17)%callMS) //nolint:gosec // milliseconds
		}
	}
	return 0
}

// remove ends a room.
func (p *product) remove(room string, actor uint64) {
	p.w.say("the product deletes %s", p.w.label(room))
	p.ask("DELETE", "/v1/rooms/"+room, nil, "", mix(actor, 1, 13), 1, func(status int, _ string) bool {
		return status == http.StatusAccepted
	})
}
