package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"mayfly/functions/control"
	"mayfly/functions/control/ledger"
	"mayfly/functions/control/price"
	"mayfly/functions/store"
)

// limitsRequest is the body of PUT /v1/tenants/{tenant}/limits, and its answer. What is
// left out, or 0, is as the deployment has it.
type limitsRequest struct {
	MaxRooms         *int   `json:"max_rooms,omitempty"`
	CreatesPerSecond *int   `json:"creates_per_s,omitempty"`
	CreateBurst      *int   `json:"create_burst,omitempty"`
	TicketsPerSecond *int   `json:"tickets_per_s,omitempty"`
	TicketBurst      *int   `json:"ticket_burst,omitempty"`
	SpendPerDay      *int64 `json:"spend_nano_usd_per_day,omitempty"`
}

func (q *limitsRequest) check(f *faults) {
	for _, n := range []struct {
		at   string
		v    *int
		most int
	}{
		{"max_rooms", q.MaxRooms, 100_000}, {"creates_per_s", q.CreatesPerSecond, 1000}, {"create_burst", q.CreateBurst, 10_000},
		{"tickets_per_s", q.TicketsPerSecond, 1000}, {"ticket_burst", q.TicketBurst, 10_000},
	} {
		if n.v != nil && (*n.v < 0 || *n.v > n.most) {
			f.add("/"+n.at, "must be from 0 to %d", n.most)
		}
	}
	if s := q.SpendPerDay; s != nil && (*s < 0 || *s > 1_000_000_000_000_000_000) {
		f.add("/spend_nano_usd_per_day", "must be from 0 to %d", int64(1_000_000_000_000_000_000))
	}
}

func viewLimits(l *control.TenantLimits) limitsRequest {
	n := func(v int) *int {
		if v == 0 {
			return nil
		}
		return &v
	}
	v := limitsRequest{
		MaxRooms: n(l.MaxRooms), CreatesPerSecond: n(l.CreatesPerSecond), CreateBurst: n(l.CreateBurst),
		TicketsPerSecond: n(l.TicketsPerSecond), TicketBurst: n(l.TicketBurst),
	}
	if l.SpendPerDay != 0 {
		v.SpendPerDay = &l.SpendPerDay
	}
	return v
}

// limits loads a tenant's own limits.
func (a *API) limits(c *call) (*control.TenantLimits, error) {
	tenant, err := c.of()
	if err != nil {
		return nil, err
	}
	l, err := control.Load[control.TenantLimits](c.r.Context(), a.cfg.Store, control.LimitsKey(tenant))
	if errors.Is(err, store.ErrNotFound) {
		return &control.TenantLimits{Tenant: tenant}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load limits: %w", err)
	}
	return l, nil
}

// getLimits is GET /v1/tenants/{tenant}/limits.
func (a *API) getLimits(c *call) error {
	l, err := a.limits(c)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, viewLimits(l))
}

// putLimits is PUT /v1/tenants/{tenant}/limits. It replaces all of them.
func (a *API) putLimits(c *call) error {
	if _, err := c.of(); err != nil {
		return err
	}
	var body limitsRequest
	if p := readJSON(c.r, &body); p != nil {
		return p
	}
	var f faults
	body.check(&f)
	if p := f.problem(); p != nil {
		return p
	}
	var now *control.TenantLimits
	err := control.Retry{}.Do(c.r.Context(), func() error {
		l, err := a.limits(c)
		if err != nil {
			return err
		}
		now = &control.TenantLimits{Held: l.Held, Tenant: l.Tenant}
		for _, n := range []struct{ to, from *int }{
			{&now.MaxRooms, body.MaxRooms}, {&now.CreatesPerSecond, body.CreatesPerSecond}, {&now.CreateBurst, body.CreateBurst},
			{&now.TicketsPerSecond, body.TicketsPerSecond}, {&now.TicketBurst, body.TicketBurst},
		} {
			if n.from != nil {
				*n.to = *n.from
			}
		}
		if body.SpendPerDay != nil {
			now.SpendPerDay = *body.SpendPerDay
		}
		w, err := control.Put(now)
		if err != nil {
			return err
		}
		return a.cfg.Store.Commit(c.r.Context(), w)
	})
	if err != nil {
		return err
	}
	a.cfg.Log.InfoContext(c.r.Context(), "limits set", "request", c.requestID, "tenant", now.Tenant)
	return c.json(http.StatusOK, viewLimits(now))
}

// bookList lists price books, those of the program first.
type bookList struct {
	PriceBooks []bookEntry `json:"price_books"`
}

type bookEntry struct {
	ID            string `json:"id"`
	EffectiveFrom string `json:"effective_from"`
	Current       bool   `json:"current"`
	Hash          string `json:"hash"`
}

// listPriceBooks is GET /v1/price-books.
func (a *API) listPriceBooks(c *call) error {
	ctx := c.r.Context()
	all, err := a.cfg.Life.Books.All(ctx)
	if err != nil {
		return err
	}
	now, err := a.cfg.Life.Books.Current(ctx, a.cfg.Now().UnixMilli())
	if err != nil {
		return err
	}
	list := bookList{PriceBooks: []bookEntry{}}
	for _, b := range all {
		list.PriceBooks = append(list.PriceBooks, bookEntry{b.ID, b.EffectiveFrom, b.ID == now.ID, b.Hash()})
	}
	return c.json(http.StatusOK, list)
}

// createPriceBook is POST /v1/price-books: a version of all prices, for rooms that are
// created from its day on. It may be repeated; it can never be changed.
func (a *API) createPriceBook(c *call) error {
	var book price.Book
	if p := readJSON(c.r, &book); p != nil {
		return p
	}
	raw, err := json.Marshal(book)
	if err != nil {
		return fmt.Errorf("encode price book: %w", err)
	}
	if _, err := price.Parse(raw); err != nil {
		var f faults
		f.add("", "is no price book: %v", err)
		return f.problem()
	}
	put, err := a.cfg.Life.Books.Put(c.r.Context(), raw)
	if errors.Is(err, ledger.ErrBookFixed) {
		return problem(codePriceBook, "Send the new prices under a new id.")
	}
	if err != nil {
		return err
	}
	a.cfg.Log.InfoContext(c.r.Context(), "price book stored", "request", c.requestID, "id", put.ID, "hash", put.Hash())
	c.w.Header().Set("Location", "/v1/price-books/"+put.ID)
	return c.json(http.StatusCreated, put)
}

// regionList says where rooms may be.
type regionList struct {
	Regions []regionView `json:"regions"`
}

type regionView struct {
	ID      string `json:"id"`
	Default bool   `json:"default"`
}

// regions is GET /v1/regions. A deployment serves one region.
func (a *API) regions(c *call) error {
	return c.json(http.StatusOK, regionList{Regions: []regionView{{a.cfg.Region, true}}})
}
