package model

import (
	"encoding/json"
	"fmt"

	"mayfly/shared/signal"
)

// Times of a client, in milliseconds.
const (
	againMS  = 3_000   // a join that is not answered is sent again
	returnMS = 1_500   // after the media or the WebSocket went
	giveUpMS = 400_000 // for which somebody tries to get in
)

// client is a participant's browser. It does what web/client.js does.
type client struct {
	w        *World
	room     string
	label    string
	actor    uint64
	ticket   string
	resume   string
	attempt  string
	dials    int
	conn     *conn
	seq      uint64
	joined   bool
	epoch    int
	part     string
	task     *roomTask // that serves it
	triesMS  int64     // since when it tries to get in
	stayMS   int64     // how long it stays, once it is in
	vanish   bool
	quits    bool // it has decided to go
	over     bool
	before   *media // at the task that it moves away from
	patient  bool   // it was told to wait for the room
	attempts int
}

// guest brings somebody into a room.
func (w *World) guest(room string, n int, ticket string) {
	c := &client{w: w, room: room, ticket: ticket, label: fmt.Sprintf("guest %s/%d", w.label(room), n), actor: w.actor(room, "guest", n)}
	c.stayMS = 25_000
	if v, yes := w.chance.Draw(Stays, c.actor, 0); yes {
		c.stayMS = 500 + int64(v%200_000)
	}
	_, c.vanish = w.chance.Draw(Vanishes, c.actor, 0)
	w.clients = append(w.clients, c)
	w.say("%s comes", c.label)
	c.triesMS = w.now
	c.newAttempt()
	c.dial()
}

// newAttempt makes the secret of the next join.
func (c *client) newAttempt() {
	c.attempts++
	c.attempt = fmt.Sprintf("%024x", mix(c.actor, uint64(c.attempts), 9)) //nolint:gosec // counts
}

func (c *client) dial() {
	if c.over {
		return
	}
	if c.w.now-c.triesMS > giveUpMS && !c.joined {
		c.end("gives up")
		return
	}
	c.dials++
	k := &conn{label: fmt.Sprintf("%s#%d", c.label, c.dials), actor: mix(c.actor, uint64(c.dials), 10)} //nolint:gosec // counts
	k.take = func(data []byte) { c.take(k, data) }
	k.lost = func() { c.lost(k) }
	c.w.gate.dial(k, func(ok bool) {
		switch {
		case c.over:
			c.w.gate.cut(k)
		case !ok:
			c.w.in(returnMS, c.dial)
		default:
			c.conn, c.seq = k, 0
			c.join()
			if v, yes := c.w.chance.Draw(CutClient, k.actor, 0); yes {
				c.w.in(int64(v%120_000), func() {
					if k.up {
						c.w.say("%s is cut", k.label)
						c.w.gate.cut(k)
					}
				})
			}
		}
	})
}

// lost is the end of a WebSocket. Media is untouched: the client dials again, and
// joins again only if its place is gone.
func (c *client) lost(k *conn) {
	if c.conn == k {
		c.conn = nil
		c.w.in(returnMS, c.dial)
	}
}

// join sends the join, again and again until it is answered.
func (c *client) join() {
	k := c.conn
	if c.over || k == nil {
		return
	}
	if c.joined { // a new WebSocket of somebody who is in: it only watches
		c.send(signal.TypeWatch, signal.Watch{Resume: c.resume})
		return
	}
	if c.w.now-c.triesMS > giveUpMS {
		c.end("gives up")
		return
	}
	c.send(signal.TypeJoin, c.message())
	wait := int64(againMS)
	if c.patient {
		wait *= 5
	}
	c.w.in(wait, func() {
		if c.conn == k && !c.joined {
			c.join()
		}
	})
}

func (c *client) message() signal.Join {
	m := signal.Join{Attempt: c.attempt, Offer: signal.Offer{Generation: 1, SDP: "v=0\r\n", Seats: []signal.SeatLine{{Audio: "0", Video: "1"}}}}
	if m.Resume = c.resume; m.Resume == "" {
		m.Ticket = c.ticket
	}
	m.View.Wants = []signal.Want{}
	return m
}

func (c *client) send(typ string, body any) {
	c.seq++
	data, err := signal.Encode(typ, c.seq, body)
	if err != nil {
		c.w.fail("%s: %v", c.label, err)
		return
	}
	c.w.gate.send(c.conn, typ, data)
}

// take is a frame from the room or its control plane.
func (c *client) take(k *conn, data []byte) {
	var f signal.Frame
	if c.over || json.Unmarshal(data, &f) != nil {
		return
	}
	switch f.Type {
	case signal.TypeJoined:
		var m signal.Joined
		if json.Unmarshal(f.Body, &m) == nil {
			c.welcome(m)
		}
	case signal.TypeRoom:
		var m signal.Room
		if json.Unmarshal(f.Body, &m) == nil {
			c.told(k, m)
		}
	case signal.TypeEnded:
		var m signal.Ended
		if json.Unmarshal(f.Body, &m) == nil && !m.Rejoin && m.Reason != signal.ReasonReplaced {
			c.end("hears that it is over: " + m.Reason)
		}
	case signal.TypeError:
		var m signal.Error
		if json.Unmarshal(f.Body, &m) == nil {
			c.refused(m)
		}
	}
}

// welcome is the answer to a join.
func (c *client) welcome(m signal.Joined) {
	if c.joined && m.Epoch <= c.epoch {
		c.resume = m.Resume
		return
	}
	if c.before != nil && m.Epoch > c.epoch {
		c.move()
	}
	c.joined, c.epoch, c.part, c.resume = true, m.Epoch, m.Participant, m.Resume
	c.task = nil
	for _, t := range c.w.ecs.of(c.room, m.Epoch) {
		if t.process != nil && t.process.accepted && !t.gone {
			c.task = t.process
		}
	}
	if c.task != nil {
		if m := c.task.people[c.part]; m != nil && m.endMS == 0 {
			m.connect()
			c.task.step()
		}
	}
	c.w.say("%s is in, epoch %d", c.label, m.Epoch)
	if !c.quits {
		c.quits = true
		c.w.in(c.stayMS, c.leave)
	}
	c.watchMedia()
}

// watchMedia notices that the task is gone, or has another place for this participant.
func (c *client) watchMedia() {
	if c.over || !c.joined {
		return
	}
	if c.task != nil && !c.task.t.gone && c.task.people[c.part] != nil && c.task.people[c.part].endMS == 0 {
		c.w.in(returnMS, c.watchMedia)
		return
	}
	c.again("lost its media")
}

// again joins anew with the resume secret.
func (c *client) again(why string) {
	if c.over || !c.joined {
		return
	}
	c.w.say("%s %s, and joins again", c.label, why)
	c.joined, c.triesMS = false, c.w.now
	c.newAttempt()
	if c.conn != nil {
		c.join()
	} else {
		c.w.in(returnMS, c.dial)
	}
}

// told is the room's state.
func (c *client) told(k *conn, m signal.Room) {
	switch {
	case m.State == "ended" || m.State == "failed":
		c.end("hears that the room is " + m.State)
	case m.State == "live" && c.joined && m.Epoch > c.epoch:
		c.before = c.place()
		c.again("hears of epoch " + fmt.Sprint(m.Epoch))
	case m.State == "live" && !c.joined && c.conn == k:
		c.patient = false
		c.send(signal.TypeJoin, c.message())
	}
}

// refused is an error that was answered.
func (c *client) refused(m signal.Error) {
	switch {
	case m.Code == signal.CodeRoomNotLive:
		c.patient = true // until the room says that it is live
	case c.joined || m.Retryable || m.Code == signal.CodeNotJoined:
	case m.Code == signal.CodeResumeInvalid && c.resume != "":
		// A secret that rotated while its answer was lost: the ticket is used, so that is the end.
		c.end("is refused: " + m.Code)
	default:
		c.end("is refused: " + m.Code)
	}
}

// leave goes, with a word or without.
func (c *client) leave() {
	if c.over {
		return
	}
	if m := c.place(); m != nil {
		if c.vanish {
			c.w.say("%s vanishes", c.label)
			m.vanish()
		} else {
			c.w.say("%s leaves", c.label)
			m.leave("")
		}
		if !c.task.frozen {
			c.task.step()
		}
	}
	c.end("is gone")
}

// move says goodbye to the task before, a moment after it is in at the next.
func (c *client) move() {
	old := c.before
	c.before = nil
	c.w.in(500+int64(c.actor%3_000), func() {
		if old.endMS == 0 && !old.p.over && !old.p.frozen {
			c.w.say("%s has moved on from task %s", c.label, old.p.t.label)
			old.leave(signal.ReasonMoved)
			old.p.step()
		}
	})
}

// place is the client's media, while it is open.
func (c *client) place() *media {
	if !c.joined || c.task == nil || c.task.over {
		return nil
	}
	if m := c.task.people[c.part]; m != nil && m.endMS == 0 {
		return m
	}
	return nil
}

// end is the end of the client. Somebody who goes while the media is open is noticed.
func (c *client) end(why string) {
	if c.over {
		return
	}
	c.over = true
	c.w.say("%s %s", c.label, why)
	if m := c.place(); m != nil && c.task != nil {
		m.vanish()
	}
	if c.conn != nil {
		c.w.gate.cut(c.conn)
	}
}
