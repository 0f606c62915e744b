package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"mayfly/functions/control"
	"mayfly/functions/control/hooks"
	"mayfly/functions/control/life"
	"mayfly/functions/store"
	"mayfly/shared/ticket"
	"mayfly/web"
)

// Config is set once, before New. All fields are needed but AllowedOrigins.
type Config struct {
	Store control.Store
	Life  *life.Life
	Hooks *hooks.Hooks
	Now   control.Clock
	Log   *slog.Logger

	Keys           *Keys
	Key            *ticket.Key // signs join tickets
	CursorKey      []byte      // seals list cursors; at least 16 bytes
	Region         string      // where this deployment starts its rooms
	PublicURL      string      // of this API, without a slash at the end
	SignallingURL  string      // wss:// URL that browsers dial
	AllowedOrigins []string    // that may call from a browser, as "https://host[:port]"
}

// API answers HTTP requests. Its methods may be called from any goroutine.
type API struct {
	cfg       Config // set once
	cursors   sealer // set once
	csp       string // of the call page; set once
	publisher publisher
	handler   http.Handler // set once
}

// New makes the API.
func New(cfg Config) (*API, error) {
	switch {
	case cfg.Store == nil || cfg.Life == nil || cfg.Hooks == nil || cfg.Now == nil || cfg.Log == nil:
		return nil, errors.New("api: Store, Life, Hooks, Now and Log are needed")
	case cfg.Keys == nil || cfg.Key == nil:
		return nil, errors.New("api: Keys and Key are needed")
	case len(cfg.CursorKey) < 16:
		return nil, errors.New("api: CursorKey needs at least 16 bytes")
	case cfg.Region == "" || cfg.PublicURL == "" || cfg.SignallingURL == "":
		return nil, errors.New("api: Region, PublicURL and SignallingURL are needed")
	}
	cfg.PublicURL = strings.TrimSuffix(cfg.PublicURL, "/")
	a := &API{cfg: cfg, cursors: sealer{cfg.CursorKey}, csp: web.CSP(cfg.SignallingURL)}
	a.handler = a.routes()
	return a, nil
}

// endpoint is one method of one path.
type endpoint struct {
	method, path string
	open         bool // answers without an API key
	serve        func(c *call) error
}

func (a *API) endpoints() []endpoint {
	return append(a.webhookEndpoints(), []endpoint{
		{"POST", "/v1/rooms", false, a.createRoom},
		{"GET", "/v1/rooms", false, a.listRooms},
		{"GET", "/v1/rooms/{id}", false, a.getRoom},
		{"DELETE", "/v1/rooms/{id}", false, a.deleteRoom},
		{"POST", "/v1/rooms/{id}/tickets", false, a.createTickets},
		{"GET", "/v1/rooms/{id}/participants", false, a.listParticipants},
		{"GET", "/v1/rooms/{id}/usage", false, a.getUsage},
		{"GET", "/v1/usage", false, a.listUsage},
		{"POST", "/v1/estimates", false, a.estimate},
		{"GET", "/v1/price-books/{id}", false, a.getPriceBook},
		{"GET", "/healthz", true, a.health},
		{"GET", "/.well-known/jwks.json", true, a.jwks},
		{"GET", "/call/", true, a.page},
	}...)
}

// routes makes the mux. Every path also takes the methods it does not serve, to
// refuse them with a problem.
func (a *API) routes() http.Handler {
	mux := http.NewServeMux()
	methods := make(map[string][]string)
	for _, e := range a.endpoints() {
		mux.HandleFunc(e.method+" "+e.path, func(w http.ResponseWriter, r *http.Request) { a.serve(w, r, e) })
		methods[e.path] = append(methods[e.path], e.method)
	}
	for at, allowed := range methods {
		slices.Sort(allowed)
		allow := strings.Join(allowed, ", ")
		mux.HandleFunc(at, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", allow)
			writeProblem(w, problem(codeMethod, "Use "+allow+"."), requestID(r.Context()))
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, problem(codeNotFound, "No such path."), requestID(r.Context()))
	})
	return mux
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := requestID(r.Context())
	if id == "" {
		id = "req_" + ulid.MustNew(ulid.Timestamp(a.cfg.Now()), rand.Reader).String()
		r = r.WithContext(WithRequestID(r.Context(), id))
	}
	h := w.Header()
	h.Set("X-Request-Id", id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	if a.cors(w, r) {
		return
	}
	// The mux would redirect to a cleaned path; nothing here has another spelling.
	if clean := path.Clean(r.URL.Path); clean != r.URL.Path && clean+"/" != r.URL.Path {
		writeProblem(w, problem(codeNotFound, "No such path."), id)
		return
	}
	a.handler.ServeHTTP(w, r)
}

// cors answers a preflight (then it returns true) and marks answers that a page of
// an allowed origin may read. No origin is ever allowed to send cookies: there are none.
func (a *API) cors(w http.ResponseWriter, r *http.Request) bool {
	h := w.Header()
	h.Add("Vary", "Origin")
	preflight := r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
	if origin := r.Header.Get("Origin"); origin != "" && slices.Contains(a.cfg.AllowedOrigins, origin) {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", "Location, Link, Retry-After, X-Request-Id")
		if preflight {
			h.Set("Access-Control-Allow-Methods", "GET, POST, PATCH, DELETE")
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key")
			h.Set("Access-Control-Max-Age", "600") // seconds
		}
	}
	if preflight {
		w.WriteHeader(http.StatusNoContent)
	}
	return preflight
}

// call is one request on its way through an endpoint. It is owned by the request's
// goroutine.
type call struct {
	w         http.ResponseWriter
	r         *http.Request
	tenant    string // "" on open endpoints
	requestID string
}

// serve checks the API key, runs the endpoint and answers for its error.
func (a *API) serve(w http.ResponseWriter, r *http.Request, e endpoint) {
	began := a.cfg.Now()
	c := &call{w: w, r: r, requestID: requestID(r.Context())}
	err := a.authenticate(c, e)
	if err == nil {
		err = e.serve(c)
	}
	if err == nil {
		return
	}
	p := asProblem(err)
	writeProblem(w, p, c.requestID)
	log := a.cfg.Log.With("request", c.requestID, "method", e.method, "path", e.path, "tenant", c.tenant,
		"code", p.Code, "ms", a.cfg.Now().Sub(began).Milliseconds())
	if p.Status >= http.StatusInternalServerError {
		log.ErrorContext(r.Context(), "request failed", "err", err)
	} else {
		log.InfoContext(r.Context(), "request refused")
	}
}

func (a *API) authenticate(c *call, e endpoint) error {
	if e.open {
		return nil
	}
	var ok bool
	scheme, key, _ := strings.Cut(c.r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		key = ""
	}
	if c.tenant, ok = a.cfg.Keys.Tenant(key); !ok {
		return problem(codeUnauthorized, "Send a valid API key as a Bearer token.")
	}
	return nil
}

// asProblem translates what may go wrong underneath. Texts of inner errors stay
// inside: they go to the log.
func asProblem(err error) *Problem {
	var p *Problem
	switch {
	case errors.As(err, &p):
		return p
	case hookProblem(err) != nil:
		return hookProblem(err)
	case errors.Is(err, life.ErrNotFound):
		return problem(codeNotFound, "No such room.")
	case errors.Is(err, life.ErrIdemReused):
		return problem(codeIdempotencyUsed, "Use a new key for a new request.")
	case errors.Is(err, life.ErrQuota):
		return problem(codeQuota, "Too many rooms of this tenant are in use.")
	case errors.Is(err, life.ErrRate):
		return problem(codeRate, "Rooms are created too fast.")
	case errors.Is(err, life.ErrSpend):
		return problem(codeSpend, "The tenant's rooms have spent today's limit.")
	case errors.Is(err, store.ErrThrottled), control.LostRace(err):
		return problem(codeUnavailable, "Repeat the request.")
	default:
		return problem(codeInternal, "")
	}
}

// json answers with a JSON body.
func (c *call) json(status int, body any) error {
	h := c.w.Header()
	h.Set("Content-Type", "application/json")
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store") // tickets and usage belong in no cache
	}
	c.w.WriteHeader(status)
	enc := json.NewEncoder(c.w)
	enc.SetEscapeHTML(false) // a call_url is to be copied from a terminal as it is
	_ = enc.Encode(body)     // a client that is gone is nobody's error
	return nil
}

type requestIDKey struct{}

// WithRequestID names the request as the gateway does, for answers and logs.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// now is the time in whole milliseconds, as it is stored.
func (a *API) now() time.Time { return a.cfg.Now().Truncate(time.Millisecond) }
