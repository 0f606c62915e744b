// Package robot is a scripted participant: a Pion client that joins a room over the
// real WebSocket, publishes VP8 (generated or recorded, up to three layers) and Opus,
// and judges what it receives in every seat: gaps after repair, frames that a decoder
// could show, latency. Tests and load tools drive it; it is no part of the product, and
// shares no parser with it.
//
// Read Join first. script.go has robots that act by a script. media.go negotiates,
// publish.go and outgoing.go send, incoming.go receives and gives feedback (NACK,
// transport-wide, receiver reports), judge.go says what arrived; keep.go, restart.go and
// reconnect.go bring a call back that was cut off. A robot repeats what is
// not answered, as web/client.js does, and passes over answers that come twice.
package robot

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/rtcp"
	"github.com/pion/transport/v4/stdnet"
	"github.com/pion/webrtc/v4"

	"mayfly/shared/signal"
)

// Config says how a robot joins.
type Config struct {
	WS     string // URL of the client WebSocket
	Ticket string
	Resume string // instead of Ticket
	Seats  int    // default 3
	Mute   bool   // publish nothing
	// SoundOnly publishes no picture.
	SoundOnly bool
	Camera    []Layer       // 1 to 3, the smallest first; default one of 320×180 and 0.9 Mbit/s
	Voice     string        // Ogg Opus file of 20 ms packets to say; default a voice-like sound
	DTX       bool          // silence is not sent (Speak)
	RED       bool          // take redundant audio (RFC 2198)
	Mark      uint16        // goes along with what is sent; what comes with another one is counted as foreign
	NoReports bool          // send no NACK, transport-wide feedback nor receiver reports
	Watch     string        // a source to show at 640×360 from the start
	View      []signal.Want // what to show from the start, instead of Watch
	Others    *signal.Size  // how large to show everybody else's camera from the start
	Repeat    time.Duration // how long a join waits for its answer before it is sent again; default 3 s
	Trace     bool          // keep when each packet came: Arrivals
	// Way is which of the task's ways in to take: WayAny, WayRelay or WayDirect.
	Way string
	// Servers are relays to take instead of the room's.
	Servers []signal.ICEServer
	// Answer, if set, changes the room's SDP answer, as nettest.Through does.
	Answer func(sdp string) (string, error)
}

// Robot is a joined participant.
type Robot struct {
	Joined signal.Joined
	PC     *webrtc.PeerConnection

	ws     *websocket.Conn   // guarded by mu while Keep runs
	inbox  chan signal.Frame // from the WebSocket, until joined; closed when it ends
	dc     *webrtc.DataChannel
	open   chan struct{} // closed when the data channel is open
	closed chan struct{} // closed when it has closed again
	gone   chan struct{} // closed when the robot should join again: Gone

	connected chan struct{} // closed when the connection has come up
	lost      sync.Once     // closes gone
	seq       uint64        // owned by the joining goroutine, and then by Keep's
	kept      atomic.Bool   // by Keep: a WebSocket that ends is no loss
	net       *stdnet.Net   // set once: the interfaces that Restart gathers on
	relay6    allocation    // of WayRelay6

	began   int64 // ns
	mark    uint16
	in      *receiver
	out     []*outgoing        // set by offer; the microphone is the first
	camera  *camera            // nil = no picture
	offered signal.Offer       // as last sent; owned by the caller of Join and Restart
	answers chan signal.Answer // to Restart
	answer  func(sdp string) (string, error)

	mu     sync.Mutex
	frames map[string]signal.Frame // the last of each type from the data channel; guarded by mu

	loud  atomic.Bool // what is spoken sounds like speech; else like silence
	muted atomic.Bool // nothing is sent

	stop context.CancelFunc
	wg   sync.WaitGroup
}

// Refusal is an error that the room answered.
type Refusal struct{ Fault signal.Error }

func (r *Refusal) Error() string { return r.Fault.Error() }

// Join joins the room. It waits while the room starts, until ctx ends. The robot
// publishes at once; Leave ends it.
func Join(ctx context.Context, cfg Config) (*Robot, error) {
	if cfg.Seats == 0 {
		cfg.Seats = 3
	}
	if cfg.Repeat == 0 {
		cfg.Repeat = 3 * time.Second
	}
	r := &Robot{
		inbox: make(chan signal.Frame, 64), open: make(chan struct{}), closed: make(chan struct{}), gone: make(chan struct{}),
		connected: make(chan struct{}),
		began:     unixNano(), in: newReceiver(unixNano, !cfg.NoReports), frames: map[string]signal.Frame{}, answer: cfg.Answer, mark: cfg.Mark,
		answers: make(chan signal.Answer, 4),
	}
	if cfg.Trace {
		r.in.trace = &trace{}
	}
	r.in.mark = cfg.Mark
	r.in.own = r.feedback
	if err := r.dial(ctx, cfg.WS); err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(context.Background())
	r.stop = stop
	joined := make(chan struct{})
	r.wg.Go(func() { r.read(run, joined) })
	asked := time.Now()
	err := r.join(ctx, cfg)
	close(joined)
	if err == nil {
		err = r.bringIn(ctx, cfg, time.Since(asked))
	}
	if err != nil {
		return nil, errors.Join(err, r.Vanish())
	}
	r.wg.Go(func() { r.pulse(run) })
	if !cfg.Mute {
		if err := r.publish(run, cfg); err != nil {
			return nil, errors.Join(err, r.Vanish())
		}
	}
	return r, nil
}

// fresh opens a connection for each WebSocket. The default client may take one that it has
// opened ahead and said nothing on, just when the server's patience with it ends: an EOF.
var fresh = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// dial opens a WebSocket to the room's signalling.
func dial(ctx context.Context, url string) (*websocket.Conn, error) {
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: fresh, Subprotocols: []string{signal.Version}}) //nolint:bodyclose // Dial's own: it never needs to be closed
	if err != nil {
		return nil, fmt.Errorf("robot: dial: %w", err)
	}
	ws.SetReadLimit(signal.MaxMessageBytes)
	return ws, nil
}

func (r *Robot) dial(ctx context.Context, url string) (err error) {
	r.ws, err = dial(ctx, url)
	return err
}

// read reads the WebSocket to its end. Once the robot has joined, frames matter only
// if they say that it should join again.
func (r *Robot) read(ctx context.Context, joined <-chan struct{}) {
	defer close(r.inbox)
	ws := r.ws
	for {
		_, data, err := ws.Read(ctx)
		if err != nil {
			if !r.kept.Load() {
				r.leaveBehind()
			}
			return
		}
		f, err := signal.ParseFrame(data, signal.MaxMessageBytes)
		if err != nil {
			continue // the gateway's own complaints are no frames
		}
		select {
		case <-joined:
			r.later(f)
			continue
		default:
		}
		select {
		case r.inbox <- f:
		case <-joined:
			r.later(f)
		case <-ctx.Done():
			return
		}
	}
}

// later looks at a frame that came after the answer.
func (r *Robot) later(f signal.Frame) {
	r.lateAnswer(f)
	if f.Type == signal.TypeEnded {
		r.mu.Lock()
		r.frames[f.Type] = f
		r.mu.Unlock()
	}
	var room signal.Room
	if f.Type == signal.TypeRoom && json.Unmarshal(f.Body, &room) == nil && room.Epoch > r.Joined.Epoch || f.Type == signal.TypeEnded {
		r.leaveBehind()
	}
}

// leaveBehind says that the place is lost.
func (r *Robot) leaveBehind() { r.lost.Do(func() { close(r.gone) }) }

// Gone is closed when the robot's place is lost, or may be: its task was replaced,
// ended it, or is not heard any more; or its WebSocket ended, which a robot does not
// open again alone. Joining again with Joined.Resume brings it back.
func (r *Robot) Gone() <-chan struct{} { return r.gone }

// Closed is closed when the room has closed the data channel.
func (r *Robot) Closed() <-chan struct{} { return r.closed }

// join offers, repeats itself until it is answered, and answers room_not_live with
// patience.
func (r *Robot) join(ctx context.Context, cfg Config) error {
	join, err := r.message(cfg)
	if err != nil {
		return err
	}
	if err := r.send(ctx, signal.TypeJoin, join); err != nil {
		return err
	}
	repeat := time.NewTicker(cfg.Repeat)
	defer repeat.Stop()
	for {
		var f signal.Frame
		ok := true
		select {
		case <-ctx.Done():
			return fmt.Errorf("robot: waiting for joined: %w", ctx.Err())
		case <-repeat.C:
			if err := r.send(ctx, signal.TypeJoin, join); err != nil {
				return err
			}
			continue
		case f, ok = <-r.inbox:
		}
		if !ok {
			return errors.New("robot: the WebSocket ended before joined")
		}
		again, err := r.answered(f, join.Offer.Generation)
		if err != nil || r.Joined.Participant != "" {
			return err
		}
		if again {
			if err := r.send(ctx, signal.TypeJoin, join); err != nil {
				return err
			}
		}
	}
}

// message makes the PeerConnection and the join that offers it.
func (r *Robot) message(cfg Config) (join signal.Join, err error) {
	offer, err := r.offer(cfg)
	if err != nil {
		return join, err
	}
	r.offered = offer
	secret := make([]byte, 24)
	_, _ = rand.Read(secret) // never fails (crypto/rand)
	join = signal.Join{
		Ticket: cfg.Ticket, Resume: cfg.Resume, Attempt: base64.RawURLEncoding.EncodeToString(secret),
		Offer: offer, View: signal.View{Rev: 1, Wants: []signal.Want{}, Others: cfg.Others},
	}
	if cfg.View != nil {
		join.View.Wants = cfg.View
	} else if cfg.Watch != "" {
		join.View.Wants = append(join.View.Wants, signal.Want{Source: cfg.Watch, Width: 640, Height: 360})
	}
	return join, nil
}

// answered takes a frame that may answer the join, and says whether to send it again.
func (r *Robot) answered(f signal.Frame, generation int) (again bool, err error) {
	switch f.Type {
	case signal.TypeJoined:
		var m signal.Joined
		if err := json.Unmarshal(f.Body, &m); err != nil {
			return false, fmt.Errorf("robot: joined: %w", err)
		}
		if m.Answer.Generation != generation {
			return false, nil
		}
		answer := m.Answer.SDP
		if r.answer != nil {
			if answer, err = r.answer(answer); err != nil {
				return false, err
			}
		}
		r.in.trace.seat(m.Seating.Seats)
		if err := r.accept(answer); err != nil {
			return false, err
		}
		r.Joined = m
	case signal.TypeRoom:
		var room signal.Room
		return json.Unmarshal(f.Body, &room) == nil && room.State == "live", nil
	case signal.TypeError:
		var e signal.Error
		if err := json.Unmarshal(f.Body, &e); err != nil || !e.Retryable || e.Code == signal.CodeRoomFull {
			return false, &Refusal{e}
		}
	}
	return false, nil
}

func (r *Robot) send(ctx context.Context, typ string, body any) error {
	r.seq++
	data, err := signal.Encode(typ, r.seq, body)
	if err != nil {
		return err
	}
	return r.ws.Write(ctx, websocket.MessageText, data)
}

// Send sends a message over the data channel, once it is open.
func (r *Robot) Send(ctx context.Context, typ string, body any) error {
	select {
	case <-r.open:
	case <-ctx.Done():
		return ctx.Err()
	}
	data, err := signal.Encode(typ, 0, body)
	if err != nil {
		return err
	}
	return r.dc.SendText(string(data))
}

// Speak makes what the robot sends loud from now on, or silent, as it is at first.
func (r *Robot) Speak(loud bool) { r.loud.Store(loud) }

// Last decodes the newest data-channel message of a type, and of ended also that of the
// WebSocket; false if none came.
func (r *Robot) Last(typ string, into any) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, ok := r.frames[typ]
	return ok && json.Unmarshal(f.Body, into) == nil
}

// Mute stops all that the robot sends, or lets it go on, and tells the room.
func (r *Robot) Mute(ctx context.Context, muted bool) error {
	r.muted.Store(muted)
	var err error
	for _, kind := range []string{signal.KindMic, signal.KindCamera} {
		if kind == signal.KindMic && len(r.out) > 0 || r.camera != nil {
			err = errors.Join(err, r.Send(ctx, signal.TypeMute, signal.Mute{Kind: kind, Muted: muted}))
		}
	}
	return err
}

// feedback takes what the room says of what the robot sends.
func (r *Robot) feedback(ssrc uint32, p rtcp.Packet) {
	for _, o := range r.out {
		if o.owns(ssrc) {
			o.feedback(p)
		}
	}
}

// pulse lets the receiver give feedback.
func (r *Robot) pulse(ctx context.Context) {
	tick := time.NewTicker(feedbackEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.in.tick()
		}
	}
}

// SeatReport is what a seat brought so far.
type SeatReport struct{ Audio, Video Stream }

// Report says what the robot received, by seat, and how long packets took from the
// publisher's stamp to here: sound and picture apart. Both ends must read one clock.
func (r *Robot) Report() (seats map[int]SeatReport, audio, video Histogram) {
	seats = map[int]SeatReport{}
	r.in.mu.Lock()
	defer r.in.mu.Unlock()
	for _, in := range r.in.streams {
		s := seats[in.seat]
		if in.video {
			s.Video = in.counts()
			video.Merge(&in.latencies)
		} else {
			s.Audio = in.counts()
			audio.Merge(&in.latencies)
		}
		seats[in.seat] = s
	}
	return seats, audio, video
}

// Firsts is how long after Join was called the first packet of a seat came, and the first
// picture that a decoder could show; 0 if none has.
func (r *Robot) Firsts() (packet, frame time.Duration) {
	r.in.mu.Lock()
	defer r.in.mu.Unlock()
	since := func(at int64) time.Duration {
		if at == 0 {
			return 0
		}
		return time.Duration(at - r.began)
	}
	return since(r.in.firstPacket), since(r.in.firstFrame)
}

// Forget begins the latencies anew.
func (r *Robot) Forget() {
	r.in.mu.Lock()
	defer r.in.mu.Unlock()
	for _, in := range r.in.streams {
		in.latencies = Histogram{}
	}
}

// Received is how many packets of sound and of pictures came so far, over all seats.
func (r *Robot) Received() (audio, video int64) {
	r.in.mu.Lock()
	defer r.in.mu.Unlock()
	for _, in := range r.in.streams {
		if in.video {
			video += in.stat.Packets
		} else {
			audio += in.stat.Packets
		}
	}
	return audio, video
}

// Leave says goodbye and ends the robot. It returns when its goroutines are gone.
func (r *Robot) Leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := r.Send(ctx, signal.TypeLeave, signal.Leave{})
	if err == nil {
		select { // the room closes its end when it has understood
		case <-r.closed:
		case <-ctx.Done():
			err = errors.New("robot: the room did not react to leave")
		}
	}
	return errors.Join(err, r.Vanish())
}

// Vanish ends the robot without a word, as a crash would.
func (r *Robot) Vanish() error {
	r.stop()
	var err error
	if r.PC != nil {
		err = errors.Join(r.PC.Close(), r.relay6.Close())
	}
	r.mu.Lock()
	ws := r.ws
	r.mu.Unlock()
	_ = ws.CloseNow() // read has closed it if it was quicker
	r.wg.Wait()
	return err
}
