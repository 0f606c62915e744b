package push

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
	"github.com/google/go-cmp/cmp"

	"mayfly/functions/control"
)

// gateway is an @connections endpoint that gives the scripted answers and then 200.
type gateway struct {
	*httptest.Server
	mu       sync.Mutex
	answers  []answer // guarded by mu
	requests []string // guarded by mu; method, path and body
}

type answer struct {
	status int
	code   string // x-amzn-ErrorType
}

func newGateway(t *testing.T, answers ...answer) *gateway {
	t.Helper()
	g := &gateway{answers: answers}
	g.Server = httptest.NewServer(http.HandlerFunc(g.serve))
	t.Cleanup(g.Close)
	return g
}

func (g *gateway) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.requests = append(g.requests, fmt.Sprintf("%s %s %s", r.Method, r.URL.EscapedPath(), body))
	if len(g.answers) == 0 {
		return
	}
	a := g.answers[0]
	g.answers = g.answers[1:]
	if a.code != "" {
		w.Header().Set("X-Amzn-ErrorType", a.code)
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, `{"message":"no","connectionId":"x"}`)
}

func newPost(clients, tasks *gateway, delays *[]time.Duration) *Post {
	cfg := aws.Config{Region: "eu-central-1", Credentials: credentials.NewStaticCredentialsProvider("id", "secret", "")}
	return New(cfg, clients.URL+"/default", tasks.URL+"/default", func(o *apigatewaymanagementapi.Options) {
		// The retryer under test with its delays recorded instead of waited for.
		o.Retryer = recorder{o.Retryer, delays}
	})
}

type recorder struct {
	aws.Retryer
	delays *[]time.Duration
}

func (r recorder) RetryDelay(int, error) (time.Duration, error) {
	*r.delays = append(*r.delays, 0)
	return 0, nil
}

func TestSendChoosesTheAPI(t *testing.T) {
	clients, tasks := newGateway(t), newGateway(t)
	var delays []time.Duration
	p := newPost(clients, tasks, &delays)
	ctx := t.Context()
	steps := []error{
		p.Send(ctx, control.Conn{ID: "R0oX/dfD0+wCH6w="}, []byte(`{"type":"room"}`)),
		p.Send(ctx, control.Conn{ID: "task=", Task: true}, []byte(`{}`)),
		p.Close(ctx, control.Conn{ID: "R0oX/dfD0+wCH6w="}),
	}
	if err := errors.Join(steps...); err != nil {
		t.Fatal(err)
	}
	wantClients := []string{
		`POST /default/@connections/R0oX%2FdfD0%2BwCH6w%3D {"type":"room"}`,
		`DELETE /default/@connections/R0oX%2FdfD0%2BwCH6w%3D `,
	}
	if diff := cmp.Diff(wantClients, clients.requests); diff != "" {
		t.Errorf("client API (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{`POST /default/@connections/task%3D {}`}, tasks.requests); diff != "" {
		t.Errorf("task API (-want +got):\n%s", diff)
	}
}

func TestErrors(t *testing.T) {
	many := func(a answer, n int) []answer {
		var as []answer
		for range n {
			as = append(as, a)
		}
		return as
	}
	slow := answer{http.StatusTooManyRequests, "LimitExceededException"}
	tests := []struct {
		name     string
		answers  []answer
		want     error
		requests int
	}{
		{"gone", []answer{{http.StatusGone, "GoneException"}}, control.ErrGone, 1},
		{"malformed id", []answer{{http.StatusBadRequest, "BadRequestException"}}, control.ErrGone, 1},
		{"too large", []answer{{http.StatusRequestEntityTooLarge, "PayloadTooLargeException"}}, control.ErrTooLarge, 1},
		{"slow client, then well", []answer{slow, slow}, nil, 3},
		{"slow client", many(slow, 10), control.ErrThrottled, attempts},
		{"throttled without a name", many(answer{status: http.StatusTooManyRequests}, 10), control.ErrThrottled, attempts},
		{"server error, then well", []answer{{http.StatusInternalServerError, ""}}, nil, 2},
		{"server error, then gone", []answer{{http.StatusServiceUnavailable, ""}, {http.StatusGone, "GoneException"}}, control.ErrGone, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newGateway(t, tt.answers...)
			var delays []time.Duration
			err := newPost(g, g, &delays).Send(t.Context(), control.Conn{ID: "c"}, []byte(`{}`))
			if !errors.Is(err, tt.want) {
				t.Errorf("Send = %v, want %v", err, tt.want)
			}
			if len(g.requests) != tt.requests || len(delays) != tt.requests-1 {
				t.Errorf("%d requests after %d waits, want %d", len(g.requests), len(delays), tt.requests)
			}
		})
	}
}

func TestForbiddenIsNotTheConnection(t *testing.T) {
	g := newGateway(t, answer{http.StatusForbidden, "ForbiddenException"})
	var delays []time.Duration
	err := newPost(g, g, &delays).Send(t.Context(), control.Conn{ID: "c"}, nil)
	for _, named := range []error{control.ErrGone, control.ErrThrottled, control.ErrTooLarge} {
		if err == nil || errors.Is(err, named) {
			t.Errorf("Send = %v, want an error other than %v", err, named)
		}
	}
}

func TestCloseOfWhatIsGone(t *testing.T) {
	g := newGateway(t, answer{http.StatusGone, "GoneException"})
	var delays []time.Duration
	if err := newPost(g, g, &delays).Close(t.Context(), control.Conn{ID: "c"}); err != nil {
		t.Errorf("Close = %v, want nil", err)
	}
}

func TestDelaysAreBounded(t *testing.T) {
	var o apigatewaymanagementapi.Options
	New(aws.Config{Region: "eu-central-1"}, "http://127.0.0.1:1", "http://127.0.0.1:1",
		func(made *apigatewaymanagementapi.Options) { o = *made })
	different := map[time.Duration]bool{}
	for range 50 {
		d, err := o.Retryer.RetryDelay(3, errors.New("no"))
		if err != nil || d < 0 || d > maxDelay {
			t.Fatalf("delay %v, %v, want at most %v", d, err, maxDelay)
		}
		different[d] = true
	}
	if len(different) < 10 {
		t.Errorf("%d different delays of 50, want jitter", len(different))
	}
}
