package nettest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// maxClients bounds the sockets of a relay. A client is one address and port: a browser
// makes one or two for each PeerConnection.
const maxClients = 256

// Config describes a relay.
type Config struct {
	Listen   netip.AddrPort // port 0 = any
	Target   netip.AddrPort // of the room task
	Seed     uint64
	Up, Down Settings // from the clients to the target, and back
}

// Relay is one link: all its clients share its two directions, and each is shown to the
// target by a socket of its own.
type Relay struct {
	target   net.UDPAddr
	conn     *net.UDPConn // to the clients
	up, down *direction
	wg       sync.WaitGroup

	mu      sync.Mutex
	clients map[netip.AddrPort]*net.UDPConn // sockets to the target; guarded by mu
	refused int64                           // packets of clients over maxClients; guarded by mu
	closed  bool                            // guarded by mu
}

// Open starts a relay.
func Open(cfg Config) (*Relay, error) {
	for _, s := range []Settings{cfg.Up, cfg.Down} {
		if err := s.Check(); err != nil {
			return nil, fmt.Errorf("nettest: %w", err)
		}
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(cfg.Listen))
	if err != nil {
		return nil, fmt.Errorf("nettest: %w", err)
	}
	grow(conn)
	r := &Relay{
		target: *net.UDPAddrFromAddrPort(cfg.Target), conn: conn, clients: map[netip.AddrPort]*net.UDPConn{},
		up: newDirection(cfg.Up, cfg.Seed), down: newDirection(cfg.Down, cfg.Seed+1),
	}
	r.wg.Go(r.up.run)
	r.wg.Go(r.down.run)
	r.wg.Go(r.listen)
	return r, nil
}

// grow asks for room for bursts; a relay that loses packets by itself would lie.
func grow(c *net.UDPConn) {
	_ = c.SetReadBuffer(4 << 20) // the kernel gives what it allows
	_ = c.SetWriteBuffer(4 << 20)
}

// Addr is what clients are to send to.
func (r *Relay) Addr() netip.AddrPort { return r.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// Set changes both directions, from now on.
func (r *Relay) Set(up, down Settings) error {
	if err := errors.Join(up.Check(), down.Check()); err != nil {
		return fmt.Errorf("nettest: %w", err)
	}
	r.up.set(up)
	r.down.set(down)
	return nil
}

// Settings are the present ones.
func (r *Relay) Settings() (up, down Settings) { return r.up.settings(), r.down.settings() }

// Counters tell what became of the packets so far.
func (r *Relay) Counters() (up, down Counters) { return r.up.counters(), r.down.counters() }

// Close ends the relay and what is under way. It returns when its goroutines are gone.
func (r *Relay) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	err := r.conn.Close()
	for _, c := range r.clients {
		err = errors.Join(err, c.Close())
	}
	r.mu.Unlock()
	r.up.close()
	r.down.close()
	r.wg.Wait()
	return err
}

// listen reads what clients send.
func (r *Relay) listen() {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := r.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error of an earlier packet
		}
		if c := r.client(from); c != nil {
			r.up.push(datagram{data: append([]byte(nil), buf[:n]...), to: c})
		}
	}
}

// client returns the socket that stands for a client; nil if there are too many.
func (r *Relay) client(from netip.AddrPort) *net.UDPConn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.clients[from]; c != nil {
		return c
	}
	if r.closed || len(r.clients) >= maxClients {
		r.refused++
		return nil
	}
	c, err := net.DialUDP("udp", nil, &r.target)
	if err != nil {
		r.refused++
		return nil
	}
	grow(c)
	r.clients[from] = c
	r.wg.Go(func() { r.answer(c, from) })
	return c
}

// answer reads what the target sends to a client.
func (r *Relay) answer(c *net.UDPConn, client netip.AddrPort) {
	buf := make([]byte, 1<<16)
	for {
		n, err := c.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the target is not there (yet): connection refused
		}
		r.down.push(datagram{data: append([]byte(nil), buf[:n]...), to: r.conn, client: client})
	}
}

// Rebind shows every client to the target from another port, as a NAT does that has
// forgotten what it translated: what the target sends to the old ones is lost.
func (r *Relay) Rebind() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var err error
	for client, c := range r.clients {
		err = errors.Join(err, c.Close())
		delete(r.clients, client) // its next packet opens another
	}
	return err
}

// datagram is one packet and where it goes: to a client over the relay's own socket, or
// over a connected one.
type datagram struct {
	data   []byte
	to     *net.UDPConn
	client netip.AddrPort // invalid: to is connected
}

func (d datagram) send() {
	// What a socket refuses is lost, as on any network.
	if d.client.IsValid() {
		_, _ = d.to.WriteToUDPAddrPort(d.data, d.client)
	} else {
		_, _ = d.to.Write(d.data)
	}
}

// direction runs a pipe on the clock of this machine.
type direction struct {
	begin time.Time
	wake  chan struct{}
	done  chan struct{}

	mu   sync.Mutex
	pipe *pipe[datagram] // guarded by mu
}

func newDirection(s Settings, seed uint64) *direction {
	return &direction{begin: time.Now(), wake: make(chan struct{}, 1), done: make(chan struct{}), pipe: newPipe[datagram](s, seed)}
}

func (d *direction) now() int64 { return int64(time.Since(d.begin)) }

func (d *direction) push(g datagram) {
	d.mu.Lock()
	d.pipe.push(d.now(), len(g.data), g)
	d.mu.Unlock()
	d.stir()
}

func (d *direction) set(s Settings) {
	d.mu.Lock()
	d.pipe.set(d.now(), s)
	d.mu.Unlock()
	d.stir()
}

func (d *direction) settings() Settings {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pipe.s
}

func (d *direction) counters() Counters {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pipe.counters()
}

func (d *direction) stir() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *direction) close() { close(d.done) }

// take returns what is due, and when more will be.
func (d *direction) take(into []datagram) (due []datagram, wait time.Duration, more bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	for {
		g, ok := d.pipe.pop(now)
		if !ok {
			break
		}
		into = append(into, g)
	}
	at, ok := d.pipe.next()
	return into, time.Duration(at - now), ok
}

// run sends what is due, alone, so that the order is the pipe's.
func (d *direction) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var due []datagram
	for {
		var wait time.Duration
		var more bool
		due, wait, more = d.take(due[:0])
		for i := range due {
			due[i].send()
			due[i] = datagram{}
		}
		if !more {
			wait = time.Hour
		}
		timer.Reset(wait)
		select {
		case <-d.done:
			return
		case <-d.wake:
		case <-timer.C:
		}
	}
}
