package sendq

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"mayfly/roomtask/rtpx"
)

// sink is a Writer that counts and copies, as SRTP would.
type sink struct {
	n   atomic.Int64
	buf [1600]byte
}

func (s *sink) WriteRTP(h *rtp.Header, payload []byte) (int, error) {
	n, err := h.MarshalTo(s.buf[:])
	n += copy(s.buf[n:], payload)
	s.n.Add(1)
	return n, err
}

// fanOut is one camera and n subscribers who watch it, on the real clock.
type fanOut struct {
	pub     *publisher
	senders []*Sender
	sinks   []*sink
	raw     []byte
}

func newFanOut(t testing.TB, n int) *fanOut {
	f := &fanOut{pub: newPublisher(t, "ann", rtpx.NewPool(64<<20))}
	f.pub.frame(0, true, 1100)
	for range n {
		k := &sink{}
		s := New(Config{Now: clock, WriteRTCP: func([]rtcp.Packet) error { return nil }})
		s.SetSeat(0, nil, &Out{W: k, SSRC: 2, PT: ptVP8, ClockRate: 90000, Mid: "1", MidExt: 1, TWCCExt: 4})
		s.Assign(0, Assignment{Video: f.pub.camera(), Width: 320, Height: 180})
		f.senders, f.sinks = append(f.senders, s), append(f.sinks, k)
	}
	ssrc := f.pub.base()
	var last time.Time
	waitFor(t, func() bool { // until everybody shows it; slowly, so that no inbox is ever full
		if now := time.Now(); now.Sub(last) > time.Millisecond {
			last = now
			f.pub.frame(0, true, 1100)
		}
		for _, k := range f.sinks {
			if k.n.Load() == 0 {
				return false
			}
		}
		return true
	})
	k := rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: ptVP8, SSRC: ssrc, SequenceNumber: f.pub.stream(ssrc).seq, Timestamp: f.pub.stream(ssrc).ts, Marker: true},
		Payload: f.pub.picture(ssrc, false, 0, 0, 1100)}
	f.raw, _ = k.Marshal()
	t.Cleanup(f.close)
	return f
}

func (f *fanOut) close() {
	for _, s := range f.senders {
		s.Close()
	}
	f.pub.in.Close()
}

// send writes the next packet as Pion would hand it over.
func (f *fanOut) send() {
	binary.BigEndian.PutUint16(f.raw[2:], binary.BigEndian.Uint16(f.raw[2:])+1)
	binary.BigEndian.PutUint32(f.raw[4:], binary.BigEndian.Uint32(f.raw[4:])+3000)
	pid := binary.BigEndian.Uint16(f.raw[14:]) + 1
	binary.BigEndian.PutUint16(f.raw[14:], pid|0x8000)
	f.pub.in.Deliver(f.raw)
}

func (f *fanOut) written() (n int64) {
	for _, k := range f.sinks {
		n += k.n.Load()
	}
	return n
}

func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("waited for 10 s")
		}
	}
}

// TestPathDoesNotAllocate sends packets all the way, from the bytes that Pion decrypted
// to WriteRTP, and counts allocations of the whole process.
func TestPathDoesNotAllocate(t *testing.T) {
	f := newFanOut(t, 3)
	step := func() {
		want := f.written() + int64(len(f.sinks))
		f.send()
		waitFor(t, func() bool { return f.written() >= want })
	}
	for range 3000 { // until rings and pools have their size
		step()
	}
	if n := testing.AllocsPerRun(2000, step); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}

// BenchmarkFanOut tells the time per packet sent, from the arrival at ingest to
// WriteRTP, without SRTP and socket.
func BenchmarkFanOut(b *testing.B) {
	for _, n := range []int{1, 10, 50} {
		b.Run(fmt.Sprintf("1x%d", n), func(b *testing.B) {
			f := newFanOut(b, n)
			first := f.written()
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				f.send()
				if i%64 == 63 { // no more under way than the inboxes hold
					want := first + int64((i+1)*n)
					waitFor(b, func() bool { return f.written() >= want })
				}
			}
			want := first + int64(b.N*n)
			waitFor(b, func() bool { return f.written() >= want })
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/sent")
		})
	}
}
