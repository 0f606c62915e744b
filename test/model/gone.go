package model

import (
	"net/http"
	"slices"
	"strings"

	"mayfly/functions/control"
	"mayfly/functions/store"
)

// goneURL is the product's other webhook endpoint: it takes some events, and then
// answers 410 to whatever comes.
const goneURL = "https://gone.example/hook"

// lingerMS is for how long an invocation that had read the endpoint before it was
// disabled may still post to it.
const lingerMS = 60_000

// otherHook is what the world knows of that endpoint. Its id is "" in a world without it.
type otherHook struct {
	id         string
	takes      int               // events that it takes before it is gone
	asked      bool              // it has answered 410
	disabledMS int64             // when that was committed; 0 before
	states     map[uint64]string // of its deliveries, by position in the log
}

// otherHook has the product make it.
func (p *product) otherHook() {
	w := p.w
	v, yes := w.chance.Draw(Gone, name("gone", 0), 0)
	if !yes {
		return
	}
	w.other.takes, w.other.states = int(v%8), map[uint64]string{}
	p.planned++
	made := false
	body := map[string]any{"url": goneURL, "events": []string{"room.*", "usage.*"}}
	p.ask("POST", "/v1/webhook-endpoints", body, "gone", name("gone", 1), 1, func(status int, _ string) bool {
		if status == http.StatusCreated && !made {
			made = true
			p.planned--
		}
		return status == http.StatusCreated
	})
}

// take answers a post.
func (o *otherHook) take(w *World) int {
	if o.disabledMS != 0 && w.now > o.disabledMS+lingerMS {
		w.fail("the endpoint that is gone was posted to %d ms after it was disabled", w.now-o.disabledMS)
	}
	if o.takes > 0 {
		o.takes--
		return http.StatusNoContent
	}
	o.asked = true
	w.say("the other endpoint answers 410")
	return http.StatusGone
}

// hook: an endpoint that answers 410 is disabled for that, the other one never.
func (v *truth) hook(is store.Item) {
	if is.Version == 0 {
		return
	}
	h, o := decode[control.Hook](v.w, is), &v.w.other
	if h.URL == goneURL {
		o.id = h.ID
	}
	switch {
	case h.Disabled == "":
	case h.ID != o.id || h.Disabled != control.HookGone || !o.asked:
		v.w.fail("the endpoint %s is disabled: %s", h.URL, h.Disabled)
	case o.disabledMS == 0:
		o.disabledMS = v.w.now
		v.w.say("the other endpoint is disabled")
	}
}

// owed is a delivery to it that was made or changed: given up only for its being gone.
func (o *otherHook) owed(w *World, d *control.Delivery, fresh bool) {
	if d.State == control.DeliveryDead && !strings.Contains(d.Why, control.HookGone) {
		w.fail("delivery of %s to the other endpoint is dead: %s", d.Event, d.Why)
	}
	if was := o.states[d.Position]; !fresh && was != control.DeliveryPending && was != d.State {
		w.fail("delivery of %s to the other endpoint goes from %s to %s", d.Event, was, d.State)
	}
	o.states[d.Position] = d.State
}

// waiting says that something is still owed to the endpoint, or to the first one about it.
func (o *otherHook) waiting(w *World) bool {
	if o.disabledMS != 0 && w.truth.owed["evt_"+o.id+"_1"] != control.DeliveryDelivered {
		return true
	}
	for _, s := range o.states {
		if s == control.DeliveryPending {
			return true
		}
	}
	return false
}

// auditOther: whoever was not sent everything finds everything in the log. It has each
// event of each room, and what happened to the endpoint.
func (w *World) auditOther() {
	o := &w.other
	if o.id == "" || w.err != nil {
		return
	}
	if o.asked && o.disabledMS == 0 {
		w.fail("the other endpoint has answered 410, and is not disabled")
	}
	logged := map[string]bool{}
	for i, l := range all[control.Logged](w, control.LoggedKey(tenant, 1).PK, control.LoggedPrefix) {
		if l.Position != uint64(i+1) { //nolint:gosec // counts
			w.fail("the log has position %d after %d", l.Position, i)
		}
		logged[l.ID] = true
	}
	told := 0
	for _, r := range w.order {
		for _, e := range all[control.Event](w, control.RoomPK(r.id), control.EventPrefix) {
			if !logged[e.ID] {
				w.fail("room %d: event %d %s is not in the log", r.n, e.Seq, e.Type)
			}
			told++
		}
	}
	own := all[control.Event](w, control.HookPK(o.id), control.EventPrefix)
	if len(logged) != told+len(own) || len(own) != b2i(o.disabledMS != 0) {
		w.fail("the log has %d events, %d of rooms and %d of endpoints happened", len(logged), told, len(own))
	}
	disabled := slices.ContainsFunc(own, func(e *control.Event) bool { return e.Type == "webhook.disabled" && w.truth.got[e.ID] > 0 })
	if o.disabledMS != 0 && !disabled {
		w.fail("nobody was told that the other endpoint is disabled")
	}
}
