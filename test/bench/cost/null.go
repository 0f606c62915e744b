package main

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// nullSocket is the null relay's, whose address it prints.
func nullSocket() (*net.UDPConn, error) {
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		return nil, err
	}
	_ = c.SetReadBuffer(receiveBuffer) // the kernel's limit wins silently
	_ = c.SetWriteBuffer(receiveBuffer)
	fmt.Println(c.LocalAddr())
	return c, nil
}

// nullRelay relays until its standard input ends, one call for each packet and receiver.
func nullRelay() error {
	c, err := nullSocket()
	if err != nil {
		return err
	}
	var receivers []netip.AddrPort
	buf := make([]byte, 2048)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		if string(buf[:n]) == floorHello {
			receivers = append(receivers, from)
			continue
		}
		for _, to := range receivers {
			_, _ = c.WriteToUDPAddrPort(buf[:n], to) // what is lost is not counted
		}
	}
}

// The relay in runs makes the system calls that the room makes, and nothing else: recvmmsg,
// and for every nullGroup receivers one sendmmsg in which each has as few messages as its
// packets make UDP_SEGMENT runs. All receivers are given the same bytes.
const (
	nullBatch = 16 // as roomtask/transport
	nullGroup = 8  // as roomtask/sendq
)

type runRelay struct {
	raw       syscall.RawConn
	receivers []unix.RawSockaddrInet4

	in      [nullBatch]unix.Mmsghdr
	names   [nullBatch]unix.RawSockaddrInet4
	vectors [nullBatch]unix.Iovec
	bytes   [nullBatch][2048]byte
	n       int
	errno   unix.Errno

	out   [nullGroup * nullBatch]unix.Mmsghdr
	sizes [nullBatch]struct {
		header unix.Cmsghdr
		size   uint16
		_      [6]byte
	}
}

func nullRuns() error {
	c, err := nullSocket()
	if err != nil {
		return err
	}
	r := &runRelay{}
	if r.raw, err = c.SyscallConn(); err != nil {
		return err
	}
	for i := range r.in {
		r.vectors[i].Base = &r.bytes[i][0]
		h := &r.in[i].Hdr
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		h.Iov = &r.vectors[i]
		h.SetIovlen(1)
		r.sizes[i].header.Level, r.sizes[i].header.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
		r.sizes[i].header.SetLen(unix.CmsgLen(2))
	}
	for {
		if err := r.raw.Read(r.read); err != nil {
			return err
		}
		if r.errno == 0 {
			r.relay()
		}
	}
}

func (r *runRelay) read(fd uintptr) bool {
	for i := range r.in {
		r.in[i].Hdr.Namelen = unix.SizeofSockaddrInet4
		r.vectors[i].SetLen(len(r.bytes[i]))
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.in[0])), nullBatch, unix.MSG_DONTWAIT, 0, 0)
	r.n, r.errno = int(n), errno
	return errno != unix.EAGAIN
}

// relay sends what was read. The vectors of a run are neighbours already.
func (r *runRelay) relay() {
	var runs [][2]int // first, and the one after the last
	for i := range r.n {
		size := int(r.in[i].Len)
		r.vectors[i].SetLen(size)
		if string(r.bytes[i][:size]) == floorHello {
			to := r.names[i]
			r.receivers = append(r.receivers, to)
			continue
		}
		if k := len(runs) - 1; k >= 0 && runs[k][1] == i && size <= int(r.in[runs[k][0]].Len) && r.in[i-1].Len == r.in[runs[k][0]].Len {
			runs[k][1]++
		} else {
			runs = append(runs, [2]int{i, i + 1})
		}
	}
	for i := 0; i < len(r.receivers) && len(runs) > 0; i += nullGroup {
		m := r.out[:0]
		for k := range r.receivers[i:min(i+nullGroup, len(r.receivers))] {
			for _, run := range runs {
				m = append(m, r.message(&r.receivers[i+k], run))
			}
		}
		_ = r.raw.Control(func(fd uintptr) { // what is lost is not counted
			for len(m) > 0 {
				n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), unix.MSG_DONTWAIT, 0, 0)
				if errno != 0 {
					n = 1
				}
				m = m[n:]
			}
		})
		runtime.KeepAlive(m)
	}
}

func (r *runRelay) message(to *unix.RawSockaddrInet4, run [2]int) (m unix.Mmsghdr) {
	m.Hdr.Name, m.Hdr.Namelen = (*byte)(unsafe.Pointer(to)), unix.SizeofSockaddrInet4
	m.Hdr.Iov = &r.vectors[run[0]]
	m.Hdr.SetIovlen(run[1] - run[0])
	if run[1]-run[0] > 1 {
		r.sizes[run[0]].size = uint16(r.in[run[0]].Len)
		m.Hdr.Control = (*byte)(unsafe.Pointer(&r.sizes[run[0]]))
		m.Hdr.SetControllen(unix.CmsgSpace(2))
	}
	return m
}
