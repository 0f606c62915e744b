package transport

import (
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/pion/ice/v4"
)

// session is the connection of one ICE agent, from its user fragment's beginning to its
// end: an ICE restart makes another one. The agent reads in one goroutine and writes in
// any.
type session struct {
	mux    *mux           // set once
	user   string         // set once
	number uint32         // set once: of its aliases
	other  func(b []byte) // set once: takes what is not STUN; nil = the agent does

	// guarded by mux.mu
	remotes []*remote // the oldest first
	port    uint16    // of the newest alias
	gone    bool

	mu     sync.Mutex
	cond   sync.Cond // of mu: into was filled, or closed set
	lent   *byte     // guarded by mu: the reader's buffer, all of whose pages are not there
	into   []byte    // guarded by mu: where the waiting reader wants the next datagram; nil = nobody waits
	size   int       // guarded by mu: of what was put there
	from   netip.AddrPort
	queue  []*queued // guarded by mu: empty while somebody waits
	closed bool      // guarded by mu
}

// queued is a datagram that its agent has not read yet.
type queued struct {
	b    [receiveLimit]byte
	size int
	from netip.AddrPort
}

// queues holds what is not in use, of all sessions: few are in use at a time.
var queues = sync.Pool{New: func() any { return new(queued) }}

// receiveLimit is the longest datagram that any way takes.
const receiveLimit = 2048

// maxSTUN is the highest first byte of a STUN message (RFC 7983 §7).
const maxSTUN = 3

// take gives the agent a datagram, into the buffer of its reader if that waits. What comes
// from a client's address, and is not STUN, does not concern it.
func (s *session) take(b []byte, from netip.AddrPort) {
	if s.other != nil && len(b) > 0 && b[0] > maxSTUN {
		s.other(b)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
	case s.into != nil && len(b) <= len(s.into):
		s.size, s.from = copy(s.into, b), from
		s.into = nil
		s.cond.Signal()
	case s.into != nil || len(s.queue) == sessionQueue || len(b) > receiveLimit:
		s.mux.lost.Add(1)
	default:
		q := queues.Get().(*queued)
		q.size, q.from = copy(q.b[:], b), from
		s.queue = append(s.queue, q)
	}
}

// ReadFromAddrPort waits for a datagram. io.EOF is Pion's sign to end quietly.
func (s *session) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, netip.AddrPort{}, io.EOF
	}
	if len(s.queue) > 0 {
		q := s.queue[0]
		s.queue = slices.Delete(s.queue, 0, 1)
		n, from := copy(b, q.b[:q.size]), q.from
		queues.Put(q)
		return n, from, nil
	}
	if cap(s.queue) > 16 {
		s.queue = nil // a burst's is not kept
	}
	if at := unsafe.SliceData(b); at != s.lent {
		s.lent = at
		Lend(b, len(queued{}.b))
	}
	for s.into = b; s.into != nil; {
		if s.cond.Wait(); s.closed {
			return 0, netip.AddrPort{}, io.EOF
		}
	}
	return s.size, s.from, nil
}

// WriteToAddrPort sends to a client. What an agent has forgotten to forget goes nowhere.
func (s *session) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	s.mux.mu.RLock()
	r, gone := s.find(to), s.gone
	known := r != nil && r.known
	s.mux.mu.RUnlock()
	if gone {
		return 0, io.ErrClosedPipe
	}
	if !known {
		if r = s.answer(to); r == nil {
			return len(b), nil
		}
	}
	r.used.Store(s.mux.turn.Add(1))
	return r.by.send(b, r.from)
}

// find is the remote that the agent knows by an address, under mux.mu.
func (s *session) find(seen netip.AddrPort) *remote {
	for _, r := range s.remotes {
		if r.seen == seen {
			return r
		}
	}
	return nil
}

// answer makes a remote known, to which the agent writes for the first time: nil if it is
// forgotten, or if the address is another session's.
func (s *session) answer(to netip.AddrPort) *remote {
	m := s.mux
	m.mu.Lock()
	defer m.mu.Unlock()
	r := s.find(to)
	switch {
	case s.gone || r == nil && m.alias(to.Addr()):
		return nil
	case r == nil:
		r = &remote{origin: origin{m.first, to}, session: s, seen: to}
	case r.known:
		return r
	}
	if m.routes[r.origin] != nil {
		return nil
	}
	if known := s.those(true); len(known) == maxRemotes {
		s.drop(slices.MinFunc(known, func(a, b *remote) int { return int(int64(a.used.Load() - b.used.Load())) }))
	}
	if r.known = true; !slices.Contains(s.remotes, r) {
		s.remotes = append(s.remotes, r)
	}
	r.used.Store(m.turn.Add(1))
	m.routes[r.origin] = r
	return r
}

// pending is the remote of a check from an address that has no route, under mux.mu.
func (s *session) pending(o origin) *remote {
	for _, r := range s.remotes {
		if r.origin == o {
			return r
		}
	}
	if waiting := s.those(false); len(waiting) == maxPending {
		s.drop(waiting[0])
	}
	r := &remote{origin: o, session: s}
	for {
		if s.port++; s.port == 0 {
			continue // no port
		}
		if r.seen = netip.AddrPortFrom(s.mux.aliasOf(s.number), s.port); s.find(r.seen) == nil {
			break
		}
	}
	s.remotes = append(s.remotes, r)
	return r
}

// those are the remotes that are known, or those that are not, under mux.mu.
func (s *session) those(known bool) (found []*remote) {
	for _, r := range s.remotes {
		if r.known == known {
			found = append(found, r)
		}
	}
	return found
}

// drop forgets a remote, under mux.mu.
func (s *session) drop(r *remote) {
	s.remotes = slices.DeleteFunc(s.remotes, func(o *remote) bool { return o == r })
	if s.mux.routes[r.origin] == r {
		delete(s.mux.routes, r.origin)
	}
	r.by.forget(r.from)
}

// Close ends the session, and its reader. What its clients send afterwards is nobody's.
func (s *session) Close() error {
	m := s.mux
	m.mu.Lock()
	if !s.gone {
		s.gone = true
		delete(m.sessions, s.user)
		for len(s.remotes) > 0 {
			s.drop(s.remotes[0])
		}
	}
	m.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queue {
		queues.Put(q)
	}
	s.closed, s.queue, s.into = true, nil, nil
	s.cond.Broadcast()
	return nil
}

// LocalAddr is the candidate's.
func (s *session) LocalAddr() net.Addr { return s.mux.first.LocalAddr() }

// ReadFrom is ReadFromAddrPort for callers of net.PacketConn.
func (s *session) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := s.ReadFromAddrPort(b)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// WriteTo is WriteToAddrPort for callers of net.PacketConn.
func (s *session) WriteTo(b []byte, to net.Addr) (int, error) {
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, net.InvalidAddrError("not a UDP address")
	}
	return s.WriteToAddrPort(b, udp.AddrPort())
}

// SetDeadline does nothing: Pion sets one only to end reading before it closes, and Close
// does that.
func (s *session) SetDeadline(time.Time) error      { return nil }
func (s *session) SetReadDeadline(time.Time) error  { return nil }
func (s *session) SetWriteDeadline(time.Time) error { return nil }

var _ ice.AddrPortReaderWriter = (*session)(nil)
