// Package link is the room task's one connection to the control plane: an outbound
// WebSocket, signed with the task role's credentials.
//
// It owns dialling, signing, reconnecting, rotation before the gateway's two-hour
// limit, and a bounded queue of frames that wait while the connection is down. It
// knows frames, not what they mean: the room gets each one through OnFrame and
// says what to send. Losing the link never touches media. Read Run first.
package link

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/coder/websocket"

	"mayfly/shared/signal"
)

const (
	maxAge       = 110 * time.Minute // API Gateway cuts a connection at 2 h
	overlap      = time.Minute       // the old connection stays this long after a rotation
	pingEvery    = 4 * time.Minute   // API Gateway cuts an idle connection at 10 min
	dialTimeout  = 5 * time.Second
	writeTimeout = 5 * time.Second
	byeTimeout   = 300 * time.Millisecond
	helloEvery   = 2 * time.Second // Register is repeated until it is answered
	maxQueue     = 512             // frames
	maxWrite     = 24 << 10        // bytes of one WebSocket frame; the gateway allows 32 KB
)

// backoff is the time before each attempt to dial, with up to half of it added at
// random so that the tasks of a Region do not return at once.
var backoff = []time.Duration{0, 100 * time.Millisecond, 300 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second}

// Config is what a Link needs. All fields but Log are required.
type Config struct {
	URL         string // ws:// or wss:// of the task WebSocket API, stage included
	Region      string // of the API, for the signature
	Credentials aws.CredentialsProvider
	// Hello makes the first frame of every connection. It is repeated until it is
	// answered, by registered, standing or assign.
	Hello func() (typ string, body any)
	// OnFrame gets every frame, in the order of arrival on one connection. It must not block.
	OnFrame func(signal.Frame)
	Log     *slog.Logger
}

// Link is the connection. Send may be called from any goroutine.
type Link struct {
	cfg    Config
	events chan event    // sessions and dials → Run
	wake   chan struct{} // cap 1: the queue has something
	rotate chan struct{} // cap 1: a new connection is wanted

	received, sent atomic.Int64 // messages of the gateway, in its units; see Messages

	mu    sync.Mutex
	queue []outgoing // guarded by mu

	// Owned by Run.
	current *session // registered
	fresh   *session // connected, and not answered yet
	dialing bool
	tries   int
	wg      sync.WaitGroup
}

type outgoing struct {
	typ  string
	body json.RawMessage
}

type session struct {
	conn   *websocket.Conn
	since  time.Time
	cancel context.CancelFunc // ends its reader, which closes the connection; set by listen

	// owned by Run
	seq     uint64    // of the last frame sent
	helloAt time.Time // when it last registered
}

type eventKind int8

const (
	dialed eventKind = iota
	dialFailed
	registered
	lost
)

type event struct {
	kind eventKind
	s    *session
	err  error
}

// New returns a Link that Run will connect.
func New(cfg Config) *Link {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Link{cfg: cfg, events: make(chan event), wake: make(chan struct{}, 1), rotate: make(chan struct{}, 1)}
}

// Messages tells what the two gateways have received and sent for this room as far as
// this end can know, in their units, a started 32 KB each: frames on the link, and
// once more those that are relayed from and to clients.
func (l *Link) Messages() (in, out int64) { return l.received.Load(), l.sent.Load() }

// units is how many messages the gateway charges for.
func units(bytes int) int64 { return int64(bytes+signal.MaxFrameBytes-1) / signal.MaxFrameBytes }

// Rotate asks for a new connection; the present one stays in use until the control
// plane has answered on the new one. Run does so by itself before the gateway's limit.
func (l *Link) Rotate() {
	select {
	case l.rotate <- struct{}{}:
	default:
	}
}

// Send queues a frame. It never blocks: while the link is down the newest
// heartbeat replaces the one before it (they are cumulative), as do others that repeat, and when the queue is
// full the oldest frame goes, since a client repeats what it gets no answer to.
func (l *Link) Send(typ string, body any) {
	raw, err := json.Marshal(body)
	if err != nil {
		l.cfg.Log.Error("link: frame not encodable", "type", typ, "err", err)
		return
	}
	l.mu.Lock()
	switch typ {
	case signal.LinkHeartbeat, signal.LinkEnding, signal.LinkStandby, signal.LinkRegister:
		for i, o := range l.queue {
			if o.typ == typ {
				l.queue = append(l.queue[:i], l.queue[i+1:]...)
				break
			}
		}
	}
	if len(l.queue) >= maxQueue {
		l.cfg.Log.Warn("link: queue full, oldest frame dropped", "type", l.queue[0].typ)
		l.queue = l.queue[1:]
	}
	l.queue = append(l.queue, outgoing{typ, raw})
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Run keeps the link up until ctx ends, then sends what is queued if it can, and
// returns when its last goroutine is gone.
func (l *Link) Run(ctx context.Context) {
	inner, cancel := context.WithCancel(context.Background())
	defer l.wg.Wait()
	defer cancel()
	old, ping, hello := time.NewTimer(maxAge), time.NewTicker(pingEvery), time.NewTicker(helloEvery/4)
	defer old.Stop()
	defer hello.Stop()
	defer ping.Stop()
	l.dial(inner)
	for {
		select {
		case <-ctx.Done():
			l.flush(inner)
			l.closeCurrent()
			cancel()
			l.drain()
			return
		case ev := <-l.events:
			l.handle(inner, ev)
			if ev.kind == registered {
				old.Reset(maxAge)
			}
		case <-l.wake:
			l.flush(inner)
		case <-old.C:
			l.dial(inner)
		case <-l.rotate:
			l.dial(inner)
		case <-hello.C:
			l.repeatHello(inner)
		case <-ping.C:
			if l.current != nil {
				l.Send(signal.TypePing, struct{}{})
			}
		}
	}
}

func (l *Link) handle(ctx context.Context, ev event) {
	switch ev.kind {
	case dialed:
		l.dialing = false
		l.fresh = ev.s
		l.listen(ctx, ev.s)
	case dialFailed:
		l.dialing = false
		l.cfg.Log.Warn("link: dial", "err", ev.err, "try", l.tries)
		l.dial(ctx)
	case registered:
		l.tries = 0
		if old := l.current; old != nil && old != ev.s {
			l.retire(ctx, old)
		}
		l.current = ev.s
		if l.fresh == ev.s {
			l.fresh = nil
		}
		l.flush(ctx)
	case lost:
		if l.current == ev.s {
			l.cfg.Log.Info("link: lost", "err", ev.err, "age", time.Since(ev.s.since).Round(time.Second))
			l.current = nil
		}
		if l.fresh == ev.s {
			l.fresh = nil
		}
		if l.current == nil && l.fresh == nil {
			l.dial(ctx)
		}
	}
}

// dial starts one attempt, after the back-off, unless one is under way.
func (l *Link) dial(ctx context.Context) {
	if l.dialing {
		return
	}
	l.dialing = true
	wait := backoff[min(l.tries, len(backoff)-1)]
	if wait > 0 {
		wait += rand.N(wait / 2)
	}
	l.tries++
	l.wg.Go(func() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		dctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		conn, err := open(dctx, l.cfg)
		if err != nil {
			l.post(ctx, event{kind: dialFailed, err: err})
			return
		}
		conn.SetReadLimit(signal.MaxMessageBytes)
		l.post(ctx, event{kind: dialed, s: &session{conn: conn, since: time.Now()}})
	})
}

// listen says hello and reads until the connection ends.
func (l *Link) listen(run context.Context, s *session) {
	ctx, cancel := context.WithCancel(run)
	s.cancel = cancel
	err := l.hello(ctx, s)
	l.wg.Go(func() {
		for err == nil {
			var data []byte
			if _, data, err = s.conn.Read(ctx); err != nil {
				break
			}
			var f signal.Frame
			if json.Unmarshal(data, &f) != nil {
				l.cfg.Log.Warn("link: frame is not JSON", "bytes", len(data))
				continue
			}
			l.sent.Add(units(len(data)))
			if f.Type == signal.LinkClient {
				l.received.Add(units(len(f.Body)))
			}
			switch f.Type {
			case signal.LinkRegistered, signal.LinkStanding, signal.LinkAssign:
				l.post(ctx, event{kind: registered, s: s})
			}
			l.cfg.OnFrame(f)
		}
		_ = s.conn.CloseNow()
		s.cancel()
		l.post(run, event{kind: lost, s: s, err: err})
	})
}

// hello registers over a session. Its answer may be lost, so Run repeats it.
func (l *Link) hello(ctx context.Context, s *session) error {
	typ, body := l.cfg.Hello()
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode %s: %w", typ, err)
	}
	s.helloAt = time.Now()
	l.received.Add(units(len(raw)))
	return s.write(ctx, outgoing{typ, raw})
}

// repeatHello registers again where the answer is overdue.
func (l *Link) repeatHello(ctx context.Context) {
	s := l.fresh
	if s == nil || time.Since(s.helloAt) < helloEvery {
		return
	}
	if err := l.hello(ctx, s); err != nil {
		_ = s.conn.CloseNow() // its reader reports the loss
	}
}

// retire closes a rotated connection once frames on their way to it have arrived.
func (l *Link) retire(ctx context.Context, s *session) {
	l.wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-time.After(overlap):
		}
		s.bye()
	})
}

// bye closes with a handshake, but does not wait long for the other end's half of
// it: ending the reader's context cuts the connection.
func (s *session) bye() {
	cut := time.AfterFunc(byeTimeout, s.cancel)
	defer cut.Stop()
	defer s.cancel()
	_ = s.conn.Close(websocket.StatusNormalClosure, "")
}

func (l *Link) closeCurrent() {
	if l.current != nil {
		l.current.bye()
	}
}

// flush writes the queue to the current connection, in order. A frame whose write
// fails goes back to the head.
func (l *Link) flush(ctx context.Context) {
	for l.current != nil {
		l.mu.Lock()
		if len(l.queue) == 0 {
			l.mu.Unlock()
			return
		}
		o := l.queue[0]
		l.queue = l.queue[1:]
		l.mu.Unlock()
		if err := l.current.write(ctx, o); err != nil {
			l.mu.Lock()
			l.queue = append([]outgoing{o}, l.queue...)
			l.mu.Unlock()
			_ = l.current.conn.CloseNow() // its reader reports the loss
			return
		}
		l.received.Add(units(len(o.body)))
		if o.typ == signal.LinkToClient {
			l.sent.Add(units(len(o.body)))
		}
	}
}

// write sends one message, in frames below the gateway's limit.
func (s *session) write(ctx context.Context, o outgoing) error {
	s.seq++
	data, err := json.Marshal(signal.Frame{Type: o.typ, Seq: s.seq, Body: o.body})
	if err != nil {
		return fmt.Errorf("encode %s: %w", o.typ, err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if len(data) <= maxWrite {
		return s.conn.Write(ctx, websocket.MessageText, data)
	}
	w, err := s.conn.Writer(ctx, websocket.MessageText)
	if err != nil {
		return err
	}
	for len(data) > 0 {
		n := min(len(data), maxWrite)
		if _, err := w.Write(data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return w.Close()
}

// post hands an event to Run, unless Run is ending.
func (l *Link) post(ctx context.Context, ev event) {
	select {
	case l.events <- ev:
	case <-ctx.Done():
		if ev.kind == dialed {
			_ = ev.s.conn.CloseNow()
		}
	}
}

// drain lets goroutines that still want to post go away.
func (l *Link) drain() {
	done := make(chan struct{})
	go func() { l.wg.Wait(); close(done) }()
	for {
		select {
		case <-l.events:
		case <-done:
			return
		}
	}
}
