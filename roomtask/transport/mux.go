package transport

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/pion/ice/v4"
)

// way is a road by which datagrams reach clients: a UDP socket, the relay's exchange, one
// client's TCP connection. What comes in by it, its owner hands to mux.deliver.
type way interface {
	// send never blocks for long, and keeps nothing of b.
	send(b []byte, to netip.AddrPort) (int, error)
	// via is the way in the ledger's words, "" if nobody is there any more.
	via(to netip.AddrPort) string
	// forget says that nothing will be sent to an address again.
	forget(to netip.AddrPort)
}

// Bounds of the mux.
const (
	// maxPending are a session's addresses that its agent has not answered: the oldest
	// gives way, so that who only claims to be a client pushes out nobody but such.
	maxPending = 16
	// maxRemotes are those that it has answered. The one that was written to least recently
	// gives way, which is never the one in use.
	maxRemotes = 48
	// sessionQueue is in datagrams that the agent has not read yet: checks, of which a client
	// sends some dozens when it begins.
	sessionQueue = 256
)

// Addresses that stand for a client of another way than the first (RFC 1112 §4: class E,
// RFC 6666: the discard prefix). They are of the first way's family, for an agent looks for
// a client among those of its own candidate's family only. Nobody has one of them.
var (
	aliases4 = netip.MustParsePrefix("240.0.0.0/8")
	aliases6 = netip.MustParsePrefix("100::/64")
)

// reserved tells whether an address is one that stands for something else.
func reserved(a netip.Addr) bool { return aliases4.Contains(a) || aliases6.Contains(a) }

// mux joins all ways to the participants' ICE agents. An agent has one candidate, whatever
// the number of ways: each candidate of Pion's is a goroutine and a buffer of 8 KB that
// wait, and a client uses one of them. The agent sees clients of the first UDP socket at
// their addresses; those of any other way have an alias, whose port says which of the
// session's remotes it is. Clients are told of the other ways by Transport.Candidates.
//
// An agent answers only checks that know its password, so who has been written to has
// proved to be the session's client (RFC 8445 §7.3). That makes a route: from there on
// everything from there is the session's, and of nobody else, until it ends.
//
// It is Pion's ice.UDPMux (see agentMux). Ways call deliver, agents the session's methods.
type mux struct {
	first   *socket               // set once
	allowed func(netip.Addr) bool // set once: whether a client can be at an address
	lost    *atomic.Uint64        // set once: counts what found a full queue
	turn    atomic.Uint64         // ordinal of writes, for the least recent

	mu       sync.RWMutex
	sessions map[string]*session // guarded by mu: by the agent's user fragment
	routes   map[origin]*remote  // guarded by mu: of the remotes that are known
	numbers  uint32              // guarded by mu: sessions so far
	closed   bool                // guarded by mu
}

// origin is where a datagram came from.
type origin struct {
	by   way
	from netip.AddrPort
}

// remote is a client's address, on one way.
type remote struct {
	origin  // set once
	session *session
	seen    netip.AddrPort // set once: the address as the agent knows it
	known   bool           // guarded by mux.mu: the agent has written to it
	used    atomic.Uint64  // mux.turn of the last write
}

func newMux(first *socket, allowed func(netip.Addr) bool, lost *atomic.Uint64) *mux {
	return &mux{first: first, allowed: allowed, lost: lost, sessions: map[string]*session{}, routes: map[origin]*remote{}}
}

// alias tells whether an address is one of those that this mux makes.
func (m *mux) alias(a netip.Addr) bool {
	if m.first.local.Addr().Is4() {
		return aliases4.Contains(a)
	}
	return aliases6.Contains(a)
}

// aliasOf is the address of a session's remotes on other ways.
func (m *mux) aliasOf(number uint32) netip.Addr {
	if m.first.local.Addr().Is4() {
		a := aliases4.Addr().As4()
		binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(a[:])|number&0xffffff)
		return netip.AddrFrom4(a)
	}
	a := aliases6.Addr().As16()
	binary.BigEndian.PutUint32(a[12:], number)
	return netip.AddrFrom16(a)
}

// deliver hands a datagram to the agent that it is for, and tells whether there is one.
func (m *mux) deliver(by way, b []byte, from netip.AddrPort) bool {
	m.mu.RLock()
	r := m.routes[origin{by, from}]
	m.mu.RUnlock()
	if r != nil {
		r.session.take(b, r.seen)
		return true
	}
	s, seen := m.meet(by, b, from)
	if s == nil {
		return false
	}
	s.take(b, seen)
	return true
}

// meet finds the session of a check from an unknown address: that which it names.
func (m *mux) meet(by way, b []byte, from netip.AddrPort) (s *session, seen netip.AddrPort) {
	if !stunOf(b, bindingRequest) {
		return nil, seen
	}
	user, ok := stunUser(b)
	if !ok {
		return nil, seen
	}
	m.mu.RLock()
	s = m.sessions[string(user)]
	m.mu.RUnlock()
	if s == nil || by == way(m.first) {
		return s, from // the agent asks whether a client can be there
	}
	if !m.allowed(from.Addr()) {
		return nil, seen
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.gone {
		return nil, seen
	}
	return s, s.pending(origin{by, from}).seen
}

// lose forgets a way that has ended, with the one remote that it had.
func (m *mux) lose(by way, from netip.AddrPort) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.sessions {
		for _, r := range s.remotes {
			if r.origin == (origin{by, from}) {
				s.drop(r)
				return
			}
		}
	}
}

// where is the way and the address of a client that an agent knows by an address.
func (m *mux) where(seen netip.AddrPort) (origin, bool) {
	if !m.alias(seen.Addr()) {
		return origin{m.first, seen}, true
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, s := range m.sessions {
		if r := s.find(seen); r != nil {
			return r.origin, true
		}
	}
	return origin{}, false
}

var errCandidate = errors.New("transport: an agent has one candidate")

// GetConn makes the connection of an agent that reads all by itself.
func (m *mux) GetConn(user string, at net.Addr) (net.PacketConn, error) { return m.open(user, at, nil) }

// open makes the connection of an agent's only candidate. What is not STUN goes to take.
func (m *mux) open(user string, at net.Addr, take func(b []byte)) (net.PacketConn, error) {
	if at.String() != m.first.LocalAddr().String() {
		return nil, errCandidate
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return nil, io.ErrClosedPipe
	case m.sessions[user] != nil:
		return nil, errCandidate
	}
	m.numbers++
	s := &session{mux: m, user: user, number: m.numbers, other: take}
	s.cond.L = &s.mu
	m.sessions[user] = s
	return s, nil
}

// RemoveConnByUfrag ends a session.
func (m *mux) RemoveConnByUfrag(user string) {
	m.mu.RLock()
	s := m.sessions[user]
	m.mu.RUnlock()
	if s != nil {
		_ = s.Close()
	}
}

// GetListenAddresses is what an agent makes its candidate of.
func (m *mux) GetListenAddresses() []net.Addr { return []net.Addr{m.first.LocalAddr()} }

// Close ends all sessions. The ways are their owners' to close.
func (m *mux) Close() error {
	m.mu.Lock()
	m.closed = true
	all := make([]*session, 0, len(m.sessions))
	for _, s := range m.sessions {
		all = append(all, s)
	}
	m.mu.Unlock()
	for _, s := range all {
		_ = s.Close()
	}
	return nil
}

var _ ice.UDPMux = (*mux)(nil)
