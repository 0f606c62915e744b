package transport

import (
	"context"
	"crypto/hmac"
	crand "crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"
)

// Ways in, as the ledger names them.
const (
	ViaUDP     = "udp"
	ViaTCP     = "tcp"
	ViaTURNUDP = "turn-udp"
	ViaTURNTCP = "turn-tcp"
	ViaTURNTLS = "turn-tls"
)

const (
	// CredentialTTL is how long a credential makes allocations. What was allocated
	// lives on.
	CredentialTTL = 10 * time.Minute
	// maxAllocations is of one participant: a browser makes one for each server it is
	// told, of each of its interfaces and families.
	maxAllocations = 16
	// maxAllAllocations is of the task.
	maxAllAllocations = 1024
	// realm is part of every 401, which is paid for by the byte.
	realm = "mayfly"
	// allocationLifetime is what clients get that ask for none, and for how long a
	// permission and a channel hold.
	allocationLifetime = 10 * time.Minute
	// turnSetup is how long a connection may take from its first bytes to an
	// allocation: a TLS handshake, a 401, the request.
	turnSetup = 10 * time.Second
	// turnIdle ends a connection that its client has forgotten.
	turnIdle = 2 * relayIdle
)

// relay is the task's TURN server. Its only peer is the task's own media: see
// exchange.go.
type relay struct {
	exchange *exchange
	server   *turn.Server
	secret   []byte
	now      func() time.Time
	inet6    bool // an IPv6 address of the task's can be relayed to …
	inet4    bool // … or an IPv4 one

	mu       sync.Mutex
	users    map[string]*relayUser // guarded by mu: who may allocate
	count    int                   // guarded by mu: allocations of all
	stopping bool                  // guarded by mu

	conns sync.Map // by remote address as text: *turnConn
}

// relayUser is a participant, or one who left and whose allocations are being closed.
type relayUser struct {
	allowed bool
	conns   map[*relayConn]bool
}

func newRelay(x *exchange, own []netip.AddrPort) *relay {
	r := &relay{exchange: x, secret: make([]byte, 32), now: time.Now, users: map[string]*relayUser{}}
	_, _ = crand.Read(r.secret) // never fails (crypto/rand)
	x.setPeers(own)
	for _, a := range own {
		r.inet4, r.inet6 = r.inet4 || a.Addr().Is4(), r.inet6 || a.Addr().Is6()
	}
	return r
}

// serve starts the server on the sockets and on what the front hands over.
func (r *relay) serve(ports []*turnPort, tcp, tls net.Listener, loggers *LoggerFactory) error {
	config := turn.ServerConfig{
		Realm: realm, LoggerFactory: loggers, AuthHandler: r.authenticate, QuotaHandler: r.quota,
		AllocationLifetime: allocationLifetime, PermissionTimeout: allocationLifetime, ChannelBindTimeout: allocationLifetime,
		InboundMTU: maxTURNFrame + 1, // a frame of the full length would count as cut off
		EventHandler: turn.EventHandler{
			OnAllocationCreated: func(src, _ net.Addr, _, _, _ string, _ net.Addr, _ int) { r.settled(src) },
			OnAuth: func(_, _ net.Addr, _, _, _, _ string, verdict bool) {
				if !verdict { // whom authenticate has given a key for
					r.exchange.counters.relayForged.Add(1)
				}
			},
		},
	}
	permit := func(_ net.Addr, peer net.IP) bool { return r.exchange.allowed(peer) }
	for _, p := range ports {
		config.PacketConnConfigs = append(config.PacketConnConfigs, turn.PacketConnConfig{
			PacketConn: p, RelayAddressGenerator: generator{r, ViaTURNUDP}, PermissionHandler: permit,
		})
	}
	for via, l := range map[string]net.Listener{ViaTURNTCP: tcp, ViaTURNTLS: tls} {
		if l != nil {
			config.ListenerConfigs = append(config.ListenerConfigs, turn.ListenerConfig{
				Listener: l, RelayAddressGenerator: generator{r, via}, PermissionHandler: permit,
			})
		}
	}
	var err error
	if r.server, err = turn.NewServer(config); err != nil {
		return fmt.Errorf("TURN: %w", err)
	}
	return nil
}

// Credential is what a participant allocates with: RFC 8489 §9.2's long-term mechanism,
// for a short time.
type Credential struct{ Username, Password string }

// Grant makes a credential for a participant. Username and expiry are readable, the
// password is their MAC.
func (r *relay) grant(participant string) Credential {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users[participant] == nil {
		r.users[participant] = &relayUser{conns: map[*relayConn]bool{}}
	}
	r.users[participant].allowed = true
	name := strconv.FormatInt(r.now().Add(CredentialTTL).Unix(), 10) + ":" + participant
	return Credential{Username: name, Password: r.password(name)}
}

func (r *relay) password(username string) string {
	mac := hmac.New(sha256.New, r.secret)
	mac.Write([]byte(username))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:18])
}

// revoke ends a participant's credentials and allocations.
func (r *relay) revoke(participant string) {
	r.mu.Lock()
	var conns []*relayConn
	if u := r.users[participant]; u != nil {
		u.allowed = false
		for c := range u.conns {
			conns = append(conns, c)
		}
		if len(u.conns) == 0 {
			delete(r.users, participant)
		}
	}
	r.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

// authenticate gives the key that a request must be signed with. A credential's expiry
// counts when it allocates; whom its allocation outlives may go on using it.
func (r *relay) authenticate(a *turn.RequestAttributes) (user string, key []byte, ok bool) {
	expires, participant, found := strings.Cut(a.Username, ":")
	at, err := strconv.ParseInt(expires, 10, 64)
	if !found || err != nil || a.Realm != realm {
		r.exchange.counters.relayStrangers.Add(1)
		return "", nil, false
	}
	if a.Method == stun.MethodAllocate && r.now().Unix() >= at {
		r.exchange.counters.relayExpired.Add(1)
		return "", nil, false
	}
	r.mu.Lock()
	u := r.users[participant]
	allowed := u != nil && u.allowed
	r.mu.Unlock()
	if !allowed {
		r.exchange.counters.relayStrangers.Add(1)
		return "", nil, false
	}
	return participant, turn.GenerateAuthKey(a.Username, realm, r.password(a.Username)), true
}

// quota says whether a participant may have one more allocation.
func (r *relay) quota(user, _ string, _ net.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.room(user)
}

// room is quota, under mu.
func (r *relay) room(user string) bool {
	u := r.users[user]
	return !r.stopping && u != nil && u.allowed && len(u.conns) < maxAllocations && r.count < maxAllAllocations
}

var errQuota = errors.New("transport: no allocation left")

// allocate makes an allocation of a participant.
func (r *relay) allocate(user, via string) (*relayConn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.room(user) {
		return nil, errQuota
	}
	u := r.users[user]
	var c *relayConn
	c = r.exchange.allocate(via, func() { r.closed(user, u, c) })
	u.conns[c] = true
	r.count++
	r.exchange.counters.relayAllocations.Add(1)
	return c, nil
}

// closed forgets an allocation.
func (r *relay) closed(user string, u *relayUser, c *relayConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(u.conns, c)
	r.count--
	r.exchange.counters.relayAllocations.Add(-1)
	if !u.allowed && len(u.conns) == 0 && r.users[user] == u {
		delete(r.users, user)
	}
}

// settled lets a connection live on: its client has an allocation.
func (r *relay) settled(src net.Addr) {
	if c, ok := r.conns.Load(src.String()); ok {
		c.(*turnConn).allocated.Store(true)
	}
}

// close ends all allocations and the server.
func (r *relay) close() error {
	r.mu.Lock()
	r.stopping = true
	users := make([]string, 0, len(r.users))
	for u := range r.users {
		users = append(users, u)
	}
	r.mu.Unlock()
	for _, u := range users {
		r.revoke(u)
	}
	var err error
	if r.server != nil {
		err = r.server.Close()
	}
	r.conns.Range(func(_, c any) bool {
		_ = c.(*turnConn).Close()
		return true
	})
	return err
}

// generator makes the allocations of one way in. Only UDP is relayed.
type generator struct {
	r   *relay
	via string
}

var errNotRelayed = errors.New("transport: TCP is not relayed")

func (g generator) Validate() error { return nil }

func (g generator) AllocatePacketConn(c turn.AllocateListenerConfig) (net.PacketConn, net.Addr, error) {
	inet6 := c.Network == "udp6"
	if inet6 && !g.r.inet6 || !inet6 && !g.r.inet4 {
		return nil, nil, errNotRelayed
	}
	if c.UserID == "" { // it looks for an even port (RFC 8656 §7.2), which is nobody's here
		at := &net.UDPAddr{IP: g.r.exchange.own[0].Addr().AsSlice(), Port: 49152 + 2*rand.IntN(1<<13)}
		return &relayConn{closed: func() {}, gone: true}, at, nil
	}
	conn, err := g.r.allocate(c.UserID, g.via)
	if err != nil {
		return nil, nil, err
	}
	at := conn.relayAddr(inet6)
	if c.RequestedPort > 0 {
		at.Port = c.RequestedPort
	}
	return conn, at, nil
}

func (g generator) AllocateListener(turn.AllocateListenerConfig) (net.Listener, net.Addr, error) {
	return nil, nil, errNotRelayed
}

func (g generator) AllocateConn(turn.AllocateConnConfig) (net.Conn, error) {
	return nil, errNotRelayed
}

// turnConn is a TCP or TLS connection to the relay. It hands on whole frames, so that
// a client which sends byte by byte costs no more than its bytes, and closes one that
// does not allocate, or is forgotten. Read is called by one goroutine, the server's.
type turnConn struct {
	net.Conn
	r         *relay
	opened    time.Time
	allocated atomic.Bool
	once      sync.Once

	buf  []byte // owned by the reader: begins with a frame
	have int    // bytes in it
}

// Read gives one frame.
func (c *turnConn) Read(b []byte) (int, error) {
	for {
		size, ok := turnFrame(c.buf[:c.have])
		if !ok || size > len(b) {
			return 0, errFrame
		}
		if size > 0 && size <= c.have {
			n := copy(b, c.buf[:size])
			c.have = copy(c.buf, c.buf[size:c.have])
			return n, nil
		}
		deadline := c.opened.Add(turnSetup)
		if c.allocated.Load() {
			deadline = c.r.now().Add(turnIdle)
		}
		if err := c.SetReadDeadline(deadline); err != nil {
			return 0, err
		}
		n, err := c.Conn.Read(c.buf[c.have:])
		c.have += n
		if err != nil && n == 0 {
			return 0, err
		}
	}
}

var errFrame = errors.New("transport: not a TURN frame")

// Close is idempotent.
func (c *turnConn) Close() error {
	var err error
	c.once.Do(func() {
		c.r.conns.Delete(c.RemoteAddr().String())
		err = c.Conn.Close()
	})
	return err
}

// admit makes a connection the relay's. A TLS one shakes hands first.
func (r *relay) admit(ctx context.Context, conn net.Conn) (net.Conn, error) {
	c := &turnConn{Conn: conn, r: r, opened: r.now(), buf: make([]byte, 2*maxTURNFrame)}
	if h, ok := conn.(interface{ HandshakeContext(context.Context) error }); ok {
		ctx, cancel := context.WithTimeout(ctx, turnSetup)
		defer cancel()
		if err := h.HandshakeContext(ctx); err != nil {
			return nil, err
		}
	}
	r.conns.Store(c.RemoteAddr().String(), c)
	return c, nil
}
