package room

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"mayfly/roomtask/speaker"
	"mayfly/roomtask/usage"
	"mayfly/shared/signal"
)

const (
	mailboxSize   = 8192                   // messages; full only if the loop stands still
	beatEvery     = 100 * time.Millisecond // speakers, seating, the decision to end
	pulseEvery    = 20 * time.Millisecond  // media feedback
	ackLimit      = 2 * time.Second        // a heartbeat that is not acknowledged is repeated
	registerLimit = time.Minute            // without an answer to Register the task gives up
)

// Config is what a Room needs.
type Config struct {
	ID       string
	Epoch    int
	Slot     string // of the warm pool: then ID and Epoch are not known before they are assigned
	Self     Self   // for a task of the warm pool
	NewMedia NewMedia
	// Send queues a frame for the control plane. It never blocks.
	Send func(typ string, body any)
	// Opened is called once, when the control plane has accepted the task and before
	// the first participant: media addresses are known from then on.
	Opened func(signal.Registered) error
	// Renewed is called with each later registration; nil if nobody asks.
	Renewed func(signal.Registered)
	// Named says whether the relay has a name, or needs none; nil needs none. A room that
	// has not asks for it, and hears of it in Renewed.
	Named func() bool
	// Servers makes a participant's credentials of the relay; nil without one.
	Servers func(participant string) []signal.ICEServer
	// Messages tells the signalling messages so far, for the bill; nil counts none.
	Messages func() (in, out int64)
	// Rest is told when nobody has come or gone for a while, and when that ends; nil if
	// nobody asks. It must not block.
	Rest func(resting bool)
	// Judged is called every 2 s while the room is open; nil if nobody asks. It must not
	// block.
	Judged func(now time.Time)
	Now    func() time.Time // time.Now if nil
	// Started is when the process began, for the log line that tells how long the
	// room took to open. Zero is the start of Run.
	Started time.Time
	Metrics *Metrics // own ones if nil
	Log     *slog.Logger
}

// Exit says how the room ended.
type Exit struct {
	Code   int // of the process: signal.ExitEnded, …
	Reason string
}

// phase is where the loop stands.
type phase int8

const (
	waiting phase = iota // not registered yet
	open                 // takes joins
	asking               // empty: has asked the control plane to end
	closing              // ends whatever happens
	done
	idle // has no room yet
)

// Room is the loop. All fields below the mailbox are owned by Run.
type Room struct {
	cfg     Config
	mailbox chan any
	dropped atomic.Uint64 // messages that found the mailbox full
	pulsed  atomic.Pointer[[]Media]
	who     atomic.Pointer[who] // written by Run

	phase        phase
	exit         Exit
	startedAt    time.Time
	registeredAt time.Time
	limits       signal.RoomLimits
	joinSeq      uint64    // highest join number admitted by the control plane
	stood        time.Time // when the control plane last knew that this task stands by
	registering  bool      // an assigned room was asked for
	joinedBefore bool
	emptySince   time.Time
	told         string
	terminated   bool
	hand         handing
	end          endState

	people  map[string]*participant // by participant id
	order   []*participant          // in the order they joined
	conns   map[string]*clientConn  // by WebSocket connection id
	taken   map[string]uint64       // by participant id: the number of the last join
	orders  map[string]signal.Order // by participant id: what the product has ordered, whether it is here or not
	ordered uint64                  // Rev of the orders that were carried out
	leaving []Media                 // closed, not gone yet

	occupants []occupant // scratch of planFor
	calm      rest
	speaker   *speaker.Detector
	spoken    signal.Speakers // as last told
	book      *usage.Book
	budget    signal.Budget // how near a cap the room is, as last told; no level: far
	dirty     bool          // somebody's seats may have changed
	gone      Counts        // of those who left
	metrics   *Metrics

	nextHeartbeat time.Time
	lastHeartbeat time.Time
	nextQuality   time.Time
}

// clientConn is a client's WebSocket as the control plane relays it.
type clientConn struct {
	participant string
	in          *signal.Reorder
	out         uint64 // Seq of the last frame sent
}

// messages of the mailbox
type (
	frameMsg signal.Frame
	eventMsg struct {
		p  *participant
		ev Event
	}
	terminateMsg struct{ handOver bool }
)

// New returns a room that waits to be registered.
func New(cfg Config) *Room {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	book := usage.NewBook()
	book.Messages = cfg.Messages
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics()
	}
	r := &Room{
		cfg: cfg, metrics: cfg.Metrics, mailbox: make(chan any, mailboxSize),
		people: map[string]*participant{}, conns: map[string]*clientConn{}, taken: map[string]uint64{}, orders: map[string]signal.Order{},
		speaker: newDetector(), book: book,
	}
	r.who.Store(&who{room: cfg.ID, epoch: cfg.Epoch})
	if cfg.ID == "" {
		r.phase = idle
	}
	return r
}

// Frame hands over a frame from the link. It never blocks.
func (r *Room) Frame(f signal.Frame) { r.post(frameMsg(f)) }

// Terminate says that the task must go soon (SIGTERM): it hands the room over to the
// next one. It never blocks.
func (r *Room) Terminate() { r.post(terminateMsg{handOver: true}) }

// Stop says that the task must go now. It never blocks.
func (r *Room) Stop() { r.post(terminateMsg{}) }

func (r *Room) post(m any) {
	select {
	case r.mailbox <- m:
	default:
		r.dropped.Add(1)
		if e, ok := m.(eventMsg); ok && e.ev.Done != nil {
			e.ev.Done() // or its sender would wait for it for ever
		}
	}
}

// Hello is the first frame of every link connection of a task that has its room.
func (r *Room) Hello(taskARN, version string, started time.Time) signal.Register {
	w := r.who.Load()
	return signal.Register{
		Room: w.room, Epoch: w.epoch, TaskARN: taskARN, Version: version, StartedMS: started.UnixMilli(), StoodIn: w.stoodIn, StoodOut: w.stoodOut,
	}
}

// Run runs the room to its end. It returns when every participant's media is gone.
func (r *Room) Run(ctx context.Context) Exit {
	r.begin()
	pctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { r.pulse(pctx) })
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for r.phase != done {
		select {
		case m := <-r.mailbox:
			r.handle(m)
		case <-beat.C:
			r.beat(r.cfg.Now())
		case <-ctx.Done():
			r.finish(Exit{signal.ExitFault, "cancelled"})
		}
		r.settle()
	}
	stop()
	wg.Wait()
	for _, m := range r.leaving {
		<-m.Closed()
	}
	return r.exit
}

// pulse drives the periodic work of everyone's media, off the loop, so that a slow
// connection cannot hold up the room.
func (r *Room) pulse(ctx context.Context) {
	tick := time.NewTicker(pulseEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if list := r.pulsed.Load(); list != nil {
				now := r.cfg.Now().UnixNano()
				for _, m := range *list {
					m.Pulse(now)
				}
			}
		}
	}
}

func (r *Room) handle(m any) {
	switch m := m.(type) {
	case frameMsg:
		defer r.survive(nil)
		r.linkFrame(signal.Frame(m))
	case eventMsg:
		defer r.survive(m.p)
		r.mediaEvent(m.p, m.ev)
	case terminateMsg:
		if m.handOver {
			r.handOver(r.cfg.Now())
			return
		}
		r.terminated = true
		r.decide(r.cfg.Now())
	}
}

// linkFrame handles a frame from the control plane.
func (r *Room) linkFrame(f signal.Frame) {
	var err error
	switch f.Type {
	case signal.LinkRegistered:
		var m signal.Registered
		if err = decode(f, &m); err == nil {
			r.registered(m)
		}
	case signal.LinkStanding, signal.LinkAssign:
		err = r.standbyFrame(f)
	case signal.LinkRefused:
		var m signal.Refused
		_ = decode(f, &m)
		r.cfg.Log.Warn("refused by the control plane", "code", m.Code)
		r.finish(Exit{signal.ExitFenced, "refused: " + m.Code})
	case signal.LinkClient:
		var m signal.Client
		if err = decode(f, &m); err == nil {
			r.clientFrame(m)
		}
	case signal.LinkClientGone:
		var m signal.ClientGone
		if err = decode(f, &m); err == nil {
			delete(r.conns, m.Conn)
		}
	case signal.LinkEnd:
		var m signal.End
		if err = decode(f, &m); err == nil {
			r.told = m.Reason
			r.decide(r.cfg.Now())
		}
	case signal.LinkAck:
		var m signal.Ack
		if err = decode(f, &m); err == nil {
			r.book.Acked(m.Seq)
			r.acked()
			r.nearCap(m.Budget)
			r.named(m.RelayTLS)
		}
	case signal.LinkEndingOK:
		var m signal.EndingOK
		_ = json.Unmarshal(f.Body, &m) // without a body it answers whatever was asked
		r.endingOK(m)
	case signal.LinkOrders:
		var m signal.Orders
		if err = decode(f, &m); err == nil {
			r.obey(m)
		}
	case signal.LinkKeep:
		var m signal.Keep
		if err = decode(f, &m); err == nil {
			r.keep(m)
		}
	}
	if err != nil {
		r.cfg.Log.Warn("link frame not understood", "type", f.Type, "err", err)
	}
}

// registered opens the room. A later one, after a reconnect, changes nothing but
// the join counter.
func (r *Room) registered(m signal.Registered) {
	r.joinSeq = max(r.joinSeq, m.JoinSeq)
	if r.phase != waiting {
		if r.cfg.Renewed != nil {
			r.cfg.Renewed(m)
		}
		return
	}
	now := r.cfg.Now()
	r.limits, r.registeredAt, r.joinedBefore = m.Limits, now, m.JoinSeq > 0
	if err := r.cfg.Opened(m); err != nil {
		r.cfg.Log.Error("media could not be opened", "err", err)
		r.finish(Exit{signal.ExitFault, "media: " + err.Error()})
		return
	}
	r.phase = open
	r.nextHeartbeat = now.Add(signal.HeartbeatS * time.Second)
	r.cfg.Log.Info("room open", "ready_ms", now.Sub(r.cfg.Started).Milliseconds())
}

// beat does what has its time: levels, heartbeats, quality, the decision to end.
func (r *Room) beat(now time.Time) {
	switch r.phase {
	case idle:
		r.stand(now)
		return
	case waiting:
		switch {
		case now.Sub(r.startedAt) >= registerLimit:
			r.finish(Exit{signal.ExitLost, "never registered"})
		case r.terminated:
			r.finish(Exit{signal.ExitTerminated, signal.ReasonTerminated})
		default:
			r.register(now)
		}
		return
	}
	r.expireConns(now)
	r.expirePeople(now)
	if r.calm.begins(now) && r.cfg.Rest != nil {
		r.cfg.Rest(true)
	}
	r.renewServers(now)
	r.listen(now)
	// A session that nobody has heard of would be lost with the task.
	if !now.Before(r.nextHeartbeat) || now.Sub(r.lastHeartbeat) >= ackLimit && !r.book.Settled() {
		r.heartbeat(now)
	}
	if !now.Before(r.nextQuality) {
		r.nextQuality = now.Add(judgeEvery)
		r.judge(now)
		r.tellQuality(now)
		r.dirty = true // layers and reasons for a pause may have changed
	}
	r.tune(now)
	r.sayGoing(now)
	r.decide(now)
}

// settle does once, after a message, what several of its effects may ask for.
func (r *Room) settle() {
	if r.dirty && r.phase != done {
		r.dirty = false
		r.reseat()
		r.tune(r.cfg.Now())
	}
	kept := r.leaving[:0]
	for _, m := range r.leaving {
		select {
		case <-m.Closed():
		default:
			kept = append(kept, m)
		}
	}
	r.leaving = kept
}

// heartbeat tells usage. With more sessions than fit, it comes round sooner.
func (r *Room) heartbeat(now time.Time) {
	r.count(now)
	report, more := r.book.Report(now.UnixMilli(), false)
	r.cfg.Send(signal.LinkHeartbeat, signal.Heartbeat{
		JoinSeq: r.joinSeq, Orders: r.ordered, Nameless: r.cfg.Named != nil && !r.cfg.Named(), Usage: report,
	})
	r.lastHeartbeat = now
	r.nextHeartbeat = now.Add(signal.HeartbeatS * time.Second)
	if more {
		r.nextHeartbeat = now.Add(time.Second)
	}
}

// count takes everyone's counters into the book.
func (r *Room) count(now time.Time) {
	for _, p := range r.order {
		if p.session != "" {
			in, out, transport := p.media.Usage()
			r.book.Update(p.session, p.until(now).UnixMilli(), in, out, transport)
			r.book.Publish(p.session, p.tracks())
		}
	}
}

func (r *Room) finish(e Exit) {
	if r.phase == done {
		return
	}
	r.closeAll(e.Reason)
	r.phase, r.exit = done, e
}
