// Package robot is a scripted participant: a Pion client that joins a room over the
// real WebSocket, publishes generated VP8 and Opus, and counts what it receives in
// every seat. Tests and load tools drive it; it is no part of the product.
//
// Read Join first. media.go makes what a robot publishes.
package robot

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
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
	Watch  string // a source to show at 640×360 from the start
}

// Robot is a joined participant.
type Robot struct {
	Joined signal.Joined
	PC     *webrtc.PeerConnection

	ws     *websocket.Conn
	dc     *webrtc.DataChannel
	open   chan struct{} // closed when the data channel is open
	closed chan struct{} // closed when it has closed again
	seq    uint64        // owned by the joining goroutine

	Packets [signal.MaxSeats]struct{ Audio, Video atomic.Int64 } // received, by seat

	mu     sync.Mutex
	frames []signal.Frame // from the data channel; guarded by mu

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
	r := &Robot{open: make(chan struct{}), closed: make(chan struct{})}
	if err := r.dial(ctx, cfg.WS); err != nil {
		return nil, err
	}
	if err := r.join(ctx, cfg); err != nil {
		_ = r.abort() // the first error says more
		return nil, err
	}
	run, stop := context.WithCancel(context.Background())
	r.stop = stop
	if !cfg.Mute {
		r.publish(run)
	}
	r.wg.Go(func() { // keep the WebSocket read, so that the gateway sees a live client
		for {
			if _, _, err := r.ws.Read(run); err != nil {
				return
			}
		}
	})
	return r, nil
}

func (r *Robot) dial(ctx context.Context, url string) error {
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{signal.Version}})
	if err != nil {
		return fmt.Errorf("robot: dial: %w", err)
	}
	ws.SetReadLimit(signal.MaxMessageBytes)
	r.ws = ws
	return nil
}

// join offers, and answers room_not_live with patience.
func (r *Robot) join(ctx context.Context, cfg Config) error {
	offer, err := r.offer(cfg)
	if err != nil {
		return err
	}
	secret := make([]byte, 24)
	_, _ = rand.Read(secret)
	join := signal.Join{
		Ticket: cfg.Ticket, Resume: cfg.Resume, Attempt: base64.RawURLEncoding.EncodeToString(secret),
		Offer: offer, View: signal.View{Rev: 1, Wants: []signal.Want{}},
	}
	if cfg.Watch != "" {
		join.View.Wants = append(join.View.Wants, signal.Want{Source: cfg.Watch, Width: 640, Height: 360})
	}
	if err := r.send(ctx, signal.TypeJoin, join); err != nil {
		return err
	}
	for {
		_, data, err := r.ws.Read(ctx)
		if err != nil {
			return fmt.Errorf("robot: waiting for joined: %w", err)
		}
		var f signal.Frame
		if err := json.Unmarshal(data, &f); err != nil {
			return fmt.Errorf("robot: %w", err)
		}
		switch f.Type {
		case signal.TypeJoined:
			if err := json.Unmarshal(f.Body, &r.Joined); err != nil {
				return fmt.Errorf("robot: joined: %w", err)
			}
			return r.PC.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: r.Joined.Answer.SDP})
		case signal.TypeRoom:
			var room signal.Room
			if json.Unmarshal(f.Body, &room) == nil && room.State == "live" {
				if err := r.send(ctx, signal.TypeJoin, join); err != nil {
					return err
				}
			}
		case signal.TypeError:
			var e signal.Error
			if err := json.Unmarshal(f.Body, &e); err != nil || e.Code != signal.CodeRoomNotLive {
				return &Refusal{e}
			}
		}
	}
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

// Last decodes the newest data-channel message of a type; false if none came.
func (r *Robot) Last(typ string, into any) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.frames) - 1; i >= 0; i-- {
		if r.frames[i].Type == typ {
			return json.Unmarshal(r.frames[i].Body, into) == nil
		}
	}
	return false
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
	err := r.abort()
	r.wg.Wait()
	return err
}

func (r *Robot) abort() error {
	var err error
	if r.PC != nil {
		err = r.PC.Close()
	}
	_ = r.ws.CloseNow()
	return err
}
