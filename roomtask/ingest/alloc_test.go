package ingest

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/rtcp"

	"mayfly/roomtask/rtpx"
	"mayfly/shared/signal"
)

// counter is the cheapest tap there can be.
type counter struct{ n int }

func (c *counter) Deliver(*rtpx.Packet) { c.n++ }

// steady is a publisher of one simulcast layer, six packets a frame, and a
// microphone, both with all header extensions, as browsers send them.
type steady struct {
	p          *Publisher
	vbuf, abuf []byte
	videoTap   counter
	audioTap   counter
	now        atomic.Int64
	n          int
	transport  uint16
}

func newSteady(t testing.TB) *steady {
	s := &steady{}
	s.now.Store(int64(time.Hour))
	s.p = NewPublisher(Config{
		Participant: "alice", Pool: rtpx.NewPool(64 << 20), Now: s.now.Load, Limits: Unlimited,
		WriteRTCP: func([]rtcp.Packet) error { return nil },
	})
	t.Cleanup(s.p.Close)
	s.p.Bind([]Line{micLine, cameraLine})
	s.p.Source(signal.KindCamera).AddTap(0, &s.videoTap)
	s.p.Source(signal.KindMic).AddTap(0, &s.audioTap)

	v := ids("2", "q", "")
	v[idSeq] = "\x00\x00"
	s.vbuf = packet{ssrc: 10, pt: ptVP8, ext: v, payload: append([]byte{0x90, 0xE0, 0x80, 0x01, 0, 0x20, 0x51}, make([]byte, 1093)...)}.bytes(t)
	a := ids("1", "", "")
	a[idSeq], a[idLevel] = "\x00\x00", "\x9E"
	s.abuf = packet{ssrc: 20, pt: ptOpus, ext: a, payload: make([]byte, 80)}.bytes(t)
	return s
}

// step sends one video packet, and an audio packet after each sixth.
func (s *steady) step() {
	s.now.Add(int64(5500 * time.Microsecond))
	s.number(s.vbuf[17:]) // behind the fixed header and one byte of element header
	s.write(s.vbuf, s.n, uint32(s.n/6*3000))
	if s.n%6 == 5 {
		s.number(s.abuf[19:]) // the same, and the audio level before it
		s.write(s.abuf, s.n/6, uint32(s.n/6*960))
	}
	s.n++
}

// number sets the transport-wide sequence number.
func (s *steady) number(b []byte) {
	binary.BigEndian.PutUint16(b, s.transport)
	s.transport++
}

func (s *steady) write(b []byte, seq int, ts uint32) {
	binary.BigEndian.PutUint16(b[2:], uint16(seq))
	binary.BigEndian.PutUint32(b[4:], ts)
	s.p.Deliver(b)
}

func TestReceivingDoesNotAllocate(t *testing.T) {
	s := newSteady(t)
	for range 3000 { // fills the rings and the pool
		s.step()
	}
	// AllocsPerRun rounds down, so one run is a thousand packets.
	if n := testing.AllocsPerRun(6, func() {
		for range 1000 {
			s.step()
		}
	}); n != 0 {
		t.Errorf("%v allocations per 1000 packets, want 0", n)
	}
	recorded := 0
	for _, p := range s.p.twcc.build(nil, 1) {
		_, told := decode(t, p)
		recorded += len(told)
	}
	if recorded != twccWindow/2 {
		t.Errorf("%d packets were recorded for feedback, want the whole window", recorded)
	}
	if s.videoTap.n != s.n || s.audioTap.n != s.n/6 {
		t.Errorf("%d video and %d audio packets of %d reached the taps", s.videoTap.n, s.audioTap.n, s.n)
	}
}

// TestConcurrentUse does from other goroutines, while packets arrive, all that others
// may do. The race detector judges.
func TestConcurrentUse(t *testing.T) {
	s := newSteady(t)
	cam := s.p.Source(signal.KindCamera)
	stop := make(chan struct{})
	var others sync.WaitGroup
	for _, f := range []func(i int){
		func(i int) {
			tap := &catcher{}
			cam.AddTap(0, tap)
			cam.RequestKeyframe(0)
			cam.RemoveTap(0, tap)
		},
		func(i int) {
			if p := cam.Lookup(0, uint64(1<<16+i%20_000)); p != nil {
				if len(p.Payload()) != 1100 {
					t.Errorf("a packet of %d bytes", len(p.Payload()))
				}
				p.Release()
			}
		},
		func(i int) {
			_, _ = cam.SenderReport(0)
			_ = cam.LayerInfo(0)
			_ = s.p.Stats()
		},
		func(i int) { s.p.Bind([]Line{micLine, cameraLine}) },
	} {
		others.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					f(i)
				}
			}
		})
	}
	for i := range 20_000 {
		s.step()
		if i%4 == 0 {
			s.p.Tick(s.now.Load())
		}
	}
	close(stop)
	others.Wait()
	if s.videoTap.n != s.n {
		t.Errorf("%d of %d packets reached the tap", s.videoTap.n, s.n)
	}
}

// BenchmarkReceive is the cost of one packet from Pion's Write to one tap.
func BenchmarkReceive(b *testing.B) {
	s := newSteady(b)
	b.ReportAllocs()
	for b.Loop() {
		s.step()
	}
}
