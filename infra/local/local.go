// Package local runs the whole system on one machine, without AWS: the real handlers
// of functions/entry behind a stand-in for API Gateway, the embedded store, and room
// tasks as child processes.
//
//	gateway   HTTP API and WebSocket APIs, payload and refusals as API Gateway's
//	invoke    Lambda's three ways to invoke a function
//	ecs       RunTask, StopTask, DescribeTasks, ListTasks, task state change events
//	identity  task credentials, task metadata, the check of SigV4 signatures
//	boltstore the table, in one file
//	fault     seeded loss, duplication and reordering
//
// Served are POST and DELETE @connections in process, the table's stream to deliver,
// ECS events and the schedule to lifecycle and deliver. Not served: any
// other AWS API. The room task and the handlers cannot tell that they are local.
//
// cmd/mayfly and tests call it; product code never does. Read Start; serve.go has the
// HTTP paths, events.go what goes to the functions and to the reader of the terminal.
package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/entry"
	"mayfly/functions/outbound"
	"mayfly/infra/local/boltstore"
	"mayfly/infra/local/ecs"
	"mayfly/infra/local/fault"
	"mayfly/infra/local/gateway"
	"mayfly/infra/local/identity"
	"mayfly/infra/local/invoke"
	"mayfly/shared/signal"
)

// Names of what is one of a kind here.
const (
	Region      = "local"
	cluster     = "mayfly"
	clientAPIID = "clientapi"
	taskAPIID   = "taskapi"
	httpAPIID   = "httpapi"
	awsAPIID    = "awsapi"
	productRole = "product" // the role of a caller inside AWS
	stage       = "local"
	tenant      = "dev"
)

// Config configures a stand-in. Only RoomTask must be set.
type Config struct {
	// Addr is the address of the HTTP API, the call page and both WebSocket APIs.
	// Default 127.0.0.1:8080; port 0 takes any free one.
	Addr string
	// PublicURL is how browsers reach it, without a slash at the end. Default
	// http://<Addr>, with 127.0.0.1 for an unspecified address.
	PublicURL string
	// Origins are the pages of others that may call the API and open WebSockets, as
	// "http://localhost:3000", by commas.
	Origins string
	// DataDir keeps rooms, keys and the tasks' journal over a restart. "" keeps them
	// in a temporary directory that Close removes.
	DataDir string
	// RoomTask is the path of the room task binary, RoomTaskArgs its arguments.
	RoomTask     string
	RoomTaskArgs []string
	// TaskEnv is added to the environment of every task, which has nothing of this
	// process's own ("NAME=value").
	TaskEnv []string
	// MediaIP is the address on which tasks take media, or two of them, of both families,
	// by a comma. Default: the address of Addr,
	// or the machine's own on its network if that is loopback or unspecified.
	MediaIP string
	// RelayTLS is the name under which clients reach all tasks' relays by TLS, with its
	// certificate. Default: none.
	RelayTLS *signal.RelayTLS
	// RelaySpread is how long a task's name takes to be known, as a DNS record does. Default
	// 0: it leads to the task from the start.
	RelaySpread time.Duration
	// Cold is the time from RunTask to a running task; Fargate takes about 25 s.
	// Default 0: as fast as a process starts.
	Cold time.Duration
	// StopTimeout is the time from SIGTERM to SIGKILL. Default 30 s, Fargate's own.
	StopTimeout time.Duration
	// SweepEvery is the schedule of the sweep, one pass each. Default 2 s. On AWS it is
	// a minute, and an invocation sweeps every 12 s until the next.
	SweepEvery time.Duration
	// MissingFor makes DescribeTasks and ListTasks not know younger tasks.
	MissingFor time.Duration
	// TimeScale makes the WebSocket APIs' idle timeout and lifetime pass faster. Default 1.
	TimeScale float64
	// SplitPosts lets the gateway split posted messages over 32 KB; see gateway.WebSocketConfig.
	SplitPosts bool
	// ClientFaults, TaskFaults and EventFault make the two WebSocket APIs and the task
	// events lose, double and reorder. Seed decides which.
	ClientFaults, TaskFaults gateway.Faults
	EventFault               fault.Fault
	Seed                     uint64
	// NoSync skips the store's fsync, as is done in any case for temporary data. For tests.
	NoSync bool
	// Pool is how many tasks stand by without a room, by size, as "m=2"; none by default.
	Pool string
	// MaxRooms is the most rooms at once. Default 50, as a tenant has on AWS.
	MaxRooms int

	// Log gets what the functions and the stand-in log. Default: nothing.
	Log *slog.Logger
	// Event gets a line for each thing that happens to a room, for people. It is
	// called from several goroutines. Optional.
	Event func(line string)
	// TaskOutput gets each line that a task prints. It is called from several
	// goroutines. Optional.
	TaskOutput func(t control.Task, line string)
}

// Local is a running stand-in.
type Local struct {
	// Set once, by Start.
	cfg      Config
	url      string // http://host:port, what this machine dials
	public   string
	wsURL    string // what browsers dial
	keys     keys
	tempDir  string // "" if DataDir was given
	log      *slog.Logger
	store    *boltstore.Store
	fleet    *ecs.Fleet
	issuer   *identity.Issuer
	http     *gateway.HTTP
	aws      *gateway.HTTP // for signed requests
	product  identity.Credentials
	client   *gateway.WebSocket
	task     *gateway.WebSocket
	life     *invoke.Async // the lifecycle function
	deliver  *invoke.Async // the deliver function, on schedule
	streams  *streams
	outages  outages
	narrator *narrator
	meter    *meter
	servers  []*http.Server
	ctx      context.Context // of background invocations; ends in Close
	cancel   context.CancelFunc
	wg       sync.WaitGroup // servers
	quit     chan struct{}  // closed when Close begins: the schedule ends
	ticking  sync.WaitGroup // the schedule

	closing sync.Once
	closed  error // set by the one Close that runs
}

// URL is the HTTP API and the call page, as this machine reaches it.
func (l *Local) URL() string { return l.url }

// WSURL is the client WebSocket API.
func (l *Local) WSURL() string { return l.wsURL }

// APIKey is the key of the only tenant.
func (l *Local) APIKey() string { return l.keys.APIKey }

// OperatorKey is the key that manages tenants' keys and limits, and price books.
func (l *Local) OperatorKey() string { return l.keys.OperatorKey }

// Product are credentials of a role that is the tenant on the API for signed requests,
// which has the same URL here.
func (l *Local) Product() identity.Credentials { return l.product }

// Fleet runs the tasks: for tests that kill, inject and wait.
func (l *Local) Fleet() *ecs.Fleet { return l.fleet }

// ClientAPI is the client WebSocket API: for tests that cut connections.
func (l *Local) ClientAPI() *gateway.WebSocket { return l.client }

// TaskAPI is the task WebSocket API: for tests that cut links.
func (l *Local) TaskAPI() *gateway.WebSocket { return l.task }

// Store is the table, for tests that look inside.
func (l *Local) Store() control.Store { return l.store }

// Sweep runs the scheduled functions now, as the schedule will again.
func (l *Local) Sweep() { l.tick() }

// Start starts everything and returns when it takes requests. ctx bounds the start
// only; Close ends what runs.
func Start(ctx context.Context, cfg Config) (*Local, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	l := &Local{cfg: cfg, log: cfg.Log, narrator: newNarrator(cfg.Event), meter: newMeter(), quit: make(chan struct{})}
	l.outages.events = &valve{}
	l.ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := l.start(); err != nil {
		return nil, errors.Join(err, l.Close(ctx))
	}
	return l, nil
}

func (c *Config) fill() error {
	if c.RoomTask == "" {
		return errors.New("no room task binary: set RoomTask")
	}
	if _, err := os.Stat(c.RoomTask); err != nil {
		return fmt.Errorf("room task binary: %w", err)
	}
	if c.Addr == "" {
		c.Addr = "127.0.0.1:8080"
	}
	if c.SweepEvery <= 0 {
		c.SweepEvery = 2 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

func (l *Local) start() error {
	dir, err := l.dataDir()
	if err != nil {
		return err
	}
	if l.keys, err = loadKeys(filepath.Join(dir, "keys.json")); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", l.cfg.Addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", l.cfg.Addr, err)
	}
	metadata, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		listener.Close()
		return fmt.Errorf("listen for task metadata: %w", err)
	}
	if err := l.build(dir, listener.Addr().(*net.TCPAddr), metadata.Addr().String()); err != nil {
		listener.Close()
		metadata.Close()
		return err
	}
	l.serve(listener, http.HandlerFunc(l.route))
	l.serve(metadata, l.issuer.Handler())
	l.fleet.Recover()
	l.tick() // what an earlier process left half done
	l.ticking.Go(l.schedule)
	return nil
}

// dataDir makes the directory of everything that is kept.
func (l *Local) dataDir() (string, error) {
	if l.cfg.DataDir != "" {
		if err := os.MkdirAll(l.cfg.DataDir, 0o700); err != nil {
			return "", fmt.Errorf("data directory: %w", err)
		}
		return l.cfg.DataDir, nil
	}
	dir, err := os.MkdirTemp("", "mayfly-local-")
	if err != nil {
		return "", fmt.Errorf("data directory: %w", err)
	}
	l.tempDir = dir
	return dir, nil
}

// build makes the parts, from the store up.
func (l *Local) build(dir string, addr *net.TCPAddr, metadata string) error {
	media, err := l.addresses(addr)
	if err != nil {
		return err
	}
	config, err := entry.ConfigFromEnv(l.env)
	if err != nil {
		return err
	}
	for _, f := range []entry.Function{entry.RoomsFunction, entry.SocketFunction, entry.LifecycleFunction, entry.DeliverFunction} {
		if err := config.Validate(f); err != nil {
			return err
		}
	}
	l.store, err = boltstore.OpenWith(filepath.Join(dir, "table.db"), boltstore.Options{Observe: l.observe, NoSync: l.cfg.NoSync || l.tempDir != ""})
	if err != nil {
		return err
	}
	l.outages.table = &flakyStore{table: l.store}
	l.issuer = identity.NewIssuer(Region, time.Now)
	l.fleet, err = ecs.New(ecs.Config{
		Region: Region, Cluster: cluster, Binary: l.cfg.RoomTask, Args: l.cfg.RoomTaskArgs, Dir: dir,
		Env:      func(id string) []string { return l.taskEnv(id, metadata, addr, media) },
		Identity: l.issuer, StartDelay: l.cfg.Cold, StopTimeout: l.cfg.StopTimeout, MissingFor: l.cfg.MissingFor,
		Emit: l.emit, EventFault: l.cfg.EventFault, Seed: l.cfg.Seed, Output: l.cfg.TaskOutput,
		Journal: filepath.Join(dir, "tasks.json"), Now: time.Now, Log: l.log,
	})
	if err != nil {
		return err
	}
	return l.functions(config)
}

// functions puts the real handlers behind the gateway, the events and the stream.
func (l *Local) functions(config entry.Config) error {
	deps := func(f entry.Function) entry.Deps {
		return entry.Deps{
			Store: l.outages.table, Naming: l.naming(), Fleet: l.fleet, Post: posts{l}, Now: time.Now,
			Log: l.log.With("function", string(f)), Meter: l.meter, Config: config, Sender: outbound.New(outbound.Config{Loopback: true}),
		}
	}
	rooms, err := entry.Rooms(deps(entry.RoomsFunction))
	if err != nil {
		return err
	}
	socket := invoke.Function{Name: string(entry.SocketFunction), Handler: entry.Socket(deps(entry.SocketFunction))}
	delivery, err := entry.Deliver(deps(entry.DeliverFunction))
	if err != nil {
		return err
	}
	deliver := invoke.Function{Name: string(entry.DeliverFunction), Handler: delivery, Timeout: time.Minute}
	lifecycle := invoke.Function{Name: string(entry.LifecycleFunction), Handler: entry.Lifecycle(deps(entry.LifecycleFunction))}

	// The function answers all paths itself, preflights and unknown ones too.
	l.http, err = gateway.NewHTTP(gateway.HTTPConfig{
		APIID: httpAPIID, Domain: hostOf(l.public), Routes: []string{"$default"},
		Function: invoke.Function{Name: string(entry.RoomsFunction), Handler: rooms},
		Rate:     10_000, Burst: 5_000, // API Gateway's account limits
		Now: time.Now, Log: l.log,
	})
	if err != nil {
		return err
	}
	l.product = l.issuer.Assume(productRole, "local")
	l.aws, err = gateway.NewHTTP(gateway.HTTPConfig{
		APIID: awsAPIID, Domain: hostOf(l.public), Routes: []string{"ANY /v1/{proxy+}"}, Authorize: l.issuer.AuthorizeHTTP,
		Function: invoke.Function{Name: string(entry.RoomsFunction), Handler: rooms},
		Rate:     10_000, Burst: 5_000, Now: time.Now, Log: l.log,
	})
	if err != nil {
		return err
	}
	ws := gateway.WebSocketConfig{
		Stage: stage, Function: socket, Scale: l.cfg.TimeScale, SplitPosts: l.cfg.SplitPosts, Now: time.Now, Log: l.log,
	}
	client, task := ws, ws
	client.APIID, client.Domain, client.Faults = clientAPIID, hostOf(l.public), l.cfg.ClientFaults
	task.APIID, task.Domain, task.Faults, task.Authorize = taskAPIID, hostOf(l.public), l.cfg.TaskFaults, l.issuer.Authorize
	l.client, l.task = gateway.NewWebSocket(client), gateway.NewWebSocket(task)

	const repeat = 250 * time.Millisecond // Lambda waits minutes
	l.life = &invoke.Async{Function: lifecycle, Wait: repeat, Log: l.log}
	l.deliver = &invoke.Async{Function: deliver, Wait: repeat, Log: l.log}
	l.streams = newStreams(l.ctx, deliver, l.log)
	return nil
}

// posts is the control.Post of the handlers, which are made before the gateways.
type posts struct{ l *Local }

func (p posts) Send(ctx context.Context, c control.Conn, data []byte) error {
	if p.l.outages.gateway.Load() {
		return errNoGateway
	}
	return gateway.Posts{Client: p.l.client, Task: p.l.task}.Send(ctx, c, data)
}

func (p posts) Close(ctx context.Context, c control.Conn) error {
	if p.l.outages.gateway.Load() {
		return errNoGateway
	}
	return gateway.Posts{Client: p.l.client, Task: p.l.task}.Close(ctx, c)
}

// ownAddress is this machine's address on its network, or fallback without one.
// Firefox pairs no loopback candidate, and browsers reach their own machine by the
// other address as well. It sends nothing: connecting a UDP socket only asks the
// routing table.
func ownAddress(fallback netip.Addr) netip.Addr {
	c, err := net.Dial("udp4", "192.0.2.1:9") // TEST-NET-1, RFC 5737
	if err != nil {
		return fallback
	}
	defer c.Close()
	if a, ok := c.LocalAddr().(*net.UDPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return fallback
}

// addresses decides the URLs and where tasks take media.
func (l *Local) addresses(addr *net.TCPAddr) (media netip.Addr, err error) {
	ip, _ := netip.AddrFromSlice(addr.IP)
	ip = ip.Unmap()
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	reach := ip
	if !ip.IsValid() || ip.IsUnspecified() {
		reach = loopback
	}
	media = reach
	if media.IsLoopback() && l.cfg.MediaIP == "" {
		media = ownAddress(media)
	}
	if l.cfg.MediaIP != "" {
		one, _, _ := strings.Cut(l.cfg.MediaIP, ",")
		if media, err = netip.ParseAddr(one); err != nil {
			return media, fmt.Errorf("media address: %w", err)
		}
	}
	hostport := netip.AddrPortFrom(reach, uint16(addr.Port)).String()
	l.url = "http://" + hostport
	l.public = l.cfg.PublicURL
	if l.public == "" {
		l.public = l.url
	}
	l.wsURL = "ws" + l.public[len("http"):] + "/ws"
	return media, nil
}

// Close stops taking requests, ends all tasks as ECS would (SIGTERM, then SIGKILL
// after the stop timeout, or at once when ctx ends), hears their last words, and
// returns when nothing runs any more.
func (l *Local) Close(ctx context.Context) error {
	l.closing.Do(func() { l.closed = l.close(ctx) })
	return l.closed
}

func (l *Local) close(ctx context.Context) error {
	var errs []error
	close(l.quit)
	l.ticking.Wait()
	if l.client != nil {
		for _, service := range services { // the tasks' last words are to be heard
			errs = append(errs, l.SetOutage(service, false))
		}
	}
	if l.fleet != nil {
		// The gateway still serves: tasks report their last figures over it.
		errs = append(errs, l.fleet.Close(ctx))
	}
	if l.client != nil {
		var wg sync.WaitGroup
		wg.Go(l.client.Close)
		wg.Go(l.task.Close)
		wg.Wait()
	}
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	for _, s := range l.servers {
		if err := s.Shutdown(patience); err != nil {
			_ = s.Close() // drops what would not end
		}
	}
	if l.streams != nil {
		l.waitFunctions(patience)
		l.streams.close(patience)
	}
	l.cancel()
	l.wg.Wait()
	if l.store != nil {
		errs = append(errs, l.store.Close())
	}
	if l.tempDir != "" {
		errs = append(errs, os.RemoveAll(l.tempDir))
	}
	return errors.Join(errs...)
}

// waitFunctions lets events in flight be handled, repeats included, within ctx.
func (l *Local) waitFunctions(ctx context.Context) {
	stop := context.AfterFunc(ctx, l.cancel)
	defer stop()
	l.life.WaitIdle()
	l.deliver.WaitIdle()
}
