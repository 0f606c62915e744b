package model

import (
	"context"
	"net/http"

	"mayfly/functions/control/hooks"
)

// receiver is the product's webhook endpoint, as a sandbox reaches it.
type receiver struct{ b *sandbox }

// Check implements hooks.Sender.
func (r *receiver) Check(string) error { return nil }

// Post implements hooks.Sender. The endpoint may be away, answer that it is, or take
// the event without its answer coming back.
func (r *receiver) Post(_ context.Context, url string, header http.Header, _ []byte) (answer hooks.Answer, err error) {
	w, id := r.b.f.w, header.Get("webhook-id")
	if url == goneURL {
		return answer, r.b.effect("webhook", func() error { answer.Status = w.other.take(w); return nil })
	}
	err = r.b.effect("webhook", func() error {
		v, strikes := w.chance.Draw(DeliverFails, r.b.inv.actor, r.b.inv.calls)
		switch {
		case !strikes:
			w.breaks.arrive(w, id)
			answer.Status = http.StatusNoContent
		case v%4 == 0:
			return errAWS
		case v%4 == 1:
			answer.Status = http.StatusServiceUnavailable
		case v%4 == 2:
			answer.Status, answer.RetryAfter = http.StatusTooManyRequests, "20"
		default:
			w.breaks.arrive(w, id)
			return errAWS
		}
		return nil
	})
	if err != nil {
		return hooks.Answer{}, err
	}
	return answer, nil
}

// arrive has an event arrive, unless it is lost on the way.
func (b *Break) arrive(w *World, id string) {
	if b == nil || b.DropDelivery == nil || !b.DropDelivery(id) {
		w.truth.arrived(id)
	}
}
