package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"
	"golang.org/x/sys/unix"
)

// A receiver that sleeps on its socket is woken by whoever sends to it: on loopback the
// server pays for that, and pays more the less the generator has to do. So the sockets of
// light receivers are in no poller at all. They are looked at every pollEvery, all by one
// goroutine, and a packet costs its sender no more than the way into the socket. The
// kernel's stamp tells when it got there. UDP_GRO stays off: it would spare the server the
// kernel's cutting of runs.

const (
	pollEvery = time.Millisecond
	pollBatch = 64
	pollSize  = 2048
	// heldForPion is how many datagrams may wait for Pion's reader of a socket.
	heldForPion = 256
)

// polledConn is a UDP socket outside of Go's poller. What take leaves is Pion's.
type polledConn struct {
	transport.UDPConn // nil: ICE calls nothing but what is below

	fd    int
	local *net.UDPAddr
	take  func(batch []arrival)
	up    chan datagram
	done  chan struct{}
	once  sync.Once
}

type datagram struct {
	b    []byte
	from netip.AddrPort
}

// arrival is one datagram as the poller found it. Its bytes are valid during the call.
type arrival struct {
	b  []byte
	at int64 // when it came into the socket, on the clock of nanos
	up bool  // set by take: it is Pion's
}

// listenPolled makes a socket on loopback. take is called by the poller alone.
func listenPolled(take func([]arrival)) (*polledConn, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	c := &polledConn{fd: fd, take: take, up: make(chan datagram, heldForPion), done: make(chan struct{})}
	// The kernel's limit wins silently.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	name, nameErr := unix.Getsockname(fd)
	at, ok := name.(*unix.SockaddrInet4)
	if err = errors.Join(err, nameErr); err != nil || !ok {
		return nil, errors.Join(err, unix.Close(fd))
	}
	c.local = net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4(at.Addr), uint16(at.Port)))
	polls.add(c)
	return c, nil
}

// ReadFromAddrPort implements what Pion's ICE reads by.
func (c *polledConn) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	select {
	case d := <-c.up:
		return copy(b, d.b), d.from, nil
	case <-c.done:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

// WriteToAddrPort implements what Pion's ICE writes by.
func (c *polledConn) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	err := unix.Sendto(c.fd, b, unix.MSG_DONTWAIT, &unix.SockaddrInet4{Addr: to.Addr().Unmap().As4(), Port: int(to.Port())})
	return len(b), err
}

func (c *polledConn) LocalAddr() net.Addr                { return c.local }
func (c *polledConn) SetDeadline(time.Time) error        { return nil }
func (c *polledConn) SetReadDeadline(time.Time) error    { return nil }
func (c *polledConn) SetWriteDeadline(t time.Time) error { return nil }

func (c *polledConn) Close() (err error) {
	c.once.Do(func() {
		polls.remove(c)
		close(c.done)
		err = unix.Close(c.fd)
	})
	return err
}

// polledNet makes the socket of one light subscriber.
type polledNet struct {
	*stdnet.Net
	take func([]arrival)
}

func (n polledNet) ListenUDP(string, *net.UDPAddr) (transport.UDPConn, error) {
	return listenPolled(n.take)
}

// polls looks at all polled sockets in turn.
var polls poller

type poller struct {
	mu      sync.Mutex // held while the sockets are looked at
	conns   []*polledConn
	running bool

	// owned by the goroutine
	messages [pollBatch]unix.Mmsghdr
	names    [pollBatch]unix.RawSockaddrInet4
	vectors  [pollBatch]unix.Iovec
	control  [pollBatch][64]byte
	bytes    [pollBatch][pollSize]byte
	found    [pollBatch]arrival
}

func (p *poller) add(c *polledConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, c)
	if !p.running {
		p.running = true
		go p.run()
	}
}

func (p *poller) remove(c *polledConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.conns {
		if p.conns[i] == c {
			p.conns = append(p.conns[:i], p.conns[i+1:]...)
			return
		}
	}
}

// run never ends: the process does.
func (p *poller) run() {
	for i := range p.messages {
		p.vectors[i].Base = &p.bytes[i][0]
		p.vectors[i].SetLen(pollSize)
		h := &p.messages[i].Hdr
		h.Name = (*byte)(unsafe.Pointer(&p.names[i]))
		h.Iov = &p.vectors[i]
		h.SetIovlen(1)
		h.Control = &p.control[i][0]
	}
	for next := time.Now(); ; {
		p.mu.Lock()
		for _, c := range p.conns {
			p.look(c)
		}
		p.mu.Unlock()
		if next = next.Add(pollEvery); time.Until(next) > 0 {
			time.Sleep(time.Until(next))
		} else { // late: the publishers' turn, and again
			next = time.Now()
			runtime.Gosched()
		}
	}
}

// look takes what a socket holds, pollBatch datagrams at most, so that the others have
// their turn.
func (p *poller) look(c *polledConn) {
	for i := range p.messages {
		p.messages[i].Hdr.Namelen = unix.SizeofSockaddrInet4
		p.messages[i].Hdr.SetControllen(len(p.control[i]))
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(c.fd), uintptr(unsafe.Pointer(&p.messages[0])), pollBatch, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 || n == 0 {
		return // nothing there, or an ICMP error, which does not matter
	}
	found := p.found[:n]
	for i := range found {
		m := &p.messages[i]
		found[i] = arrival{b: p.bytes[i][:m.Len], at: stampIn(p.control[i][:m.Hdr.Controllen])}
	}
	c.take(found)
	for i := range found {
		if !found[i].up {
			continue
		}
		name := &p.names[i]
		port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&name.Port))[:])
		select {
		case c.up <- datagram{append([]byte(nil), found[i].b...), netip.AddrPortFrom(netip.AddrFrom4(name.Addr), port)}:
		default: // as a full socket
		}
	}
}

// stampIn reads the one control message that is asked for, on the clock of nanos.
func stampIn(control []byte) int64 {
	const head = unix.SizeofCmsghdr
	if len(control) < head+16 || (*unix.Cmsghdr)(unsafe.Pointer(&control[0])).Type != unix.SCM_TIMESTAMPNS {
		return nanos()
	}
	wall := int64(binary.NativeEndian.Uint64(control[head:]))*1e9 + int64(binary.NativeEndian.Uint64(control[head+8:]))
	return wall - began.UnixNano()
}
