package room

import "mayfly/shared/signal"

// Pictures of a room that must save are shown no larger than this, so that senders
// pick the lowest layer and publishers rest the others.
const (
	reducedWidth  = 320
	reducedHeight = 180
)

// budgetRank orders the levels of signal.Budget.
var budgetRank = map[string]int{"near": 1, "last": 2}

// nearCap takes what the control plane says of the room's caps. It says it with
// every acknowledgement, some of which are late: a level that was passed does not
// come back. Participants are told when something changes for them.
func (r *Room) nearCap(b *signal.Budget) {
	if b == nil || budgetRank[b.Level] < budgetRank[r.budget.Level] {
		return
	}
	news := b.Level != r.budget.Level || b.Cap != r.budget.Cap || b.Reduce != r.budget.Reduce
	r.dirty = r.dirty || b.Reduce != r.budget.Reduce
	r.budget = *b
	if news {
		r.cfg.Log.Info("the room comes near a cap", "level", b.Level, "cap", b.Cap, "used_permil", b.UsedPermil)
		r.broadcast(signal.TypeBudget, r.budget)
	}
}

// tellBudget brings a participant who has just come up to date.
func (r *Room) tellBudget(p *participant) {
	if r.budget.Level != "" {
		r.data(p, signal.TypeBudget, r.budget)
	}
}

// reduced makes the pictures of a viewer's plan small while the room must save.
func (r *Room) reduced(plans map[int]plan) map[int]plan {
	if !r.budget.Reduce {
		return plans
	}
	for n, p := range plans {
		p.width, p.height = fit(p.width, p.height)
		plans[n] = p
	}
	return plans
}

// fit shrinks a size into the reduced one, and keeps its shape.
func fit(w, h int) (int, int) {
	if w > reducedWidth {
		w, h = reducedWidth, max(1, h*reducedWidth/w)
	}
	if h > reducedHeight {
		w, h = max(1, w*reducedHeight/h), reducedHeight
	}
	return w, h
}
