package transport

import (
	"crypto/rand"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The relay reaches nothing but the task's own media, and so needs no network: what a
// TURN client sends to its peer is handed to the ICE mux, of which the exchange is a way,
// and what the mux sends to the client is handed back. Neither a socket nor a port is
// behind a relayed address. To the mux each allocation is a client at an address
// of the discard prefix 100::/64 (RFC 6666), whose port says which of the task's
// addresses the client meant as peer.

const (
	// relayQueue is in packets of one allocation: about a second of one viewer's video.
	relayQueue = 256
	// relayIdle is after how long without a packet an allocation ends. Connections in
	// use carry ICE checks every few seconds.
	relayIdle = 2 * time.Minute
)

var relayedPrefix = netip.MustParsePrefix("100::/64")

// relayed tells whether an address is that of an allocation.
func relayed(a netip.Addr) bool { return a.Is6() && relayedPrefix.Contains(a) }

// relayedPacket is a datagram from the mux to an allocation.
type relayedPacket struct {
	buf  []byte // of the exchange's pool
	peer int    // index of the task's address
}

// exchange joins the allocations to the mux, as one of its ways.
type exchange struct {
	counters *counters
	deliver  func(b []byte, from netip.AddrPort) // set once: to the mux
	pool     sync.Pool

	// own are the task's media addresses as candidates tell them: all that a client may
	// name as peer. Set before the first allocation.
	own   []netip.AddrPort
	peers []*net.UDPAddr // the same

	mu          sync.RWMutex
	allocations map[netip.Addr]*relayConn // guarded by mu
}

func newExchange(c *counters) *exchange {
	x := &exchange{counters: c, allocations: map[netip.Addr]*relayConn{}}
	x.pool.New = func() any { b := make([]byte, 0, relayedBytes); return &b }
	return x
}

// relayedBytes is the longest datagram that is relayed; longer ones fit no path.
const relayedBytes = 1500

// setPeers says what a client may name as peer.
func (x *exchange) setPeers(own []netip.AddrPort) {
	x.own = slices.Clone(own)
	for _, a := range own {
		x.peers = append(x.peers, net.UDPAddrFromAddrPort(a))
	}
}

// peer is the index of one of the task's addresses, or -1.
func (x *exchange) peer(a netip.AddrPort) int { return slices.Index(x.own, a) }

// allowed tells whether a client may have a permission for an address. Which port it
// may send to, peer decides.
func (x *exchange) allowed(ip net.IP) bool {
	addr, ok := netip.AddrFromSlice(ip)
	return ok && slices.ContainsFunc(x.own, func(a netip.AddrPort) bool { return a.Addr() == addr.Unmap() })
}

func (x *exchange) copied(b []byte) []byte {
	return append((*x.pool.Get().(*[]byte))[:0], b...)
}

func (x *exchange) free(b []byte) {
	b = b[:0]
	x.pool.Put(&b)
}

// send takes a packet of the mux for an allocation. What there is no room for is dropped,
// as a network would, and so is what is for an allocation that has ended.
func (x *exchange) send(b []byte, to netip.AddrPort) (int, error) {
	x.mu.RLock()
	c := x.allocations[to.Addr()]
	x.mu.RUnlock()
	peer := int(to.Port()) - 1
	if c == nil || peer < 0 || peer >= len(x.own) || len(b) > relayedBytes {
		return len(b), nil
	}
	p := relayedPacket{buf: x.copied(b), peer: peer}
	select {
	case c.out <- p:
	default:
		x.counters.relayDropped.Add(1)
		x.free(p.buf)
	}
	return len(b), nil
}

// allocate makes an allocation's end of the exchange.
func (x *exchange) allocate(via string, closed func()) *relayConn {
	var id [16]byte
	prefix := relayedPrefix.Addr().As16()
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	copy(id[:8], prefix[:8])
	c := &relayConn{x: x, addr: netip.AddrFrom16(id), via: via, out: make(chan relayedPacket, relayQueue), done: make(chan struct{}), closed: closed}
	c.idle = time.AfterFunc(relayIdle, c.expire)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.allocations[c.addr] = c
	return c
}

// via is how the client of a relayed address reaches the relay, "" if nobody is there.
func (x *exchange) via(to netip.AddrPort) string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if c := x.allocations[to.Addr()]; c != nil {
		return c.via
	}
	return ""
}

// forget does nothing: an allocation is its client's.
func (x *exchange) forget(netip.AddrPort) {}

// relayConn is what an allocation has for a socket: WriteTo is the client sending to a
// peer, ReadFrom the peer's answer.
type relayConn struct {
	x      *exchange
	addr   netip.Addr // the allocation's, for the mux
	via    string     // how the client reaches the relay
	out    chan relayedPacket
	done   chan struct{}
	once   sync.Once
	closed func() // called once, by Close
	gone   bool   // set once: stands for no allocation
	idle   *time.Timer
	used   atomic.Bool // something was sent since idle was set
}

// WriteTo hands a packet of the client to the mux, if it is for the task's own media;
// anything else goes nowhere.
func (c *relayConn) WriteTo(b []byte, to net.Addr) (int, error) {
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, os.ErrInvalid
	}
	at := udp.AddrPort()
	peer := c.x.peer(netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))
	if peer < 0 || len(b) > relayedBytes {
		c.x.counters.relayRefused.Add(1)
		return len(b), nil
	}
	c.used.Store(true)
	c.x.deliver(b, netip.AddrPortFrom(c.addr, uint16(peer+1)))
	return len(b), nil
}

// ReadFrom gives the next packet for the client, and the peer that it is from.
func (c *relayConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case p := <-c.out:
		n := copy(b, p.buf)
		c.x.free(p.buf)
		return n, c.x.peers[p.peer], nil
	case <-c.done:
		return 0, nil, net.ErrClosed
	}
}

// expire ends an allocation that its client has forgotten.
func (c *relayConn) expire() {
	if c.used.Swap(false) {
		c.idle.Reset(relayIdle)
		return
	}
	_ = c.Close()
}

// Close ends the allocation: its TURN server meets an end of reading.
func (c *relayConn) Close() error {
	if c.gone {
		return nil
	}
	c.once.Do(func() {
		c.idle.Stop()
		c.x.mu.Lock()
		delete(c.x.allocations, c.addr)
		c.x.mu.Unlock()
		close(c.done)
		c.closed()
	})
	return nil
}

// relayAddr is the relayed address as the client is told: one of the task's, of the
// family that it asked for, and a port by which it tells its allocations apart. Nothing
// listens there.
func (c *relayConn) relayAddr(inet6 bool) *net.UDPAddr {
	id := c.addr.As16()
	port := 49152 + int(binary.BigEndian.Uint16(id[14:])&0x3fff)
	for _, a := range c.x.own {
		if a.Addr().Is6() == inet6 {
			return &net.UDPAddr{IP: a.Addr().AsSlice(), Port: port}
		}
	}
	return &net.UDPAddr{IP: c.x.own[0].Addr().AsSlice(), Port: port}
}

// LocalAddr is for the server's log.
func (c *relayConn) LocalAddr() net.Addr { return c.relayAddr(false) }

// SetDeadline does nothing: a TURN server sets none.
func (c *relayConn) SetDeadline(time.Time) error      { return nil }
func (c *relayConn) SetReadDeadline(time.Time) error  { return nil }
func (c *relayConn) SetWriteDeadline(time.Time) error { return nil }
