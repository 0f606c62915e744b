package transport

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// refusal stands in for the system call where a kernel, device or path lacks
// something: 0 lets a message pass to the real call.
type refusal func(*unix.Mmsghdr) unix.Errno

func segmented(m *unix.Mmsghdr) bool { return m.Hdr.Control != nil }

// openSocket opens a socket whose kernel refuses so.
func openSocket(t testing.TB, at netip.Addr, refuse refusal) *socket {
	t.Helper()
	s, err := listenUDP(netip.AddrPortFrom(at, 0), new(counters))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if refuse != nil {
		s.egress.sendMu.Lock()
		defer s.egress.sendMu.Unlock()
		k := s.egress.out.(*kernelSender)
		// As the kernel does, a call ends before the refused message, and the one that
		// begins with it tells why.
		var pending unix.Errno
		var at *unix.Iovec
		k.sendmmsg = func(fd uintptr, m []unix.Mmsghdr) (int, unix.Errno) {
			for i := range m {
				if at != m[i].Hdr.Iov || pending == 0 {
					pending, at = refuse(&m[i]), m[i].Hdr.Iov
				}
				switch {
				case pending != 0 && i == 0:
					errno := pending
					pending = 0
					return -1, errno
				case pending != 0:
					return sendmmsg(fd, m[:i])
				}
			}
			return sendmmsg(fd, m)
		}
	}
	return s
}

// receivers are open sockets on an address, each read by its own goroutine. They hear
// the sockets under test alone: what had a receiver's port before may still be sent to
// by its peers, which other packages' tests are.
type receivers struct {
	conns []*net.UDPConn
	addrs []netip.AddrPort
	got   []chan []byte
	heard sync.Map // uint16, the ports of the sockets under test
}

func (r *receivers) hear(s *socket) { r.heard.Store(s.local.Port(), true) }

func receive(t testing.TB, at netip.Addr, n int, from ...*socket) *receivers {
	t.Helper()
	r := &receivers{}
	for _, s := range from {
		r.hear(s)
	}
	var all sync.WaitGroup
	for range n {
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadBuffer(udpBuffer)
		got := make(chan []byte, 4096)
		all.Go(func() {
			defer close(got)
			buf := make([]byte, 1<<16)
			for {
				n, by, err := conn.ReadFromUDPAddrPort(buf)
				if err != nil {
					return
				}
				if _, ours := r.heard.Load(by.Port()); ours {
					got <- append([]byte(nil), buf[:n]...)
				}
			}
		})
		port := conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		r.conns, r.got = append(r.conns, conn), append(r.got, got)
		r.addrs = append(r.addrs, netip.AddrPortFrom(at, port))
	}
	t.Cleanup(func() {
		for _, c := range r.conns {
			_ = c.Close()
		}
		all.Wait()
	})
	return r
}

// next is the next datagram of a receiver.
func (r *receivers) next(t testing.TB, i int) []byte {
	t.Helper()
	select {
	case p := <-r.got[i]:
		return p
	case <-time.After(5 * time.Second):
		t.Fatalf("receiver %d got nothing for 5 s", i)
		return nil
	}
}

// rtp is a datagram that passes for sealed RTP, filled from its number and size.
func rtp(number uint32, size int) []byte {
	p := make([]byte, size)
	p[0], p[1] = 0x80, 96
	binary.BigEndian.PutUint32(p[4:], number)
	for i := 12; i < size; i++ {
		p[i] = byte(uint32(i)*31 + number)
	}
	return p
}

func expect(t testing.TB, r *receivers, i int, number uint32, size int) {
	t.Helper()
	if got, want := r.next(t, i), rtp(number, size); string(got) != string(want) {
		t.Fatalf("receiver %d: got %d bytes of number %d, want %d of %d (or their content differs)",
			i, len(got), binary.BigEndian.Uint32(got[4:]), size, number)
	}
}

// every refuses each nth message for which when holds.
func every(n int, errno unix.Errno, when func(*unix.Mmsghdr) bool) refusal {
	count := 0
	return func(m *unix.Mmsghdr) unix.Errno {
		if !when(m) {
			return 0
		}
		if count++; count%n == 0 {
			return errno
		}
		return 0
	}
}

func always(*unix.Mmsghdr) bool { return true }

var refusals = map[string]func() refusal{
	"GSO":                           func() refusal { return nil },
	"device without checksums":      func() refusal { return every(1, unix.EIO, segmented) },
	"no such option":                func() refusal { return every(1, unix.ENOPROTOOPT, segmented) },
	"path too narrow for every run": func() refusal { return every(1, unix.EINVAL, segmented) },
	"for some runs":                 func() refusal { return every(3, unix.EMSGSIZE, segmented) },
	"EIO after a while":             func() refusal { return every(20, unix.EIO, segmented) },
	"no sendmmsg":                   func() refusal { return every(1, unix.ENOSYS, always) },
	"sendmmsg forbidden":            func() refusal { return every(1, unix.EPERM, always) },
	"no sendmmsg after a while":     func() refusal { return every(50, unix.ENOSYS, always) },
	"full now and then":             func() refusal { return every(5, unix.EAGAIN, always) },
}

// localAddresses are IPv4 and, where the machine has it, IPv6 loopback.
func localAddresses(t testing.TB) []netip.Addr {
	at := []netip.Addr{loopback}
	six := netip.IPv6Loopback()
	if c, err := net.ListenUDP("udp6", net.UDPAddrFromAddrPort(netip.AddrPortFrom(six, 0))); err == nil {
		_ = c.Close()
		return append(at, six)
	}
	t.Log("this machine has no IPv6 loopback address: IPv4 alone")
	return at
}

// TestBurstsArriveWhole sends bursts of 1 to 2000 packets of mixed sizes to 40
// destinations, with each refusal, and compares all bytes and each order.
func TestBurstsArriveWhole(t *testing.T) {
	sizes := []int{1100, 1100, 1100, 1101, 1101, 120, 1200, 1400, 1472, 12, 1473, 2500, 9000}
	for _, at := range localAddresses(t) {
		for name, refuse := range refusals {
			t.Run(at.String()+" "+name, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(7, 9))
				s := openSocket(t, at, refuse())
				r := receive(t, at, 40, s)
				sent := make([]uint32, len(r.addrs)) // next number of each destination
				for _, burst := range []int{1, 2, 3, 64, 65, 257, 1000, 2000} {
					want := make([][]int, len(r.addrs))
					for n := 0; n < burst; {
						i, size := rng.IntN(len(r.addrs)), sizes[rng.IntN(len(sizes))]
						for range 1 + rng.IntN(9) { // a frame's packets are equal
							if n++; n > burst {
								break
							}
							p := rtp(sent[i]+uint32(len(want[i])), size)
							if wrote, err := s.WriteToAddrPort(p, r.addrs[i]); wrote != size || err != nil {
								t.Fatal(wrote, err)
							}
							clear(p) // the caller's buffer is its own again
							want[i] = append(want[i], size)
						}
					}
					for i := range want {
						for _, size := range want[i] {
							expect(t, r, i, sent[i], size)
							sent[i]++
						}
					}
				}
				checkCounters(t, name, s)
			})
		}
	}
}

func checkCounters(t *testing.T, name string, s *socket) {
	t.Helper()
	const total = 1 + 2 + 3 + 64 + 65 + 257 + 1000 + 2000
	// The packets are counted after the call in which they left.
	eventually(t, "all are counted", func() bool { return s.counters.snapshot().UDPPacketsOut == total })
	c := s.counters.snapshot()
	if c.UDPDropped != 0 || c.UDPWriteErrors != 0 {
		t.Errorf("counters %+v", c)
	}
	runs, fallbacks, waits := name != "device without checksums" && name != "no such option" &&
		name != "path too narrow for every run" && name != "no sendmmsg" && name != "sendmmsg forbidden",
		name != "GSO" && name != "full now and then", name == "full now and then"
	if (c.UDPRuns > 0) != runs || (c.UDPFallbacks > 0) != fallbacks || (c.UDPWaits > 0) != waits {
		t.Errorf("runs %v, fallbacks %v, waits %v expected: %+v", runs, fallbacks, waits, c)
	}
	if runs && (c.UDPSegments < 2*c.UDPRuns || c.UDPSegments > total) {
		t.Errorf("counters %+v", c)
	}
}

// TestRefusedDatagramsAreOnlyCounted covers what a full device queue, a firewall or a
// vanished route does to one message: the others and later ones leave.
func TestRefusedDatagramsAreOnlyCounted(t *testing.T) {
	for _, errno := range []unix.Errno{unix.ENOBUFS, unix.EPERM, unix.ENETUNREACH} {
		refuse := every(2, errno, segmented)
		s := openSocket(t, loopback, refuse)
		r := receive(t, loopback, 3, s)
		_, _ = s.WriteToAddrPort(rtp(0, 40), r.addrs[0]) // a first one works
		expect(t, r, 0, 0, 40)
		s.egress.sendMu.Lock() // one batch, whatever the flusher does
		for i, to := range r.addrs {
			for n := range uint32(5) {
				if _, err := s.WriteToAddrPort(rtp(n, 1000+i), to); err != nil {
					t.Fatal(err)
				}
			}
		}
		s.egress.sendMu.Unlock()
		for n := range uint32(5) {
			expect(t, r, 0, n, 1000)
			expect(t, r, 2, n, 1002)
		}
		eventually(t, "all are counted", func() bool {
			c := s.counters.snapshot()
			return c.UDPPacketsOut == 11 && c.UDPDropped == 5 && c.UDPWriteErrors == 0
		})
		if _, err := s.WriteToAddrPort(rtp(9, 50), r.addrs[1]); err != nil {
			t.Fatal(err)
		}
		expect(t, r, 1, 9, 50)
	}
}

// TestOnlyRTPWaits holds the flusher: STUN, DTLS and RTCP leave, RTP does not.
func TestOnlyRTPWaits(t *testing.T) {
	s := openSocket(t, loopback, nil)
	r := receive(t, loopback, 1, s)
	s.egress.sendMu.Lock()
	media := rtp(1, 800)
	others := [][]byte{append([]byte{0, 1}, make([]byte, 18)...), append([]byte{22, 254, 253}, make([]byte, 30)...),
		append([]byte{0x80, 200}, make([]byte, 26)...), append([]byte{0x81, 205}, make([]byte, 26)...)}
	for _, p := range append([][]byte{media}, others...) {
		if n, err := s.WriteToAddrPort(p, r.addrs[0]); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
	}
	for _, p := range others {
		if got := r.next(t, 0); string(got) != string(p) {
			t.Errorf("got %x, want %x", got, p)
		}
	}
	s.egress.sendMu.Unlock()
	expect(t, r, 0, 1, 800)
}

// TestConcurrentWriters has writers share destinations: each writer's order holds.
func TestConcurrentWriters(t *testing.T) {
	const writers, each, targets = 8, 1500, 4
	s := openSocket(t, loopback, nil)
	r := receive(t, loopback, targets, s)
	var all sync.WaitGroup
	for w := range uint32(writers) {
		all.Go(func() {
			for n := range uint32(each) {
				if _, err := s.WriteToAddrPort(rtp(w<<16|n, 60+int(w)), r.addrs[n%targets]); err != nil {
					t.Error(err)
				}
				if n%100 == 99 { // no more than a receiver's buffer holds
					out := func() bool { return s.counters.snapshot().UDPPacketsOut >= uint64(n) }
					eventually(t, "packets leave", out)
				}
			}
		})
	}
	for i := range uint32(targets) {
		var seen [writers]uint32
		for range writers * each / targets {
			got := r.next(t, int(i))
			number := binary.BigEndian.Uint32(got[4:])
			w := number >> 16
			if want := rtp(w<<16|(i+seen[w]*targets), 60+int(w)); string(got) != string(want) {
				t.Fatalf("writer %d's packet %d is number %d", w, seen[w], number&0xffff)
			}
			seen[w]++
		}
	}
	all.Wait()
}

// TestCloseOfAFullSocket closes a socket that takes nothing: it returns soon, with
// the packets counted as dropped and later writes refused.
func TestCloseOfAFullSocket(t *testing.T) {
	s := openSocket(t, loopback, every(1, unix.EAGAIN, always))
	for n := range uint32(3) {
		if _, err := s.WriteToAddrPort(rtp(n, 100), s.local); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > drainTimeout+2*time.Second {
		t.Errorf("close took %v", took)
	}
	if c := s.counters.snapshot(); c.UDPDropped != 3 || c.UDPPacketsOut != 0 {
		t.Errorf("counters %+v", c)
	}
	if _, err := s.WriteToAddrPort(rtp(4, 100), s.local); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
	if _, _, err := s.next(); !errors.Is(err, io.EOF) {
		t.Errorf("read after close: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error("second close:", err)
	}
}

// TestCloseSendsWhatIsBatched has a packet still batched when Close begins.
func TestCloseSendsWhatIsBatched(t *testing.T) {
	r := receive(t, loopback, 1)
	for n := range uint32(50) {
		s := openSocket(t, loopback, nil)
		r.hear(s)
		_, _ = s.WriteToAddrPort(rtp(n, 500), r.addrs[0])
		_ = s.Close()
		expect(t, r, 0, n, 500)
	}
}

func TestBatchedPacketsDoNotAllocate(t *testing.T) {
	for name, refuse := range map[string]refusal{"GSO": nil, "single": every(1, unix.ENOSYS, always)} {
		s := openSocket(t, loopback, refuse)
		var to [10]netip.AddrPort // nobody reads them: what is over is dropped there
		for i, c := range receiveNothing(t, len(to)) {
			to[i] = c.LocalAddr().(*net.UDPAddr).AddrPort()
		}
		p := rtp(1, 1100)
		allocs := testing.AllocsPerRun(200, func() {
			for i := range 60 {
				if _, err := s.WriteToAddrPort(p, to[i%len(to)]); err != nil {
					t.Fatal(err)
				}
			}
			s.egress.flush()
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations for 60 packets", name, allocs)
		}
	}
}

func receiveNothing(t testing.TB, n int) (conns []*net.UDPConn) {
	t.Helper()
	for range n {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		conns = append(conns, c)
	}
	return conns
}
