package api

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"

	"mayfly/functions/control"
	"mayfly/functions/control/hooks"
	"mayfly/functions/control/outbox"
	"mayfly/functions/store"
)

// Webhook endpoints, their keys and what was sent to them. What they are sent is
// outbox's and hooks' business.

// hookForm and eventForm are how ids look. Anything else names nothing, and never
// becomes part of a storage key.
var (
	hookForm  = regexp.MustCompile(`^we_[a-z2-7]{26}$`)
	eventForm = regexp.MustCompile(`^evt_(room_[0-9A-HJKMNP-TV-Z]{26}|we_[a-z2-7]{26})_[1-9][0-9]{0,11}$`)
)

// maxRedeliver is how many deliveries one request makes.
const maxRedeliver = 100

func (a *API) webhookEndpoints() []endpoint {
	return []endpoint{
		{"POST", "/v1/webhook-endpoints", ScopeWebhooks, a.createHook},
		{"GET", "/v1/webhook-endpoints", ScopeWebhooks, a.listHooks},
		{"GET", "/v1/webhook-endpoints/{id}", ScopeWebhooks, a.getHook},
		{"PATCH", "/v1/webhook-endpoints/{id}", ScopeWebhooks, a.updateHook},
		{"DELETE", "/v1/webhook-endpoints/{id}", ScopeWebhooks, a.deleteHook},
		{"GET", "/v1/webhook-endpoints/{id}/deliveries", ScopeWebhooks, a.listDeliveries},
		{"POST", "/v1/webhook-endpoints/{id}/redeliver", ScopeWebhooks, a.redeliver},
		{"POST", "/v1/webhook-endpoints/{id}/rotate-secret", ScopeWebhooks, a.rotateHook},
		{"POST", "/v1/webhook-endpoints/{id}/test", ScopeWebhooks, a.testHook},
		{"GET", "/v1/events", ScopesEvents, a.listEvents},
	}
}

// hookRequest is the body of POST /v1/webhook-endpoints.
type hookRequest struct {
	URL         string   `json:"url"`
	Events      []string `json:"events,omitempty"` // default ["*"]
	Description string   `json:"description,omitempty"`
	Signing     string   `json:"signing,omitempty"` // hmac (the default) or ed25519
	Enabled     *bool    `json:"enabled,omitempty"` // default true
}

// hookPatch is the body of PATCH /v1/webhook-endpoints/{id}. What is left out stays.
type hookPatch struct {
	URL         *string  `json:"url,omitempty"`
	Events      []string `json:"events,omitempty"`
	Description *string  `json:"description,omitempty"`
	Enabled     *bool    `json:"enabled,omitempty"`
}

// rotateRequest is the body of POST …/rotate-secret.
type rotateRequest struct {
	Signing string `json:"signing,omitempty"` // to change it
}

// redeliverRequest is the body of POST …/redeliver: one of the two.
type redeliverRequest struct {
	EventIDs []string `json:"event_ids,omitempty"`
	Dead     bool     `json:"dead,omitempty"` // all that were given up, 100 at a time
}

// hookView is an endpoint as its owner sees it. Secret is there once, when it is made.
type hookView struct {
	ID              string   `json:"id"`
	URL             string   `json:"url"`
	Events          []string `json:"events"`
	Description     string   `json:"description,omitempty"`
	Enabled         bool     `json:"enabled"`
	DisabledReason  string   `json:"disabled_reason,omitempty"` // disabled, gone or failing
	DisabledAt      string   `json:"disabled_at,omitempty"`
	Signing         string   `json:"signing"`
	PublicKey       string   `json:"public_key,omitempty"` // of ed25519: whpk_…
	Secret          string   `json:"secret,omitempty"`     // of hmac: whsec_…
	PreviousKeyEnds string   `json:"previous_key_ends,omitempty"`
	CreatedAt       string   `json:"created_at"`
}

type hookList struct {
	Endpoints []hookView `json:"webhook_endpoints"`
}

// attemptView is one attempt of a delivery.
type attemptView struct {
	At     string `json:"at"`
	TookMS int64  `json:"took_ms"`
	Status int    `json:"status,omitempty"`
	Error  string `json:"error,omitempty"`
}

// deliveryView is what became of one event at one endpoint.
type deliveryView struct {
	EventID   string        `json:"event_id"`
	Type      string        `json:"type"`
	Room      string        `json:"room,omitempty"`
	Seq       uint64        `json:"seq"`
	Position  uint64        `json:"position"`
	Run       int           `json:"run"`   // 0, and one more for each redelivery
	State     string        `json:"state"` // pending, delivered or dead
	Why       string        `json:"why,omitempty"`
	CreatedAt string        `json:"created_at"`
	DoneAt    string        `json:"done_at,omitempty"`
	NextAt    string        `json:"next_attempt_at,omitempty"`
	Attempts  []attemptView `json:"attempts"`
}

type deliveryList struct {
	Deliveries []deliveryView `json:"deliveries"`
	NextCursor string         `json:"next_cursor,omitempty"`
}

type redeliverView struct {
	EventIDs []string `json:"event_ids"`
}

type testView struct {
	EventID string `json:"event_id"`
}

// hookView shows an endpoint; withSecret only to whom its key is new.
func (a *API) hookView(h *control.Hook, withSecret bool) (hookView, error) {
	now, last := a.now().UnixMilli(), h.Keys[len(h.Keys)-1]
	v := hookView{
		ID: h.ID, URL: h.URL, Events: h.Events, Description: h.Description, Enabled: h.Disabled == "",
		DisabledReason: h.Disabled, DisabledAt: stamp(h.DisabledMS), Signing: last.Kind, CreatedAt: stamp(h.CreatedMS),
	}
	for _, k := range h.Keys {
		if k.UntilMS > now {
			v.PreviousKeyEnds = stamp(k.UntilMS)
		}
	}
	if last.Kind != hooks.Ed25519 && !withSecret {
		return v, nil
	}
	secret, err := a.cfg.Hooks.Keys.Secret(h.ID, last)
	if err != nil {
		return v, err
	}
	if last.Kind == hooks.Ed25519 {
		v.PublicKey = secret
	} else {
		v.Secret = secret
	}
	return v, nil
}

func (a *API) answerHook(c *call, status int, h *control.Hook, withSecret bool) error {
	v, err := a.hookView(h, withSecret)
	if err != nil {
		return err
	}
	return c.json(status, v)
}

func (a *API) checkURL(f *faults, at, url string) {
	if err := a.cfg.Hooks.Sender.Check(url); err != nil {
		f.add(at, "%v", err)
	}
}

func checkFilter(f *faults, filter []string) {
	if len(filter) == 0 || len(filter) > len(outbox.Types) {
		f.add("/events", "must hold from 1 to %d", len(outbox.Types))
		return
	}
	for i, e := range filter {
		if !outbox.KnownFilter(e) || slices.Contains(filter[:i], e) {
			f.add(fmt.Sprintf("/events/%d", i), "must be \"*\", a type of event or a family like \"room.*\", each once")
		}
	}
}

func checkSigning(f *faults, kind string) {
	if kind != "" && kind != hooks.HMAC && kind != hooks.Ed25519 {
		f.add("/signing", "must be hmac or ed25519")
	}
}

// createHook is POST /v1/webhook-endpoints. The secret is in this answer only, and in
// those to repeats with the same Idempotency-Key.
func (a *API) createHook(c *call) error {
	body := hookRequest{}
	if p := readJSON(c.r, &body); p != nil {
		return p
	}
	var f faults
	key := idempotencyKey(c.r, "webhook-endpoints", &f)
	spec := hooks.Spec{
		URL: body.URL, Events: body.Events, Description: body.Description, Kind: body.Signing,
		Enabled: body.Enabled == nil || *body.Enabled,
	}
	if spec.Events == nil {
		spec.Events = []string{"*"}
	}
	a.checkURL(&f, "/url", spec.URL)
	checkFilter(&f, spec.Events)
	checkText(&f, "/description", spec.Description, 0, maxTagValue)
	checkSigning(&f, spec.Kind)
	if spec.Kind == "" {
		spec.Kind = hooks.HMAC
	}
	if p := f.problem(); p != nil {
		return p
	}
	hash, err := bodyHash("webhook-endpoints", body)
	if err != nil {
		return err
	}
	h, replayed, err := a.cfg.Hooks.Create(c.r.Context(), c.tenant, key, hash, spec)
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", "/v1/webhook-endpoints/"+h.ID)
	if replayed {
		c.w.Header().Set("Idempotent-Replayed", "true")
	}
	return a.answerHook(c, http.StatusCreated, h, true)
}

// hook loads the endpoint that the path names, if it is the caller's.
func (a *API) hook(c *call) (*control.Hook, error) {
	id := c.r.PathValue("id")
	if !hookForm.MatchString(id) {
		return nil, hooks.ErrNotFound
	}
	return a.cfg.Hooks.Get(c.r.Context(), c.tenant, id)
}

// listHooks is GET /v1/webhook-endpoints. There are few, so there are no pages.
func (a *API) listHooks(c *call) error {
	all, err := outbox.Hooks(c.r.Context(), a.cfg.Store, c.tenant)
	if err != nil {
		return err
	}
	slices.SortStableFunc(all, func(x, y *control.Hook) int { return int(x.CreatedMS - y.CreatedMS) })
	list := hookList{Endpoints: []hookView{}}
	for _, h := range all {
		v, err := a.hookView(h, false)
		if err != nil {
			return err
		}
		list.Endpoints = append(list.Endpoints, v)
	}
	return c.json(http.StatusOK, list)
}

// getHook is GET /v1/webhook-endpoints/{id}.
func (a *API) getHook(c *call) error {
	h, err := a.hook(c)
	if err != nil {
		return err
	}
	return a.answerHook(c, http.StatusOK, h, false)
}

// updateHook is PATCH /v1/webhook-endpoints/{id}.
func (a *API) updateHook(c *call) error {
	var body hookPatch
	if p := readJSON(c.r, &body); p != nil {
		return p
	}
	var f faults
	if body.URL != nil {
		a.checkURL(&f, "/url", *body.URL)
	}
	if body.Events != nil {
		checkFilter(&f, body.Events)
	}
	if body.Description != nil {
		checkText(&f, "/description", *body.Description, 0, maxTagValue)
	}
	if p := f.problem(); p != nil {
		return p
	}
	h, err := a.hook(c)
	if err != nil {
		return err
	}
	h, err = a.cfg.Hooks.Update(c.r.Context(), c.tenant, h.ID,
		hooks.Patch{URL: body.URL, Events: body.Events, Description: body.Description, Enabled: body.Enabled})
	if err != nil {
		return err
	}
	return a.answerHook(c, http.StatusOK, h, false)
}

// deleteHook is DELETE /v1/webhook-endpoints/{id}.
func (a *API) deleteHook(c *call) error {
	h, err := a.hook(c)
	if err != nil {
		return err
	}
	if err := a.cfg.Hooks.Delete(c.r.Context(), c.tenant, h.ID); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// rotateHook is POST …/rotate-secret. The answer has the new key; the old one signs
// beside it for 24 h.
func (a *API) rotateHook(c *call) error {
	var body rotateRequest
	if p := readOptionalJSON(c.r, &body); p != nil {
		return p
	}
	var f faults
	checkSigning(&f, body.Signing)
	if p := f.problem(); p != nil {
		return p
	}
	h, err := a.hook(c)
	if err != nil {
		return err
	}
	if h, err = a.cfg.Hooks.Rotate(c.r.Context(), c.tenant, h.ID, body.Signing); err != nil {
		return err
	}
	return a.answerHook(c, http.StatusOK, h, true)
}

// testHook is POST …/test.
func (a *API) testHook(c *call) error {
	h, err := a.hook(c)
	if err != nil {
		return err
	}
	event, err := a.cfg.Hooks.Test(c.r.Context(), c.tenant, h.ID)
	if err != nil {
		return err
	}
	return c.json(http.StatusAccepted, testView{EventID: event})
}

// redeliver is POST …/redeliver. It answers with the events that are sent again; others
// are unknown, or not kept any more.
func (a *API) redeliver(c *call) error {
	var body redeliverRequest
	if p := readJSON(c.r, &body); p != nil {
		return p
	}
	var f faults
	if body.Dead == (len(body.EventIDs) > 0) || len(body.EventIDs) > maxRedeliver {
		f.add("/event_ids", "must hold from 1 to %d, or dead must be true", maxRedeliver)
	}
	for i, id := range body.EventIDs {
		if !eventForm.MatchString(id) {
			f.add(fmt.Sprintf("/event_ids/%d", i), "must be the id of an event")
		}
	}
	if p := f.problem(); p != nil {
		return p
	}
	h, err := a.hook(c)
	if err != nil {
		return err
	}
	done, err := a.cfg.Hooks.Redeliver(c.r.Context(), h, body.EventIDs, body.Dead, maxRedeliver)
	if err != nil {
		return err
	}
	if done == nil {
		done = []string{}
	}
	return c.json(http.StatusAccepted, redeliverView{EventIDs: done})
}

// listDeliveries is GET …/deliveries, newest first. With a state a page may be short,
// even empty, and still have a next_cursor.
func (a *API) listDeliveries(c *call) error {
	h, err := a.hook(c)
	if err != nil {
		return err
	}
	q, values, err := a.listQuery(c, "deliveries\x00"+h.ID, "state")
	if err != nil {
		return err
	}
	state := values.Get("state")
	if state != "" && state != control.DeliveryPending && state != control.DeliveryDelivered && state != control.DeliveryDead {
		return problem(codeInvalidRequest, "The fields listed in errors are not as they must be.",
			FieldError{"query:state", "must be pending, delivered or dead"})
	}
	list := deliveryList{Deliveries: []deliveryView{}}
	for range scanPages {
		page, err := a.cfg.Store.Query(c.r.Context(), control.HookPK(h.ID), control.DeliveryPrefix,
			store.QueryOptions{Cursor: q.cursor, Limit: q.limit - len(list.Deliveries), Descending: true})
		if err != nil {
			return fmt.Errorf("list deliveries: %w", err)
		}
		for _, it := range page.Items {
			d, err := control.Decode[control.Delivery](it)
			if err != nil {
				return err
			}
			if state == "" || d.State == state {
				list.Deliveries = append(list.Deliveries, showDelivery(d))
			}
		}
		if q.cursor = page.Next; q.cursor == "" || len(list.Deliveries) == q.limit {
			break
		}
	}
	list.NextCursor = a.cursors.seal(q.scope, q.cursor)
	a.linkNext(c, values, list.NextCursor)
	return c.json(http.StatusOK, list)
}

func showDelivery(d *control.Delivery) deliveryView {
	v := deliveryView{
		EventID: d.Event, Type: d.Type, Room: d.Room, Seq: d.Seq, Position: d.Position, Run: d.Run, State: d.State, Why: d.Why,
		CreatedAt: stamp(d.CreatedMS), DoneAt: stamp(d.DoneMS), Attempts: []attemptView{},
	}
	if d.State == control.DeliveryPending {
		v.NextAt = stamp(d.DueMS)
	}
	for _, t := range d.Attempts {
		v.Attempts = append(v.Attempts, attemptView{At: stamp(t.AtMS), TookMS: t.TookMS, Status: t.Status, Error: t.Error})
	}
	return v
}

// hookProblem translates the errors of webhooks and of the log; nil for others.
func hookProblem(err error) *Problem {
	switch {
	case errors.Is(err, hooks.ErrNotFound):
		return problem(codeNotFound, "No such webhook endpoint.")
	case errors.Is(err, hooks.ErrTooMany):
		return problem(codeTooManyHooks, fmt.Sprintf("At most %d webhook endpoints.", hooks.MaxEndpoints))
	case errors.Is(err, hooks.ErrReused):
		return problem(codeIdempotencyUsed, "Use a new key for a new request.")
	case errors.Is(err, outbox.ErrExpired):
		return problem(codeEventsExpired, "Events after this one are not kept any more.")
	}
	return nil
}
