package entry

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"

	"mayfly/functions/control/api"
	"mayfly/shared/ticket"
)

// HTTPHandler is the handler of an HTTP API with payload format 2.0.
type HTTPHandler func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error)

// Rooms is the rooms function: the HTTP API.
func Rooms(d Deps) (HTTPHandler, error) {
	keys, err := api.ParseKeys(d.Config.APIKeys)
	if err != nil {
		return nil, err
	}
	callers, err := api.ParseCallers(d.Config.AWSCallers)
	if err != nil {
		return nil, err
	}
	key, err := ticket.KeyFromSecret(string(d.Config.TicketSecret))
	if err != nil {
		return nil, err
	}
	cursorKey, err := hkdf.Key(sha256.New, []byte(d.Config.TicketSecret), nil, "mayfly list cursor v1", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the cursor key: %w", err)
	}
	hooks, err := d.hooks()
	if err != nil {
		return nil, err
	}
	a, err := api.New(api.Config{
		Store: d.Store, Life: d.life(), Hooks: hooks, Now: d.Now, Log: d.Log, Meter: d.Meter,
		Keys: keys, Callers: callers, TicketsPerSecond: d.Config.TicketsPerSecond, TicketBurst: d.Config.TicketBurst, Key: key, CursorKey: cursorKey, Region: d.Config.Region,
		PublicURL: d.Config.PublicURL, SignallingURL: d.Config.SignallingURL, AllowedOrigins: d.Config.AllowedOrigins,
	})
	if err != nil {
		return nil, err
	}
	return httpHandler(a), nil
}

// httpHandler lets an http.Handler answer the events of an HTTP API.
func httpHandler(h http.Handler) HTTPHandler {
	return func(ctx context.Context, ev events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		r, err := httpRequest(ctx, ev)
		if err != nil {
			return events.APIGatewayV2HTTPResponse{StatusCode: http.StatusBadRequest}, nil
		}
		w := &answer{header: make(http.Header)}
		h.ServeHTTP(w, r)
		return w.event(), nil
	}
}

// httpRequest is the event as a request.
func httpRequest(ctx context.Context, ev events.APIGatewayV2HTTPRequest) (*http.Request, error) {
	body := []byte(ev.Body)
	if ev.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(ev.Body); err != nil {
			return nil, fmt.Errorf("body: %w", err)
		}
	}
	rc := ev.RequestContext
	r := &http.Request{
		Method: rc.HTTP.Method, URL: &url.URL{Path: ev.RawPath, RawQuery: ev.RawQueryString},
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header, len(ev.Headers)), Body: io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)), Host: rc.DomainName, RemoteAddr: rc.HTTP.SourceIP,
	}
	if !strings.HasPrefix(r.URL.Path, "/") {
		r.URL.Path = "/" + r.URL.Path
	}
	for name, value := range ev.Headers { // the gateway has joined repeated ones with commas
		r.Header.Set(name, value)
	}
	ctx = api.WithRequestID(ctx, rc.RequestID)
	if auth := rc.Authorizer; auth != nil && auth.IAM != nil { // set by the gateway alone, where the route is AWS_IAM
		ctx = api.WithCaller(ctx, auth.IAM.UserARN)
	}
	return r.WithContext(ctx), nil
}

// answer is the http.ResponseWriter that keeps what is written. It is owned by the
// handler's goroutine.
type answer struct {
	status int
	header http.Header
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

// event is the answer in the gateway's form.
func (a *answer) event() events.APIGatewayV2HTTPResponse {
	a.WriteHeader(http.StatusOK)
	out := events.APIGatewayV2HTTPResponse{
		StatusCode: a.status, Headers: make(map[string]string, len(a.header)), Body: a.body.String(),
	}
	for name, values := range a.header {
		out.Headers[name] = strings.Join(values, ", ")
	}
	if !utf8.Valid(a.body.Bytes()) { // pictures, fonts: JSON cannot hold them
		out.Body, out.IsBase64Encoded = base64.StdEncoding.EncodeToString(a.body.Bytes()), true
	}
	return out
}
