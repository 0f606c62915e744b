package load

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"mayfly/shared/signal"
	"mayfly/test/robot"
)

const (
	maxCameras = 7 // seats of a first offer, without one for sound alone
	invites    = 100
	liveLimit  = 3 * time.Minute // for a room to start; Fargate takes half a minute
	joinLimit  = 30 * time.Second
)

// room is one room and its robots.
type room struct {
	cfg     *Config
	id      string
	people  []person
	startMS float64 // from the create to live

	mu sync.Mutex
	// guarded by mu
	robots  []*robot.Robot
	cameras []string // sources
	joins   []float64
	packets []float64 // ms from the join to the first packet …
	frames  []float64 // … and to the first picture that a decoder could show
	waiting map[*robot.Robot]bool
}

type person struct {
	ID      string `json:"participant_id"`
	Ticket  string `json:"ticket"`
	CallURL string `json:"call_url"`
}

// ws finds the WebSocket API in a call URL: it is how a browser learns it.
func (p person) ws() (string, error) {
	_, fragment, _ := strings.Cut(p.CallURL, "#")
	v, err := url.ParseQuery(fragment)
	if err != nil || v.Get("ws") == "" {
		return "", fmt.Errorf("load: no WebSocket URL in the call URL")
	}
	return v.Get("ws"), nil
}

// create makes the rooms, with everybody's tickets, and waits until they are live.
func (r *run) create(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, liveLimit)
	defer cancel()
	begun := make([]time.Time, r.cfg.Rooms)
	for n := range r.cfg.Rooms {
		begun[n] = time.Now()
		room := &room{cfg: &r.cfg, waiting: map[*robot.Robot]bool{}}
		r.rooms = append(r.rooms, room)
		if err := room.create(ctx, r.cfg.API); err != nil {
			return err
		}
	}
	for n, room := range r.rooms {
		if err := room.live(ctx, r.cfg.API); err != nil {
			return err
		}
		room.startMS = millis(time.Since(begun[n]))
	}
	return nil
}

func (m *room) create(ctx context.Context, api func(context.Context, string, string, any) (json.RawMessage, error)) error {
	people := func(from, to int) []map[string]any {
		var list []map[string]any
		for i := from; i < to; i++ {
			list = append(list, map[string]any{"identity": fmt.Sprint("robot-", i), "ttl_s": 3600})
		}
		return list
	}
	var answer struct {
		ID           string   `json:"id"`
		Participants []person `json:"participants"`
	}
	call := func(path string, body map[string]any) error {
		raw, err := api(ctx, "POST", path, body)
		if err != nil {
			return err
		}
		answer.Participants = nil
		if err := json.Unmarshal(raw, &answer); err != nil {
			return fmt.Errorf("load: POST %s: %w", path, err)
		}
		m.people = append(m.people, answer.Participants...)
		return nil
	}
	first := min(m.cfg.Parts, invites)
	if err := call("/v1/rooms", map[string]any{
		"max_participants": max(m.cfg.Parts, 2), "empty_timeout_s": 10, "participants": people(0, first),
	}); err != nil {
		return err
	}
	m.id = answer.ID
	for from := first; from < m.cfg.Parts; from += invites {
		if err := call("/v1/rooms/"+m.id+"/tickets", map[string]any{"participants": people(from, min(from+invites, m.cfg.Parts))}); err != nil {
			return err
		}
	}
	if len(m.people) != m.cfg.Parts {
		return fmt.Errorf("load: %d tickets for %d participants", len(m.people), m.cfg.Parts)
	}
	return nil
}

func (m *room) live(ctx context.Context, api func(context.Context, string, string, any) (json.RawMessage, error)) error {
	for {
		raw, err := api(ctx, "GET", "/v1/rooms/"+m.id, nil)
		if err != nil {
			return err
		}
		var is struct {
			State string `json:"state"`
		}
		if err := json.Unmarshal(raw, &is); err != nil {
			return fmt.Errorf("load: room: %w", err)
		}
		switch is.State {
		case "live":
			return nil
		case "failed", "ended", "draining":
			return fmt.Errorf("load: a room is %s before anybody came", is.State)
		}
		if err := wait(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("load: a room does not start: %w", err)
		}
	}
}

// join has the i-th participant join. The first have the cameras, and everybody watches
// all of them that were there before; the first have the microphones, too.
func (m *room) join(ctx context.Context, i int) error {
	ctx, cancel := context.WithTimeout(ctx, joinLimit)
	defer cancel()
	p := m.people[i]
	ws, err := p.ws()
	if err != nil {
		return err
	}
	cfg := robot.Config{
		WS: ws, Ticket: p.Ticket, Seats: max(1, min(m.cfg.Cameras+1, signal.MaxFirstSeats)), RED: m.cfg.RED, NoReports: m.cfg.NoReports,
		Mute: i >= m.cfg.Mics && i >= m.cfg.Cameras, SoundOnly: i >= m.cfg.Cameras, Camera: m.cfg.Layers, DTX: true, View: m.view(p.ID),
	}
	began := time.Now()
	r, err := robot.Join(ctx, cfg)
	if err != nil {
		return err
	}
	took := millis(time.Since(began))
	r.Speak(i == 0)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.robots = append(m.robots, r)
	m.joins = append(m.joins, took)
	m.waiting[r] = true
	if i < m.cfg.Cameras {
		m.cameras = append(m.cameras, r.Joined.Participant+"/camera")
		for _, early := range m.robots {
			_ = early.Send(ctx, signal.TypeView, signal.View{Rev: uint64(1 + len(m.cameras)), Wants: m.wants(early.Joined.Participant)})
		}
	}
	return nil
}

func (m *room) view(self string) []signal.Want {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.wants(self)
}

// wants lists the cameras of the others. mu is held.
func (m *room) wants(self string) []signal.Want {
	wants := []signal.Want{}
	for _, c := range m.cameras {
		if !strings.HasPrefix(c, self+"/") {
			wants = append(wants, signal.Want{Source: c, Width: m.cfg.Width, Height: m.cfg.Height})
		}
	}
	return wants
}

func (m *room) there() []*robot.Robot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]*robot.Robot(nil), m.robots...)
}

// firsts notes when those who joined received their first packet and picture.
func (m *room) firsts() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for r := range m.waiting {
		packet, frame := r.Firsts()
		if frame == 0 {
			continue
		}
		m.packets = append(m.packets, millis(packet))
		m.frames = append(m.frames, millis(frame))
		delete(m.waiting, r)
	}
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
