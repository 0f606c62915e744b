package transport

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// Bounds of what the guard remembers. A participant has one path, and for a moment two
// when it changes networks; behind some NATs each check leaves by a port of its own.
const (
	maxPaths     = 4096
	maxUserPaths = 32
	maxUserBytes = 64               // of our ICE user fragment, which Pion makes of 16
	pathLifetime = 60 * time.Second // after the last check; a client checks every few seconds
	pathSweep    = time.Second
	checkSlots   = 1024 // STUN requests that may be under way at once
)

// guard decides which datagrams may reach ICE and DTLS at all.
//
// A handshake keeps the first ClientHello that it sees: whoever gets one in before the
// client blocks the call. It also acts on alerts that nobody has authenticated until the
// handshake is done. So DTLS is let through only from an address to which we have
// answered a connectivity check, which an agent does only for who knows the answer's
// password (RFC 8445 §7.3); without alerts of epoch 0, which a browser's handshake has
// no need of; and with one client random per path and ICE session. Who can send from
// the client's exact address and port can still be first.
//
// The socket's reader calls in, whoever writes calls out. RTP passes unseen.
type guard struct {
	seed maphash.Seed // set once
	now  func() int64 // set once; ns

	mu     sync.Mutex
	paths  map[netip.AddrPort]*path // guarded by mu
	users  map[string]int           // guarded by mu: paths of an ICE user; no entry is 0
	checks [checkSlots]check        // guarded by mu: requests by their transaction
	swept  int64                    // guarded by mu: ns
}

// path is an address that has passed a check. guard.mu guards it.
type path struct {
	user    string // our user fragment in that check; "" = not known
	at      int64  // ns, of the last check
	greeted bool
	random  [helloRandom]byte // of the ClientHello, if greeted
}

// check is a STUN request that may be answered.
type check struct {
	transaction [12]byte
	user        [maxUserBytes]byte
	size        int
}

const helloRandom = 32 // bytes of a client random (RFC 5246 §7.4.1.2)

func newGuard() *guard {
	return &guard{
		seed: maphash.MakeSeed(), now: func() int64 { return time.Now().UnixNano() },
		paths: map[netip.AddrPort]*path{}, users: map[string]int{},
	}
}

// in tells whether a datagram that came from an address may go on.
func (g *guard) in(b []byte, from netip.AddrPort) bool {
	switch {
	case len(b) == 0 || b[0] > 63: // not STUN, not DTLS (RFC 7983 §7)
		return true
	case b[0] < 4:
		return g.request(b, from)
	case b[0] < 20:
		return false // ZRTP and what has no meaning
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.paths[from]
	return p != nil && p.admits(b)
}

// request notes a STUN Binding request, so that its answer can be told to belong to an
// ICE user. It refuses what comes from ever new addresses of one user: Pion keeps, and
// checks, a candidate for each.
func (g *guard) request(b []byte, from netip.AddrPort) bool {
	if !stunOf(b, bindingRequest) {
		return true
	}
	user, ok := stunUser(b)
	if !ok {
		return false // no check of ours goes without (RFC 8445 §7.2.2)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.paths[from] == nil && g.users[string(user)] >= maxUserPaths {
		return false
	}
	c := g.slot(b)
	copy(c.transaction[:], b[8:20])
	c.size = copy(c.user[:], user)
	return true
}

func (g *guard) slot(b []byte) *check {
	return &g.checks[maphash.Bytes(g.seed, b[8:20])%checkSlots]
}

// out looks at what is sent. A success response says that the request was authentic.
func (g *guard) out(b []byte, to netip.AddrPort) {
	if !stunOf(b, bindingSuccess) {
		return
	}
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	var user []byte
	if c := g.slot(b); c.transaction == [12]byte(b[8:20]) {
		user = c.user[:c.size]
	}
	p := g.paths[to]
	if p == nil {
		if p = g.add(to, now); p == nil {
			return
		}
	}
	p.at = now
	if len(user) == 0 || string(user) == p.user {
		return
	}
	// Another session, which may be another PeerConnection at the same address.
	g.leave(p)
	p.user, p.greeted = string(user), false
	g.users[p.user]++
}

func (g *guard) add(at netip.AddrPort, now int64) *path {
	if now-g.swept >= int64(pathSweep) {
		g.swept = now
		for addr, p := range g.paths {
			if now-p.at > int64(pathLifetime) {
				g.leave(p)
				delete(g.paths, addr)
			}
		}
	}
	if len(g.paths) >= maxPaths {
		return nil
	}
	p := &path{}
	g.paths[at] = p
	return p
}

// leave takes a path out of its user's count.
func (g *guard) leave(p *path) {
	if p.user == "" {
		return
	}
	if g.users[p.user]--; g.users[p.user] == 0 {
		delete(g.users, p.user)
	}
}

// DTLS 1.2 records (RFC 6347 §4.1) and handshake messages (§4.2.2).
const (
	recordHeader     = 13
	recordCCS        = 20
	recordAlert      = 21
	recordHandshake  = 22
	recordData       = 23
	messageHeader    = 12
	messageHello     = 1
	helloRandomAfter = 2 // bytes of version before it
)

// admits walks the records of a datagram. One that is not as it should be refuses all.
func (p *path) admits(b []byte) bool {
	for len(b) > 0 {
		if len(b) < recordHeader || b[0] < recordCCS || b[0] > recordData {
			return false
		}
		size := int(binary.BigEndian.Uint16(b[11:]))
		if len(b) < recordHeader+size {
			return false
		}
		plain := b[3] == 0 && b[4] == 0 // epoch 0
		body := b[recordHeader : recordHeader+size]
		switch {
		case plain && (b[0] == recordAlert || b[0] == recordData):
			return false
		case plain && b[0] == recordHandshake && !p.hellos(body):
			return false
		}
		b = b[recordHeader+size:]
	}
	return true
}

// hellos looks for ClientHellos in a plaintext handshake record. Only the first
// fragment of one has the random; nobody cuts it before that.
func (p *path) hellos(b []byte) bool {
	for len(b) > 0 {
		if len(b) < messageHeader {
			return false
		}
		offset, size := uint24(b[6:]), uint24(b[9:])
		if len(b) < messageHeader+size {
			return false
		}
		if b[0] == messageHello && offset == 0 {
			const end = helloRandomAfter + helloRandom
			if size < end {
				return false
			}
			random := [helloRandom]byte(b[messageHeader+helloRandomAfter : messageHeader+end])
			if p.greeted && random != p.random {
				return false
			}
			p.greeted, p.random = true, random
		}
		b = b[messageHeader+size:]
	}
	return true
}

func uint24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }

// STUN (RFC 8489 §5): message types, the magic cookie, and the attribute USERNAME.
const (
	stunHeader     = 20
	stunCookie     = 0x2112a442
	bindingRequest = 0x0001
	bindingSuccess = 0x0101
	attrUsername   = 0x0006
	// What follows a signature is not part of the message (RFC 8489 §14.5, §14.6).
	attrIntegrity       = 0x0008
	attrIntegritySHA256 = 0x001c
)

func stunOf(b []byte, kind uint16) bool {
	return len(b) >= stunHeader && binary.BigEndian.Uint16(b) == kind && binary.BigEndian.Uint32(b[4:]) == stunCookie
}

// stunUser is the receiver's half of a check's USERNAME (RFC 8445 §7.2.2).
func stunUser(b []byte) (user []byte, ok bool) {
	size := int(binary.BigEndian.Uint16(b[2:]))
	if size > len(b)-stunHeader {
		return nil, false
	}
	for b = b[stunHeader : stunHeader+size]; len(b) >= 4; {
		kind, size := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if len(b) < 4+size {
			return nil, false
		}
		switch kind {
		case attrIntegrity, attrIntegritySHA256:
			return nil, false
		case attrUsername:
			for i, c := range b[4 : 4+size] {
				if c == ':' {
					return b[4 : 4+i], i > 0 && i <= maxUserBytes
				}
			}
			return nil, false
		}
		b = b[min(len(b), 4+(size+3)&^3):]
	}
	return nil, false
}
