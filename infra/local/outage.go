package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"mayfly/functions/control"
	"mayfly/functions/store"
	"mayfly/infra/local/identity"
)

// Services that an outage can take, one by one: SetOutage, or POST /local/outage.
const (
	ServiceTable   = "table"   // DynamoDB: every call fails as the SDK's client has it
	ServiceEvents  = "events"  // EventBridge and the table's stream: events wait, the schedule does not fire
	ServiceGateway = "gateway" // API Gateway: no API, every WebSocket is cut, posts fail
)

// services are all of them.
var services = []string{ServiceTable, ServiceEvents, ServiceGateway}

// errNoGateway is what a post meets while the gateway is out.
var errNoGateway = errors.New("post: the gateway cannot be reached")

// outages are the services that are out. The gateways keep their own part.
type outages struct {
	table   *flakyStore // set once
	events  *valve      // set once
	gateway atomic.Bool
}

// SetOutage takes a service away, or brings it back. What waited for it follows.
func (l *Local) SetOutage(service string, out bool) error {
	switch service {
	case ServiceTable:
		return l.outages.table.set(out)
	case ServiceEvents:
		l.outages.events.set(out)
	case ServiceGateway:
		l.outages.gateway.Store(out)
		l.client.SetOutage(out)
		l.task.SetOutage(out)
	default:
		return fmt.Errorf("no service %q: it is one of %v", service, services)
	}
	return nil
}

// outage is POST /local/outage?service=&out=true or false.
func (l *Local) outage(w http.ResponseWriter, r *http.Request) {
	if !l.trouble(w, r) {
		return
	}
	q := r.URL.Query()
	if out := q.Get("out"); !slices.Contains(services, q.Get("service")) || out != "true" && out != "false" {
		http.Error(w, fmt.Sprintf("service is one of %v, out is true or false", services), http.StatusBadRequest)
		return
	}
	if err := l.SetOutage(q.Get("service"), q.Get("out") == "true"); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	l.log.Warn("outage", "service", q.Get("service"), "out", q.Get("out"))
	w.WriteHeader(http.StatusNoContent)
}

// reachable is what the gateway lets through: nothing of its own while it is out. A
// request ends as one does whose host has gone away.
func (l *Local) reachable(r *http.Request) {
	if l.outages.gateway.Load() && r.URL.Path != outagePath {
		panic(http.ErrAbortHandler)
	}
}

// outagePath works whatever is out.
const outagePath = "/local/outage"

// flakyStore is the table as the functions reach it. While it is out, calls go to an
// address where half of the connections are refused and the others are never answered:
// what they return is the SDK's own.
type flakyStore struct {
	table control.Store // set once

	mu   sync.Mutex
	gone *blackHole // guarded by mu: nil while the table is there
}

var _ control.Store = (*flakyStore)(nil)

func (f *flakyStore) set(out bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case out && f.gone == nil:
		hole, err := openBlackHole()
		if err != nil {
			return err
		}
		f.gone = hole
	case !out && f.gone != nil:
		hole := f.gone
		f.gone = nil // before the calls under way look for it
		hole.close()
	}
	return nil
}

// do makes a call. One that is under way when the table comes back finds it then, as the
// SDK's next attempt would.
func (f *flakyStore) do(ctx context.Context, call func(context.Context, control.Store) error) error {
	for {
		f.mu.Lock()
		hole := f.gone
		f.mu.Unlock()
		if hole == nil {
			return call(ctx, f.table)
		}
		while, cancel := context.WithCancel(ctx)
		stop := context.AfterFunc(hole.ctx, cancel)
		err := call(while, hole.store)
		stop()
		cancel()
		if hole.ctx.Err() == nil || ctx.Err() != nil {
			return err
		}
	}
}

// Get implements control.Store.
func (f *flakyStore) Get(ctx context.Context, k store.Key) (it store.Item, err error) {
	err = f.do(ctx, func(ctx context.Context, s control.Store) error {
		it, err = s.Get(ctx, k)
		return err
	})
	return it, err
}

// Query implements control.Store.
func (f *flakyStore) Query(ctx context.Context, pk, prefix string, q store.QueryOptions) (p store.Page, err error) {
	err = f.do(ctx, func(ctx context.Context, s control.Store) error {
		p, err = s.Query(ctx, pk, prefix, q)
		return err
	})
	return p, err
}

// Index implements control.Store.
func (f *flakyStore) Index(ctx context.Context, indexPK, upTo string, q store.QueryOptions) (p store.Page, err error) {
	err = f.do(ctx, func(ctx context.Context, s control.Store) error {
		p, err = s.Index(ctx, indexPK, upTo, q)
		return err
	})
	return p, err
}

// Commit implements control.Store.
func (f *flakyStore) Commit(ctx context.Context, writes ...store.Write) error {
	return f.do(ctx, func(ctx context.Context, s control.Store) error { return s.Commit(ctx, writes...) })
}

// blackHole is a DynamoDB that is not there.
type blackHole struct {
	store    *store.Dynamo   // set once
	listener net.Listener    // set once
	ctx      context.Context // ends when the table is back
	cancel   context.CancelFunc
	done     chan struct{} // closed when swallow has ended
	conns    []net.Conn    // owned by swallow, then by close: those that are never answered
	wg       sync.WaitGroup
}

func openBlackHole() (*blackHole, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("outage of the table: %w", err)
	}
	endpoint := "http://" + l.Addr().String()
	h := &blackHole{listener: l, done: make(chan struct{}), store: store.Connect(aws.Config{
		Region: Region, BaseEndpoint: &endpoint,
		Credentials: credentials.NewStaticCredentialsProvider("local", identity.Account, ""),
	}, "local")}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	go h.swallow()
	return h, nil
}

// swallow takes connections until close.
func (h *blackHole) swallow() {
	defer close(h.done)
	for n := 0; ; n++ {
		c, err := h.listener.Accept()
		if err != nil {
			return
		}
		if n%2 == 0 {
			_ = c.Close() // its client will see
			continue
		}
		h.conns = append(h.conns, c)
		h.wg.Go(func() { _, _ = io.Copy(io.Discard, c) })
	}
}

func (h *blackHole) close() {
	h.cancel()
	_ = h.listener.Close() // nothing can be done about it
	<-h.done
	for _, c := range h.conns {
		_ = c.Close() // its client may have closed it
	}
	h.wg.Wait()
}

// valve lets things through in their order, or keeps them until it is opened again.
type valve struct {
	mu   sync.Mutex
	shut bool     // guarded by mu
	kept []func() // guarded by mu
}

// pass calls f, now or when the valve is opened. f must not block, nor call the valve.
func (v *valve) pass(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.shut {
		v.kept = append(v.kept, f)
		return
	}
	f()
}

// open says whether things go through.
func (v *valve) open() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return !v.shut
}

func (v *valve) set(shut bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shut = shut
	if shut {
		return
	}
	for _, f := range v.kept {
		f()
	}
	v.kept = nil
}
