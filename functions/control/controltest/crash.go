package controltest

import (
	"context"
	"errors"
	"sync"

	"mayfly/functions/control"
	"mayfly/functions/store"
)

// ErrCrashed is the error of every call of a process that crashed.
var ErrCrashed = errors.New("controltest: process crashed")

// Process is a Lambda invocation's view of the world, which crashes at the Nth
// effect (a commit, a start, a stop, a post), just before it happens or just after.
// From then on every call fails, reads too, until Revive: the next invocation.
type Process struct {
	store control.Store
	fleet control.Fleet
	post  control.Post

	mu    sync.Mutex
	count int  // effects so far; guarded by mu
	at    int  // crash at this effect, 0 for never; guarded by mu
	after bool // the effect happens before the crash; guarded by mu
	dead  bool // guarded by mu
}

// NewProcess makes a process that does not crash.
func NewProcess(s control.Store, f control.Fleet, p control.Post) *Process {
	return &Process{store: s, fleet: f, post: p}
}

// CrashAt plans the crash at the nth effect from now.
func (p *Process) CrashAt(n int, after bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at, p.after, p.dead = p.count+n, after, false
}

// Revive is the next invocation. It says whether the one before crashed.
func (p *Process) Revive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.dead
	p.dead = false
	return was
}

// Effects is how many effects there were.
func (p *Process) Effects() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// effect runs one effect, or crashes.
func (p *Process) effect(do func() error) error {
	p.mu.Lock()
	if p.dead {
		p.mu.Unlock()
		return ErrCrashed
	}
	p.count++
	crash := p.count == p.at
	after := p.after
	p.dead = crash
	p.mu.Unlock()
	if crash && !after {
		return ErrCrashed
	}
	err := do()
	if crash {
		return ErrCrashed
	}
	return err
}

func (p *Process) alive() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return ErrCrashed
	}
	return nil
}

// Store is the store as this process sees it.
func (p *Process) Store() control.Store { return processStore{p} }

// Fleet is the fleet as this process sees it.
func (p *Process) Fleet() control.Fleet { return processFleet{p} }

// Post is the gateway as this process sees it.
func (p *Process) Post() control.Post { return processPost{p} }

type processStore struct{ p *Process }

func (s processStore) Get(ctx context.Context, k store.Key) (store.Item, error) {
	if err := s.p.alive(); err != nil {
		return store.Item{}, err
	}
	return s.p.store.Get(ctx, k)
}

func (s processStore) Query(ctx context.Context, pk, prefix string, q store.QueryOptions) (store.Page, error) {
	if err := s.p.alive(); err != nil {
		return store.Page{}, err
	}
	return s.p.store.Query(ctx, pk, prefix, q)
}

func (s processStore) Index(ctx context.Context, pk, upTo string, q store.QueryOptions) (store.Page, error) {
	if err := s.p.alive(); err != nil {
		return store.Page{}, err
	}
	return s.p.store.Index(ctx, pk, upTo, q)
}

func (s processStore) Commit(ctx context.Context, writes ...store.Write) error {
	return s.p.effect(func() error { return s.p.store.Commit(ctx, writes...) })
}

type processFleet struct{ p *Process }

func (f processFleet) Start(ctx context.Context, r control.StartRequest) (t control.Task, err error) {
	err = f.p.effect(func() error { t, err = f.p.fleet.Start(ctx, r); return err })
	if err != nil {
		return control.Task{}, err
	}
	return t, nil
}

func (f processFleet) Stop(ctx context.Context, arn, reason string) error {
	return f.p.effect(func() error { return f.p.fleet.Stop(ctx, arn, reason) })
}

func (f processFleet) Describe(ctx context.Context, arn string) (control.Task, error) {
	if err := f.p.alive(); err != nil {
		return control.Task{}, err
	}
	return f.p.fleet.Describe(ctx, arn)
}

func (f processFleet) Find(ctx context.Context, startedBy string) ([]control.Task, error) {
	if err := f.p.alive(); err != nil {
		return nil, err
	}
	return f.p.fleet.Find(ctx, startedBy)
}

type processPost struct{ p *Process }

func (o processPost) Send(ctx context.Context, c control.Conn, data []byte) error {
	return o.p.effect(func() error { return o.p.post.Send(ctx, c, data) })
}

func (o processPost) Close(ctx context.Context, c control.Conn) error {
	return o.p.effect(func() error { return o.p.post.Close(ctx, c) })
}
