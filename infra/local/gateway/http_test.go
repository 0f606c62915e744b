package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi/types"
	"github.com/google/go-cmp/cmp"

	"mayfly/infra/local/invoke"
)

func newHTTPAPI(t *testing.T, handler any, change func(*HTTPConfig)) string {
	t.Helper()
	cfg := HTTPConfig{
		APIID: "httpapi", Domain: "httpapi.example",
		Function: invoke.Function{Name: "rooms", Handler: handler},
		Routes:   []string{"POST /v1/rooms", "GET /v1/rooms/{id}", "GET /v1/rooms/{id}/usage", "ANY /call/{file+}"},
		Now:      time.Now, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	h, err := NewHTTP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestHTTPEvent(t *testing.T) {
	var got events.APIGatewayV2HTTPRequest
	url := newHTTPAPI(t, func(ev events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
		got = ev
		return events.APIGatewayV2HTTPResponse{StatusCode: 201, Headers: map[string]string{"Location": "/v1/rooms/r"},
			Cookies: []string{"a=b"}, Body: "aGk=", IsBase64Encoded: true}, nil
	}, nil)
	req, _ := http.NewRequest("GET", url+"/v1/rooms/a%2Fb?x=1&x=2&y=z", nil)
	req.Header.Set("Authorization", "Bearer k")
	req.Header.Add("X-Two", "1")
	req.Header.Add("X-Two", "2")
	req.Header.Set("Cookie", "c=d; e=f")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 201 || string(body) != "hi" || resp.Header.Get("Location") != "/v1/rooms/r" || resp.Header.Get("Set-Cookie") != "a=b" {
		t.Errorf("answer %d %q %v", resp.StatusCode, body, resp.Header)
	}
	rc := got.RequestContext
	if got.Version != "2.0" || got.RouteKey != "GET /v1/rooms/{id}" || rc.RouteKey != got.RouteKey || got.RawQueryString != "x=1&x=2&y=z" ||
		rc.HTTP.Method != "GET" || rc.HTTP.SourceIP != "127.0.0.1" || rc.Stage != "$default" || rc.DomainPrefix != "httpapi" || rc.TimeEpoch == 0 {
		t.Errorf("event %+v", got)
	}
	if diff := cmp.Diff(map[string]string{"id": "a/b"}, got.PathParameters); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"x": "1,2", "y": "z"}, got.QueryStringParameters); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"c=d", "e=f"}, got.Cookies); diff != "" {
		t.Error(diff)
	}
	if got.Headers["authorization"] != "Bearer k" || got.Headers["x-two"] != "1,2" || got.Headers["cookie"] != "" {
		t.Errorf("headers %v", got.Headers)
	}
}

func TestHTTPBodyEncoding(t *testing.T) {
	for _, tc := range []struct {
		contentType, body string
		base64            bool
	}{
		{"application/json", "{}", false},
		{"application/problem+json; charset=utf-8", "{}", false},
		{"text/plain", "é", false},
		{"application/octet-stream", "AAEC", true},
		{"", "e30=", true},
	} {
		var got events.APIGatewayV2HTTPRequest
		url := newHTTPAPI(t, func(ev events.APIGatewayV2HTTPRequest) (any, error) {
			got = ev
			return map[string]bool{"ok": true}, nil
		}, nil)
		send := map[string]string{"AAEC": "\x00\x01\x02", "e30=": "{}"}[tc.body]
		if send == "" {
			send = tc.body
		}
		req, _ := http.NewRequest("POST", url+"/v1/rooms", strings.NewReader(send))
		req.Header["Content-Type"] = nil
		if tc.contentType != "" {
			req.Header.Set("Content-Type", tc.contentType)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if got.Body != tc.body || got.IsBase64Encoded != tc.base64 {
			t.Errorf("%q: body %q base64 %v", tc.contentType, got.Body, got.IsBase64Encoded)
		}
		if resp.StatusCode != 200 || string(answer) != `{"ok":true}` {
			t.Errorf("inferred answer %d %s", resp.StatusCode, answer)
		}
	}
}

func TestHTTPRefusals(t *testing.T) {
	calls := 0
	now := time.Unix(0, 0)
	base := newHTTPAPI(t, func(ctx context.Context, ev events.APIGatewayV2HTTPRequest) (any, error) {
		calls++
		return nil, errors.New("internal detail")
	}, func(c *HTTPConfig) { c.Rate, c.Burst, c.Now = 1, 4, func() time.Time { return now } })
	get := func(method, path string, body io.Reader) (int, string) {
		req, _ := http.NewRequest(method, base+path, body)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	if code, _ := get("GET", "/nothing", nil); code != 404 || calls != 0 {
		t.Errorf("unknown path: %d, %d calls", code, calls)
	}
	if code, _ := get("DELETE", "/v1/rooms", nil); code != 404 {
		t.Errorf("unknown method: %d", code)
	}
	if code, body := get("GET", "/v1/rooms/r", nil); code != 500 || strings.Contains(body, "internal detail") || calls != 1 {
		t.Errorf("failing function: %d %s", code, body)
	}
	if code, _ := get("POST", "/v1/rooms", strings.NewReader(strings.Repeat("x", maxHTTPBody+1))); code != 413 || calls != 1 {
		t.Errorf("large body: %d", code)
	}
	if code, _ := get("GET", "/v1/rooms/r", nil); code != 429 || calls != 1 {
		t.Errorf("over the burst: %d", code)
	}
	now = now.Add(time.Second)
	if code, _ := get("GET", "/v1/rooms/r", nil); code != 500 || calls != 2 {
		t.Errorf("after a second: %d", code)
	}
}

func TestRoutesMostSpecificWins(t *testing.T) {
	h, err := NewHTTP(HTTPConfig{Now: time.Now, Routes: []string{"$default", "ANY /{proxy+}", "GET /a/{id}", "GET /a/b", "ANY /a/b", "GET /call/", "GET /call/{file}"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ method, path, want string }{
		{"GET", "/a/b", "GET /a/b"}, {"POST", "/a/b", "ANY /a/b"}, {"GET", "/a/c", "GET /a/{id}"},
		{"GET", "/a/c/d", "ANY /{proxy+}"}, {"GET", "/", "$default"}, {"GET", "/call/", "GET /call/"}, {"GET", "/call/x.js", "GET /call/{file}"},
	} {
		if got, _, _ := h.match(tc.method, tc.path); got != tc.want {
			t.Errorf("%s %s: %q, want %q", tc.method, tc.path, got, tc.want)
		}
	}
	for _, bad := range []string{"GET", "GET a", "GET /{a+}/b"} {
		if _, err := NewHTTP(HTTPConfig{Now: time.Now, Routes: []string{bad}}); err == nil {
			t.Errorf("route key %q accepted", bad)
		}
	}
}

// TestManagementSpeaksToTheSDK holds the HTTP form of @connections to what AWS's
// own client expects.
func TestManagementSpeaksToTheSDK(t *testing.T) {
	g, wsURL := newAPI(t, &toy{}, nil)
	p := mustDial(t, wsURL)
	srv := httptest.NewServer(g.Management())
	defer srv.Close()
	client := apigatewaymanagementapi.New(apigatewaymanagementapi.Options{
		Region: "local", BaseEndpoint: aws.String(srv.URL + "/local"),
		Credentials:      credentials.NewStaticCredentialsProvider("a", "b", "c"),
		RetryMaxAttempts: 1,
	})
	post := func(id string, n int) error {
		_, err := client.PostToConnection(t.Context(), &apigatewaymanagementapi.PostToConnectionInput{ConnectionId: &id, Data: make([]byte, n)})
		return err
	}
	id := onlyConn(t, g)
	if err := post(id, 5); err != nil || len(p.next()) != 5 {
		t.Fatal(err)
	}
	var large *types.PayloadTooLargeException
	if err := post(id, MaxMessage+1); !errors.As(err, &large) {
		t.Errorf("too large: %v", err)
	}
	var gone *types.GoneException
	if err := post(newID(), 1); !errors.As(err, &gone) {
		t.Errorf("gone: %v", err)
	}
	if err := post("nonsense", 1); err == nil || !strings.Contains(err.Error(), "BadRequest") {
		t.Errorf("malformed: %v", err)
	}
	if _, err := client.DeleteConnection(t.Context(), &apigatewaymanagementapi.DeleteConnectionInput{ConnectionId: &id}); err != nil {
		t.Fatal(err)
	}
	if code := p.closeCode(); code != 1000 {
		t.Errorf("closed with %d", code)
	}
	resp, err := http.Get(srv.URL + "/other/@connections/" + url.PathEscape(id))
	if status(t, resp, err) != http.StatusForbidden {
		t.Error("another stage was served")
	}
	var complaint map[string]string
	resp, err = http.Get(srv.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if json.NewDecoder(resp.Body).Decode(&complaint) != nil || complaint["message"] == "" {
		t.Error("no message")
	}
}
