package link

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/coder/websocket"

	"mayfly/shared/signal"
)

// gateway is a WebSocket server that takes the task's connections one by one.
type gateway struct {
	*httptest.Server
	conns  chan *websocket.Conn
	mu     sync.Mutex
	auth   []string // Authorization headers
	refuse int      // status for the next upgrades, 0 = accept
}

func newGateway(t *testing.T) *gateway {
	g := &gateway{conns: make(chan *websocket.Conn, 8)}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		g.auth = append(g.auth, r.Header.Get("Authorization"))
		refuse := g.refuse
		g.mu.Unlock()
		if refuse != 0 {
			w.WriteHeader(refuse)
			return
		}
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		c.SetReadLimit(1 << 20)
		g.conns <- c
		<-r.Context().Done()
	}))
	t.Cleanup(g.Close)
	return g
}

func (g *gateway) accept(t *testing.T) *websocket.Conn {
	t.Helper()
	select {
	case c := <-g.conns:
		return c
	case <-time.After(10 * time.Second):
		t.Fatal("no connection came")
		return nil
	}
}

func read(t *testing.T, c *websocket.Conn) signal.Frame {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, data, err := c.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var f signal.Frame
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func reply(t *testing.T, c *websocket.Conn, typ string, body any) {
	t.Helper()
	data, err := signal.Encode(typ, 1, body)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Write(context.Background(), websocket.MessageText, data); err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T, g *gateway) (l *Link, frames chan signal.Frame, stop func()) {
	frames = make(chan signal.Frame, 64)
	l = New(Config{
		URL: "ws" + strings.TrimPrefix(g.URL, "http") + "/task", Region: "eu-central-1",
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "SECRET", SessionToken: "TOKEN"}, nil
		}),
		Hello:   func() (string, any) { return signal.LinkRegister, signal.Register{Room: "room_1", Epoch: 1} },
		OnFrame: func(f signal.Frame) { frames <- f },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { l.Run(ctx); close(done) }()
	stop = func() {
		cancel()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Error("Run does not return")
		}
	}
	return l, frames, stop
}

func TestHelloThenQueueInOrder(t *testing.T) {
	g := newGateway(t)
	l, frames, stop := start(t, g)
	l.Send(signal.LinkHeartbeat, map[string]int{"n": 1})
	l.Send(signal.LinkToClient, map[string]int{"n": 2})
	l.Send(signal.LinkHeartbeat, map[string]int{"n": 3}) // replaces the first: they are cumulative
	c := g.accept(t)
	if f := read(t, c); f.Type != signal.LinkRegister || f.Seq != 1 {
		t.Fatalf("first frame %+v", f)
	}
	reply(t, c, signal.LinkRegistered, signal.Registered{Room: "room_1"})
	if f := <-frames; f.Type != signal.LinkRegistered {
		t.Errorf("OnFrame got %s", f.Type)
	}
	if f := read(t, c); f.Type != signal.LinkToClient || f.Seq != 2 {
		t.Errorf("second frame %+v", f)
	}
	if f := read(t, c); f.Type != signal.LinkHeartbeat || string(f.Body) != `{"n":3}` {
		t.Errorf("third frame %s %s", f.Type, f.Body)
	}
	stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	if want := "/eu-central-1/execute-api/aws4_request"; !strings.Contains(g.auth[0], want) || !strings.Contains(g.auth[0], "x-amz-security-token") {
		t.Errorf("Authorization %q", g.auth[0])
	}
}

func TestLostConnectionRegistersAgainAndSendsWhatWaited(t *testing.T) {
	g := newGateway(t)
	l, _, stop := start(t, g)
	c := g.accept(t)
	read(t, c)
	reply(t, c, signal.LinkRegistered, signal.Registered{})
	_ = c.CloseNow()
	c = g.accept(t)
	l.Send(signal.LinkToClient, "waits for the answer to register")
	if f := read(t, c); f.Type != signal.LinkRegister || f.Seq != 1 {
		t.Fatalf("after the loss: %+v", f)
	}
	reply(t, c, signal.LinkRegistered, signal.Registered{})
	for {
		if f := read(t, c); f.Type == signal.LinkToClient {
			break
		}
	}
	stop()
}

func TestRegisterIsRepeatedUntilAnswered(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	l, _, stop := start(t, g)
	c := g.accept(t)
	for range 2 { // the first answer is lost
		if f := read(t, c); f.Type != signal.LinkRegister {
			t.Fatalf("frame %+v", f)
		}
	}
	reply(t, c, signal.LinkRegistered, signal.Registered{})
	l.Send(signal.LinkToClient, "x")
	for {
		if f := read(t, c); f.Type == signal.LinkToClient {
			break
		}
	}
	stop()
}

func TestRefusedUpgradeIsTriedAgain(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.refuse = http.StatusForbidden
	_, _, stop := start(t, g)
	poll, deadline := time.NewTicker(5*time.Millisecond), time.After(10*time.Second)
	defer poll.Stop()
	for tries := 0; tries < 3; {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("%d tries", tries)
		}
		g.mu.Lock()
		tries = len(g.auth)
		if tries >= 3 {
			g.refuse = 0
		}
		g.mu.Unlock()
	}
	read(t, g.accept(t))
	stop()
}

func TestRotationKeepsTheOldConnectionUntilTheNewOneIsRegistered(t *testing.T) {
	g := newGateway(t)
	l, _, stop := start(t, g)
	first := g.accept(t)
	read(t, first)
	reply(t, first, signal.LinkRegistered, signal.Registered{})
	l.Rotate()
	second := g.accept(t)
	if f := read(t, second); f.Type != signal.LinkRegister {
		t.Fatalf("first frame of the second connection: %+v", f)
	}
	l.Send(signal.LinkToClient, "old") // not registered there yet: the first one carries it
	if f := read(t, first); f.Type != signal.LinkToClient {
		t.Errorf("before registration: %+v", f)
	}
	reply(t, second, signal.LinkRegistered, signal.Registered{})
	for i := 0; ; i++ { // some may still go to the first, until Run has seen the answer
		l.Send(signal.LinkToClient, i)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		_, _, err := first.Read(ctx)
		cancel()
		if err != nil {
			break
		}
		if i > 200 {
			t.Fatal("the new connection is never used")
		}
	}
	if f := read(t, second); f.Type != signal.LinkToClient {
		t.Errorf("after registration: %+v", f)
	}
	stop()
}

func TestLargeFramesAreSplit(t *testing.T) {
	g := newGateway(t)
	l, _, stop := start(t, g)
	c := g.accept(t)
	read(t, c)
	reply(t, c, signal.LinkRegistered, signal.Registered{})
	long := strings.Repeat("x", 100<<10)
	l.Send(signal.LinkToClient, long)
	var got string
	if f := read(t, c); json.Unmarshal(f.Body, &got) != nil || got != long {
		t.Errorf("100 KB arrived as %d bytes", len(got))
	}
	stop()
}
