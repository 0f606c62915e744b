package gateway

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"mayfly/functions/control"
	"mayfly/infra/local/invoke"
)

// maxHTTPBody is the largest request of an HTTP API in front of a function: what
// fits a synchronous invocation, with room for base64 and the rest of the event.
const maxHTTPBody = 4 << 20

// HTTPConfig describes one HTTP API with one function behind all its routes.
type HTTPConfig struct {
	APIID    string
	Domain   string
	Function invoke.Function
	// Routes are route keys in the HTTP API's own form: "POST /v1/rooms",
	// "GET /v1/rooms/{id}", "ANY /files/{name+}" and "$default".
	Routes []string
	// Authorize checks the signature of a request with its body, as authorisation
	// AWS_IAM does; nil lets everyone in. An error refuses with 403.
	Authorize func(r *http.Request, body []byte) (Caller, error)
	// Rate and Burst throttle all routes together: requests per second, and at once.
	// A Rate of 0 does not throttle.
	Rate  float64
	Burst int
	Now   control.Clock
	Log   *slog.Logger
}

// HTTP is an HTTP API with payload format 2.0.
type HTTP struct {
	cfg    HTTPConfig // set once
	routes []route    // set once

	mu     sync.Mutex
	tokens float64   // guarded by mu: of the throttle
	filled time.Time // guarded by mu: when tokens was right
}

// NewHTTP makes the API, or says which route key is malformed.
func NewHTTP(c HTTPConfig) (*HTTP, error) {
	h := &HTTP{cfg: c, tokens: float64(c.Burst), filled: c.Now()}
	for _, key := range c.Routes {
		r, err := parseRoute(key)
		if err != nil {
			return nil, err
		}
		h.routes = append(h.routes, r)
	}
	return h, nil
}

// ServeHTTP invokes the function for one request.
func (h *HTTP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !h.allow() {
		refuse(w, http.StatusTooManyRequests, "Too Many Requests")
		return
	}
	key, params, ok := h.match(r.Method, r.URL.EscapedPath())
	if !ok {
		refuse(w, http.StatusNotFound, "Not Found")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxHTTPBody))
	if err != nil {
		var tooLong *http.MaxBytesError
		if errors.As(err, &tooLong) {
			refuse(w, http.StatusRequestEntityTooLarge, "Request Entity Too Large")
		} else {
			refuse(w, http.StatusBadRequest, "Bad Request")
		}
		return
	}
	ev := h.event(r, key, params, body)
	if h.cfg.Authorize != nil {
		caller, err := h.cfg.Authorize(r, body)
		if err != nil {
			h.cfg.Log.Warn("request refused", "api", h.cfg.APIID, "err", err)
			refuse(w, http.StatusForbidden, "Forbidden")
			return
		}
		ev.RequestContext.Authorizer = &events.APIGatewayV2HTTPRequestContextAuthorizerDescription{
			IAM: &events.APIGatewayV2HTTPRequestContextAuthorizerIAMDescription{
				AccessKey: caller.AccessKey, AccountID: caller.Account, CallerID: caller.AccessKey, UserARN: caller.UserARN, UserID: caller.AccessKey,
			},
		}
	}
	payload, err := json.Marshal(ev)
	if err != nil {
		h.fail(w, err)
		return
	}
	answer, err := h.cfg.Function.Call(r.Context(), payload)
	if err != nil {
		h.fail(w, err)
		return
	}
	if err := writeAnswer(w, answer); err != nil {
		h.fail(w, err)
	}
}

func (h *HTTP) fail(w http.ResponseWriter, err error) {
	h.cfg.Log.Error("integration", "api", h.cfg.APIID, "err", err)
	refuse(w, http.StatusInternalServerError, "Internal Server Error")
}

func (h *HTTP) allow() bool {
	if h.cfg.Rate <= 0 {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.cfg.Now()
	h.tokens = min(h.tokens+now.Sub(h.filled).Seconds()*h.cfg.Rate, float64(h.cfg.Burst))
	h.filled = now
	if h.tokens < 1 {
		return false
	}
	h.tokens--
	return true
}

func (h *HTTP) event(r *http.Request, key string, params map[string]string, body []byte) events.APIGatewayV2HTTPRequest {
	now := h.cfg.Now()
	prefix, _, _ := strings.Cut(h.cfg.Domain, ".")
	ev := events.APIGatewayV2HTTPRequest{
		Version: "2.0", RouteKey: key, RawPath: r.URL.Path, RawQueryString: r.URL.RawQuery,
		Headers: map[string]string{"host": r.Host}, PathParameters: params,
		RequestContext: events.APIGatewayV2HTTPRequestContext{
			RouteKey: key, AccountID: "000000000000", Stage: "$default", RequestID: requestID(),
			APIID: h.cfg.APIID, DomainName: h.cfg.Domain, DomainPrefix: prefix,
			Time: requestTime(now), TimeEpoch: now.UnixMilli(),
			HTTP: events.APIGatewayV2HTTPRequestContextHTTPDescription{
				Method: r.Method, Path: r.URL.Path, Protocol: r.Proto, SourceIP: sourceIP(r), UserAgent: r.UserAgent(),
			},
		},
	}
	for k, v := range r.Header {
		if k == "Cookie" {
			ev.Cookies = strings.Split(strings.Join(v, "; "), "; ")
			continue
		}
		ev.Headers[strings.ToLower(k)] = strings.Join(v, ",")
	}
	if q := r.URL.Query(); len(q) > 0 {
		ev.QueryStringParameters = map[string]string{}
		for k, v := range q {
			ev.QueryStringParameters[k] = strings.Join(v, ",")
		}
	}
	if isText(r.Header.Get("Content-Type")) {
		ev.Body = string(body)
	} else if len(body) > 0 {
		ev.Body, ev.IsBase64Encoded = base64.StdEncoding.EncodeToString(body), true
	}
	return ev
}

// isText lists the content types whose body an HTTP API passes on as it is; all
// others arrive as base64.
func isText(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	switch t {
	case "application/json", "application/javascript", "application/xml":
		return true
	}
	return strings.HasPrefix(t, "text/") || strings.HasSuffix(t, "+json") || strings.HasSuffix(t, "+xml")
}

// writeAnswer sends a function's answer. An answer without statusCode is the body
// of a 200, as payload format 2.0 infers. Nothing was written when it errs.
func writeAnswer(w http.ResponseWriter, answer []byte) error {
	var shape struct {
		StatusCode *int `json:"statusCode"`
	}
	if json.Unmarshal(answer, &shape) != nil || shape.StatusCode == nil {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer) // the client may be gone
		return nil
	}
	var resp events.APIGatewayV2HTTPResponse
	if err := json.Unmarshal(answer, &resp); err != nil {
		return fmt.Errorf("gateway: malformed response: %w", err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 599 {
		return fmt.Errorf("gateway: response status %d", resp.StatusCode)
	}
	body := []byte(resp.Body)
	if resp.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(resp.Body); err != nil {
			return fmt.Errorf("gateway: response body: %w", err)
		}
	}
	for k, v := range resp.MultiValueHeaders {
		for _, one := range v {
			w.Header().Add(k, one)
		}
	}
	for k, v := range resp.Headers {
		w.Header().Set(k, v)
	}
	for _, c := range resp.Cookies {
		w.Header().Add("Set-Cookie", c)
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(body) // the client may be gone
	return nil
}

// route is one parsed route key.
type route struct {
	key    string
	method string // "" matches any
	parts  []string
	greedy bool // the last part takes the rest of the path
	rank   int  // the higher, the more specific
}

func parseRoute(key string) (route, error) {
	if key == "$default" {
		return route{key: key, greedy: true, rank: -1}, nil
	}
	method, path, ok := strings.Cut(key, " ")
	if !ok || !strings.HasPrefix(path, "/") {
		return route{}, fmt.Errorf("gateway: route key %q is not like \"GET /path\"", key)
	}
	r := route{key: key, method: method, parts: strings.Split(path[1:], "/")}
	if method == "ANY" {
		r.method = ""
	} else {
		r.rank++
	}
	for i, p := range r.parts {
		switch {
		case strings.HasSuffix(p, "+}"):
			if i != len(r.parts)-1 {
				return route{}, fmt.Errorf("gateway: route key %q: a greedy variable must come last", key)
			}
			r.greedy = true
			r.rank += 1
		case strings.HasPrefix(p, "{"):
			r.rank += 10
		default:
			r.rank += 100
		}
	}
	return r, nil
}

// match picks the most specific route.
func (h *HTTP) match(method, path string) (key string, params map[string]string, ok bool) {
	best := -2
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for _, r := range h.routes {
		if r.rank <= best || r.method != "" && r.method != method {
			continue
		}
		if p, fits := r.fits(parts); fits {
			key, params, ok, best = r.key, p, true, r.rank
		}
	}
	return key, params, ok
}

func (r route) fits(parts []string) (map[string]string, bool) {
	if r.rank < 0 {
		return nil, true
	}
	if len(parts) < len(r.parts) || len(parts) > len(r.parts) && !r.greedy {
		return nil, false
	}
	var params map[string]string
	for i, p := range r.parts {
		if !strings.HasPrefix(p, "{") {
			if p != parts[i] {
				return nil, false
			}
			continue
		}
		value := parts[i]
		if r.greedy && i == len(r.parts)-1 {
			value = strings.Join(parts[i:], "/")
		}
		value, err := url.PathUnescape(value)
		if err != nil || value == "" {
			return nil, false
		}
		if params == nil {
			params = map[string]string{}
		}
		params[strings.Trim(p, "{}+")] = value
	}
	return params, true
}
