package sendq

import (
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"mayfly/roomtask/bwe"
	"mayfly/roomtask/forward"
	"mayfly/roomtask/ingest"
	"mayfly/roomtask/rtpx"
)

// Writer is the way out of one line. It must not keep the header or the payload, and
// returns 0 bytes while nothing can be sent yet.
type Writer interface {
	WriteRTP(h *rtp.Header, payload []byte) (int, error)
}

// Out is one negotiated m-line of a seat, as forward.Line, with the way to send.
type Out struct {
	W             Writer
	SSRC, RTXSSRC uint32 // RTXSSRC 0: no retransmission was negotiated
	PT, RTXPT     uint8
	Types         rtpx.PayloadTypes // of video, by codec; none = PT and RTXPT are VP8's
	REDPT         uint8             // of Opus with redundancy; 0 = not negotiated
	ClockRate     uint32
	Mid           string
	MidExt        uint8 // ids of header extensions, 1 to 14; 0 = not negotiated
	TWCCExt       uint8
	AudioLevelExt uint8
	DDExt         uint8
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
// block only as long as the connection is open.
type Config struct {
	Now       func() int64 // nanoseconds since 1970, never going back: the clock of ingest
	WriteRTCP func([]rtcp.Packet) error
	Wheel     *Wheel       // shared by the senders of a room; nil = one of its own
	Log       *slog.Logger // nil = none
	// Forwarded is told the time from the arrival of a packet to its write, in
	// nanoseconds, for one packet in 16; nil = nobody asks. It is called by the goroutine
	// and must not block.
	Forwarded func(ns int64)
	// Fault is told of a panic in the Sender's goroutine, which serves other senders too:
	// this one sends nothing more and is to be closed. nil = nobody asks.
	Fault func(value any)
}

// tickEvery is the time between two looks at the estimate and the lines while nothing
// is short, tickSoon while something is. Packets that come wake the sender anyway, so
// the room's ticks do so only when it was quiet for tickQuiet.
const (
	tickEvery = 100 * ms
	tickSoon  = 20 * ms
	tickQuiet = 40 * ms
)

// Sender is one subscriber's. Its exported methods may be called from any goroutine,
// and never wait, except Close.
type Sender struct {
	cfg    Config  // set once
	worker *worker // set once: the goroutine
	luck   float64 // set once: see withheld
	in     inbox
	done   chan struct{} // closed when the goroutine has ended
	due    atomic.Int64  // when a Tick is worth waking the goroutine, set by it

	count counters
	shown shown

	// owned by the goroutine
	broken    bool // a panic ended it
	work      batch
	holds     bool             // work is one of the worker's batches
	more      bool             // some of work is left
	next      int              // of work.video, the first that is not sent yet
	seats     []*seat          // by number, ascending
	lines     map[uint32]*line // by media SSRC and by RTX SSRC
	all       []*line          // each line once
	audioRTX  []resend
	videoRTX  []resend
	budget    rtxBudget
	twcc      uint16 // last number used
	timing    uint8  // packets since one was timed
	fresh     bool   // a stream began that was not reported on
	path      path
	pace      pacing
	probe     probing
	tickAt    int64
	protectAt int64
	copying   bool  // some line's audio goes out more than once
	queuedAt  int64 // when a standing queue was last seen, ns
	occupants int64 // that sat in any seat
	alloc     allocation
}

// path is what is known of the way to the subscriber.
type path struct {
	est      bwe.Estimator
	now      bwe.Snapshot // of the last tick or report
	acked    lossMeter
	heard    bool // some report came
	opened   opening
	rtt      int64 // ns, smoothed; 0 = unknown
	newRTT   int64 // ns, the last that was heard of, ICE's at first
	lossSum  float64
	lossPkts float64
	lossAt   int64
}

// New starts a Sender. The caller must Close it.
func New(cfg Config) *Sender {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Wheel == nil {
		cfg.Wheel = NewWheel()
	}
	s := &Sender{
		cfg:   cfg,
		done:  make(chan struct{}),
		lines: map[uint32]*line{},
		twcc:  uint16(rand.Uint32()),
	}
	s.pace.queue.drop = s.dropped
	s.in.owner = s
	s.worker, s.luck = cfg.Wheel.join()
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

// TransportFeedback takes a transport-wide feedback packet as it came, and copies it.
func (s *Sender) TransportFeedback(b []byte) { s.in.addTWCC(b) }

// Moved says that the subscriber is reached over another path. What was lost on the way
// there is too much to repair, so all videos begin anew with a keyframe.
func (s *Sender) Moved() {
	s.in.command(func() {
		for _, l := range s.all {
			l.f.Keyframe()
		}
	})
}

// Reached tells the round trip of the path that ICE has chosen, in nanoseconds. What is
// remembered follows it until the first report comes; what is judged by round trips does not,
// since a single check may have waited in a busy client.
func (s *Sender) Reached(rtt int64) {
	if rtt <= 0 {
		return
	}
	s.in.command(func() {
		s.path.newRTT = rtt
		s.cfg.Wheel.trips.add(s.path.trip(), s.cfg.Now())
		for _, l := range s.all {
			l.f.SetRTT(s.path.trip())
		}
	})
}

// trip is the round trip that what is remembered follows: the smoothed one goes up slowly
// when a queue fills.
func (p *path) trip() int64 { return max(p.rtt, p.newRTT) }

// Tick is called about every 20 ms: reports, the estimate, and the layers depend on it.
func (s *Sender) Tick(now int64) {
	if now >= s.due.Load() {
		s.in.nudge(nudgeTick)
	}
}

// Close stops the goroutine, gives up all taps and packets, and waits for that. A
// write that blocks is waited for: close the connection first.
func (s *Sender) Close() {
	s.in.close()
	<-s.done
}

// step does all that was taken, up to videoRun packets of video, and returns whether
// there is more of it. The order of what is written is fixed here.
func (s *Sender) step(now int64) (more bool) {
	for i, f := range s.work.commands {
		f()
		s.work.commands[i] = nil
	}
	s.work.commands = s.work.commands[:0]
	s.handleAll(now)
	if s.work.nudges&nudgeWheel != 0 {
		s.pace.waiting = false
	}
	s.sendAudio(now)
	s.sendResends(&s.audioRTX, now)
	if now >= s.tickAt {
		s.onTick(now)
	}
	if s.pace.on {
		s.sendPaced(now)
	} else {
		s.sendResends(&s.videoRTX, now)
		more = s.sendVideo(now)
	}
	if s.probe.on || s.probe.done {
		s.sendProbe(now)
	}
	if s.fresh {
		s.sendReports(now)
	}
	if s.pace.mustWait(now) || s.probe.on {
		s.pace.await(s)
	}
	s.count.publish()
	return more
}

func (s *Sender) onTick(now int64) {
	s.cfg.Wheel.look(now)
	s.path.est.Tick(now)
	s.reportLoss(now)
	s.protect(now)
	s.look(now)
	for _, l := range s.all {
		l.f.Tick(now)
	}
	if now >= s.alloc.at {
		s.decide(now)
	}
	s.nextProbe(now)
	s.show()
	s.fresh = true
	next := tickEvery
	if s.pace.on || s.path.now.State != bwe.Clear || s.probe.on {
		next = tickSoon
	}
	s.tickAt = now + next
	s.due.Store(s.tickAt + tickQuiet*(next/tickEvery))
}

// look takes the estimator's view, and does at once what cannot wait for the next
// decision.
func (s *Sender) look(now int64) {
	e := s.path.est.Snapshot(now)
	if old := s.path.now.State; e.State != old {
		s.cfg.Log.Info("path changed", "state", e.State.String(), "bps", e.Bps, "sent", e.SentBps, "acked", e.AckedBps,
			"loss", e.Loss, "queue_ms", e.Queue/ms)
		s.tickAt = min(s.tickAt, now+tickSoon)
	}
	if e.Bps != 0 && (s.path.now.Bps == 0 || e.Bps < s.path.now.Bps) && e.Bps < s.alloc.used {
		s.alloc.at = now
	}
	if e.Restarts != s.path.now.Restarts { // the path is back: as at the beginning
		s.path.opened, s.alloc.at = opening{}, now
		s.alloc.Anew(now)
	}
	s.path.now = e
	s.path.opened.look(&e, s.path.opened.begun != 0 || s.videoLeft(), s.path.heard, now)
	s.pace.adjust(&e, s.alloc.used, now)
}

// videoLeft says whether any video was ever sent.
func (s *Sender) videoLeft() bool {
	return slices.ContainsFunc(s.all, func(l *line) bool { return l.out.video && l.f.Stats().Packets > 0 })
}

// shutdown gives everything back. Packets that were pushed before the inbox closed
// are in work or still in the inbox.
func (s *Sender) shutdown() {
	for _, l := range s.all {
		l.f.Close()
	}
	s.pace.queue.empty()
	release(s.work.audio.slots)
	release(s.work.video.slots[s.next:])
	s.work.video, s.next = fifo{}, 0
	s.in.take(&s.work, true)
	release(s.work.audio.slots)
	release(s.work.video.slots)
	s.count.publish()
}

func release(es []entry) {
	for i := range es {
		if es[i].p != nil {
			es[i].p.Release()
			es[i] = entry{}
		}
	}
}

// line is one m-line of a seat. It is the forward.Sink of its forwarder.
type line struct {
	s   *Sender            // set once
	num int                // set once: small, and no other line's at the same time
	out lineOut            // set before the forwarder has a tap, then owned by the goroutine
	f   *forward.Forwarder // set once

	// owned by the goroutine
	loss       float64 // the receiver's last report, 0…1
	lossBase   uint32  // packets sent at that report
	blocked    [maxLayers]int64
	cost       [maxLayers]cost   // of what sits there
	red        forward.REDPolicy // of an audio line
	lossBefore float64           // what the redundancy was last decided by
	repeat     int               // how often each packet of audio is sent again, to a receiver without RED
	copies     *copies           // nil while repeat is 0
	seat       *seat
	screen     bool       // what sits there is a screen
	class      queueClass // of its video; kept while some of it waits
	queued     int        // packets in the pacer
	tid        int8       // temporal layers that are granted
	thin       bool       // only the base of them is sent, because the pacer is behind
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
		AudioLevelExt: o.AudioLevelExt, DDExt: o.DDExt, Types: o.Types, CNAME: o.CNAME,
	}
}
