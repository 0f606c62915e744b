package transport

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// recorder is a sender without a socket; held blocks it.
type recorder struct {
	held    sync.Mutex
	mu      sync.Mutex
	batches []int // packets of each
	got     map[netip.AddrPort][]byte
}

func (r *recorder) send(b *batch) {
	r.held.Lock()
	defer r.held.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batches = append(r.batches, len(b.packets))
	for _, route := range b.routes {
		for next := route.first; next >= 0; next = b.packets[next].next {
			r.got[route.to] = append(r.got[route.to], b.data(next)...)
		}
	}
}

func (r *recorder) count() (batches, packets int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.batches {
		packets += n
	}
	return len(r.batches), packets
}

var anywhere = netip.MustParseAddrPort("192.0.2.1:9")

// TestOnePacketLeavesWithinOneYield runs on one processor, where the order of
// goroutines is the scheduler's queue: our first yield lets the flusher yield, and
// when it has, our second one lets it send. A third is granted since the scheduler
// now and then looks first where a yield has put us.
func TestOnePacketLeavesWithinOneYield(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // its workers take turns too
	out := &recorder{got: map[netip.AddrPort][]byte{}}
	e := newEgress(out)
	defer e.close()
	for i := range 100 {
		if err := e.write([]byte{byte(i)}, anywhere, true); err != nil {
			t.Fatal(err)
		}
		yields := 0
		for batches, _ := out.count(); batches != i+1; batches, _ = out.count() {
			if yields++; yields > 3 {
				t.Fatalf("packet %d has not left after three yields", i)
			}
			runtime.Gosched()
		}
	}
}

// TestFlushIsTheWriters leaves packets lie until the writer flushes, in the order of their
// writes whether they woke the flusher or not.
func TestFlushIsTheWriters(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	out := &recorder{got: map[netip.AddrPort][]byte{}}
	e := newEgress(out)
	defer e.close()
	for i := range 3 {
		if err := e.write([]byte{byte(i)}, anywhere, false); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		runtime.Gosched()
	}
	if batches, n := out.count(); n != 0 {
		t.Fatalf("%d packets left in %d batches before the flush", n, batches)
	}
	e.flush()
	e.flush()
	if batches, n := out.count(); batches != 1 || n != 3 {
		t.Errorf("%d packets left in %d batches, want 3 in 1", n, batches)
	}
	for i := range 4 {
		if err := e.write([]byte{byte(3 + i)}, anywhere, i == 3); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all have left", func() bool { _, n := out.count(); return n == 7 })
	if got := out.got[anywhere]; !slices.Equal(got, []byte{0, 1, 2, 3, 4, 5, 6}) {
		t.Errorf("they left as %v", got)
	}
}

// TestWritersShareAFlush is the self-clock: what ready goroutines write before the
// flusher's turn leaves together.
func TestWritersShareAFlush(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	out := &recorder{got: map[netip.AddrPort][]byte{}}
	e := newEgress(out)
	defer e.close()
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() { _ = e.write([]byte{byte(i)}, anywhere, true) })
	}
	all.Wait()
	eventually(t, "all have left", func() bool { _, n := out.count(); return n == 20 })
	if batches, _ := out.count(); batches > 2 {
		t.Errorf("20 packets of 20 ready writers left in %d flushes: %v", batches, out.batches)
	}
}

// TestMemoryIsBounded writes against a sender that does not return: the writers wait
// with two batches' packets written, and all arrive in order once it goes on.
func TestMemoryIsBounded(t *testing.T) {
	out := &recorder{got: map[netip.AddrPort][]byte{}}
	e := newEgress(out)
	out.held.Lock()
	const each = 5 * batchPackets
	var taken atomic.Int64
	var all sync.WaitGroup
	to := [2]netip.AddrPort{anywhere, netip.MustParseAddrPort("[2001:db8::1]:9")}
	for _, to := range to { // two, since one may be the goroutine that sends
		all.Go(func() {
			for i := range each {
				_ = e.write([]byte{byte(i >> 8), byte(i)}, to, true)
				taken.Add(1)
			}
		})
	}
	eventually(t, "a batch is full", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return len(e.filling.packets) == batchPackets
	})
	if n := taken.Load(); n > 2*batchPackets {
		t.Errorf("%d packets taken while none could be sent, want at most %d", n, 2*batchPackets)
	}
	out.held.Unlock()
	all.Wait()
	e.close()
	for _, to := range to {
		for i := range each {
			if got := out.got[to][2*i : 2*i+2]; got[0] != byte(i>>8) || got[1] != byte(i) {
				t.Fatalf("packet %d to %s is %v", i, to, got)
			}
		}
	}
}

// TestCloseDrains writes from several goroutines while the egress closes: each write
// that was accepted is sent, and each later one refused.
func TestCloseDrains(t *testing.T) {
	for range 50 {
		out := &recorder{got: map[netip.AddrPort][]byte{}}
		e := newEgress(out)
		var all sync.WaitGroup
		var accepted [4]int
		for i := range accepted {
			all.Go(func() {
				for {
					if err := e.write([]byte{1}, anywhere, true); err != nil {
						if !errors.Is(err, net.ErrClosed) {
							t.Error(err)
						}
						return
					}
					accepted[i]++
				}
			})
		}
		eventually(t, "packets flow", func() bool { _, n := out.count(); return n > 0 })
		e.close()
		_, sent := out.count()
		all.Wait()
		if want := accepted[0] + accepted[1] + accepted[2] + accepted[3]; sent != want {
			t.Fatalf("%d packets sent when close returned, %d accepted", sent, want)
		}
		e.close() // again
	}
}
