package sendq

import (
	"log/slog"
	"math/rand/v2"
	"sync/atomic"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"mayfly/roomtask/alloc"
	"mayfly/roomtask/bwe"
	"mayfly/roomtask/forward"
	"mayfly/roomtask/ingest"
	"mayfly/roomtask/rtpx"
)

// Writer is the part of webrtc.TrackLocalWriter that sends. It must not keep the
// header or the payload, and returns 0 bytes while nothing can be sent yet.
type Writer interface {
	WriteRTP(h *rtp.Header, payload []byte) (int, error)
}

// Out is one negotiated m-line of a seat, as forward.Line, with the way to send.
type Out struct {
	W             Writer
	SSRC, RTXSSRC uint32 // RTXSSRC 0: no retransmission was negotiated
	PT, RTXPT     uint8
	REDPT         uint8 // of Opus with redundancy; 0 = not negotiated
	ClockRate     uint32
	Mid           string
	MidExt        uint8 // ids of header extensions, 1 to 14; 0 = not negotiated
	TWCCExt       uint8
	AudioLevelExt uint8
	CNAME         string
}

// Assignment is what a seat carries. The zero value empties the seat. Width and
// Height are the size at which the video is shown, in device pixels; 0×0 means
// hidden: the seat keeps its audio, and the video is not sent.
type Assignment struct {
	Audio, Video  *ingest.Source
	Width, Height int
	Pinned        bool // for the order when bandwidth is short
	Speaking      bool // likewise
}

// Config makes a Sender. WriteRTCP is called by the Sender's goroutine alone, and may
// block only as long as the PeerConnection is open.
type Config struct {
	Now       func() int64 // nanoseconds since 1970, never going back: the clock of ingest
	WriteRTCP func([]rtcp.Packet) error
	Log       *slog.Logger // nil = none
}

// Sender is one subscriber's. Its exported methods may be called from any goroutine,
// and never wait, except Close.
type Sender struct {
	cfg  Config // set once
	in   inbox
	done chan struct{} // closed when the goroutine has ended

	count counters
	shown atomic.Pointer[state] // replaced by the goroutine, read by Snapshot

	// owned by the goroutine
	work       batch
	next       int // of work.video, the first that is not sent yet
	seats      map[int]*seat
	lines      map[uint32]*line // by media SSRC and by RTX SSRC
	all        []*line          // each line once
	clocks     map[string]*forward.Clock
	audioRTX   []resend
	videoRTX   []resend
	budget     rtxBudget
	twcc       uint16 // last number used
	est        bwe.Estimator
	path       bwe.State // as logged last
	acks       []bwe.Ack
	rtt        int64 // ns, smoothed; 0 = unknown
	lossSum    float64
	lossPkts   float64
	lossAt     int64
	acked      lossMeter
	protectAt  int64
	audioShort bool // the path has no room even for plain audio
	decideAt   int64
	demands    []alloc.Demand
	alloc      alloc.Allocator
	wanted     []*seat
}

// New starts a Sender. The caller must Close it.
func New(cfg Config) *Sender {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Sender{
		cfg:    cfg,
		done:   make(chan struct{}),
		seats:  map[int]*seat{},
		lines:  map[uint32]*line{},
		clocks: map[string]*forward.Clock{},
		twcc:   uint16(rand.Uint32()),
	}
	s.in.init()
	s.shown.Store(&state{})
	go s.run()
	return s
}

// SetSeat tells which tracks a seat has, after each negotiation; nil for none. A
// line that keeps its SSRC goes on without a break.
func (s *Sender) SetSeat(num int, audio, video *Out) {
	a, v := copyOf(audio, false), copyOf(video, true)
	s.in.command(func() { s.bind(num, a, v) })
}

// Assign puts sources into a seat. It may come before SetSeat.
func (s *Sender) Assign(num int, a Assignment) {
	s.in.command(func() { s.assign(num, a) })
}

// Feedback takes RTCP about our stream ssrc, as ingest.Config.Feedback gives it. The
// packet must not be changed afterwards.
func (s *Sender) Feedback(ssrc uint32, p rtcp.Packet) { s.in.addFeedback(feedback{ssrc, p}) }

// Tick is called about every 20 ms: reports, the estimate, and the layers depend on it.
func (s *Sender) Tick(now int64) { s.in.tick(now) }

// Close stops the goroutine, gives up all taps and packets, and waits for that. A
// write that blocks is waited for: close the PeerConnection first.
func (s *Sender) Close() {
	s.in.close()
	<-s.done
}

// run is the goroutine. What is urgent is looked for again after every few packets of
// video, so that audio never waits for more than those.
func (s *Sender) run() {
	defer close(s.done)
	for range s.in.wake {
		for {
			s.in.take(&s.work)
			if s.work.closed {
				s.shutdown()
				return
			}
			if !s.step(s.cfg.Now()) {
				break
			}
		}
	}
}

// step does all that was taken, up to videoRun packets of video, and returns whether
// there is more of it. The order of what is written is fixed here.
func (s *Sender) step(now int64) (more bool) {
	for _, f := range s.work.commands {
		f()
	}
	clear(s.work.commands)
	for i := range s.work.feedback {
		s.handle(&s.work.feedback[i], now)
	}
	clear(s.work.feedback)

	s.sendAudio(now)
	s.sendResends(&s.audioRTX, now)
	if s.work.tickAt != 0 {
		s.onTick(now)
	}
	s.sendReports(now)
	s.sendResends(&s.videoRTX, now)
	more = s.sendVideo(now)
	s.sendReports(now) // of streams that began just now
	return more
}

func (s *Sender) onTick(now int64) {
	s.est.Tick(now)
	s.reportLoss(now)
	s.protect(now)
	if e := s.est.Snapshot(now); e.State != s.path {
		s.path = e.State
		s.cfg.Log.Info("path changed", "state", e.State.String(), "bps", e.Bps, "loss", e.Loss, "queue_ms", e.Queue/ms)
	}
	for _, l := range s.all {
		l.f.Tick(now)
	}
	if now >= s.decideAt {
		s.decide(now)
	}
}

// shutdown gives everything back. Packets that were pushed before the inbox closed
// are in work or still in the inbox.
func (s *Sender) shutdown() {
	for _, l := range s.all {
		l.f.Close()
	}
	release(s.work.audio)
	release(s.work.video[s.next:])
	s.work.video, s.next = s.work.video[:0], 0
	s.in.take(&s.work)
	release(s.work.audio)
	release(s.work.video)
}

func release(es []entry) {
	for i := range es {
		es[i].p.Release()
		es[i] = entry{}
	}
}

// line is one m-line of a seat. It is the forward.Sink of its forwarder.
type line struct {
	s   *Sender            // set once
	out lineOut            // set before the forwarder has a tap, then owned by the goroutine
	f   *forward.Forwarder // set once

	// owned by the goroutine
	loss     float64 // the receiver's last report, 0…1
	lossBase uint32  // packets sent at that report
	blocked  [maxLayers]int64
	red      forward.REDPolicy // of an audio line
}

type lineOut struct {
	Out
	video bool // never changes for a line
}

// Push implements forward.Sink.
func (l *line) Push(t *forward.Tap, p *rtpx.Packet) { l.s.in.push(entry{l, t, p}) }

func copyOf(o *Out, video bool) *lineOut {
	if o == nil || o.W == nil {
		return nil
	}
	return &lineOut{*o, video}
}

func (o *lineOut) line() forward.Line {
	return forward.Line{
		Video: o.video, SSRC: o.SSRC, RTXSSRC: o.RTXSSRC, PT: o.PT, RTXPT: o.RTXPT, REDPT: o.REDPT,
		ClockRate: o.ClockRate, Mid: o.Mid, MidExt: o.MidExt, TWCCExt: o.TWCCExt,
		AudioLevelExt: o.AudioLevelExt, CNAME: o.CNAME,
	}
}
