package hooks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/control/figures"
	"mayfly/functions/control/outbox"
	"mayfly/functions/store"
)

const (
	// atOnce is how many requests one invocation has under way, and atOnceEach how many
	// of them to one endpoint.
	atOnce, atOnceEach = 32, 4
	// patience is how many failures in a row an endpoint has in one pass. What else is
	// due to it is put off: a receiver that hangs must not hold up everybody's.
	patience = 2
	// putOff is how long, from half of it on.
	putOff = time.Minute
	// sweepPage bounds what one pass takes of an index partition.
	sweepPage = 1000
	// spare is the time that must be left for a request to be begun.
	spare = Timeout + 2*time.Second
)

// Send sends the deliveries with these keys that are due. Keys of other items are
// passed over. Its error is the store's: what an endpoint answers is no error.
func (h *Hooks) Send(ctx context.Context, keys []store.Key) error {
	var due []*control.Delivery
	var errs []error
	for _, k := range keys {
		if !strings.HasPrefix(k.PK, control.HookPK("")) || !strings.HasPrefix(k.SK, control.DeliveryPrefix) {
			continue
		}
		d, err := control.Load[control.Delivery](ctx, h.Store, k)
		switch {
		case errors.Is(err, store.ErrNotFound): // its endpoint was deleted
		case err != nil:
			errs = append(errs, fmt.Errorf("load %s %s: %w", k.PK, k.SK, err))
		default:
			due = append(due, d)
		}
	}
	return errors.Join(append(errs, h.pass(ctx, due))...)
}

// Sweep sends every delivery that is due, and says when the next one will be; false
// for none.
func (h *Hooks) Sweep(ctx context.Context) (nextMS int64, more bool, err error) {
	var due []*control.Delivery
	var errs []error
	nowMS := h.Now().UnixMilli()
	for shard := range control.DeliveryShards {
		found, err := h.due(ctx, shard)
		errs = append(errs, err)
		for _, d := range found {
			if d.DueMS <= nowMS {
				due = append(due, d)
			}
		}
	}
	errs = append(errs, h.pass(ctx, due))
	for shard := range control.DeliveryShards {
		page, err := h.Store.Index(ctx, control.DeliverPK(shard), "", store.QueryOptions{Limit: 1})
		if err != nil {
			errs = append(errs, fmt.Errorf("deliveries %d: %w", shard, err))
			continue
		}
		for _, it := range page.Items {
			d, err := control.Decode[control.Delivery](it)
			if err == nil && (!more || d.DueMS < nextMS) {
				nextMS, more = d.DueMS, true
			}
		}
	}
	return nextMS, more, errors.Join(errs...)
}

// due lists the deliveries of an index partition that are due.
func (h *Hooks) due(ctx context.Context, shard int) ([]*control.Delivery, error) {
	upTo := control.IndexTime(h.Now().UnixMilli()) + "~"
	var due []*control.Delivery
	q := store.QueryOptions{}
	for len(due) < sweepPage {
		page, err := h.Store.Index(ctx, control.DeliverPK(shard), upTo, q)
		if err != nil {
			return due, fmt.Errorf("deliveries %d: %w", shard, err)
		}
		for _, it := range page.Items {
			d, err := control.Decode[control.Delivery](it)
			if err != nil {
				return due, err
			}
			due = append(due, d)
		}
		if page.Next == "" {
			break
		}
		q.Cursor = page.Next
	}
	return due, nil
}

// target is one endpoint in one pass.
type target struct {
	lanes chan struct{} // set once

	mu    sync.Mutex
	hook  *control.Hook // as last loaded, and never changed in place; nil if it is deleted; guarded by mu
	fails int           // in a row; guarded by mu
}

// state is the endpoint, and whether it has failed often enough.
func (t *target) state() (hook *control.Hook, tired bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.hook, t.fails >= patience
}

// count takes an outcome, and the endpoint as it is after it.
func (t *target) count(ok bool, hook *control.Hook) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fails++; ok {
		t.fails = 0
	}
	if t.hook == nil || hook.Ver > t.hook.Ver {
		t.hook = hook
	}
}

// pass sends deliveries: those of one room to one endpoint in their order, others at
// the same time. It returns when all that it began have ended.
func (h *Hooks) pass(ctx context.Context, due []*control.Delivery) error {
	slices.SortStableFunc(due, func(a, b *control.Delivery) int {
		return cmp.Or(cmp.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.Room, b.Room), cmp.Compare(a.Position, b.Position), cmp.Compare(a.Run, b.Run))
	})
	var mu sync.Mutex
	var errs []error // guarded by mu
	type run struct {
		to   *target
		line []*control.Delivery
	}
	var runs []run
	targets := map[string]*target{}
	slots := make(chan struct{}, atOnce)
	for len(due) > 0 {
		n := 1
		for n < len(due) && due[n].Endpoint == due[0].Endpoint && due[n].Room == due[0].Room {
			n++
		}
		line := due[:n]
		due = due[n:]
		to := targets[line[0].Endpoint]
		if to == nil {
			hook, err := control.Load[control.Hook](ctx, h.Store, control.HookKey(line[0].Tenant, line[0].Endpoint))
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				errs = append(errs, err)
				continue
			}
			if err != nil {
				hook = nil
			}
			to = &target{hook: hook, lanes: make(chan struct{}, atOnceEach)}
			targets[line[0].Endpoint] = to
		}
		runs = append(runs, run{to, line})
	}
	h.Beside.Run(len(runs), len(runs), func(i int) {
		to := runs[i].to
		to.lanes <- struct{}{}
		slots <- struct{}{}
		defer func() { <-slots; <-to.lanes }()
		if err := h.line(ctx, to, runs[i].line); err != nil {
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		}
	})
	return errors.Join(errs...)
}

// line sends what one endpoint is owed of one room, in order. After a first failure
// the rest waits for its repeat, which is seconds away; later ones hold nothing up.
func (h *Hooks) line(ctx context.Context, to *target, line []*control.Delivery) error {
	for i, d := range line {
		if limit, ok := ctx.Deadline(); ok && time.Until(limit) < spare {
			return nil // the sweep goes on
		}
		hook, tired := to.state()
		if hook == nil {
			if err := h.forget(ctx, d); err != nil {
				return err
			}
			continue
		}
		if tired {
			nowMS := h.Now().UnixMilli()
			return h.postpone(ctx, line[i:], nowMS+int64(float64(putOff.Milliseconds())*(0.5+h.random()/2)))
		}
		ok, hook, err := h.attempt(ctx, hook, d)
		if err != nil {
			return err
		}
		to.count(ok, hook)
		if !ok && d.State == control.DeliveryPending && len(d.Attempts) == 1 {
			return h.postpone(ctx, line[i+1:], d.DueMS)
		}
	}
	return nil
}

// forget drops what was owed to an endpoint that is deleted.
func (h *Hooks) forget(ctx context.Context, d *control.Delivery) error {
	err := h.Store.Commit(ctx, control.Remove(d))
	if control.LostRace(err) {
		return nil // somebody else has it
	}
	return err
}

// postpone moves deliveries to a later time, without an attempt.
func (h *Hooks) postpone(ctx context.Context, list []*control.Delivery, toMS int64) error {
	for _, d := range list {
		if d.State != control.DeliveryPending || d.DueMS >= toMS {
			continue
		}
		d.DueMS = toMS
		w, err := control.Put(d)
		if err == nil {
			err = h.Store.Commit(ctx, w)
		}
		if err != nil && !control.LostRace(err) {
			return err
		}
	}
	return nil
}

// attempt sends one delivery, if it is due and nobody else is sending it. It says
// whether that went well (what was not to be sent did), and how the endpoint is then.
func (h *Hooks) attempt(ctx context.Context, hook *control.Hook, d *control.Delivery) (bool, *control.Hook, error) {
	nowMS := h.Now().UnixMilli()
	if d.State != control.DeliveryPending || d.DueMS > nowMS {
		return true, hook, nil
	}
	late := d.DueMS > d.CreatedMS || len(d.Attempts) > 0
	m, why, err := h.message(ctx, hook, d, nowMS)
	if err != nil {
		return false, hook, err
	}
	if why != "" {
		return true, hook, h.settle(ctx, d, control.Attempt{}, verdict{state: control.DeliveryDead, why: why})
	}
	if ours, err := h.claim(ctx, d, nowMS); err != nil || !ours {
		return true, hook, err
	}
	answer, perr := h.post(ctx, hook.URL, m.header, m.body)
	endMS := h.Now().UnixMilli()
	a := control.Attempt{AtMS: nowMS, TookMS: endMS - nowMS, Status: answer.Status}
	if perr != nil {
		a.Error = brief(perr)
	}
	v := judge(len(d.Attempts)+1, answer, perr, endMS, h.random())
	h.Log.InfoContext(ctx, "webhook", "endpoint", hook.ID, "tenant", hook.Tenant, "event", d.Event, "type", d.Type,
		"attempt", len(d.Attempts)+1, "status", a.Status, "error", a.Error, "took_ms", a.TookMS, "state", v.state)
	if hook, err = h.conclude(ctx, hook, d, a, v); err == nil {
		h.count(ctx, d, v, figures.Since(m.happenedMS, endMS), late)
	}
	return v.state == control.DeliveryDelivered, hook, err
}

// count tells how an attempt ended that has taken lag seconds since the event; late says that
// an earlier one failed, or that the delivery was put off. A redelivery is late by its nature.
func (h *Hooks) count(ctx context.Context, d *control.Delivery, v verdict, lag float64, late bool) {
	attempt := figures.AttemptFirst
	if late {
		attempt = figures.AttemptLater
	}
	switch {
	case v.state != control.DeliveryDelivered:
		figures.Record(ctx, h.Meter, figures.WebhookFailures.Is(1).About(d.Room))
	case d.Run == 0:
		figures.Record(ctx, h.Meter, figures.WebhookLag.Is(lag, attempt).About(d.Room))
	}
}

// conclude stores what follows from an attempt. An endpoint is disabled before the
// delivery that was its last is given up: after a crash in between, the delivery is tried
// again and found hopeless. The other way round nobody would know any more.
func (h *Hooks) conclude(ctx context.Context, hook *control.Hook, d *control.Delivery, a control.Attempt, v verdict) (*control.Hook, error) {
	var err error
	if v.disable != "" {
		if hook, err = h.note(ctx, hook, d, v, a.AtMS); err != nil {
			return hook, err
		}
	}
	if err := h.settle(ctx, d, a, v); err != nil || v.disable != "" {
		return hook, err
	}
	return h.note(ctx, hook, d, v, a.AtMS)
}

// message is what is sent, and when it happened.
type message struct {
	header     http.Header
	body       []byte
	happenedMS int64
}

// message makes what is sent, or says why the delivery is given up untried.
func (h *Hooks) message(ctx context.Context, hook *control.Hook, d *control.Delivery, nowMS int64) (m message, why string, err error) {
	if why := hopeless(hook, d, nowMS); why != "" {
		return m, why, nil
	}
	l, err := control.Load[control.Logged](ctx, h.Store, control.LoggedKey(d.Tenant, d.Position))
	if errors.Is(err, store.ErrNotFound) {
		return m, "expired", nil
	}
	if err != nil {
		return m, "", err
	}
	m.happenedMS = l.AtMS
	if m.body, err = outbox.Envelope(l); err != nil {
		h.Log.ErrorContext(ctx, "an event cannot be sent", "event", d.Event, "err", err)
		return m, "not sendable", nil
	}
	m.header, err = h.Keys.sign(hook, d.Event, nowMS, m.body)
	return m, "", err
}

// claim takes a delivery until the end of a lease; false if somebody else has.
func (h *Hooks) claim(ctx context.Context, d *control.Delivery, nowMS int64) (bool, error) {
	d.DueMS = nowMS + lease.Milliseconds()
	w, err := control.Put(d)
	if err == nil {
		err = h.Store.Commit(ctx, w)
	}
	if control.LostRace(err) {
		return false, nil
	}
	d.Ver++
	return err == nil, err
}

// post is Post, within Timeout.
func (h *Hooks) post(ctx context.Context, url string, header http.Header, body []byte) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	return h.Sender.Post(ctx, url, header, body)
}

// hopeless says why a delivery is given up before it is tried.
func hopeless(hook *control.Hook, d *control.Delivery, nowMS int64) string {
	switch {
	case hook.Disabled != "" && d.Type != outbox.EndpointTest:
		return "endpoint " + hook.Disabled
	case nowMS-d.CreatedMS > maxAge.Milliseconds():
		return "too old"
	}
	return ""
}

// settle stores how an attempt ended. If somebody else has taken the delivery over
// meanwhile, because this attempt outlived its lease, a success still counts.
func (h *Hooks) settle(ctx context.Context, d *control.Delivery, a control.Attempt, v verdict) error {
	first := true
	return h.Retry.Do(ctx, func() error {
		if !first {
			now, err := control.Load[control.Delivery](ctx, h.Store, d.Place().Key)
			if errors.Is(err, store.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			theirs := now.Ver != d.Ver
			*d = *now
			if d.State != control.DeliveryPending || theirs && v.state != control.DeliveryDelivered {
				return nil
			}
		}
		first = false
		next := *d
		if a.AtMS != 0 {
			next.Attempts = append(slices.Clone(d.Attempts), a)
		}
		next.State, next.Why, next.DueMS = v.state, v.why, v.dueMS
		if v.state != control.DeliveryPending {
			next.DoneMS = h.Now().UnixMilli()
		}
		w, err := control.Put(&next)
		if err == nil {
			err = h.Store.Commit(ctx, w)
		}
		if err == nil {
			next.Ver++
			*d = next
		}
		return err
	})
}

// note keeps what the endpoint itself is to remember: that it works, or that it is
// sent nothing any more. It returns the endpoint as it is then.
func (h *Hooks) note(ctx context.Context, hook *control.Hook, d *control.Delivery, v verdict, nowMS int64) (*control.Hook, error) {
	next, err := *hook, error(nil)
	switch {
	case v.state == control.DeliveryDelivered && nowMS-hook.OKMS >= okEvery.Milliseconds():
		err = h.change(ctx, &next, func(now *control.Hook) ([]store.Write, error) {
			now.OKMS = max(now.OKMS, nowMS)
			return nil, nil
		})
	case v.disable == control.HookGone, v.disable == control.HookFailing && failing(hook, d):
		err = h.disable(ctx, &next, v.disable, d)
	}
	if errors.Is(err, ErrNotFound) { // deleted meanwhile
		return hook, nil
	}
	return &next, err
}

// random is jitter's number.
func (h *Hooks) random() float64 {
	if h.Random != nil {
		return h.Random()
	}
	return rand.Float64()
}

// brief is an error as an endpoint's owner may read it.
func brief(err error) string {
	text := err.Error()
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "")
	}
	return text
}
