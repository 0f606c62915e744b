package transport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// tcpWriteBuffer holds about a second of one viewer's video. What does not fit is
	// dropped, as the network would: a longer queue would only be late.
	tcpWriteBuffer = 256 << 10
	// maxTCP and maxTCPPerIP bound open connections: a participant needs one or two,
	// and an office may share one address.
	maxTCP      = 1024
	maxTCPPerIP = 256
	// acceptPause is waited after an error of accept, such as too many open files.
	acceptPause = 50 * time.Millisecond
)

// listener bounds and counts what the ICE-TCP mux accepts. Accept fails only when
// it is closed: the front would never accept again.
type listener struct {
	net.Listener
	local    netip.AddrPort
	counters *counters
	done     chan struct{} // closed by Close
	once     sync.Once

	mu   sync.Mutex
	open int                // guarded by mu
	byIP map[netip.Addr]int // guarded by mu; no entry is 0
}

func listenTCP(at netip.AddrPort, c *counters) (*listener, error) {
	network := "tcp4"
	if at.Addr().Is6() {
		network = "tcp6"
	}
	l, err := net.ListenTCP(network, net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("listen TCP: %w", err)
	}
	local := l.Addr().(*net.TCPAddr).AddrPort()
	return &listener{
		Listener: l, counters: c, done: make(chan struct{}), byIP: map[netip.Addr]int{},
		local: netip.AddrPortFrom(local.Addr().Unmap(), local.Port()),
	}, nil
}

// Accept waits for the next connection within the bounds.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil, err
			}
			select {
			case <-l.done:
				return nil, err
			case <-time.After(acceptPause):
				continue
			}
		}
		ip := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		if !l.enter(ip) {
			l.counters.tcpRefused.Add(1)
			_ = c.Close()
			continue
		}
		l.counters.tcpAccepted.Add(1)
		l.counters.tcpOpen.Add(1)
		return &conn{Conn: c, ip: ip, owner: l}, nil
	}
}

func (l *listener) enter(ip netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= maxTCP || l.byIP[ip] >= maxTCPPerIP {
		return false
	}
	l.open++
	l.byIP[ip]++
	return true
}

func (l *listener) leave(ip netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.byIP[ip]--; l.byIP[ip] == 0 {
		delete(l.byIP, ip)
	}
}

// Close ends Accept.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

// conn counts one connection's bytes, framing included.
type conn struct {
	net.Conn
	ip    netip.Addr
	owner *listener
	once  sync.Once
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.owner.counters.tcpBytesIn.Add(uint64(n))
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.owner.counters.tcpBytesOut.Add(uint64(n))
	return n, err
}

// Close is idempotent: a connection is closed from several places, and the second time
// would be an error.
func (c *conn) Close() error {
	var err error
	c.once.Do(func() {
		c.owner.leave(c.ip)
		c.owner.counters.tcpOpen.Add(-1)
		err = c.Conn.Close()
	})
	return err
}
