package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"mayfly/test/robot"
)

// Bounds, whatever is asked for.
const (
	MaxRooms        = 500
	MaxParticipants = 2000 // over all rooms
	MaxDuration     = 2 * time.Hour
)

// Config says what to put on, and where.
type Config struct {
	// API calls the HTTP API and returns the answer's body.
	API func(ctx context.Context, method, path string, body any) (json.RawMessage, error)

	Rooms   int
	Parts   int           // participants of each room
	Cameras int           // participants of each room who send a picture
	Mics    int           // participants of each room who send sound; one at a time speaks
	Layers  []robot.Layer // of each camera; default robot.Layers
	// Width and Height are the size at which pictures are watched; default by how many
	// there are: 1280×720 for one, 640×360 for up to four, 320×180.
	Width, Height int
	RED           bool
	NoReports     bool          // robots give no feedback: receivers that cost the least
	JoinRate      float64       // joins a second, over all rooms; default 20
	Settle        time.Duration // between the last join and the window that counts; default 5 s
	Duration      time.Duration // of that window
	Loaded        func()        // called when all have joined; optional

	Every time.Duration // between lines of the table; default 2 s
	Out   io.Writer     // the table; nil = none
}

func (c *Config) fill() error {
	if c.Layers == nil {
		c.Layers = robot.Layers
	}
	if c.JoinRate == 0 {
		c.JoinRate = 20
	}
	if c.Settle == 0 {
		c.Settle = 5 * time.Second
	}
	if c.Every == 0 {
		c.Every = 2 * time.Second
	}
	if c.Out == nil {
		c.Out = io.Discard
	}
	if c.Width == 0 {
		switch {
		case c.Cameras <= 1:
			c.Width, c.Height = 1280, 720
		case c.Cameras <= 4:
			c.Width, c.Height = 640, 360
		default:
			c.Width, c.Height = 320, 180
		}
	}
	switch {
	case c.Rooms < 1 || c.Rooms > MaxRooms:
		return fmt.Errorf("load: 1 to %d rooms, not %d", MaxRooms, c.Rooms)
	case c.Parts < 1 || c.Rooms*c.Parts > MaxParticipants:
		return fmt.Errorf("load: 1 to %d participants in all, not %d × %d", MaxParticipants, c.Rooms, c.Parts)
	case c.Cameras < 0 || c.Cameras > c.Parts || c.Cameras > maxCameras:
		return fmt.Errorf("load: 0 to %d cameras, not %d", min(c.Parts, maxCameras), c.Cameras)
	case c.Mics < 0 || c.Mics > c.Parts:
		return fmt.Errorf("load: 0 to %d microphones, not %d", c.Parts, c.Mics)
	case c.Duration <= 0 || c.Duration > MaxDuration:
		return fmt.Errorf("load: a window of up to %v, not %v", MaxDuration, c.Duration)
	case c.JoinRate <= 0 || c.Settle < 0 || c.Every < 0:
		return errors.New("load: negative rate or time")
	}
	return nil
}

// run is one run's state. Its rooms are set before robots join; each room guards its
// own.
type run struct {
	cfg   Config
	begin time.Time
	rooms []*room

	mu       sync.Mutex
	failures []error // of joins; guarded by mu
}

// Run puts the load on, keeps it for the window and takes it off again, also when ctx
// ends early. The result is of the window alone, but for the joins.
func Run(ctx context.Context, cfg Config) (Result, error) {
	if err := cfg.fill(); err != nil {
		return Result{}, err
	}
	r := &run{cfg: cfg, begin: time.Now()}
	defer r.end()
	if err := r.create(ctx); err != nil {
		return Result{}, err
	}
	table := newTable(cfg.Out)
	stop := r.show(table)
	err := r.join(ctx)
	if err == nil && cfg.Loaded != nil {
		cfg.Loaded()
	}
	if err == nil {
		err = wait(ctx, cfg.Settle)
	}
	var first, last Sample
	if err == nil {
		r.forget()
		first = r.sample()
		err = wait(ctx, cfg.Duration)
		last = r.sample()
	}
	stop()
	if err != nil {
		return Result{}, err
	}
	return r.result(first, last), nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// show prints a line every so often, until stop is called.
func (r *run) show(t *table) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(r.cfg.Every)
		defer tick.Stop()
		before := r.sample()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				now := r.sample()
				t.line(before, now)
				before = now
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// join has robots join at the rate that is asked for, room by room in turn.
func (r *run) join(ctx context.Context) error {
	tick := time.NewTicker(time.Duration(float64(time.Second) / r.cfg.JoinRate))
	defer tick.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range r.cfg.Parts {
		for _, room := range r.rooms {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			}
			wg.Go(func() {
				if err := room.join(ctx, i); err != nil {
					r.mu.Lock()
					r.failures = append(r.failures, err)
					r.mu.Unlock()
				}
			})
		}
		if i < r.cfg.Cameras { // their sources are in everybody's view
			wg.Wait()
		}
	}
	return nil
}

func (r *run) forget() {
	for _, room := range r.rooms {
		for _, m := range room.there() {
			m.Forget()
		}
	}
}

// end takes everything off again, in bounded time.
func (r *run) end() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	slots := make(chan struct{}, 16)
	var wg sync.WaitGroup
	for _, room := range r.rooms {
		for _, m := range room.there() {
			slots <- struct{}{}
			wg.Go(func() {
				_ = m.Vanish() // the room is deleted all the same
				<-slots
			})
		}
	}
	wg.Wait()
	for _, room := range r.rooms {
		_, _ = r.cfg.API(ctx, "DELETE", "/v1/rooms/"+room.id, nil) // it ends by itself when it is empty
	}
}
