package conn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/datachannel"
	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/sctp"

	"mayfly/roomtask/transport"
)

// Config is what a Conn needs. All fields are required.
type Config struct {
	Net  *transport.Transport
	Cert *Certificate
	Log  *slog.Logger
	Now  func() int64 // ns, never going back

	// Media takes a decrypted RTP packet, Control a decrypted compound RTCP packet. They
	// keep nothing of it, and must not block: they run on the socket's reader, one call at
	// a time for both.
	Media, Control func(b []byte)
	// Changed says that State may be another. It must not block.
	Changed func()
	// Moved says that ICE has selected a pair, or another one, and the round trip of the
	// check that proved it, 0 if there was none. It must not block.
	Moved func(rtt time.Duration)
	// Channel takes a data channel that the client has opened. No other comes until it
	// returns.
	Channel func(ch *datachannel.DataChannel)
	// Fault is told of a panic where a packet was handled.
	Fault func(where string, value any)
}

// State sums up ICE and DTLS.
type State int32

// The states. Failed and Closed are for good.
const (
	Connecting State = iota
	Connected
	Disconnected // nothing has come for a while; it may again
	Failed       // ICE or DTLS gave up, or never came up
	Closed       // the client said goodbye, or Close was called
)

// Remote is what an offer says of the client's end.
type Remote struct{ Ufrag, Pwd, Fingerprint string }

// Local is what the answer says of ours.
type Local struct{ Ufrag, Pwd string }

// Conn is one participant's connection.
type Conn struct {
	// set once
	cfg      Config
	agent    *ice.Agent
	pipe     *pipe
	gathered chan struct{} // a word from the agent: it has its candidate
	ctx      context.Context
	stop     context.CancelFunc // ends ctx, and all that waits
	running  sync.WaitGroup     // of run

	remote Remote // owned by Negotiate's caller; zero before the first

	link  atomic.Pointer[ice.Conn]       // nil before the first negotiation
	keys  atomic.Pointer[protection]     // nil before the handshake's end
	to    atomic.Pointer[transport.Path] // of the selected pair; nil = through the agent
	via   atomic.Pointer[string]         // of the selected pair; nil before there was one
	ice   atomic.Int32                   // ice.ConnectionState
	dtls  atomic.Int32                   // Connecting, Connected, Failed or Closed
	in    atomic.Int64                   // bytes received
	heard atomic.Int64                   // when authentic media or RTCP came last, by Now
	out   atomic.Int64                   // bytes sent without the agent

	taking sync.Mutex  // held by who reads a socket, of which there may be several
	early  []*datagram // guarded by taking: media that came before the keys

	sealing sync.Mutex // held while RTCP is sealed

	mu      sync.Mutex
	session *dtls.Conn        // guarded by mu; nil before the handshake
	assoc   *sctp.Association // guarded by mu; nil before it is there
	closed  bool              // guarded by mu
}

// New makes a Conn that waits for the first offer.
func New(cfg Config) (*Conn, error) {
	c := &Conn{cfg: cfg, gathered: make(chan struct{}, 1)}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.pipe = newPipe(c.write, c.goodbye)
	c.ice.Store(int32(ice.ConnectionStateNew))
	var err error
	if c.agent, err = cfg.Net.Agent(c.take); err != nil {
		c.stop()
		return nil, fmt.Errorf("conn: %w", err)
	}
	if err := errors.Join(c.agent.OnCandidate(c.candidate), c.agent.OnConnectionStateChange(c.follow),
		c.agent.OnSelectedCandidatePairChange(c.selected)); err != nil {
		c.stop()
		return nil, errors.Join(fmt.Errorf("conn: ICE: %w", err), c.agent.Close())
	}
	return c, nil
}

// Negotiate follows an offer: it begins ICE, or begins it anew when the client's
// credentials are others than before (RFC 8445 §9). Candidates there are none to be told
// of: the agent learns addresses from checks. It takes milliseconds. One goroutine at a
// time calls it.
func (c *Conn) Negotiate(r Remote) (Local, error) {
	switch {
	case c.remote == Remote{}:
		if err := c.gather(); err != nil {
			return Local{}, err
		}
		link, err := c.agent.StartAccept(r.Ufrag, r.Pwd)
		if err != nil {
			return Local{}, fmt.Errorf("conn: start ICE: %w", err)
		}
		c.link.Store(link)
		if !c.start(func() { c.run(r.Fingerprint) }) {
			return Local{}, errClosed
		}
	case c.remote.Ufrag != r.Ufrag || c.remote.Pwd != r.Pwd:
		if err := c.agent.Restart("", ""); err != nil {
			return Local{}, fmt.Errorf("conn: restart ICE: %w", err)
		}
		if err := c.gather(); err != nil {
			return Local{}, err
		}
		if err := c.agent.SetRemoteCredentials(r.Ufrag, r.Pwd); err != nil {
			return Local{}, fmt.Errorf("conn: restart ICE: %w", err)
		}
	}
	c.remote = r
	ufrag, pwd, err := c.agent.GetLocalUserCredentials()
	if err != nil {
		return Local{}, fmt.Errorf("conn: ICE credentials: %w", err)
	}
	return Local{ufrag, pwd}, nil
}

var errClosed = errors.New("conn: closed")

// gather waits for the agent's one candidate.
func (c *Conn) gather() error {
	if err := c.agent.GatherCandidates(); err != nil {
		return fmt.Errorf("conn: gather: %w", err)
	}
	select {
	case <-c.gathered:
	case <-c.ctx.Done():
		return errClosed
	}
	own, err := c.agent.GetLocalCandidates()
	if err != nil {
		return fmt.Errorf("conn: gather: %w", err)
	}
	if len(own) != 1 {
		return fmt.Errorf("conn: the agent has %d candidates", len(own))
	}
	return nil
}

// candidate is called by the agent; nil is the end of gathering.
func (c *Conn) candidate(own ice.Candidate) {
	if own == nil {
		select {
		case c.gathered <- struct{}{}:
		default:
		}
	}
}

// follow is called by the agent.
func (c *Conn) follow(s ice.ConnectionState) {
	switch s {
	case ice.ConnectionStateFailed, ice.ConnectionStateClosed, ice.ConnectionStateChecking:
		// The path is lost for good, or given up for another: until the client has nominated
		// one, the agent sends over any that is valid.
		c.to.Store(nil)
	}
	c.ice.Store(int32(s))
	c.look()
}

// look has State looked at, and again when it may be another without a word of the agent's.
func (c *Conn) look() {
	c.cfg.Changed()
	if left := c.alive(); left > 0 && c.ctx.Err() == nil && ice.ConnectionState(c.ice.Load()) == ice.ConnectionStateDisconnected {
		time.AfterFunc(left, c.look)
	}
}

// alive is how long the client is there at least, after what was heard of it. The agent
// knows checks alone, of which on a bad path a few are lost in a row, while media comes.
// Consent expires by them nevertheless (RFC 7675 §5.1): the agent's word that it has failed
// is the last.
func (c *Conn) alive() time.Duration {
	heard := c.heard.Load()
	if heard == 0 {
		return 0
	}
	return transport.DisconnectedTimeout - time.Duration(c.cfg.Now()-heard)
}

// selected is called by the agent. UDP on the task's own sockets goes without it.
func (c *Conn) selected(_, remote ice.Candidate) {
	if via := c.cfg.Net.Via(remote); via != "" {
		c.via.Store(&via)
	}
	c.to.Store(c.cfg.Net.Path(remote))
	var rtt time.Duration
	if pair, ok := c.agent.GetSelectedCandidatePairStats(); ok {
		rtt = time.Duration(pair.CurrentRoundTripTime * float64(time.Second))
	}
	c.cfg.Moved(rtt)
}

// goodbye is called when DTLS has closed the pipe: at the client's close_notify, at ours,
// or because it cannot go on.
func (c *Conn) goodbye() {
	if c.dtls.CompareAndSwap(int32(Connected), int32(Closed)) {
		c.cfg.Changed()
	}
}

// State sums up ICE and DTLS.
func (c *Conn) State() State {
	ice, dtls := iceStates[ice.ConnectionState(c.ice.Load())], State(c.dtls.Load())
	switch {
	case ice == Closed || dtls == Closed:
		return Closed
	case ice == Failed || dtls == Failed:
		return Failed
	case ice == Disconnected && c.alive() <= 0:
		return Disconnected
	case (ice == Connected || ice == Disconnected) && dtls == Connected:
		return Connected
	}
	return Connecting
}

// iceStates are those of an agent; the others are Connecting.
var iceStates = map[ice.ConnectionState]State{
	ice.ConnectionStateConnected: Connected, ice.ConnectionStateCompleted: Connected,
	ice.ConnectionStateDisconnected: Disconnected, ice.ConnectionStateFailed: Failed, ice.ConnectionStateClosed: Closed,
}

// Via is how the client reaches the task, in the ledger's words; "" before a pair was
// selected.
func (c *Conn) Via() string {
	if via := c.via.Load(); via != nil {
		return *via
	}
	return ""
}

// Bytes are what came in and went out but for STUN: SRTP, SRTCP and DTLS, over all ICE
// restarts.
func (c *Conn) Bytes() (in, out int64) {
	out = c.out.Load()
	if link := c.link.Load(); link != nil {
		out += int64(link.BytesSent())
	}
	return c.in.Load(), out
}

// Close says goodbye to the client, and returns when all is gone.
func (c *Conn) Close() {
	c.mu.Lock()
	c.closed = true
	session, assoc := c.session, c.assoc
	c.mu.Unlock()
	c.stop()
	if assoc != nil {
		assoc.Abort("")
	}
	if session != nil {
		_ = session.Close() // it says so if the client was faster
	}
	_ = c.pipe.Close()
	_ = c.agent.GracefulClose() // always nil
	c.running.Wait()
	c.taking.Lock()
	defer c.taking.Unlock()
	c.early = nil
}

// start runs f in a goroutine that Close waits for, unless Close has begun.
func (c *Conn) start(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.running.Go(f)
	return true
}
