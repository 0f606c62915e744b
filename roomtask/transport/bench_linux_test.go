package transport

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkEgress fans bursts of 1100-byte packets out to destinations that nobody
// reads, and waits after each for all of it to leave, so that runs are no longer than
// the burst: what a calm room has. The figure is the process's CPU time, user and
// system, the kernel's delivery on loopback with it. "plain" is one sendto each.
func BenchmarkEgress(b *testing.B) {
	for _, destinations := range []int{1, 10, 50} {
		for _, burst := range []int{1, 2, 6} {
			for _, mode := range []string{"plain", "GSO"} {
				b.Run(fmt.Sprintf("destinations=%d/burst=%d/%s", destinations, burst, mode), func(b *testing.B) {
					fanOut(b, mode, destinations, burst)
				})
			}
		}
	}
}

// telling tells how many packets have left.
type telling struct {
	sender
	left chan<- int
}

func (t telling) send(b *batch) {
	t.sender.send(b)
	t.left <- len(b.packets)
}

func fanOut(b *testing.B, mode string, destinations, burst int) {
	s := openSocket(b, loopback, nil)
	s.egress.close()
	left := make(chan int, batchPackets)
	if s.egress = nil; mode == "GSO" {
		s.egress = newEgress(telling{newSender(s.UDPConn, s.counters), left})
	}
	var to []netip.AddrPort
	for _, c := range receiveNothing(b, destinations) {
		to = append(to, c.LocalAddr().(*net.UDPAddr).AddrPort())
	}
	p := rtp(1, 1100)
	began, packets := cpu(b), uint64(0)
	for b.Loop() {
		for _, to := range to {
			for range burst {
				if _, err := s.WriteToAddrPort(p, to); err != nil {
					b.Fatal(err)
				}
			}
		}
		packets += uint64(destinations * burst)
		for waiting := destinations * burst; mode == "GSO" && waiting > 0; {
			waiting -= <-left // polling instead would cost time that no room spends
		}
	}
	b.ReportMetric(float64((cpu(b)-began).Nanoseconds())/1e3/float64(packets), "CPU-µs/packet")
	if runs := s.counters.udpRuns.Load(); runs > 0 {
		b.ReportMetric(float64(s.counters.udpSegments.Load())/float64(runs), "packets/run")
	}
}
