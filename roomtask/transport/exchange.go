package transport

import (
	"crypto/rand"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The relay reaches nothing but the task's own media, and so needs no network: what a
// TURN client sends to its peer is handed to an ICE mux of its own, the exchange, and
// what that mux sends to the client is handed back. Neither a socket nor a port is
// behind a relayed address. To the ICE agents each allocation is a client at an address
// of the discard prefix 100::/64 (RFC 6666), whose port says which of the task's
// addresses the client meant as peer; the mux's own is link-local, which Pion never
// puts into an answer.

const (
	// exchangeQueue is in packets: what all relayed clients have sent and the mux has
	// not read yet, about 20 ms of 200 Mbit/s.
	exchangeQueue = 512
	// relayQueue is in packets of one allocation: about a second of one viewer's video.
	relayQueue = 256
	// relayIdle is after how long without a packet an allocation ends. Connections in
	// use carry ICE checks every few seconds.
	relayIdle = 2 * time.Minute
)

var (
	exchangeAddr  = netip.AddrPortFrom(netip.MustParseAddr("fe80::6d61:7966:6c79"), 9)
	relayedPrefix = netip.MustParsePrefix("100::/64")
)

// relayed tells whether an address is that of an allocation.
func relayed(a netip.Addr) bool { return a.Is6() && relayedPrefix.Contains(a) }

// relayedPacket is a datagram between an allocation and the mux.
type relayedPacket struct {
	buf  []byte         // of the exchange's pool
	peer int            // index of the task's address
	from netip.AddrPort // towards the mux: the allocation's address for that peer
}

// exchange joins the allocations to the mux. It is the mux's socket, an
// ice.AddrPortReaderWriter.
type exchange struct {
	counters *counters
	in       chan relayedPacket // to the mux
	done     chan struct{}      // closed by Close
	once     sync.Once
	ended    chan struct{} // closed when the mux's reader has seen the end
	endOnce  sync.Once
	pool     sync.Pool

	// own are the task's media addresses as candidates tell them: all that a client may
	// name as peer. Set before the first allocation.
	own   []netip.AddrPort
	peers []*net.UDPAddr // the same

	mu          sync.RWMutex
	allocations map[netip.Addr]*relayConn // guarded by mu
}

func newExchange(c *counters) *exchange {
	x := &exchange{
		counters: c, in: make(chan relayedPacket, exchangeQueue), done: make(chan struct{}), ended: make(chan struct{}),
		allocations: map[netip.Addr]*relayConn{},
	}
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

// ReadFromAddrPort gives the mux the next packet. io.EOF is its sign to end quietly.
func (x *exchange) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	select {
	case p := <-x.in:
		n := copy(b, p.buf)
		x.free(p.buf)
		return n, p.from, nil
	case <-x.done:
		x.endOnce.Do(func() { close(x.ended) })
		return 0, netip.AddrPort{}, io.EOF
	}
}

// WriteToAddrPort takes a packet of the mux for an allocation. What there is no room
// for is dropped, as a network would. Its agents also try the other addresses that
// they know of their clients, which lead nowhere from here.
func (x *exchange) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
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
func (x *exchange) via(a netip.Addr) string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if c := x.allocations[a]; c != nil {
		return c.via
	}
	return ""
}

// Close ends the mux's reader.
func (x *exchange) Close() error {
	x.once.Do(func() { close(x.done) })
	return nil
}

// LocalAddr is the candidate that nobody is told.
func (x *exchange) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(exchangeAddr) }

// ReadFrom is ReadFromAddrPort for callers of net.PacketConn.
func (x *exchange) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := x.ReadFromAddrPort(b)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// WriteTo is WriteToAddrPort for callers of net.PacketConn.
func (x *exchange) WriteTo(b []byte, to net.Addr) (int, error) {
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return len(b), nil
	}
	return x.WriteToAddrPort(b, udp.AddrPort())
}

// SetDeadline does nothing: neither direction blocks but for reading, which Close ends.
func (x *exchange) SetDeadline(time.Time) error      { return nil }
func (x *exchange) SetReadDeadline(time.Time) error  { return nil }
func (x *exchange) SetWriteDeadline(time.Time) error { return nil }

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
	p := relayedPacket{buf: c.x.copied(b), from: netip.AddrPortFrom(c.addr, uint16(peer+1))}
	select {
	case c.x.in <- p:
	default:
		c.x.counters.relayDropped.Add(1)
		c.x.free(p.buf)
	}
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
