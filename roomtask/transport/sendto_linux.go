package transport

import (
	"net"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// quickSender sends single datagrams by raw calls, for the reason that kernelReceiver
// reads by them: reports to a hundred viewers would wake the runtime's monitor thread a
// hundred times a second. A call never blocks; what the kernel does not take at once is
// left to the net package, which waits.
type quickSender struct {
	raw   syscall.RawConn // set once, like inet6
	inet6 bool

	mu      sync.Mutex            // held for one call
	b       []byte                // guarded by mu, like all that follows
	name    unix.RawSockaddrInet6 // or Inet4 in its first bytes
	size    uintptr               // of name
	errno   unix.Errno
	attempt func(fd uintptr) // bound once, so that no call allocates
}

func newQuickSender(conn *net.UDPConn) *quickSender {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil
	}
	q := &quickSender{raw: raw, inet6: conn.LocalAddr().(*net.UDPAddr).IP.To4() == nil}
	q.attempt = func(fd uintptr) {
		for {
			_, _, q.errno = unix.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(q.b))), uintptr(len(q.b)),
				unix.MSG_DONTWAIT, uintptr(unsafe.Pointer(&q.name)), q.size)
			runtime.KeepAlive(q.b)
			if q.errno != unix.EINTR {
				return
			}
		}
	}
	return q
}

// send returns false if the datagram was not sent: the net package is to try it, and to
// say why.
func (q *quickSender) send(b []byte, to netip.AddrPort) bool {
	addr := to.Addr()
	if q == nil || len(b) == 0 || addr.Is4() == q.inet6 || addr.Is4In6() || addr.Zone() != "" {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.size = uintptr(putName(&q.name, to, q.inet6))
	q.b = b
	err := q.raw.Control(q.attempt)
	q.b = nil
	return err == nil && q.errno == 0
}
