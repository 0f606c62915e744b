package peer

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"

	"mayfly/roomtask/conn"
	"mayfly/roomtask/ingest"
	"mayfly/roomtask/rtpx"
	"mayfly/roomtask/sendq"
	net "mayfly/roomtask/transport"
	"mayfly/shared/signal"
)

const (
	negotiationLimit = 10 * time.Second // with one candidate it takes milliseconds
	closeLimit       = 5 * time.Second  // what is Pion's can hang; the room goes on without it
	waitingOffers    = 4                // while one is negotiated
)

// Config is what a Peer needs. All fields are required but Log.
type Config struct {
	ID    string            // of the participant
	Cert  *conn.Certificate // likewise
	Net   *net.Transport
	Pool  *rtpx.Pool   // shared by all peers of the task
	Wheel *sendq.Wheel // likewise, and flushes Net; nil = one of its own
	Now   func() int64 // Unix nanoseconds, never going back
	// Post takes events, from any goroutine and in their order; it must not block.
	Post func(Event)
	Log  *slog.Logger
	// Forwarded is told how long some of the packets took through the task; nil = nobody
	// asks. See sendq.Config.
	Forwarded func(ns int64)
}

// Peer is one participant's media.
type Peer struct {
	// set once
	cfg       Config
	conn      *conn.Conn
	publisher *ingest.Publisher
	sender    *sendq.Sender
	data      *dataChannel
	offers    chan *signal.Offer
	states    chan struct{}      // a hint to look at the connection's state
	opened    chan chan struct{} // the data channel is open; closed when that was told
	closing   chan struct{}      // closed when Close begins
	closed    chan struct{}      // closed when it has ended

	running   sync.WaitGroup // the loop, a negotiation, the data channel's goroutines
	mu        sync.Mutex
	stopped   bool // guarded by mu: nothing may be added to running
	failOnce  sync.Once
	closeOnce sync.Once

	numbers atomic.Pointer[[]int] // seats, ascending
	reached atomic.Bool           // a pair was selected before

	rttAt int64 // owned by the caller of Tick: when to tell the publisher the round trip

	// owned by the loop
	layout layout
	local  local // of the last answer
	seats  map[int]seatOuts
	unset  []int // seats that the Sender does not know yet
	last   answered
	up     bool       // has been connected
	shown  conn.State // as last told to the room
}

// seatOuts are the outgoing streams of a seat.
type seatOuts struct{ audio, video *sendq.Out }

// New makes a Peer that waits for the first offer.
func New(cfg Config) (*Peer, error) {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)).With("participant", cfg.ID)
	p := &Peer{
		cfg: cfg, offers: make(chan *signal.Offer, waitingOffers), states: make(chan struct{}, 1), opened: make(chan chan struct{}),
		closing: make(chan struct{}), closed: make(chan struct{}),
		seats: map[int]seatOuts{}, layout: layout{lines: map[string]line{}},
		local: local{session: rand.Uint64() >> 1, fingerprint: cfg.Cert.Fingerprint(), candidates: cfg.Net.Candidates()},
	}
	if p.cfg.Wheel == nil {
		p.cfg.Wheel = sendq.NewWheel()
		p.cfg.Wheel.Flush = cfg.Net.Flush
	}
	p.data = newDataChannel(p)
	p.sender = sendq.New(sendq.Config{Now: cfg.Now, WriteRTCP: p.writeRTCP, Wheel: p.cfg.Wheel, Log: cfg.Log, Forwarded: cfg.Forwarded,
		Fault: func(r any) { _ = p.fault("sender", r) }})
	p.publisher = ingest.NewPublisher(ingest.Config{
		Participant: cfg.ID, Pool: cfg.Pool, WriteRTCP: p.writeRTCP, Now: cfg.Now, Log: cfg.Log,
		Feedback: p.sender.Feedback, TransportFeedback: p.sender.TransportFeedback,
		Changed: func(s *ingest.Source) { p.post(Published{s}) },
		Abuse:   func(reason string) { p.fail(FailAbuse, errors.New(reason)) },
	})
	var err error
	if p.conn, err = conn.New(conn.Config{
		Net: cfg.Net, Cert: cfg.Cert, Log: cfg.Log, Now: cfg.Now,
		Media: p.publisher.Deliver, Control: p.publisher.DeliverControl,
		Changed: p.wake, Moved: p.moved, Channel: p.data.accept,
		Fault: func(where string, r any) { _ = p.fault(where, r) },
	}); err != nil {
		p.sender.Close()
		p.publisher.Close()
		return nil, fmt.Errorf("peer: %w", err)
	}
	p.running.Go(p.loop)
	return p, nil
}

// Offer asks for an answer: Answered or Refused of the same generation follows.
func (p *Peer) Offer(o signal.Offer) {
	select {
	case p.offers <- &o:
	default:
		p.post(refused(o.Generation, signal.Fault(signal.CodeRateLimited, "too many offers at once")))
	}
}

// Publisher receives what the participant publishes.
func (p *Peer) Publisher() *ingest.Publisher { return p.publisher }

// Sender sends what the participant receives.
func (p *Peer) Sender() *sendq.Sender { return p.sender }

// Seats are the numbers of the negotiated seats, ascending.
func (p *Peer) Seats() []int {
	if n := p.numbers.Load(); n != nil {
		return *n
	}
	return nil
}

// SendData sends a frame over the data channel, after those sent before. It keeps
// frames until the channel is open. False means that the frame was dropped: the
// client is too slow, or gone.
func (p *Peer) SendData(frame []byte) bool { return p.data.send(frame) }

// Bytes are what came in and went out on the participant's transport, but for STUN:
// SRTP, SRTCP and DTLS, over all ICE restarts.
func (p *Peer) Bytes() (in, out int64) { return p.conn.Bytes() }

// DataBytes counts the messages of the data channel, without what SCTP adds.
func (p *Peer) DataBytes() (in, out int64) { return p.data.in.Load(), p.data.out.Load() }

// Transport is how the client reaches the task: udp, tcp, turn-udp, turn-tcp or turn-tls,
// "" before a pair was selected.
func (p *Peer) Transport() string { return p.conn.Via() }

// Tick does the periodic work of publisher and sender, every 20 ms. One goroutine
// calls it.
func (p *Peer) Tick(now int64) {
	defer func() {
		if r := recover(); r != nil {
			_ = p.fault("tick", r)
		}
	}()
	p.sender.Tick(now)
	if now >= p.rttAt { // both directions take the same path
		first := p.rttAt == 0
		p.rttAt = now + int64(time.Second)
		p.publisher.SetRTT(p.sender.RTT())
		if longest := p.cfg.Wheel.LongestRTT(now); longest > 0 || !first { // at first nobody may be there
			p.publisher.SetViewersRTT(longest)
		}
	}
	p.publisher.Tick(now)
}

// Close ends the connection. It returns when all is gone, or after 5 s.
func (p *Peer) Close() {
	p.closeOnce.Do(func() {
		p.mu.Lock()
		p.stopped = true
		p.mu.Unlock()
		close(p.closing)
		go p.shutdown()
	})
	watchdog := time.NewTimer(closeLimit)
	defer watchdog.Stop()
	select {
	case <-p.closed:
	case <-watchdog.C:
		p.cfg.Log.Error("connection does not close", "after", closeLimit)
	}
}

// shutdown closes the connection first: it unblocks everybody else.
func (p *Peer) shutdown() {
	defer close(p.closed)
	p.conn.Close()
	p.running.Wait()
	p.sender.Close()
	p.publisher.Close()
}

// loop owns the negotiation: one offer at a time, while the connection's state is
// followed. What a select has received stays on the stack for as long as the loop runs, so
// offers and outcomes come by pointer, and are cleared when they have been read: they have
// tens of kilobytes of SDP.
func (p *Peer) loop() {
	results := make(chan *negotiated, 1)
	var offers <-chan *signal.Offer = p.offers // nil while one is negotiated
	limit := time.NewTimer(negotiationLimit)
	limit.Stop()
	defer limit.Stop()
	for {
		select {
		case <-p.closing:
			return
		case <-p.states:
			p.follow()
		case told := <-p.opened:
			p.connected() // it is, even if ICE's word of it is still on its way
			p.post(DataOpen{})
			close(told)
		case o := <-offers:
			if p.begin(*o, results) {
				offers = nil
				limit.Reset(negotiationLimit)
			}
			*o = signal.Offer{}
		case n := <-results:
			limit.Stop()
			if n.err != nil {
				p.fail(FailNegotiation, n.err)
				continue // offers stay nil: there is nothing left to negotiate with
			}
			offers = p.offers
			p.adopt(n)
			p.last.done = true
			p.post(Answered{Generation: n.generation, SDP: n.answer})
			*n = negotiated{}
		case <-limit.C:
			p.fail(FailNegotiation, errors.New("peer: negotiation timed out"))
		}
	}
}

// begin starts the negotiation of an offer, unless it is refused or a repetition.
func (p *Peer) begin(o signal.Offer, results chan<- *negotiated) bool {
	offer := sha256.Sum256([]byte(o.SDP))
	if p.last.done && o.Generation == p.last.generation && offer == p.last.offer {
		p.again(o)
		return false
	}
	if p.last.done && o.Generation <= p.last.generation {
		p.post(refused(o.Generation, refuse("generation %d was answered already", p.last.generation)))
		return false
	}
	c, fault := p.check(o)
	if fault != nil {
		p.post(refused(o.Generation, fault))
		return false
	}
	p.last = answered{generation: o.Generation, offer: offer}
	ours := p.local
	generation := o.Generation
	return p.start(func() { results <- p.apply(generation, c, ours) })
}

// again answers an offer as it was answered before: what the answer says is made of the
// offer and of what is remembered of our own end.
func (p *Peer) again(o signal.Offer) {
	if c, fault := p.check(o); fault == nil {
		p.post(Answered{Generation: o.Generation, SDP: answerTo(c, &p.local)})
	} else {
		p.post(refused(o.Generation, fault))
	}
}

func (p *Peer) check(o signal.Offer) (c *checked, fault *signal.Error) {
	defer func() {
		if r := recover(); r != nil {
			_ = p.fault("offer", r)
			fault = signal.Fault(signal.CodeInternal, "the offer could not be read")
		}
	}()
	return checkOffer(o, &p.layout)
}

// follow tells how the connection's state has changed since it was last told.
func (p *Peer) follow() {
	switch state := p.conn.State(); state {
	case conn.Connected:
		p.connected()
	case conn.Disconnected:
		if p.shown == conn.Connected {
			p.shown = state
			p.post(Disconnected{})
		}
	case conn.Failed:
		p.fail(FailICE, nil)
	case conn.Closed:
		p.fail(FailClosed, nil) // at the client's goodbye: our own Close ends the loop first
	}
}

func (p *Peer) connected() {
	if p.shown == conn.Connected {
		return
	}
	p.shown, p.up = conn.Connected, true
	p.setSeats()
	p.post(Connected{})
}

func (p *Peer) wake() {
	select {
	case p.states <- struct{}{}:
	default:
	}
}

// moved is called when a pair was selected. What was under way on another path may be lost.
func (p *Peer) moved(rtt time.Duration) {
	p.sender.Reached(int64(rtt))
	if p.reached.Swap(true) {
		p.sender.Moved()
	}
}

// start runs f in a goroutine that Close waits for, unless Close has begun.
func (p *Peer) start(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return false
	}
	p.running.Go(f)
	return true
}

// post hands an event to the room. After Close nothing is told any more.
func (p *Peer) post(e Event) {
	select {
	case <-p.closing:
	default:
		p.cfg.Post(e)
	}
}

// fail says once that the connection is lost.
func (p *Peer) fail(reason string, err error) {
	p.failOnce.Do(func() {
		if err != nil {
			p.cfg.Log.Warn("participant lost", "reason", reason, "err", net.Redact(err.Error()))
		}
		p.post(Failed{Reason: reason})
	})
}

// fault turns a panic into the end of this participant, and of nobody else.
func (p *Peer) fault(where string, r any) error {
	err := fmt.Errorf("peer: panic in %s: %v", where, r)
	p.cfg.Log.Error("panic", "where", where, "value", fmt.Sprint(r), "stack", string(debug.Stack()))
	p.fail(FailFault, err)
	return err
}

func (p *Peer) writeRTCP(packets []rtcp.Packet) error { return p.conn.WriteRTCP(packets) }
