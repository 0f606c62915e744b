package main

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// The way of a packet ends for the server where it is in the receiver's socket. When the
// receiver reads it is the generator's affair, whose one processor has a hundred of them
// to serve, so the kernel is asked when each packet came.

// stampedConn is a UDP socket that notes when RTP packets arrived.
type stampedConn struct{ *net.UDPConn }

// stamped asks the kernel for the time of arrival with each packet.
func stamped(c *net.UDPConn) (*stampedConn, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	}); err != nil {
		return nil, err
	}
	return &stampedConn{c}, failed
}

// ReadFromAddrPort implements what Pion's ICE reads by.
func (c *stampedConn) ReadFromAddrPort(b []byte) (int, netip.AddrPort, error) {
	var control [64]byte
	n, size, _, from, err := c.ReadMsgUDPAddrPort(b, control[:])
	if err == nil && n >= 12 && b[0]&0xc0 == 0x80 && (b[1] < 192 || b[1] > 223) { // RFC 7983, RFC 5761
		if at, ok := arrivalIn(control[:size]); ok {
			arrived.note(b, at)
		}
	}
	return n, from, err
}

// WriteToAddrPort implements what Pion's ICE writes by.
func (c *stampedConn) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	return c.WriteToUDPAddrPort(b, to)
}

// arrivalIn reads SCM_TIMESTAMPNS (socket(7)), on the clock of nanos.
func arrivalIn(control []byte) (at int64, ok bool) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0, false
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			wall := int64(binary.NativeEndian.Uint64(m.Data))*1e9 + int64(binary.NativeEndian.Uint64(m.Data[8:]))
			return wall - began.UnixNano(), true
		}
	}
	return 0, false
}

// arrived are the arrivals of the packets that are between their socket and their count.
// Streams have numbers of their own, so one table serves all receivers.
var arrived arrivals

type arrivals struct {
	slots [1 << 16]struct{ key, at atomic.Int64 }
}

// key is of a packet, by its SSRC and sequence number, and never 0.
func key(b []byte) int64 {
	return int64(binary.BigEndian.Uint32(b[8:]))<<16 | int64(binary.BigEndian.Uint16(b[2:])) | 1<<48
}

func slotOf(k int64) uint16 { return uint16(k) ^ uint16(k>>16) ^ uint16(k>>32) }

func (a *arrivals) note(b []byte, at int64) {
	k := key(b)
	s := &a.slots[slotOf(k)]
	s.key.Store(0)
	s.at.Store(at)
	s.key.Store(k)
}

// take returns when the packet came, if that is still known.
func (a *arrivals) take(b []byte) (at int64, ok bool) {
	k := key(b)
	s := &a.slots[slotOf(k)]
	at = s.at.Load()
	return at, s.key.CompareAndSwap(k, 0)
}
