package model

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"

	"mayfly/roomtask/room"
	"mayfly/shared/signal"
	"mayfly/shared/usage"
)

// Times of a task, in milliseconds.
const (
	bootMS   = 120    // from RUNNING to the first dial
	turnMS   = 1_000  // how often the loop is turned at least
	iceMS    = 30_000 // for which a path is looked for
	helloMS  = 2_000  // Register is repeated so often
	redialMS = 1_000  // after a lost link
	rotateMS = 60_000 // for which a rotated link stays
	byteRate = 37     // bytes out per millisecond and participant, and a third of it in
)

// roomTask is the process in a task: the real loop of the room, a link that does what
// roomtask/link does, and media that counts.
type roomTask struct {
	w    *World
	t    *ecsTask
	room *room.Room

	link     *conn // the last one that was dialled; nil before
	current  *conn // the one that is registered; nil while there is none
	dialing  bool
	dials    int
	queue    []outgoing
	frozen   bool
	inbox    [][]byte // what came while it was frozen
	over     bool
	accepted bool              // the control plane has registered it
	fenced   bool              // … or refused it
	agreed   bool              // … or agreed to its end, with all its figures
	final    uint64            // number of the first final report; 0 before
	people   map[string]*media // the last of each participant
	arriving map[string]bool   // of each participant: it may still play at the task before
	all      []*media
	reports  map[uint64]usage.Totals // what the report of that number said
	assigned bool                    // it stood by, and has its room
	stood    int64                   // messages until then
	sentIn   int64
	sentOut  int64
}

type outgoing struct {
	typ  string
	body any
}

// boot runs the process.
func (c *cluster) boot(t *ecsTask) {
	w := c.w
	p := &roomTask{w: w, t: t, people: map[string]*media{}, arriving: map[string]bool{}, reports: map[uint64]usage.Totals{}}
	t.process = p
	w.tasks++
	cfg := room.Config{
		ID: t.room, Epoch: t.epoch, Log: slog.New(slog.DiscardHandler), Now: w.time, Self: p.self(),
		Send:     p.send,
		Opened:   func(signal.Registered) error { return nil },
		NewMedia: p.newMedia,
		Messages: func() (in, out int64) { return p.sentIn, p.sentOut },
	}
	if t.slot != nil {
		cfg.ID, cfg.Epoch, cfg.Slot = "", 0, t.slot.id
	}
	p.room = room.New(cfg)
	if v, yes := w.chance.Draw(BootFails, t.actor(w, "boot"), 0); yes {
		w.in(int64(v%5_000), func() { c.exited(t, signal.ExitFault) })
		return
	}
	if _, yes := w.chance.Draw(NeverCalls, t.actor(w, "calls"), 0); yes {
		w.say("task %s never calls home", t.label)
		return
	}
	if v, yes := w.chance.Draw(Freeze, t.actor(w, "freeze"), 0); yes {
		w.in(int64(v%120_000), func() { p.freeze(2_000 + int64(v>>8%120_000)) })
	}
	w.in(bootMS, p.dial)
	w.in(bootMS, p.turn)
	w.in(helloMS, p.hello)
}

// dial opens the link, or the next one.
func (p *roomTask) dial() {
	if p.over || p.frozen || p.dialing {
		return
	}
	p.dialing = true
	p.dials++
	w := p.w
	id := p.t.task.ARN[strings.LastIndex(p.t.task.ARN, "/")+1:]
	c := &conn{
		label: fmt.Sprintf("link %s#%d", p.t.label, p.dials), actor: mix(p.t.actor(w, "link"), uint64(p.dials), 8), //nolint:gosec // counts
		api: taskAPI, userARN: "arn:aws:sts::000000000000:assumed-role/task/" + id,
	}
	c.take = func(data []byte) { p.take(c, data) }
	c.lost = func() { p.lost(c) }
	w.gate.dial(c, func(ok bool) {
		p.dialing = false
		switch {
		case p.over:
			w.gate.cut(c)
		case !ok:
			w.in(redialMS, p.dial)
		default:
			p.link = c
			p.register(c)
			if v, yes := w.chance.Draw(CutLink, c.actor, 0); yes {
				w.in(int64(v%150_000), func() {
					if c.up {
						w.say("%s is cut", c.label)
						w.gate.cut(c)
					}
				})
			}
		}
	})
}

func (p *roomTask) lost(c *conn) {
	if p.current == c {
		p.current = nil
	}
	if p.link == c {
		p.link = nil
		p.w.in(redialMS, p.dial)
	}
}

func (p *roomTask) register(c *conn) {
	p.sentIn++
	typ, body := p.room.Opening(p.self())
	p.write(c, typ, body)
}

// self is what the task says of itself.
func (p *roomTask) self() room.Self {
	return room.Self{TaskARN: p.t.task.ARN, Version: "model", Started: p.w.time()}
}

// hello registers again while the answer is overdue.
func (p *roomTask) hello() {
	if p.over {
		return
	}
	if c := p.link; c != nil && c != p.current && !p.frozen {
		p.register(c)
	}
	p.w.in(helloMS, p.hello)
}

// send is what the room says. While the link is down the newest report replaces the
// one before, as in roomtask/link.
func (p *roomTask) send(typ string, body any) {
	switch m := body.(type) {
	case signal.Heartbeat:
		p.reports[m.Usage.Seq] = m.Usage.Totals
	case signal.Ending:
		p.reports[m.Usage.Seq] = m.Usage.Totals
		if m.Usage.Final && p.final == 0 {
			p.final = m.Usage.Seq
		}
	}
	if typ == signal.LinkHeartbeat || typ == signal.LinkEnding {
		for i, o := range p.queue {
			if o.typ == typ {
				p.queue = append(p.queue[:i], p.queue[i+1:]...)
				break
			}
		}
	}
	p.queue = append(p.queue, outgoing{typ, body})
	p.flush()
}

func (p *roomTask) flush() {
	for p.current != nil && len(p.queue) > 0 {
		o := p.queue[0]
		p.queue = p.queue[1:]
		p.sentIn++
		p.write(p.current, o.typ, o.body)
	}
}

func (p *roomTask) write(c *conn, typ string, body any) {
	data, err := signal.Encode(typ, 0, body)
	if err != nil {
		p.w.fail("task %s: encode %s: %v", p.t.label, typ, err)
		return
	}
	p.w.gate.send(c, typ, p.w.breaks.frame(p, typ, data))
}

// take hands a frame to the room.
func (p *roomTask) take(c *conn, data []byte) {
	if p.over {
		return
	}
	if p.frozen {
		p.inbox = append(p.inbox, data)
		return
	}
	var f signal.Frame
	if err := json.Unmarshal(data, &f); err != nil {
		p.w.fail("task %s got %q", p.t.label, data)
		return
	}
	p.sentOut++
	if f.Type == signal.LinkAssign && !p.assigned { // the frames up to this one are the pool's
		p.assigned, p.stood = true, p.sentIn+p.sentOut
	}
	switch f.Type {
	case signal.LinkStanding, signal.LinkAssign:
		if p.link == c {
			p.current = c
		}
	case signal.LinkRegistered:
		if p.link == c {
			p.current = c
		}
		p.accept()
	case signal.LinkClient:
		var m signal.Client
		if json.Unmarshal(f.Body, &m) == nil && m.Session != nil {
			p.arriving[m.Participant] = m.Session.Moved
		}
	case signal.LinkEndingOK:
		var m signal.EndingOK
		p.agreed = p.agreed || json.Unmarshal(f.Body, &m) == nil && p.final != 0 && m.Seq >= p.final
	case signal.LinkKeep:
		p.final, p.agreed = 0, false
	case signal.LinkRefused:
		p.fenced = true
		p.w.say("task %s is refused: %s", p.t.label, f.Body)
		p.w.truth.stopServing(p)
	}
	p.room.Frame(f)
	p.step()
	p.flush()
}

// accept is the moment from which the task serves the room.
func (p *roomTask) accept() {
	if !p.accepted {
		p.accepted = true
		p.w.truth.serve(p)
	}
}

// turn turns the loop, each second at least.
func (p *roomTask) turn() {
	if p.over {
		return
	}
	if !p.frozen {
		p.step()
	}
	p.w.in(turnMS, p.turn)
}

// step turns the loop now.
func (p *roomTask) step() {
	if exit, over := p.room.Turn(); over && !p.over {
		p.flush()
		p.w.say("room of task %s is over: %d %s", p.t.label, exit.Code, exit.Reason)
		p.exiting(exit.Code)
	}
}

// exiting is the end of main: what is queued goes out first.
func (p *roomTask) exiting(code int) {
	p.over = true
	p.w.truth.stopServing(p)
	p.w.in(100, func() { p.w.ecs.exited(p.t, code) })
}

// freeze is SIGSTOP, and SIGCONT after some time.
func (p *roomTask) freeze(ms int64) {
	if p.over {
		return
	}
	p.w.say("task %s stands still for %d ms", p.t.label, ms)
	p.frozen = true
	p.w.in(ms, func() {
		if p.t.gone {
			return
		}
		p.frozen = false
		if p.t.ending {
			p.room.Terminate()
		}
		inbox := p.inbox
		p.inbox = nil
		for _, data := range inbox {
			if c := p.link; c != nil {
				p.take(c, data)
			}
		}
		if p.link == nil {
			p.dial()
		}
	})
}

// terminate is SIGTERM.
func (p *roomTask) terminate() {
	if p.frozen || p.over {
		return
	}
	p.room.Terminate()
	p.step()
}

// died ends everything of the process at once.
func (p *roomTask) died() {
	p.over = true
	p.w.truth.stopServing(p)
	for _, m := range p.all {
		m.end()
	}
	if p.link != nil {
		p.w.gate.cut(p.link)
	}
	if p.current != nil {
		p.w.gate.cut(p.current)
	}
}

// media is a participant's PeerConnection: it answers, and counts bytes by the time.
type media struct {
	p       *roomTask
	id      string
	post    func(room.Event)
	sinceMS int64
	endMS   int64 // 0 while open
	closed  chan struct{}
	seats   []int
	told    func(data []byte) // the client's end of the data channel; may be nil

	answered, connected bool
	arriving            bool  // counts from its connection, not from its answer
	beganMS             int64 // since when it counts; 0 = it does not
	movedMS             int64 // until when, if it moved to the next task
}

func (p *roomTask) newMedia(id string, post func(room.Event)) (room.Media, error) {
	m := &media{p: p, id: id, post: post, sinceMS: p.w.now, closed: make(chan struct{}), arriving: p.arriving[id]}
	p.people[id] = m
	p.all = append(p.all, m)
	return m, nil
}

func (m *media) Offer(o signal.Offer) {
	m.seats = m.seats[:0]
	for _, s := range o.Seats {
		m.seats = append(m.seats, s.Seat)
	}
	m.post(room.Event{Kind: room.EventAnswered, Generation: o.Generation, Text: "v=0\r\n"})
	m.answered = true
	if !m.arriving {
		m.beganMS = m.p.w.now
	}
	m.p.w.in(iceMS, func() {
		if !m.connected && m.endMS == 0 && !m.p.over {
			m.post(room.Event{Kind: room.EventFailed})
		}
	})
}

// connect is the client's side of it, once it has the answer.
func (m *media) connect() {
	if !m.connected {
		m.connected = true
		if m.beganMS == 0 {
			m.beganMS = m.p.w.now
		}
		m.post(room.Event{Kind: room.EventConnected})
		m.post(room.Event{Kind: room.EventDataOpen})
	}
}

// leave is the client's goodbye over the data channel.
func (m *media) leave(reason string) {
	if reason == signal.ReasonMoved && m.movedMS == 0 {
		m.movedMS = m.p.w.now
	}
	data, err := signal.Encode(signal.TypeLeave, 0, signal.Leave{Reason: reason})
	if err == nil {
		m.post(room.Event{Kind: room.EventData, Data: data})
	}
}

// vanish is a client that is not there any more.
func (m *media) vanish() { m.post(room.Event{Kind: room.EventFailed}) }

func (m *media) end() {
	if m.endMS == 0 {
		m.endMS = m.p.w.now
	}
}

// Usage counts by the time, which the meter knows as well.
func (m *media) Usage() (in, out usage.Bytes, transport string) {
	until := m.p.w.now
	if m.endMS != 0 {
		until = m.endMS
	}
	ms := until - m.sinceMS
	out = usage.Bytes{Total: ms * byteRate, Audio: ms * 5, Video: ms * 30}
	in = usage.Bytes{Total: ms * 13, Audio: ms * 5, Video: ms * 7}
	return in, out, "udp"
}

func (m *media) Seats() []int                           { return m.seats }
func (m *media) Assign(int, room.Media, room.Placement) {}
func (m *media) SendData(data []byte) bool {
	if m.told != nil {
		m.told(data)
	}
	return true
}
func (m *media) Prime(string, int, int)     {}
func (m *media) Layers(string) []room.Layer { return nil }
func (m *media) Codec(string) string        { return "" }
func (m *media) Level() (uint8, bool)       { return 127, false }
func (m *media) Paused(int) string          { return "" }
func (m *media) Counts() room.Counts        { return room.Counts{} }
func (m *media) Health() room.Health        { return room.Health{} }
func (m *media) Pulse(int64)                {}
func (m *media) Close() {
	if m.endMS == 0 {
		m.end()
		close(m.closed)
	}
}
func (m *media) Closed() <-chan struct{} { return m.closed }
