package transport

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// unprovenTries is how many runs in a row the kernel may refuse for their size
// before it has taken one, until segmentation counts as missing.
const unprovenTries = 8

// segmentSize is the control message that asks for segmentation.
type segmentSize struct {
	header unix.Cmsghdr
	size   uint16
	_      [6]byte // up to the alignment of the next message
}

// kernelSender sends batches by sendmmsg, each run as one UDP_SEGMENT message. What
// the kernel cannot do it finds out and goes on without: segmentation first, then
// sendmmsg, until single sends are left. Segmentation is what pays: the walk of each
// datagram through the kernel costs ten times its system call.
//
// It belongs to whoever holds egress.sendMu. The message headers point into its own
// arrays, so it must not be copied.
type kernelSender struct {
	conn     *net.UDPConn
	raw      syscall.RawConn
	counters *counters
	inet6    bool

	segments int  // of a run, at most: runSegments, or 1 without segmentation
	single   bool // sendmmsg is missing
	works    bool // it has taken a message
	proven   bool // a run has been taken
	refused  int  // runs refused for their size, while not proven

	runs     [batchPackets]run
	messages [batchPackets]unix.Mmsghdr
	names    [batchPackets]unix.RawSockaddrInet6 // or Inet4 in its first bytes
	sizes    [batchPackets]segmentSize
	vectors  [batchPackets]unix.Iovec

	// The call under way: its messages, what came of it, and the two functions that
	// make it, bound once so that no call allocates.
	from, to  int
	sent      int
	errno     unix.Errno
	attempt   func(fd uintptr)
	untilRoom func(fd uintptr) bool
	// sendmmsg is the system call; tests put refusals in its place.
	sendmmsg func(fd uintptr, m []unix.Mmsghdr) (int, unix.Errno)
}

func newSender(conn *net.UDPConn, c *counters) sender {
	if k := newKernelSender(conn, c); k != nil {
		return k
	}
	return nil
}

func newKernelSender(conn *net.UDPConn, c *counters) *kernelSender {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil
	}
	k := &kernelSender{
		conn: conn, raw: raw, counters: c, segments: runSegments, sendmmsg: sendmmsg,
		inet6: conn.LocalAddr().(*net.UDPAddr).IP.To4() == nil,
	}
	// A kernel that does not know the option would take the control message for
	// nothing and send a run as one datagram: it must be asked first.
	var probe error
	err = raw.Control(func(fd uintptr) {
		_, probe = unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT)
	})
	if err != nil {
		return nil
	}
	if probe != nil {
		k.unsegmented()
	}
	for i := range k.sizes {
		k.sizes[i].header.Level = unix.IPPROTO_UDP
		k.sizes[i].header.Type = unix.UDP_SEGMENT
		k.sizes[i].header.SetLen(unix.CmsgLen(2))
	}
	k.attempt = func(fd uintptr) { k.sent, k.errno = k.sendmmsg(fd, k.messages[k.from:k.to]) }
	k.untilRoom = func(fd uintptr) bool { k.attempt(fd); return k.errno != unix.EAGAIN }
	return k
}

// callMessages bounds one call, and with it the time for which it holds up a stop of
// the world: at most some 0.3 ms.
const callMessages = 128

// sendmmsg is a raw system call, of which the Go scheduler knows nothing. It does not
// block, but it takes long: told of it, the scheduler would take the processor away
// after 20 µs and wake another thread for it, which then has to give it back.
func sendmmsg(fd uintptr, m []unix.Mmsghdr) (int, unix.Errno) {
	m = m[:min(len(m), callMessages)]
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(unsafe.SliceData(m))),
			uintptr(len(m)), unix.MSG_DONTWAIT, 0, 0)
		runtime.KeepAlive(m)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

func (k *kernelSender) unsegmented() {
	k.segments = 1
	k.counters.udpFallbacks.Add(1)
}

func (k *kernelSender) send(b *batch) {
	n := k.lay(b)
	for at := 0; at < n; {
		if k.single {
			k.each(b, k.runs[at])
			at++
			continue
		}
		sent, err := k.submit(at, n)
		if err != nil { // the socket is closed, or closing and full
			k.drop(k.runs[at:n])
			return
		}
		k.took(k.runs[at : at+sent])
		at += sent
		if sent == 0 {
			k.refuse(b, k.runs[at], k.errno)
			at++
		}
	}
}

// lay cuts the batch into runs and writes a message for each.
func (k *kernelSender) lay(b *batch) (n int) {
	vectors := 0
	for i := range b.routes {
		for next := b.routes[i].first; next >= 0; n++ {
			k.runs[n], next = b.cut(int32(i), next, k.segments)
			used := k.vector(b, k.runs[n], vectors)
			k.message(b, n, k.vectors[vectors:vectors+used])
			vectors += used
		}
	}
	return n
}

// vector lists where the run's bytes are; neighbours in the batch are one piece.
func (k *kernelSender) vector(b *batch, r run, from int) (used int) {
	end := int32(-1)
	for i, at := int32(0), r.first; i < r.count; i++ {
		p := b.packets[at]
		if p.at == end {
			v := &k.vectors[from+used-1]
			v.SetLen(int(v.Len) + int(p.size))
		} else {
			v := &k.vectors[from+used]
			v.Base = &b.bytes[p.at]
			v.SetLen(int(p.size))
			used++
		}
		end, at = p.at+p.size, p.next
	}
	return used
}

func (k *kernelSender) message(b *batch, n int, vectors []unix.Iovec) {
	r := k.runs[n]
	h := &k.messages[n].Hdr
	h.Iov = &vectors[0]
	h.SetIovlen(len(vectors))
	h.Name, h.Namelen = k.name(n, b.routes[r.route])
	h.Control = nil
	h.SetControllen(0)
	if r.count > 1 {
		k.sizes[n].size = uint16(b.packets[r.first].size)
		h.Control = (*byte)(unsafe.Pointer(&k.sizes[n]))
		h.SetControllen(unix.CmsgSpace(2))
	}
}

func (k *kernelSender) name(n int, r route) (name *byte, size uint32) {
	at := &k.names[n]
	size = putName(at, r.to, k.inet6)
	return (*byte)(unsafe.Pointer(at)), size
}

// putName writes an address as the kernel wants it, and tells its size.
func putName(at *unix.RawSockaddrInet6, to netip.AddrPort, inet6 bool) (size uint32) {
	port := [2]byte{}
	binary.BigEndian.PutUint16(port[:], to.Port())
	if inet6 {
		at.Family, at.Addr = unix.AF_INET6, to.Addr().As16()
		at.Port = *(*uint16)(unsafe.Pointer(&port))
		return unix.SizeofSockaddrInet6
	}
	at4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(at))
	at4.Family, at4.Addr = unix.AF_INET, to.Addr().As4()
	at4.Port = *(*uint16)(unsafe.Pointer(&port))
	return unix.SizeofSockaddrInet4
}

// submit hands over messages from at to n. It does not take the connection's write
// lock unless the socket is full, so STUN and DTLS never wait behind a batch.
func (k *kernelSender) submit(at, n int) (sent int, err error) {
	k.from, k.to = at, n
	if err := k.raw.Control(k.attempt); err != nil {
		return 0, err
	}
	if k.errno == unix.EAGAIN {
		k.counters.udpWaits.Add(1)
		if err := k.raw.Write(k.untilRoom); err != nil {
			return 0, err
		}
	}
	if k.errno != 0 {
		return 0, nil
	}
	return min(k.sent, n-at), nil
}

// took counts what the kernel has taken.
func (k *kernelSender) took(runs []run) {
	k.works = k.works || len(runs) > 0
	var packets, bytes, long, segments uint64
	for _, r := range runs {
		packets += uint64(r.count)
		bytes += uint64(r.bytes)
		if r.count > 1 {
			long++
			segments += uint64(r.count)
		}
	}
	k.proven = k.proven || long > 0
	k.counters.udpPacketsOut.Add(packets)
	k.counters.udpBytesOut.Add(bytes)
	k.counters.udpRuns.Add(long)
	k.counters.udpSegments.Add(segments)
}

// refuse decides about a message that the kernel did not take.
func (k *kernelSender) refuse(b *batch, r run, errno unix.Errno) {
	switch {
	case errno == unix.ENOSYS, errno == unix.EPERM && !k.works:
		// A sandbox's filter answers EPERM; later on it is a firewall's, for one message.
		k.single = true
		k.counters.udpFallbacks.Add(1)
	case r.count == 1:
		k.drop([]run{r})
		return
	case errno == unix.EIO, errno == unix.ENOPROTOOPT, errno == unix.EOPNOTSUPP:
		// EIO: the network device does not compute checksums, so it cannot segment.
		if k.segments > 1 {
			k.unsegmented()
		}
	case errno == unix.EINVAL, errno == unix.EMSGSIZE:
		// The segments do not fit this destination's path, where single datagrams are
		// fragmented. That is one client's, unless no run was ever taken.
		k.refused++
		if !k.proven && k.refused == unprovenTries {
			k.unsegmented()
		}
		k.counters.udpFallbacks.Add(1)
	default:
		k.drop([]run{r})
		return
	}
	k.each(b, r)
}

// each sends the run's packets one by one.
func (k *kernelSender) each(b *batch, r run) {
	to := b.routes[r.route].to
	for i, at := int32(0), r.first; i < r.count; i++ {
		p := b.data(at)
		if _, err := k.conn.WriteToUDPAddrPort(p, to); err == nil {
			k.counters.udpPacketsOut.Add(1)
			k.counters.udpBytesOut.Add(uint64(len(p)))
		} else {
			k.counters.udpDropped.Add(1)
			if errors.Is(err, net.ErrClosed) {
				k.counters.udpDropped.Add(uint64(r.count - i - 1))
				return
			}
		}
		at = b.packets[at].next
	}
}

func (k *kernelSender) drop(runs []run) {
	for _, r := range runs {
		k.counters.udpDropped.Add(uint64(r.count))
	}
}
