package gateway

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/gobwas/ws"

	"mayfly/functions/control"
	"mayfly/infra/local/invoke"
)

// Limits of API Gateway's WebSocket APIs.
const (
	MaxFrame    = 32 << 10  // payload bytes of one frame
	MaxMessage  = 128 << 10 // bytes of one message, in either direction
	IdleTimeout = 10 * time.Minute
	Lifetime    = 2 * time.Hour
	maxURL      = 4096 // characters
)

// Limits that API Gateway does not publish; a client that reads at a normal pace
// meets none of them.
const (
	clientBuffer     = 512 << 10        // bytes waiting for one client before posts get 429
	clientMessages   = 512              // messages waiting for one client before posts get 429
	writeTimeout     = 30 * time.Second // for one client to take what is written
	closeWait        = 2 * time.Second  // for the client's half of the closing handshake
	maxInFlight      = 128              // invocations at once for one connection
	maxInFlightTotal = 1000             // invocations at once, Lambda's default concurrency
)

// ErrBadID says that a post named something that is no connection id (status 400).
var ErrBadID = errors.New("post: malformed connection id")

// Caller is who signed the upgrade request of an API with IAM authorisation.
type Caller struct {
	UserARN   string // requestContext.identity.userArn
	AccessKey string
	Account   string
}

// WebSocketConfig describes one WebSocket API.
type WebSocketConfig struct {
	APIID    string // requestContext.apiId
	Stage    string // requestContext.stage
	Domain   string // requestContext.domainName
	Function invoke.Function
	// Authorize checks the upgrade request; nil lets everyone connect, as
	// authorisation NONE does. An error refuses with 403.
	Authorize func(*http.Request) (Caller, error)
	// Scale makes the idle timeout and the lifetime pass faster: with 60, ten idle
	// minutes pass in ten seconds. 0 means 1.
	Scale float64
	// SplitPosts sends a posted message over 32 KB as several frames. Without it
	// such a post closes the receiving connection with 1009: AWS documents that the
	// frame limit applies to posts too, and does not say that it splits them.
	SplitPosts     bool
	MaxConnections int // 0 means 10,000
	Faults         Faults
	Now            control.Clock
	Log            *slog.Logger
}

// WebSocket is one WebSocket API: an http.Handler for the upgrade requests, and
// the @connections operations as methods.
type WebSocket struct {
	// Set once.
	cfg        WebSocketConfig
	idle, life time.Duration
	ctx        context.Context // ends at Close
	cancel     context.CancelFunc
	slots      chan struct{} // one token per invocation in flight

	wg sync.WaitGroup // connections and invocations

	mu      sync.Mutex
	conns   map[string]*conn // guarded by mu
	pending int              // guarded by mu: upgrades whose $connect has not answered
	count   uint64           // guarded by mu: connections so far
	closed  bool             // guarded by mu
	out     bool             // guarded by mu: an outage
}

// NewWebSocket makes the API. Close ends it.
func NewWebSocket(c WebSocketConfig) *WebSocket {
	if c.Scale <= 0 {
		c.Scale = 1
	}
	if c.MaxConnections <= 0 {
		c.MaxConnections = 10_000
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &WebSocket{
		cfg:    c,
		idle:   time.Duration(float64(IdleTimeout) / c.Scale),
		life:   time.Duration(float64(Lifetime) / c.Scale),
		ctx:    ctx,
		cancel: cancel,
		slots:  make(chan struct{}, maxInFlightTotal),
		conns:  map[string]*conn{},
	}
}

// ServeHTTP takes an upgrade request, and serves the connection until it ends.
func (g *WebSocket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if status, text := checkUpgrade(r); status != 0 {
		refuse(w, status, text)
		return
	}
	number, status := g.admit()
	if status != 0 {
		refuse(w, status, http.StatusText(status))
		return
	}
	defer g.wg.Done()
	c, resp, status := g.connect(r, number)
	if status != 0 {
		g.leavePending()
		refuse(w, status, http.StatusText(status))
		return
	}
	g.register(c)
	nc, rw, _, err := upgrader(r, resp).Upgrade(r, w)
	if err != nil {
		c.fail()
		if nc != nil {
			nc.Close()
		}
		g.disconnect(c)
		return
	}
	c.serve(nc, rw.Reader)
	g.disconnect(c)
}

// admit counts the upgrade in, or says with which status it is refused.
func (g *WebSocket) admit() (number uint64, status int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || g.out {
		return 0, http.StatusServiceUnavailable
	}
	if len(g.conns)+g.pending >= g.cfg.MaxConnections {
		return 0, http.StatusTooManyRequests
	}
	g.count++
	g.pending++
	g.wg.Add(1)
	return g.count, 0
}

func (g *WebSocket) leavePending() {
	g.mu.Lock()
	g.pending--
	g.mu.Unlock()
}

// connect authorises the request and runs the $connect integration.
func (g *WebSocket) connect(r *http.Request, number uint64) (*conn, events.APIGatewayProxyResponse, int) {
	var caller Caller
	if g.cfg.Authorize != nil {
		var err error
		if caller, err = g.cfg.Authorize(r); err != nil {
			g.cfg.Log.Warn("connection refused", "api", g.cfg.APIID, "err", err)
			return nil, events.APIGatewayProxyResponse{}, http.StatusForbidden
		}
	}
	c := newConn(g, r, caller, number)
	resp, err := g.call(r.Context(), c.event(r, eventConnect))
	if err != nil {
		g.cfg.Log.Error("$connect integration", "api", g.cfg.APIID, "conn", c.id, "err", err)
		return nil, resp, http.StatusBadGateway
	}
	if resp.StatusCode < 200 || resp.StatusCode >= 600 {
		return nil, resp, http.StatusBadGateway
	}
	if resp.StatusCode >= 300 {
		return nil, resp, resp.StatusCode
	}
	return c, resp, 0
}

func (g *WebSocket) register(c *conn) {
	g.mu.Lock()
	g.pending--
	g.conns[c.id] = c
	closed, out := g.closed, g.out
	g.mu.Unlock()
	switch {
	case closed:
		c.end(ending{code: ws.StatusGoingAway, reason: "Going away", send: true})
	case out:
		c.end(lost)
	}
}

// drop makes the connection unreachable for posts.
func (g *WebSocket) drop(c *conn) {
	g.mu.Lock()
	delete(g.conns, c.id)
	g.mu.Unlock()
}

// disconnect sends the best-effort $disconnect event.
func (g *WebSocket) disconnect(c *conn) {
	c.in.Wait()
	c.out.Wait()
	if c.loseDisconnect || c.ended().untold {
		return
	}
	if _, err := g.call(g.detached(), c.event(nil, eventDisconnect)); err != nil {
		g.cfg.Log.Error("$disconnect integration", "api", g.cfg.APIID, "conn", c.id, "err", err)
	}
}

// detached is the context of invocations that outlive their connection. Close
// lets them finish.
func (g *WebSocket) detached() context.Context { return context.WithoutCancel(g.ctx) }

func (g *WebSocket) call(ctx context.Context, ev events.APIGatewayWebsocketProxyRequest) (resp events.APIGatewayProxyResponse, err error) {
	payload, err := json.Marshal(ev)
	if err != nil {
		return resp, fmt.Errorf("gateway: event: %w", err)
	}
	answer, err := g.cfg.Function.Call(ctx, payload)
	if err != nil {
		return resp, err
	}
	if err := json.Unmarshal(answer, &resp); err != nil {
		return resp, fmt.Errorf("gateway: malformed proxy response: %w", err)
	}
	return resp, nil
}

var idForm = regexp.MustCompile(`^[A-Za-z0-9_-]{15}=$`)

// newID makes a connection id in API Gateway's form, like "R0oXAdfD0kwCH6w=".
func newID() string {
	var b [11]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return base64.URLEncoding.EncodeToString(b[:])
}

func (g *WebSocket) find(id string) (*conn, error) {
	if !idForm.MatchString(id) {
		return nil, ErrBadID
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.conns[id]
	if c == nil {
		return nil, control.ErrGone
	}
	return c, nil
}

// Send is POST @connections/{id}. It returns when the message waits for the
// client, which says nothing about its arrival.
func (g *WebSocket) Send(ctx context.Context, id string, data []byte) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("post: %w", err)
	}
	c, err := g.find(id)
	if err != nil {
		return err
	}
	if len(data) > MaxMessage {
		return control.ErrTooLarge
	}
	return c.post(data)
}

// Disconnect is DELETE @connections/{id}. Messages that wait are sent first.
func (g *WebSocket) Disconnect(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("post: %w", err)
	}
	c, err := g.find(id)
	if err != nil {
		return err
	}
	c.out.Wait()
	c.end(ending{code: ws.StatusNormalClosure, reason: "Connection Closed Normally", send: true})
	return nil
}

// Connections lists the ids of open connections, in no order.
func (g *WebSocket) Connections() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	ids := make([]string, 0, len(g.conns))
	for id := range g.conns {
		ids = append(ids, id)
	}
	return ids
}

// Cut ends a connection as a network failure does: no close frame, status 1006.
func (g *WebSocket) Cut(id string) error {
	c, err := g.find(id)
	if err != nil {
		return err
	}
	c.end(ending{code: ws.StatusAbnormalClosure})
	return nil
}

// SetOutage takes the API away, or brings it back: all connections end as a network
// failure ends them and nobody is told, new ones are refused with 503.
func (g *WebSocket) SetOutage(out bool) {
	g.mu.Lock()
	g.out = out
	var open []*conn
	if out {
		for _, c := range g.conns {
			open = append(open, c)
		}
	}
	g.mu.Unlock()
	for _, c := range open {
		c.end(lost)
	}
}

// lost is the end of a connection in an outage.
var lost = ending{code: ws.StatusAbnormalClosure, untold: true}

// Close ends all connections with 1001 and waits for them and for every
// invocation. New upgrades are refused with 503.
func (g *WebSocket) Close() {
	g.mu.Lock()
	g.closed = true
	open := make([]*conn, 0, len(g.conns))
	for _, c := range g.conns {
		open = append(open, c)
	}
	g.mu.Unlock()
	for _, c := range open {
		c.end(ending{code: ws.StatusGoingAway, reason: "Going away", send: true})
	}
	g.wg.Wait()
	g.cancel()
}

// checkUpgrade refuses what is no WebSocket handshake (RFC 6455 section 4.2.1)
// before any function is invoked.
func checkUpgrade(r *http.Request) (status int, text string) {
	h := r.Header
	switch {
	case len(r.RequestURI) > maxURL:
		return http.StatusRequestURITooLong, "Request URI too long"
	case r.Method != http.MethodGet || !strings.EqualFold(h.Get("Upgrade"), "websocket"),
		!strings.Contains(strings.ToLower(h.Get("Connection")), "upgrade"):
		return http.StatusUpgradeRequired, "Upgrade Required"
	case h.Get("Sec-WebSocket-Version") != "13", len(h.Get("Sec-WebSocket-Key")) != 24:
		return http.StatusBadRequest, "Bad Request"
	}
	return 0, ""
}

// upgrader answers with the subprotocol that the $connect integration returned,
// if the client asked for it, and with no extensions.
func upgrader(_ *http.Request, resp events.APIGatewayProxyResponse) ws.HTTPUpgrader {
	protocol := ""
	for k, v := range resp.Headers {
		if strings.EqualFold(k, "Sec-WebSocket-Protocol") {
			protocol = v
		}
	}
	u := ws.HTTPUpgrader{Timeout: writeTimeout}
	if protocol != "" {
		u.Protocol = func(p string) bool { return p == protocol }
	}
	return u
}

func refuse(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": text}) // the client may be gone
}
