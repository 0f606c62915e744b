package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"mayfly/functions/control"
	"mayfly/functions/control/budget"
	"mayfly/functions/control/life"
	"mayfly/functions/store"
)

// The headers of draft-ietf-httpapi-ratelimit-headers-10, on the answers of the routes
// that draw on a quota: RateLimit-Policy says what a tenant may have, RateLimit what is
// left. Policies: "creates" a window's burst of new rooms, "rooms" how many at once,
// "tickets" a window's burst of tickets.

// quotaHeaders writes what a create has left, also into the answer that refuses it.
func quotaHeaders(h http.Header, err error) {
	var q *life.QuotaError
	if errors.As(err, &q) {
		setQuota(h, &q.QuotaLeft)
	}
	var t *ticketsError
	if errors.As(err, &t) {
		setTickets(h, t.perSecond, t.burst, 0, t.waitS)
	}
}

func setQuota(h http.Header, q *life.QuotaLeft) {
	if q == nil {
		return
	}
	policy, left := fmt.Sprintf(`"rooms";q=%d`, q.Quota.Rooms), fmt.Sprintf(`"rooms";r=%d`, q.Left.Rooms)
	if per := q.Quota.PerSecond; per > 0 {
		policy = fmt.Sprintf(`"creates";q=%d;w=%d, `, max(q.Quota.Burst, per), budget.Window(per, q.Quota.Burst)) + policy
		left = fmt.Sprintf(`"creates";r=%d;t=%d, `, q.Left.Creates, q.Left.WaitS) + left
	}
	h.Set("RateLimit-Policy", policy)
	h.Set("RateLimit", left)
}

func setTickets(h http.Header, perSecond, burst, left, waitS int) {
	h.Set("RateLimit-Policy", fmt.Sprintf(`"tickets";q=%d;w=%d`, max(burst, perSecond), budget.Window(perSecond, burst)))
	h.Set("RateLimit", fmt.Sprintf(`"tickets";r=%d;t=%d`, left, waitS))
}

// rateProblem is the refusal of a create, with the time after which one is let through.
func rateProblem(detail string, err error) *Problem {
	p := problem(codeRate, detail)
	var q *life.QuotaError
	if errors.As(err, &q) && q.Left.WaitS > 0 {
		p.RetryAfterS = q.Left.WaitS
	}
	return p
}

// ticketsError refuses tickets. It is a *Problem with what the headers need.
type ticketsError struct {
	perSecond, burst, waitS int
}

func (e *ticketsError) Error() string { return "tickets after " + strconv.Itoa(e.waitS) + " s" }

// Unwrap is the answer.
func (e *ticketsError) Unwrap() error {
	p := problem(codeRate, "Tickets are asked for too fast.")
	p.RetryAfterS = e.waitS
	return p
}

// ticketRate is how fast the tenant may ask for tickets: its own limit, or else the
// deployment's.
func (a *API) ticketRate(ctx context.Context, tenant string) (perSecond, burst int, err error) {
	perSecond, burst = a.cfg.TicketsPerSecond, a.cfg.TicketBurst
	own, err := control.Load[control.TenantLimits](ctx, a.cfg.Store, control.LimitsKey(tenant))
	if errors.Is(err, store.ErrNotFound) {
		return perSecond, burst, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("load limits: %w", err)
	}
	if own.TicketsPerSecond > 0 {
		perSecond = own.TicketsPerSecond
	}
	if own.TicketBurst > 0 {
		burst = own.TicketBurst
	}
	return perSecond, burst, nil
}

// drawTickets is the write that takes n tickets from the tenant's rate, for the
// caller's commit; none where there is no limit. A refused request writes nothing, so
// writes to the item are no faster than the rate itself.
func (a *API) drawTickets(c *call, n int) ([]store.Write, error) {
	ctx := c.r.Context()
	perSecond, burst, err := a.ticketRate(ctx, c.tenant)
	if err != nil || perSecond <= 0 || n == 0 {
		return nil, err
	}
	rate, err := control.Load[control.TicketRate](ctx, a.cfg.Store, control.TicketRateKey(c.tenant))
	if errors.Is(err, store.ErrNotFound) {
		rate, err = &control.TicketRate{Tenant: c.tenant}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load ticket rate: %w", err)
	}
	after, left, waitS, ok := budget.Draw(perSecond, burst, rate.Bucket, n, a.now().UnixMilli())
	if !ok {
		return nil, &ticketsError{perSecond, burst, waitS}
	}
	rate.Bucket = after
	setTickets(c.w.Header(), perSecond, burst, left, waitS)
	w, err := control.Put(rate)
	return []store.Write{w}, err
}
