package room

import (
	"fmt"
	"runtime/debug"

	"mayfly/shared/signal"
)

// survive is deferred around the handling of one message. A panic is a bug of ours that
// somebody's message met: it costs the participant its place, from which it may come
// back, and not the room. p is nil for a frame of the link, which is dropped alone.
func (r *Room) survive(p *participant) {
	v := recover()
	if v == nil {
		return
	}
	r.cfg.Log.Error("panic", "where", "room", "value", fmt.Sprint(v), "stack", string(debug.Stack()))
	if p == nil || r.people[p.id] != p {
		return
	}
	defer func() {
		if again := recover(); again != nil { // whatever is wrong with it, it is out of the lists
			r.cfg.Log.Error("panic", "where", "leaving", "value", fmt.Sprint(again))
		}
	}()
	r.remove(p, signal.ReasonLost)
}
