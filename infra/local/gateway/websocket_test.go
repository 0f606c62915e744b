package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"

	"mayfly/functions/control"
	"mayfly/infra/local/fault"
)

var ok200 = events.APIGatewayProxyResponse{StatusCode: 200}

func TestEventsOfAConnection(t *testing.T) {
	h := &toy{}
	_, url := newAPI(t, h, func(c *WebSocketConfig) {
		c.Authorize = func(*http.Request) (Caller, error) {
			return Caller{UserARN: "arn:aws:sts::000000000000:assumed-role/mayfly-task/abc"}, nil
		}
	})
	p := mustDial(t, url+"/?a=1&a=2")
	p.text(`{"type":"ping"}`)
	h.wait(t, eventMessage, 1)
	p.frame(ws.OpClose, true, ws.NewCloseFrameBody(3001, "bye"))
	if code := p.closeCode(); code != 3001 {
		t.Errorf("close answered with %d", code)
	}
	down := h.wait(t, eventDisconnect, 1)[0].RequestContext
	up, msg := h.events(eventConnect)[0], h.events(eventMessage)[0]

	if !idForm.MatchString(up.RequestContext.ConnectionID) {
		t.Errorf("connection id %q", up.RequestContext.ConnectionID)
	}
	if diff := cmp.Diff(map[string]string{"a": "2"}, up.QueryStringParameters); diff != "" {
		t.Error(diff)
	}
	if up.Headers["Sec-Websocket-Version"] != "13" || up.Headers["Host"] == "" {
		t.Errorf("$connect headers %v", up.Headers)
	}
	if msg.Headers != nil || msg.Body != `{"type":"ping"}` || msg.IsBase64Encoded {
		t.Errorf("message event %+v", msg)
	}
	for _, rc := range []events.APIGatewayWebsocketProxyRequestContext{up.RequestContext, msg.RequestContext, down} {
		if rc.APIID != "clientapi" || rc.Stage != "local" || rc.ConnectionID != up.RequestContext.ConnectionID ||
			rc.ConnectedAt != up.RequestContext.ConnectedAt || rc.ConnectedAt == 0 || rc.Identity.SourceIP != "127.0.0.1" ||
			rc.Identity.UserArn != "arn:aws:sts::000000000000:assumed-role/mayfly-task/abc" || rc.RouteKey != routeOf[rc.EventType] {
			t.Errorf("%s context %+v", rc.EventType, rc)
		}
	}
	if down.DisconnectStatusCode != 3001 || *down.DisconnectReason != "bye" {
		t.Errorf("disconnect %d %v", down.DisconnectStatusCode, *down.DisconnectReason)
	}
}

func TestConnectIsPendingUntilTheIntegrationAnswers(t *testing.T) {
	var g *WebSocket
	inConnect, later := make(chan error, 1), make(chan error, 1)
	h := &toy{}
	h.handle = func(ctx context.Context, ev wsRequest) (events.APIGatewayProxyResponse, error) {
		if ev.RequestContext.EventType == eventDisconnect {
			return ok200, nil
		}
		err := g.Send(ctx, ev.RequestContext.ConnectionID, []byte("hello"))
		if ev.RequestContext.EventType == eventConnect {
			inConnect <- err
		} else {
			later <- err
		}
		return ok200, nil
	}
	api, url := newAPI(t, h, nil)
	g = api
	p := mustDial(t, url)
	p.text("now")
	if got := p.next(); got != "hello" {
		t.Fatalf("got %q", got)
	}
	if a, b := <-inConnect, <-later; !errors.Is(a, control.ErrGone) || b != nil {
		t.Fatalf("post from $connect: %v, from a message: %v", a, b)
	}
}

func TestConnectRefused(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer int
		err    error
		auth   error
		want   int
	}{
		{name: "integration says 403", answer: 403, want: 403},
		{name: "integration says 500", answer: 500, want: 500},
		{name: "integration fails", err: errors.New("boom"), want: 502},
		{name: "no status", answer: 0, want: 502},
		{name: "not authorised", answer: 200, auth: errors.New("no"), want: 403},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := &toy{handle: func(context.Context, wsRequest) (events.APIGatewayProxyResponse, error) {
				return events.APIGatewayProxyResponse{StatusCode: tc.answer}, tc.err
			}}
			g, url := newAPI(t, h, func(c *WebSocketConfig) {
				c.Authorize = func(*http.Request) (Caller, error) { return Caller{}, tc.auth }
			})
			_, _, err := dial(t, url)
			var refused ws.StatusError
			if !errors.As(err, &refused) || int(refused) != tc.want {
				t.Fatalf("got %v, want status %d", err, tc.want)
			}
			g.Close()
			if n := len(h.events(eventDisconnect)); n != 0 || len(g.Connections()) != 0 {
				t.Fatalf("%d $disconnect events, %v open", n, g.Connections())
			}
			if tc.auth != nil && len(h.events(eventConnect)) != 0 {
				t.Fatal("the integration was invoked without authorisation")
			}
		})
	}
}

func TestNoHandshakeNoInvocation(t *testing.T) {
	h := &toy{}
	_, url := newAPI(t, h, nil)
	resp, err := http.Get("http" + url[2:])
	if got := status(t, resp, err); got != http.StatusUpgradeRequired {
		t.Errorf("plain GET: %d", got)
	}
	long, _, err := dial(t, url+"/?"+strings.Repeat("x", maxURL))
	var refused ws.StatusError
	if long != nil || !errors.As(err, &refused) || refused != http.StatusRequestURITooLong {
		t.Errorf("long URL: %v", err)
	}
	if len(h.events(eventConnect)) != 0 {
		t.Error("integration was invoked")
	}
}

func TestSubprotocolComesFromTheIntegration(t *testing.T) {
	echo := true
	h := &toy{handle: func(_ context.Context, ev wsRequest) (events.APIGatewayProxyResponse, error) {
		if ev.RequestContext.EventType == eventConnect && echo {
			return events.APIGatewayProxyResponse{StatusCode: 200, Headers: map[string]string{"sec-websocket-protocol": "mayfly.v1"}}, nil
		}
		return ok200, nil
	}}
	_, url := newAPI(t, h, nil)
	if _, hs, err := dial(t, url, "other", "mayfly.v1"); err != nil || hs.Protocol != "mayfly.v1" {
		t.Errorf("%q %v", hs.Protocol, err)
	}
	echo = false
	if _, hs, err := dial(t, url, "mayfly.v1"); err != nil || hs.Protocol != "" {
		t.Errorf("not returned by the integration, yet answered: %q %v", hs.Protocol, err)
	}
}

func TestEachMessageIsItsOwnConcurrentInvocation(t *testing.T) {
	var running atomic.Int32
	all := make(chan struct{})
	h := &toy{handle: func(ctx context.Context, ev wsRequest) (events.APIGatewayProxyResponse, error) {
		if ev.RequestContext.EventType != eventMessage {
			return ok200, nil
		}
		if running.Add(1) == 3 {
			close(all)
		}
		select { // none returns before all three run
		case <-all:
			return ok200, nil
		case <-ctx.Done():
			return ok200, ctx.Err()
		}
	}}
	_, url := newAPI(t, h, func(c *WebSocketConfig) { c.Function.Timeout = 10 * time.Second })
	p := mustDial(t, url)
	for i := range 3 {
		p.text(fmt.Sprint(i))
	}
	select {
	case <-all:
	case <-time.After(10 * time.Second):
		t.Fatalf("%d invocations at once", running.Load())
	}
}

func TestTooManyInvocationsAtOnceAreRefused(t *testing.T) {
	release := make(chan struct{})
	h := &toy{handle: func(_ context.Context, ev wsRequest) (events.APIGatewayProxyResponse, error) {
		if ev.RequestContext.EventType == eventMessage {
			<-release
		}
		return ok200, nil
	}}
	_, url := newAPI(t, h, nil)
	p := mustDial(t, url)
	for range maxInFlight + 1 {
		p.text("x")
	}
	got := decode[map[string]string](t, p.next())
	close(release)
	if got["message"] != "Too Many Requests" || !idForm.MatchString(got["connectionId"]) {
		t.Fatalf("got %v", got)
	}
}

func TestIntegrationFailureIsToldToTheClient(t *testing.T) {
	h := &toy{handle: func(_ context.Context, ev wsRequest) (events.APIGatewayProxyResponse, error) {
		if ev.RequestContext.EventType == eventMessage {
			panic("bug")
		}
		return ok200, nil
	}}
	_, url := newAPI(t, h, nil)
	p := mustDial(t, url)
	p.text("x")
	if got := decode[map[string]string](t, p.next()); got["message"] != "Internal server error" || got["requestId"] == "" {
		t.Fatalf("got %v", got)
	}
}

func TestFramesThatEndTheConnection(t *testing.T) {
	kb := func(n int) []byte { return []byte(strings.Repeat("a", n<<10)) }
	for _, tc := range []struct {
		name string
		send func(p *peer)
		want ws.StatusCode
	}{
		{"frame over 32 KB", func(p *peer) { p.frame(ws.OpText, true, append(kb(32), 'a')) }, 1009},
		{"frame far over 32 KB", func(p *peer) { p.frame(ws.OpText, true, kb(1<<10)) }, 1009},
		{"message over 128 KB in small frames", func(p *peer) {
			p.frame(ws.OpText, false, kb(32))
			for range 3 {
				p.frame(ws.OpContinuation, false, kb(32))
			}
			p.frame(ws.OpContinuation, true, []byte("a"))
		}, 1009},
		{"binary", func(p *peer) { p.frame(ws.OpBinary, true, []byte{1}) }, 1003},
		{"not UTF-8", func(p *peer) { p.frame(ws.OpText, true, []byte{0xff}) }, 1007},
		{"not masked", func(p *peer) { ws.WriteFrame(p.nc, ws.NewTextFrame([]byte("a"))) }, 1002},
		{"continues nothing", func(p *peer) { p.frame(ws.OpContinuation, true, []byte("a")) }, 1002},
		{"message inside a message", func(p *peer) { p.frame(ws.OpText, false, []byte("a")); p.frame(ws.OpText, true, []byte("a")) }, 1002},
		{"long ping", func(p *peer) { p.frame(ws.OpPing, true, kb(1)) }, 1002},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := &toy{}
			g, url := newAPI(t, h, nil)
			p := mustDial(t, url)
			tc.send(p)
			if code := p.closeCode(); code != tc.want {
				t.Fatalf("closed with %d, want %d", code, tc.want)
			}
			p.nc.Close()
			down := h.wait(t, eventDisconnect, 1)[0].RequestContext
			if down.DisconnectStatusCode != int64(tc.want) || len(h.events(eventMessage)) != 0 || len(g.Connections()) != 0 {
				t.Fatalf("disconnect %d, %d messages passed", down.DisconnectStatusCode, len(h.events(eventMessage)))
			}
		})
	}
}

func TestLargestMessagePasses(t *testing.T) {
	h := &toy{}
	_, url := newAPI(t, h, nil)
	p := mustDial(t, url)
	part := []byte(strings.Repeat("é", MaxFrame/2))
	p.frame(ws.OpText, false, part)
	p.frame(ws.OpPing, true, []byte("between")) // control frames may stand between fragments
	p.frame(ws.OpContinuation, false, part)
	p.frame(ws.OpContinuation, false, part)
	p.frame(ws.OpContinuation, true, part)
	if got := h.wait(t, eventMessage, 1)[0].Body; len(got) != MaxMessage {
		t.Fatalf("%d bytes arrived", len(got))
	}
	f, err := readFrame(p.rd)
	if err != nil || f.Header.OpCode != ws.OpPong || string(f.Payload) != "between" {
		t.Fatalf("pong: %+v %v", f, err)
	}
}

func TestPosts(t *testing.T) {
	h := &toy{}
	g, url := newAPI(t, h, func(c *WebSocketConfig) { c.SplitPosts = true })
	p := mustDial(t, url)
	id := onlyConn(t, g)
	ctx := t.Context()
	if err := g.Send(ctx, "not an id", nil); !errors.Is(err, ErrBadID) {
		t.Errorf("malformed id: %v", err)
	}
	if err := g.Send(ctx, newID(), nil); !errors.Is(err, control.ErrGone) {
		t.Errorf("id that never was: %v", err)
	}
	if err := g.Send(ctx, id, make([]byte, MaxMessage+1)); !errors.Is(err, control.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	big := strings.Repeat("b", MaxMessage)
	if err := g.Send(ctx, id, []byte(big)); err != nil {
		t.Fatal(err)
	}
	for left := MaxMessage; left > 0; {
		f, err := readFrame(p.rd)
		if err != nil || f.Header.Length > MaxFrame || (f.Header.Fin != (left <= MaxFrame)) {
			t.Fatalf("frame %+v %v with %d bytes left", f.Header, err, left)
		}
		left -= len(f.Payload)
	}
	if err := g.Send(ctx, id, []byte("last")); err != nil {
		t.Fatal(err)
	}
	post := Posts{Client: g, Task: g}
	if err := post.Close(ctx, control.Conn{ID: id}); err != nil {
		t.Fatal(err)
	}
	if got := p.next(); got != "last" {
		t.Fatalf("waiting message: %q", got)
	}
	if code := p.closeCode(); code != 1000 {
		t.Fatalf("closed with %d", code)
	}
	if err := post.Close(ctx, control.Conn{ID: id}); err != nil {
		t.Errorf("close of a closed connection: %v", err)
	}
	if err := post.Send(ctx, control.Conn{ID: id}, []byte("x")); !errors.Is(err, control.ErrGone) {
		t.Errorf("post to a closed connection: %v", err)
	}
}

func TestPostOverTheFrameLimitCloses(t *testing.T) {
	h := &toy{}
	g, url := newAPI(t, h, nil)
	p := mustDial(t, url)
	id := onlyConn(t, g)
	if err := g.Send(t.Context(), id, make([]byte, MaxFrame)); err != nil {
		t.Fatal(err)
	}
	if got := p.next(); len(got) != MaxFrame {
		t.Fatalf("%d bytes", len(got))
	}
	if err := g.Send(t.Context(), id, make([]byte, MaxFrame+1)); err != nil {
		t.Fatal(err)
	}
	if code := p.closeCode(); code != 1009 {
		t.Fatalf("closed with %d", code)
	}
}

func TestSlowClientIsThrottled(t *testing.T) {
	h := &toy{}
	g, url := newAPI(t, h, nil)
	mustDial(t, url) // reads nothing
	id := onlyConn(t, g)
	message := make([]byte, MaxFrame)
	var err error
	// The kernel's buffers take some megabytes before the gateway's own fills.
	for range 10_000 {
		if err = g.Send(t.Context(), id, message); err != nil {
			break
		}
	}
	if !errors.Is(err, control.ErrThrottled) {
		t.Fatalf("got %v", err)
	}
	if err := g.Cut(id); err != nil {
		t.Fatal(err)
	}
	if end := h.wait(t, eventDisconnect, 1)[0].RequestContext; end.DisconnectStatusCode != 1006 {
		t.Fatalf("status %d", end.DisconnectStatusCode)
	}
}

func TestIdleAndLifetimeOnAFastClock(t *testing.T) {
	t.Run("idle", func(t *testing.T) {
		h := &toy{}
		_, url := newAPI(t, h, func(c *WebSocketConfig) { c.Scale = 6000 }) // 10 min in 100 ms
		began := time.Now()
		p := mustDial(t, url)
		if code := p.closeCode(); code != 1001 || time.Since(began) < 100*time.Millisecond {
			t.Fatalf("closed with %d after %v", code, time.Since(began))
		}
	})
	t.Run("lifetime", func(t *testing.T) {
		h := &toy{}
		g, url := newAPI(t, h, func(c *WebSocketConfig) { c.Scale = 7200 }) // 2 h in 1 s, 10 min in 83 ms
		began := time.Now()
		p := mustDial(t, url)
		id := onlyConn(t, g)
		stop := make(chan struct{})
		done := make(chan struct{})
		go func() { // busy in the outbound direction only
			defer close(done)
			for tick := time.NewTicker(10 * time.Millisecond); ; {
				select {
				case <-tick.C:
					g.Send(context.Background(), id, []byte("busy"))
				case <-stop:
					return
				}
			}
		}()
		code := p.closeCode()
		took := time.Since(began)
		close(stop)
		<-done
		if code != 1001 || took < time.Second {
			t.Fatalf("closed with %d after %v", code, took)
		}
	})
}

func TestAbruptEnd(t *testing.T) {
	h := &toy{}
	_, url := newAPI(t, h, nil)
	mustDial(t, url).nc.Close()
	if end := h.wait(t, eventDisconnect, 1)[0].RequestContext; end.DisconnectStatusCode != 1006 {
		t.Fatalf("status %d", end.DisconnectStatusCode)
	}
}

func TestCloseEndsAllAndRefusesNew(t *testing.T) {
	h := &toy{}
	g, url := newAPI(t, h, nil)
	a, b := mustDial(t, url), mustDial(t, url)
	codes := make(chan ws.StatusCode, 2)
	for _, p := range []*peer{a, b} {
		go func() { codes <- p.closeCode(); p.nc.Close() }()
	}
	g.Close()
	if x, y := <-codes, <-codes; x != 1001 || y != 1001 {
		t.Fatalf("closed with %d and %d", x, y)
	}
	if n := len(h.events(eventDisconnect)); n != 2 {
		t.Fatalf("%d $disconnect events when Close returned", n)
	}
	_, _, err := dial(t, url)
	var refused ws.StatusError
	if !errors.As(err, &refused) || refused != http.StatusServiceUnavailable {
		t.Fatalf("new connection: %v", err)
	}
}

// bodies are the message bodies in the order of their invocation.
func bodies(evs []wsRequest) []string {
	out := make([]string, len(evs))
	for i, ev := range evs {
		out[i] = ev.Body
	}
	return out
}

func TestFaultsInbound(t *testing.T) {
	const n = 200
	run := func(t *testing.T, f fault.Fault, want func(got []string) error) {
		h := &toy{}
		_, url := newAPI(t, h, func(c *WebSocketConfig) { c.Faults = Faults{Seed: 7, In: f} })
		p := mustDial(t, url)
		for i := range n {
			// One at a time, so that only the fault makes a difference.
			p.text(fmt.Sprintf("%03d", i))
			if f.Drop == 0 && f.Reorder == 0 {
				h.wait(t, eventMessage, i+1)
			}
		}
		p.frame(ws.OpClose, true, nil)
		h.wait(t, eventDisconnect, 1) // comes after all that was held back
		var got []string
		eventually(t, "all invocations", func() bool { got = bodies(h.events(eventMessage)); return want(got) == nil })
	}
	t.Run("duplicate", func(t *testing.T) {
		run(t, fault.Fault{Duplicate: 0.5}, func(got []string) error {
			return checkf(len(got) > n*5/4 && len(got) < n*7/4 && len(unique(got)) == n, "%d messages, %d distinct", len(got), len(unique(got)))
		})
	})
	t.Run("drop", func(t *testing.T) {
		run(t, fault.Fault{Drop: 0.5}, func(got []string) error {
			return checkf(len(got) > n/4 && len(got) < n*3/4 && len(unique(got)) == len(got), "%d messages", len(got))
		})
	})
	t.Run("reorder", func(t *testing.T) {
		run(t, fault.Fault{Reorder: 0.5}, func(got []string) error {
			return checkf(len(got) == n && len(unique(got)) == n && !slices.IsSorted(got), "%d messages, sorted %v", len(got), slices.IsSorted(got))
		})
	})
}

func checkf(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

func unique(s []string) map[string]bool {
	m := map[string]bool{}
	for _, v := range s {
		m[v] = true
	}
	return m
}

func TestFaultsOutbound(t *testing.T) {
	const n = 100
	h := &toy{}
	g, url := newAPI(t, h, func(c *WebSocketConfig) {
		c.Faults = Faults{Seed: 3, Out: fault.Fault{Drop: 0.2, Duplicate: 0.2, Reorder: 0.3}, LoseDisconnect: 1}
	})
	p := mustDial(t, url)
	id := onlyConn(t, g)
	for i := range n {
		if err := g.Send(t.Context(), id, []byte(fmt.Sprintf("%03d", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Disconnect(t.Context(), id); err != nil { // sends what was held back first
		t.Fatal(err)
	}
	var got []string
	for {
		f, err := readFrame(p.rd)
		if err != nil {
			t.Fatal(err)
		}
		if f.Header.OpCode == ws.OpClose {
			break
		}
		got = append(got, string(f.Payload))
	}
	p.frame(ws.OpClose, true, ws.NewCloseFrameBody(1000, ""))
	distinct := len(unique(got))
	if distinct < n*6/10 || distinct >= n || len(got) <= distinct || slices.IsSorted(got) {
		t.Fatalf("%d messages, %d distinct, sorted %v", len(got), distinct, slices.IsSorted(got))
	}
	g.Close()
	if len(h.events(eventDisconnect)) != 0 {
		t.Fatal("$disconnect was not lost")
	}
}
