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
	"mayfly/functions/control/figures"
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
	Meter figures.Meter // nil: nobody counts

	Keys           *Keys       // those of the settings; more are stored
	Callers        *Callers    // AWS identities that are tenants; may be nil
	Key            *ticket.Key // signs join tickets
	CursorKey      []byte      // seals list cursors; at least 16 bytes
	Region         string      // where this deployment starts its rooms
	PublicURL      string      // of this API, without a slash at the end
	SignallingURL  string      // wss:// URL that browsers dial
	AllowedOrigins []string    // that may call from a browser, as "https://host[:port]"
	// TicketsPerSecond and TicketBurst bound the tickets that a tenant may ask for
	// besides those of its new rooms, unless its own limits say otherwise. 0 is without limit.
	TicketsPerSecond, TicketBurst int
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
	scope        string // that the caller needs, or several with spaces between; open answers everybody
	serve        func(c *call) error
}

func (a *API) endpoints() []endpoint {
	return append(a.webhookEndpoints(), []endpoint{
		{"POST", "/v1/rooms", ScopeRoomsWrite, a.createRoom},
		{"GET", "/v1/rooms", ScopeRoomsRead, a.listRooms},
		{"GET", "/v1/rooms/{id}", ScopeRoomsRead, a.getRoom},
		{"PATCH", "/v1/rooms/{id}", ScopeRoomsWrite, a.patchRoom},
		{"DELETE", "/v1/rooms/{id}", ScopeRoomsWrite, a.deleteRoom},
		{"POST", "/v1/rooms/{id}/tickets", ScopeRoomsWrite, a.createTickets},
		{"GET", "/v1/rooms/{id}/participants", ScopeRoomsRead, a.listParticipants},
		{"GET", "/v1/rooms/{id}/participants/{pid}", ScopeRoomsRead, a.getParticipant},
		{"PATCH", "/v1/rooms/{id}/participants/{pid}", ScopeRoomsWrite, a.patchParticipant},
		{"DELETE", "/v1/rooms/{id}/participants/{pid}", ScopeRoomsWrite, a.ejectParticipant},
		{"GET", "/v1/rooms/{id}/bans", ScopeRoomsRead, a.listBans},
		{"POST", "/v1/rooms/{id}/bans", ScopeRoomsWrite, a.createBan},
		{"DELETE", "/v1/rooms/{id}/bans", ScopeRoomsWrite, a.deleteBan},
		{"GET", "/v1/rooms/{id}/usage", ScopeUsageRead, a.getUsage},
		{"GET", "/v1/usage", ScopeUsageRead, a.listUsage},
		{"POST", "/v1/estimates", ScopeUsageRead, a.estimate},
		{"GET", "/v1/price-books", ScopeUsageRead, a.listPriceBooks},
		{"GET", "/v1/price-books/{id}", ScopeUsageRead, a.getPriceBook},
		{"POST", "/v1/price-books", ScopeAdmin, a.createPriceBook},
		{"GET", "/v1/regions", ScopeRoomsRead, a.regions},
		{"GET", "/v1/keys", ScopeKeys, a.listKeys},
		{"POST", "/v1/keys", ScopeKeys, a.createKey},
		{"DELETE", "/v1/keys/{key}", ScopeKeys, a.revokeKey},
		{"GET", "/v1/tenants/{tenant}/keys", ScopeAdmin, a.listKeys},
		{"POST", "/v1/tenants/{tenant}/keys", ScopeAdmin, a.createKey},
		{"DELETE", "/v1/tenants/{tenant}/keys/{key}", ScopeAdmin, a.revokeKey},
		{"GET", "/v1/tenants/{tenant}/limits", ScopeAdmin, a.getLimits},
		{"PUT", "/v1/tenants/{tenant}/limits", ScopeAdmin, a.putLimits},
		{"GET", "/healthz", open, a.health},
		{"GET", "/openapi.json", open, a.openAPI},
		{"GET", "/.well-known/jwks.json", open, a.jwks},
		{"GET", "/call/{$}", open, a.page},
		{"GET", "/call/{file}", open, a.page},
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
		h.Set("Access-Control-Expose-Headers", "Location, Link, Retry-After, RateLimit, RateLimit-Policy, X-Request-Id")
		if preflight {
			h.Set("Access-Control-Allow-Methods", "GET, POST, PATCH, PUT, DELETE")
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
	key       string // id of the API key; "" for one of the settings, or without one
	requestID string
}

// serve checks who asks, runs the endpoint and answers for its error.
func (a *API) serve(w http.ResponseWriter, r *http.Request, e endpoint) {
	began := a.cfg.Now()
	c := &call{w: w, r: r, requestID: requestID(r.Context())}
	err := a.authenticate(c, e)
	if err == nil {
		err = checkQuery(r.URL.Query(), e)
	}
	if err == nil {
		err = e.serve(c)
	}
	if err == nil {
		return
	}
	p := asProblem(err)
	quotaHeaders(w.Header(), err)
	writeProblem(w, p, c.requestID)
	log := a.cfg.Log.With("request", c.requestID, "method", e.method, "path", e.path, "tenant", c.tenant,
		"code", p.Code, "ms", a.cfg.Now().Sub(began).Milliseconds())
	if p.Status >= http.StatusInternalServerError {
		log.ErrorContext(r.Context(), "request failed", "err", err)
	} else {
		log.InfoContext(r.Context(), "request refused")
	}
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
	case errors.Is(err, life.ErrNoParticipant):
		return errNoParticipant()
	case errors.Is(err, life.ErrOver):
		return problem(codeRoomOver, "The room is draining or over.")
	case errors.Is(err, life.ErrNameTaken):
		return problem(codeExternalID, "A room of this external_id is open.")
	case errors.Is(err, life.ErrNotFound):
		return problem(codeNotFound, "No such room.")
	case errors.Is(err, life.ErrIdemReused):
		return problem(codeIdempotencyUsed, "Use a new key for a new request.")
	case errors.Is(err, life.ErrQuota):
		return problem(codeQuota, "Too many rooms of this tenant are in use.")
	case errors.Is(err, life.ErrRate):
		return rateProblem("Rooms are created too fast.", err)
	case errors.Is(err, life.ErrSpend):
		return problem(codeSpend, "The tenant's rooms have spent today's limit.")
	case errors.Is(err, store.ErrThrottled), errors.Is(err, store.ErrUnavailable), control.LostRace(err):
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
