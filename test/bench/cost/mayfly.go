package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"mayfly/roomtask/room"
	"mayfly/shared/signal"
)

// joinLimit bounds one join on either server.
const joinLimit = 20 * time.Second

// host is a room as the room task runs it, with the bench in place of the control
// plane: joins come by HTTP instead of the link, and no ticket is checked.
type host struct {
	room    *room.Room
	peers   *room.Peers
	metrics *room.Metrics

	mu      sync.Mutex
	joins   uint64
	waiting map[string]chan signal.Frame // by connection: one answer is awaited
}

func newHost() (*host, error) {
	room.KeepSmall()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: logLevel()}))
	h := &host{waiting: map[string]chan signal.Frame{}}
	h.metrics = room.NewMetrics()
	h.metrics.LatencyLimits(fine()...)
	h.peers = &room.Peers{Metrics: h.metrics, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, TCPPorts: []int{-1}, Log: log}
	if os.Getenv("MAYFLY_BENCH_PORTS") == "deployed" { // as many ways in as a task of a deployment has
		h.peers.UDPPorts, h.peers.TCPPorts = []int{0, 0}, []int{0, 0}
	}
	collector := room.NewCollector(h.peers.Withheld)
	opened := make(chan error, 1)
	h.room = room.New(room.Config{
		ID: "bench", Epoch: 1, Log: log, Send: h.send, NewMedia: h.peers.New, Rest: collector.Rest, Judged: collector.Look,
		Opened: func(r signal.Registered) error {
			err := h.peers.Open(r)
			opened <- err
			return err
		},
	})
	go func() {
		exit := h.room.Run(context.Background())
		fmt.Fprintln(os.Stderr, "cost: the room ended:", exit.Reason)
		os.Exit(1)
	}()
	err := h.frame(signal.LinkRegistered, signal.Registered{
		Room: "bench", Epoch: 1, PublicIP: "127.0.0.1",
		Limits: signal.RoomLimits{
			MaxParticipants: 10000, UnusedTimeoutS: 3600, EmptyTimeoutS: 3600, MaxDurationS: 3600,
			EndsAtMS: time.Now().Add(time.Hour).UnixMilli(),
		},
	})
	if err != nil {
		return nil, err
	}
	return h, <-opened
}

// fine are limits in steps of a tenth, from 20 µs to 2 s.
func fine() (limits []float64) {
	for us := 20.0; us < 2e6; us *= 1.1 {
		limits = append(limits, us)
	}
	return limits
}

func (h *host) frame(typ string, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	h.room.Frame(signal.Frame{Type: typ, Body: raw})
	return nil
}

// send is the room's word to the control plane.
func (h *host) send(typ string, body any) {
	switch body := body.(type) {
	case signal.Heartbeat:
		_ = h.frame(signal.LinkAck, signal.Ack{Seq: body.Usage.Seq}) // has no unmarshallable part
	case signal.ToClient:
		h.mu.Lock()
		defer h.mu.Unlock()
		if c := h.waiting[body.Conn]; c != nil {
			c <- body.Frame
			delete(h.waiting, body.Conn)
		}
	}
}

func (h *host) join(req joinRequest) (reply joinReply, err error) {
	j := signal.Join{
		Ticket: "bench", Attempt: "bench-bench-bench-bench",
		Offer: signal.Offer{Generation: 1, SDP: req.SDP, Sources: req.Sources, Seats: req.Seats},
		View:  signal.View{Rev: 1, Wants: []signal.Want{}},
	}
	for _, p := range req.Watch {
		j.View.Wants = append(j.View.Wants, signal.Want{Source: p + "/" + signal.KindCamera, Width: 1920, Height: 1080})
	}
	raw, err := json.Marshal(j)
	if err != nil {
		return reply, err
	}
	answer := make(chan signal.Frame, 1)
	h.mu.Lock()
	h.joins++
	h.waiting[req.ID] = answer
	client := signal.Client{
		Conn: req.ID, Participant: req.ID, Frame: signal.Frame{Type: signal.TypeJoin, Seq: 1, Body: raw},
		Session: &signal.Session{
			ID: "session-" + req.ID, Identity: req.ID, Name: req.ID, JoinSeq: h.joins, Resume: "r",
			Grants: signal.Grants{Publish: []string{signal.KindMic, signal.KindCamera}, Subscribe: len(req.Watch) > 0},
		},
	}
	err = h.frame(signal.LinkClient, client) // within mu: join numbers arrive in order
	h.mu.Unlock()
	if err != nil {
		return reply, err
	}
	select {
	case f := <-answer:
		var joined signal.Joined
		if f.Type != signal.TypeJoined {
			return reply, fmt.Errorf("%s: %s", f.Type, f.Body)
		}
		err = json.Unmarshal(f.Body, &joined)
		return joinReply{SDP: joined.Answer.SDP}, err
	case <-time.After(joinLimit):
		return reply, errors.New("no answer")
	}
}

func (h *host) stats() serverStats {
	c := h.peers.Counters()
	limits, counts := h.metrics.ForwardLatency()
	return serverStats{Limits: limits, Inside: counts, Runs: c.UDPRuns, Segments: c.UDPSegments, Dropped: c.UDPDropped + c.UDPWriteErrors}
}

// logLevel is that of MAYFLY_LOG, as the room task's.
func logLevel() (l slog.Level) {
	if l.UnmarshalText([]byte(os.Getenv("MAYFLY_LOG"))) != nil {
		return slog.LevelWarn
	}
	return l
}
