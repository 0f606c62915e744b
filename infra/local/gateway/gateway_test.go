package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"mayfly/infra/local/invoke"
)

type wsRequest = events.APIGatewayWebsocketProxyRequest

// toy is a WebSocket integration that records its events and lets a test choose
// the answers.
type toy struct {
	handle func(ctx context.Context, ev wsRequest) (events.APIGatewayProxyResponse, error) // optional

	mu   sync.Mutex
	seen []wsRequest   // guarded by mu
	more chan struct{} // capacity 1
}

func (h *toy) Invoke(ctx context.Context, ev wsRequest) (events.APIGatewayProxyResponse, error) {
	h.mu.Lock()
	h.seen = append(h.seen, ev)
	h.mu.Unlock()
	select {
	case h.more <- struct{}{}:
	default:
	}
	if h.handle != nil {
		return h.handle(ctx, ev)
	}
	return events.APIGatewayProxyResponse{StatusCode: 200}, nil
}

func (h *toy) events(kind string) []wsRequest {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []wsRequest
	for _, ev := range h.seen {
		if ev.RequestContext.EventType == kind {
			out = append(out, ev)
		}
	}
	return out
}

// wait returns the events of a kind once there are n of them.
func (h *toy) wait(t *testing.T, kind string, n int) []wsRequest {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		if got := h.events(kind); len(got) >= n {
			return got
		}
		select {
		case <-h.more:
		case <-deadline:
			t.Fatalf("%d %s events, want %d", len(h.events(kind)), kind, n)
		}
	}
}

func newAPI(t *testing.T, h *toy, change func(*WebSocketConfig)) (*WebSocket, string) {
	t.Helper()
	h.more = make(chan struct{}, 1)
	cfg := WebSocketConfig{
		APIID: "clientapi", Stage: "local", Domain: "clientapi.example",
		Function: invoke.Function{Name: "socket", Handler: h.Invoke},
		Now:      time.Now,
		Log:      slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	g := NewWebSocket(cfg)
	srv := httptest.NewServer(g)
	t.Cleanup(func() {
		g.Close()
		srv.Close()
	})
	return g, "ws" + srv.URL[len("http"):]
}

// peer is a raw WebSocket client: it decides about frames itself.
type peer struct {
	t  *testing.T
	nc net.Conn
	rd *wsReader
}

// wsReader reads from what the dialer has buffered first.
type wsReader struct {
	net.Conn
	buffered []byte
}

func (r *wsReader) Read(p []byte) (int, error) {
	if len(r.buffered) > 0 {
		n := copy(p, r.buffered)
		r.buffered = r.buffered[n:]
		return n, nil
	}
	return r.Conn.Read(p)
}

func dial(t *testing.T, url string, protocols ...string) (*peer, ws.Handshake, error) {
	t.Helper()
	d := ws.Dialer{Protocols: protocols, Timeout: 10 * time.Second}
	nc, br, hs, err := d.Dial(t.Context(), url)
	if err != nil {
		return nil, hs, err
	}
	p := &peer{t: t, nc: nc, rd: &wsReader{Conn: nc}}
	if br != nil {
		n := br.Buffered()
		b, _ := br.Peek(n)
		p.rd.buffered = append([]byte(nil), b...)
	}
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { nc.Close() })
	return p, hs, nil
}

func mustDial(t *testing.T, url string) *peer {
	t.Helper()
	p, _, err := dial(t, url)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *peer) frame(op ws.OpCode, fin bool, payload []byte) {
	p.t.Helper()
	f := ws.MaskFrame(ws.NewFrame(op, fin, payload))
	if err := ws.WriteFrame(p.nc, f); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) text(s string) { p.t.Helper(); p.frame(ws.OpText, true, []byte(s)) }

// next reads one whole message.
func (p *peer) next() string {
	p.t.Helper()
	data, op, err := wsutil.ReadServerData(struct {
		*wsReader
	}{p.rd})
	if err != nil || op != ws.OpText {
		p.t.Fatalf("read: %v %v", op, err)
	}
	return string(data)
}

// readFrame reads a frame whole. ws.ReadFrame would too, but trusts any length; the
// gateway never sends more than MaxMessage in one.
func readFrame(r io.Reader) (ws.Frame, error) {
	h, err := ws.ReadHeader(r)
	if err != nil {
		return ws.Frame{}, err
	}
	if h.Length > MaxMessage {
		return ws.Frame{}, fmt.Errorf("a frame of %d bytes", h.Length)
	}
	f := ws.Frame{Header: h, Payload: make([]byte, h.Length)}
	_, err = io.ReadFull(r, f.Payload)
	return f, err
}

// closeCode reads up to the close frame.
func (p *peer) closeCode() ws.StatusCode {
	p.t.Helper()
	for {
		f, err := readFrame(p.rd)
		if err != nil {
			p.t.Fatalf("no close frame: %v", err)
		}
		if f.Header.OpCode == ws.OpClose {
			code, _ := ws.ParseCloseFrameData(f.Payload)
			return code
		}
	}
}

func onlyConn(t *testing.T, g *WebSocket) string {
	t.Helper()
	ids := g.Connections()
	if len(ids) != 1 {
		t.Fatalf("connections: %v", ids)
	}
	return ids[0]
}

// eventually polls a condition that depends on real sockets.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
		<-time.After(time.Millisecond)
	}
}

func decode[T any](t *testing.T, s string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return v
}

func status(t *testing.T, resp *http.Response, err error) int {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}
