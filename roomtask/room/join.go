package room

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"mayfly/roomtask/speaker"
	"mayfly/shared/signal"
)

// lostGrace is how long a participant whose path is gone keeps its place.
const lostGrace = 30 * time.Second

// participant is one joined person or bot. It is owned by the loop.
type participant struct {
	id, identity, name string
	grants             signal.Grants
	media              Media
	joining            bool   // its first offer is being negotiated
	admitted           string // session id the control plane gave with the join
	session            string // the same, from the answer on: it is being counted
	resume             string
	joined             signal.Joined   // as answered, for a join that is repeated; without the others and the answer's SDP once the client has it
	joinsAgain         bool            // the answer is being made again for that
	conn               string          // WebSocket connection id
	generation         int             // of the last offer
	overWS             bool            // the last offer came over the WebSocket
	kinds              map[string]bool // published kinds → muted
	held               []string        // kinds that are not forwarded, by order
	amended            bool            // its grants are not the ticket's any more
	view               signal.View
	seats              map[int]plan
	ears               speaker.Set        // of those heard without a picture
	offered            []int              // seats of the offer that is being joined with
	outlets            map[string]*outlet // of the published videos, by kind
	vitals             *vitals
	toldSeats          []signal.Seat
	seatRev, peopleRev uint64
	toldPeople         map[string]bool // whom Joined listed
	codecs             [2]string       // of camera and screen, as the others know them
	dataOpen           bool
	servedAt           time.Time // when it was last told of the relay
	lostAt             time.Time
	movedAt            time.Time     // it plays at the next task since then
	arriving           bool          // it may still play at the task before, and is not counted here yet
	joinAt             time.Time     // when the join came
	answerTook         time.Duration // from there to the answer
	connected          bool          // has been
	bucket             bucket
}

// clientFrame handles what the control plane relays from a client's WebSocket.
func (r *Room) clientFrame(c signal.Client) {
	now := r.cfg.Now()
	if c.Session != nil {
		if r.stale(c) {
			return
		}
		r.conns[c.Conn] = &clientConn{participant: c.Participant, in: signal.NewReorder(c.Frame.Seq + 1)}
		r.join(c, now)
		return
	}
	conn := r.adopt(c)
	if conn == nil || conn.participant != c.Participant {
		r.reject(c.Conn, c.Frame.Seq, signal.Fault(signal.CodeNotJoined, "this connection has not joined"))
		return
	}
	for _, f := range conn.in.Push(now, c.Frame) {
		r.wsFrame(c.Conn, conn, f)
	}
}

// adopt finds the WebSocket that a frame came over. A participant that lost its own may
// restart ICE, or leave, over another: the control plane vouches for who speaks.
func (r *Room) adopt(c signal.Client) *clientConn {
	conn, p := r.conns[c.Conn], r.people[c.Participant]
	if conn == nil && p != nil && !p.joining && (c.Frame.Type == signal.TypeOffer || c.Frame.Type == signal.TypeLeave) {
		conn = &clientConn{participant: c.Participant, in: signal.NewReorder(c.Frame.Seq)}
		r.conns[c.Conn] = conn
		p.conn = c.Conn
	}
	return conn
}

// stale says whether a join was overtaken by a later one of its participant, or is the
// echo of one that is over: frames may come twice and late, and every join that a
// client sends, repeats included, has a number of its own.
func (r *Room) stale(c signal.Client) bool {
	last := r.taken[c.Participant]
	if c.Session.JoinSeq > last {
		r.taken[c.Participant] = c.Session.JoinSeq
		return false
	}
	p := r.people[c.Participant]
	return c.Session.JoinSeq < last || p == nil || p.admitted != c.Session.ID
}

// expireConns hands out frames whose predecessors are not coming any more.
func (r *Room) expireConns(now time.Time) {
	for id, conn := range r.conns {
		for _, f := range conn.in.Expire(now) {
			r.wsFrame(id, conn, f)
		}
	}
}

// wsFrame handles a client's frame in its turn.
func (r *Room) wsFrame(id string, conn *clientConn, f signal.Frame) {
	p := r.people[conn.participant]
	if p == nil || p.conn != id {
		r.reject(id, f.Seq, signal.Fault(signal.CodeNotJoined, "this connection has not joined"))
		return
	}
	switch f.Type {
	case signal.TypeOffer:
		p.overWS = true
		r.offer(p, f)
	case signal.TypeLeave:
		r.leaves(p, f)
	default:
		r.reject(id, f.Seq, signal.Fault(signal.CodeBadMessage, "%q is not for the WebSocket after joining", f.Type))
	}
}

// join admits a participant, whom the control plane has authenticated.
func (r *Room) join(c signal.Client, now time.Time) {
	r.joinSeq = max(r.joinSeq, c.Session.JoinSeq)
	if old := r.people[c.Participant]; old != nil && old.admitted == c.Session.ID {
		r.repeat(old, c)
		return
	}
	var m signal.Join
	switch err := signal.DecodeStrict(c.Frame, &m); {
	case r.phase == waiting || r.phase >= closing || !r.hand.since.IsZero():
		r.reject(c.Conn, c.Frame.Seq, signal.Fault(signal.CodeRoomNotLive, "the room is not taking joins"))
		return
	case err != nil:
		r.reject(c.Conn, c.Frame.Seq, asFault(err))
		return
	}
	grants, held, ejected := r.standing(c.Participant, c.Session)
	if ejected { // it was admitted before it was ejected, and comes after
		r.reject(c.Conn, c.Frame.Seq, signal.Fault(signal.CodeEjected, "this participation was ended"))
		return
	}
	if old := r.people[c.Participant]; old != nil {
		r.remove(old, signal.ReasonReplaced)
	}
	if limit := r.limits.MaxParticipants; limit > 0 && len(r.people) >= limit {
		r.reject(c.Conn, c.Frame.Seq, signal.Fault(signal.CodeRoomFull, "the room has its %d participants", limit))
		return
	}
	if r.phase == asking { // the control plane counted this join before it could agree to end
		r.phase = open
	}
	p := &participant{
		id: c.Participant, identity: c.Session.Identity, name: c.Session.Name, grants: grants, held: held, amended: c.Session.OrderRev > 0 || r.orders[c.Participant].Rev > 0,
		admitted: c.Session.ID, resume: c.Session.Resume, conn: c.Conn, joining: true, view: m.View, joinAt: now,
		kinds: map[string]bool{}, seats: map[int]plan{}, outlets: map[string]*outlet{},
		vitals: newVitals(now), bucket: newBucket(now), arriving: c.Session.Moved,
	}
	if c.Session.Resumed {
		r.metrics.reconnects[reconnectRejoin].Add(1)
	}
	media, err := r.cfg.NewMedia(p.id, func(ev Event) { r.post(eventMsg{p, ev}) })
	if err != nil {
		r.cfg.Log.Error("media", "participant", p.id, "err", err)
		r.reject(c.Conn, c.Frame.Seq, signal.Fault(signal.CodeInternal, "media could not be set up"))
		return
	}
	p.media = media
	r.people[p.id] = p
	r.order = append(r.order, p)
	r.publishPulse()
	for _, s := range m.Offer.Seats {
		p.offered = append(p.offered, s.Seat)
	}
	slices.Sort(p.offered)
	r.dirty = true // layers that it will look at may begin to come
	r.takeOffer(p, m.Offer)
}

// repeat answers a join that was admitted before: the frame came twice, or the
// client did not get the answer and asks again, maybe over another WebSocket.
func (r *Room) repeat(p *participant, c signal.Client) {
	p.conn = c.Conn
	if p.joining {
		return // the answer is on its way, and goes to the new connection
	}
	p.joined.Resume, p.joined.ICEServers = c.Session.Resume, r.servers(p, r.cfg.Now())
	var m signal.Join
	if p.joined.Answer.SDP == "" && signal.DecodeStrict(c.Frame, &m) == nil && m.Offer.Generation == p.joined.Answer.Generation {
		p.joinsAgain = true
		p.media.Offer(m.Offer)
		return
	}
	r.joinedAgain(p, p.joined.Answer.SDP)
}

// joinedAgain answers a join as before. The SDP is empty for who has negotiated since, and
// has no use for it.
func (r *Room) joinedAgain(p *participant, sdp string) {
	again := p.joined
	again.Answer.SDP = sdp
	if again.Participants == nil {
		again.Participants = r.othersThan(p)
	}
	r.toClient(p.conn, signal.TypeJoined, again, false)
}

// takeOffer starts a negotiation. Sources that the participant may not publish are
// refused rather than ignored: the client would believe that it is heard. Whose grants
// were changed by order has been told so, and may have m-lines of before: it is
// negotiated with, and not forwarded.
func (r *Room) takeOffer(p *participant, o signal.Offer) {
	for _, s := range o.Sources {
		if !p.amended && !slices.Contains(p.grants.Publish, s.Kind) {
			r.refuse(p, o.Generation, signal.Fault(signal.CodeNotPermitted, "publishing %s is not permitted", s.Kind))
			return
		}
	}
	p.generation = o.Generation
	for _, s := range o.Sources {
		p.kinds[s.Kind] = s.Muted
	}
	p.media.Offer(o)
}

// offer handles a later offer, from the data channel or the WebSocket.
func (r *Room) offer(p *participant, f signal.Frame) {
	var o signal.Offer
	if err := signal.DecodeStrict(f, &o); err != nil {
		r.refuse(p, 0, asFault(err))
		return
	}
	switch {
	case o.Generation < p.generation:
		return // older than one that is under way
	case o.Generation == p.generation:
		// A client that is cut off says it over all that may reach the room. The peer
		// answers it again, and the answer goes the way that the repetition came.
		p.media.Offer(o)
		return
	}
	r.takeOffer(p, o)
}

// mediaEvent handles what happened to a participant's connection.
func (r *Room) mediaEvent(p *participant, ev Event) {
	switch {
	case ev.Done != nil && ev.Kind == EventMediaChanged:
		ev.Done()
	case ev.Done != nil:
		defer ev.Done()
	}
	if r.people[p.id] != p {
		return // a participant that left since
	}
	switch ev.Kind {
	case EventAnswered:
		r.answered(p, ev)
	case EventRefused:
		r.refuse(p, ev.Generation, signal.Fault(ev.Code, "%s", ev.Text))
	case EventConnected:
		r.connected(p)
		p.lostAt = time.Time{}
		r.dirty = true
		r.tellQuality(r.cfg.Now())
	case EventDisconnected:
		if p.lostAt.IsZero() {
			p.lostAt = r.cfg.Now()
			r.tellQuality(p.lostAt)
		}
	case EventFailed:
		r.remove(p, signal.ReasonLost)
	case EventDataOpen:
		if _, _, transport := p.media.Usage(); !p.dataOpen {
			r.metrics.joined(stepData, r.cfg.Now().Sub(p.joinAt), transport)
		}
		p.dataOpen = true
		r.tellEverything(p)
		r.tellMove(p)
		p.joined.Participants, p.joined.Answer.SDP = nil, "" // a hundred lists of a hundred, and tens of kilobytes
	case EventData:
		r.dataFrame(p, ev.Data)
	case EventMediaChanged:
		r.dirty = true
		r.retell(p)
	}
}

// connected notes that the path is there, for the first time or again.
func (r *Room) connected(p *participant) {
	switch {
	case !p.connected:
		p.connected = true
		if p.arriving && p.session != "" {
			r.countIn(p, r.cfg.Now())
			r.heartbeat(r.cfg.Now())
		}
		_, _, transport := p.media.Usage()
		r.metrics.joined(stepAnswer, p.answerTook, transport)
		r.metrics.joined(stepMedia, r.cfg.Now().Sub(p.joinAt), transport)
	case lost(p):
		r.metrics.reconnects[reconnectPath].Add(1)
	}
}

// answered completes a join, or answers a later offer.
func (r *Room) answered(p *participant, ev Event) {
	answer := signal.Answer{Generation: ev.Generation, SDP: ev.Text}
	if p.joinsAgain && ev.Generation == p.joined.Answer.Generation {
		p.joinsAgain = false
		r.joinedAgain(p, ev.Text)
		return
	}
	if !p.joining {
		r.dirty = true
		r.tell(p, signal.TypeAnswer, answer)
		r.announce(p)
		return
	}
	now := r.cfg.Now()
	p.joining, p.session, p.answerTook = false, r.book.Stay(p.admitted), now.Sub(p.joinAt)
	if !p.arriving {
		r.countIn(p, now)
	}
	r.emptySince = time.Time{}
	p.seats = r.planFor(p)
	r.apply(p)
	for _, s := range p.seats {
		if from := r.people[s.participant]; from != nil && s.video != "" {
			from.media.Prime(s.video, s.width, s.height)
		}
	}
	p.toldSeats, p.seatRev = r.seatList(p), 1
	joined := signal.Joined{
		Room: r.cfg.ID, Epoch: r.cfg.Epoch, Participant: p.id, Answer: answer, Resume: p.resume,
		Participants: r.othersThan(p), Seating: signal.Seating{Rev: p.seatRev, Seats: p.toldSeats},
	}
	p.toldPeople = map[string]bool{}
	for _, o := range joined.Participants {
		p.toldPeople[o.ID] = true
	}
	joined.ICEServers = r.servers(p, now)
	p.joined = joined
	r.toClient(p.conn, signal.TypeJoined, joined, false)
	r.announce(p)
	r.dirty = true
	r.heartbeat(now)
	r.cfg.Log.Info("participant joined", "participant", p.id, "present", r.book.Present())
}

// othersThan describes everybody else who is here, for Joined.
func (r *Room) othersThan(p *participant) []signal.Participant {
	list := make([]signal.Participant, 0, len(r.order))
	for _, o := range r.order {
		if o != p && !o.joining {
			list = append(list, r.describe(o))
		}
	}
	return list
}

// refuse answers a bad offer; a join that fails so ends there.
func (r *Room) refuse(p *participant, generation int, fault *signal.Error) {
	if p.joining {
		r.reject(p.conn, 0, fault)
		r.drop(p)
		return
	}
	if p.joinsAgain && generation == p.joined.Answer.Generation {
		p.joinsAgain = false
		r.joinedAgain(p, "")
		return
	}
	r.tell(p, signal.TypeError, fault)
}

// remove ends a participation: it is told why, counted to the end, and forgotten.
func (r *Room) remove(p *participant, reason string) {
	ended := signal.Ended{Reason: reason, Rejoin: rejoinable(reason) || reason == signal.ReasonLost}
	if p.dataOpen {
		r.data(p, signal.TypeEnded, ended)
	}
	// The data channel goes with the media, maybe before this is read.
	ejected := reason == signal.ReasonEjected
	if ejected || !p.dataOpen && reason != signal.ReasonReplaced && !p.joining {
		r.toClient(p.conn, signal.TypeEnded, ended, ejected)
	}
	now := r.cfg.Now()
	if p.session != "" {
		in, out, transport := p.media.Usage()
		at := p.until(now).UnixMilli()
		r.book.Update(p.session, at, in, out, transport)
		r.book.End(p.session, at, p.why(reason))
	}
	session := p.session
	r.drop(p)
	if session == "" {
		return
	}
	r.broadcastGone(p)
	r.heartbeat(now)
	r.cfg.Log.Info("participant left", "participant", p.id, "reason", reason, "present", r.book.Present())
}

// drop forgets a participant and closes its media in the background.
func (r *Room) drop(p *participant) {
	delete(r.people, p.id)
	r.order = slices.DeleteFunc(r.order, func(o *participant) bool { return o == p })
	r.publishPulse()
	for _, o := range r.order { // no seat may point at media that closes
		for n, s := range o.seats {
			if s.participant == p.id {
				delete(o.seats, n)
				o.media.Assign(n, nil, Placement{})
			}
		}
	}
	r.speaker.Remove(p.id)
	r.gone.add(p.media.Counts())
	p.media.Close()
	r.leaving = append(r.leaving, p.media)
	r.dirty = true
	if len(r.people) == 0 && r.book.Present() == 0 && p.session != "" {
		r.emptySince = r.cfg.Now()
	}
}

// expirePeople removes those whose path has been gone too long.
func (r *Room) expirePeople(now time.Time) {
	for _, p := range slices.Clone(r.order) {
		if !p.lostAt.IsZero() && now.Sub(p.lostAt) >= lostGrace {
			r.remove(p, signal.ReasonLost)
		}
	}
}

// publishPulse follows who is here.
func (r *Room) publishPulse() {
	if r.calm.busy(r.cfg.Now()) && r.cfg.Rest != nil {
		r.cfg.Rest(false)
	}
	list := make([]Media, 0, len(r.order))
	for _, p := range r.order {
		list = append(list, p.media)
	}
	r.pulsed.Store(&list)
}

// toClient sends a frame to a WebSocket through the control plane.
func (r *Room) toClient(conn, typ string, body any, close bool) {
	c := r.conns[conn]
	if c == nil {
		return
	}
	raw, err := json.Marshal(body)
	if err != nil {
		r.cfg.Log.Error("message not encodable", "type", typ, "err", err)
		return
	}
	c.out++
	r.cfg.Send(signal.LinkToClient, signal.ToClient{Conn: conn, Frame: signal.Frame{Type: typ, Seq: c.out, Body: raw}, Close: close})
}

func (r *Room) reject(conn string, ref uint64, fault *signal.Error) {
	e := *fault
	e.Ref = ref
	r.toClient(conn, signal.TypeError, &e, signal.Closes(e.Code))
}

func decode(f signal.Frame, into any) error {
	if err := json.Unmarshal(f.Body, into); err != nil {
		return fmt.Errorf("decode %s: %w", f.Type, err)
	}
	return nil
}

// asFault makes an error that may be told to the client.
func asFault(err error) *signal.Error {
	var fault *signal.Error
	if errors.As(err, &fault) {
		return fault
	}
	return signal.Fault(signal.CodeBadMessage, "message not understood")
}
