package transport

import (
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// receiveBatch is how many datagrams one call takes at most. Publishers send two or
	// three at a time, and the reader is rarely late by more than a few of them.
	receiveBatch = 16
	// receiveBytes holds any datagram of an Ethernet path. What is longer is nothing that
	// a client sends, and is dropped.
	receiveBytes = 2048
)

// kernelReceiver reads datagrams by recvmmsg. What pays is less the number of calls than
// their kind: they are raw, so the Go scheduler knows nothing of them. They never block,
// and told of a call the scheduler wakes its monitor thread whenever the process was
// idle before, which it is between any two packets of a small room.
//
// It belongs to the socket's only reader. The message headers point into its own arrays,
// so it must not be copied.
type kernelReceiver struct {
	raw   syscall.RawConn
	inet6 bool

	at, n    int // the datagrams that are still to be given out
	errno    unix.Errno
	messages [receiveBatch]unix.Mmsghdr
	names    [receiveBatch]unix.RawSockaddrInet6 // or Inet4 in its first bytes
	vectors  [receiveBatch]unix.Iovec
	bytes    [receiveBatch][receiveBytes]byte
	attempt  func(fd uintptr) bool // bound once, so that no call allocates
	// recvmmsg is the system call; tests put failures in its place.
	recvmmsg func(fd uintptr, m []unix.Mmsghdr) (int, unix.Errno)
}

func newReceiver(conn *net.UDPConn) receiver {
	if k := newKernelReceiver(conn); k != nil {
		return k
	}
	return &plainReceiver{conn: conn}
}

func newKernelReceiver(conn *net.UDPConn) *kernelReceiver {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil
	}
	k := &kernelReceiver{raw: raw, recvmmsg: recvmmsg, inet6: conn.LocalAddr().(*net.UDPAddr).IP.To4() == nil}
	for i := range k.messages {
		k.vectors[i].Base = &k.bytes[i][0]
		k.vectors[i].SetLen(receiveBytes)
		h := &k.messages[i].Hdr
		h.Name = (*byte)(unsafe.Pointer(&k.names[i]))
		h.Iov = &k.vectors[i]
		h.SetIovlen(1)
	}
	k.attempt = func(fd uintptr) bool {
		k.n, k.errno = k.recvmmsg(fd, k.messages[:])
		return k.errno != unix.EAGAIN
	}
	return k
}

func recvmmsg(fd uintptr, m []unix.Mmsghdr) (int, unix.Errno) {
	for i := range m {
		m[i].Hdr.Namelen = unix.SizeofSockaddrInet6
	}
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(unsafe.SliceData(m))),
			uintptr(len(m)), unix.MSG_DONTWAIT, 0, 0)
		runtime.KeepAlive(m)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// next returns the next datagram, which is valid until the next call.
func (k *kernelReceiver) next() (b []byte, from netip.AddrPort, err error) {
	for {
		for k.at < k.n {
			i := k.at
			k.at++
			if m := &k.messages[i]; m.Hdr.Flags&unix.MSG_TRUNC == 0 {
				return k.bytes[i][:m.Len], k.from(i), nil
			}
		}
		k.at, k.n = 0, 0
		if err := k.raw.Read(k.attempt); err != nil {
			return nil, netip.AddrPort{}, err
		}
		if k.errno != 0 {
			k.n = 0
			return nil, netip.AddrPort{}, k.errno
		}
	}
}

func (k *kernelReceiver) from(i int) netip.AddrPort {
	name := &k.names[i]
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&name.Port))[:])
	if !k.inet6 {
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(name.Addr), port)
}
