package room

import (
	"slices"

	"mayfly/shared/signal"
)

// obey carries out what the product has ordered. A part that is older than what is
// known of its participant changes nothing, so parts may come twice and late.
func (r *Room) obey(m signal.Orders) {
	for _, o := range m.Participants {
		if o.Rev <= r.orders[o.Participant].Rev {
			continue
		}
		r.orders[o.Participant] = o
		if p := r.people[o.Participant]; p != nil {
			r.moderate(p, o)
		}
	}
	if m.Rev <= r.ordered {
		return
	}
	r.ordered, r.limits = m.Rev, m.Limits
	if r.phase == open || r.phase == asking {
		r.heartbeat(r.cfg.Now()) // says that it is done
	}
}

// moderate applies an order to somebody who is here.
func (r *Room) moderate(p *participant, o signal.Order) {
	if o.Ejected {
		r.cfg.Log.Info("participant ejected", "participant", p.id)
		r.remove(p, signal.ReasonEjected)
		return
	}
	p.grants, p.held, p.amended = o.Grants, o.Muted, true
	if !p.may(signal.KindMic) {
		r.speaker.Remove(p.id)
	}
	r.dirty = true // what may not be forwarded leaves its seats before the next message is handled
	if p.joining {
		return // Joined, and what follows it, tell
	}
	r.announce(p)
	if p.dataOpen {
		r.tellStanding(p)
	}
}

// standing is what a participant may do when it joins: what the control plane said
// with the join, or an order that overtook it.
func (r *Room) standing(id string, s *signal.Session) (g signal.Grants, held []string, ejected bool) {
	if o, ok := r.orders[id]; ok && o.Rev > s.OrderRev {
		return o.Grants, o.Muted, o.Ejected
	}
	return s.Grants, s.Muted, false
}

// may says whether a source of this kind is forwarded.
func (p *participant) may(kind string) bool {
	return slices.Contains(p.grants.Publish, kind) && !slices.Contains(p.held, kind)
}

// forwarded are the published kinds that others may get, and whether they are muted.
func (p *participant) forwarded() map[string]bool {
	all := true
	for kind := range p.kinds {
		all = all && p.may(kind)
	}
	if all {
		return p.kinds
	}
	some := make(map[string]bool, len(p.kinds))
	for kind, muted := range p.kinds {
		if p.may(kind) {
			some[kind] = muted
		}
	}
	return some
}

func (r *Room) tellStanding(p *participant) {
	m := signal.Standing{Grants: p.grants, Muted: p.held}
	if m.Muted == nil {
		m.Muted = []string{}
	}
	if m.Grants.Publish == nil {
		m.Grants.Publish = []string{}
	}
	r.data(p, signal.TypeGrants, m)
}
