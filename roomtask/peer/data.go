package peer

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/datachannel"

	"mayfly/roomtask/conn"
	"mayfly/shared/signal"
)

const (
	maxQueuedBytes  = 2 * signal.MaxDataBytes // frames waiting for the channel
	maxQueuedFrames = 1024
	highWater       = 128 << 10 // bytes under way in SCTP; above it the writer waits …
	lowWater        = 64 << 10  // … until it falls to this
	maxChannels     = 16        // that a client may ever open
	maxMessage      = conn.MaxMessage

	// What a client may send: 1 Mbit/s after a burst that fits the longest frame. Each
	// message costs a little more than its bytes, for what handling it takes.
	dataRate     = 128 << 10 // bytes per second
	dataBurst    = 2 * signal.MaxDataBytes
	messageToken = 512
	// smallMessage is what a reader has room for until a longer message comes.
	smallMessage = 2 << 10
)

// dataChannel is the participant's ordered channel. One goroutine reads it while it is
// open, and one writes it while there is something to write.
type dataChannel struct {
	p *Peer

	in, out atomic.Int64 // bytes of messages

	mu      sync.Mutex
	queue   [][]byte // guarded by mu
	bytes   int      // guarded by mu: of queue
	opened  int      // guarded by mu: channels so far
	open    bool     // guarded by mu: one is in use
	writes  *session // guarded by mu: may be written; nil = none
	writing bool     // guarded by mu: the goroutine that does is there
	nextID  uint64   // guarded by mu: of chunked frames
}

func newDataChannel(p *Peer) *dataChannel { return &dataChannel{p: p} }

// send queues a frame; the caller must not change it afterwards.
func (d *dataChannel) send(frame []byte) bool {
	if len(frame) == 0 || len(frame) > signal.MaxDataBytes {
		return false
	}
	select {
	case <-d.p.closing:
		return false
	default:
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	fits := d.bytes+len(frame) <= maxQueuedBytes && len(d.queue) < maxQueuedFrames
	if fits {
		d.queue = append(d.queue, frame)
		d.bytes += len(frame)
		d.write()
	}
	return fits
}

// write starts the writer, if there is something to write and to write it to. The caller
// holds mu.
func (d *dataChannel) write() {
	if s := d.writes; s != nil && !d.writing && len(d.queue) > 0 {
		d.writing = true
		s.writer.Go(s.write)
	}
}

// writable makes s the one that is written.
func (d *dataChannel) writable(s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writes = s
	d.write()
}

// unwritable ends that, for good.
func (d *dataChannel) unwritable() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writes = nil
}

// take returns the oldest queued frame. If there is none, or the session has ended, it
// returns nil and the writer is gone.
func (d *dataChannel) take(s *session) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.queue) == 0 || d.writes != s {
		d.writing = false
		if len(d.queue) == 0 {
			d.queue = nil
		}
		return nil
	}
	frame := d.queue[0]
	d.queue[0] = nil
	d.queue = d.queue[1:]
	d.bytes -= len(frame)
	return frame
}

// accept is called for each channel that the client opens.
func (d *dataChannel) accept(ch *datachannel.DataChannel) {
	d.mu.Lock()
	d.opened++
	tooMany := d.opened > maxChannels
	d.mu.Unlock()
	if tooMany {
		d.p.fail(FailAbuse, errors.New("peer: too many data channels"))
		return
	}
	low := make(chan struct{}, 1)
	ch.SetBufferedAmountLowThreshold(lowWater)
	ch.OnBufferedAmountLow(func() {
		select {
		case low <- struct{}{}:
		default:
		}
	})
	usable := ch.Label == signal.DataChannelLabel && ch.ChannelType == datachannel.ChannelTypeReliable
	if !usable || !d.begin(&session{d: d, ch: ch, low: low, done: make(chan struct{})}) {
		_ = ch.Close()
	}
}

// begin uses an open channel, unless one is in use already.
func (d *dataChannel) begin(s *session) bool {
	d.mu.Lock()
	inUse := d.open
	d.open = true
	d.mu.Unlock()
	if inUse {
		return false
	}
	return d.p.start(func() {
		defer d.end()
		told := make(chan struct{})
		select {
		case d.p.opened <- told:
			<-told
		case <-d.p.closing:
			return
		}
		d.writable(s)
		s.read()
		d.unwritable()
		close(s.done)
		_ = s.ch.Close()
		s.writer.Wait()
	})
}

func (d *dataChannel) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open, d.writing = false, false
}

// session is one open channel.
type session struct {
	d    *dataChannel
	ch   *datachannel.DataChannel
	low  chan struct{} // SCTP has fallen to lowWater
	done chan struct{} // closed when reading has ended

	writer sync.WaitGroup // the goroutine that writes
}

// read hands on frames until the channel ends. While the client sends faster than it
// may, it is not read, and SCTP's window holds it back.
func (s *session) read() {
	p := s.d.p
	defer func() {
		if r := recover(); r != nil {
			_ = p.fault("data channel", r)
		}
	}()
	var parts signal.Assembler
	rate := bucket{tokens: dataBurst, at: p.cfg.Now()}
	small := make([]byte, smallMessage)
	buf := small
	for {
		n, _, err := s.ch.ReadDataChannel(buf)
		if errors.Is(err, io.ErrShortBuffer) && len(buf) < maxMessage {
			buf = make([]byte, min(4*len(buf), maxMessage)) // the message is still there
			continue
		}
		if errors.Is(err, io.ErrShortBuffer) {
			p.fail(FailAbuse, errors.New("peer: data channel message too long"))
			return
		}
		if err != nil {
			return
		}
		s.d.in.Add(int64(n))
		frame, err := whole(&parts, buf[:n])
		if err != nil {
			p.fail(FailAbuse, err)
			return
		}
		buf = small
		if frame != nil {
			p.post(Data{Frame: frame})
		}
		if wait := rate.take(n+messageToken, p.cfg.Now()); wait > 0 && !s.pause(wait) {
			return
		}
	}
}

func (s *session) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.d.p.closing:
		return false
	}
}

// whole returns a copy of the message if it is a frame of its own, the whole frame if
// it is the last chunk of one, and else nil. A message that is no frame at all is
// handed on: the room answers it.
func whole(parts *signal.Assembler, message []byte) ([]byte, error) {
	f, err := signal.ParseFrame(message, len(message))
	if err != nil || f.Type != signal.TypeChunk {
		return append([]byte(nil), message...), nil
	}
	var c signal.Chunk
	if err := signal.DecodeStrict(f, &c); err != nil {
		return nil, err
	}
	return parts.Push(c)
}

// write sends what is queued until nothing is, or the channel ends.
func (s *session) write() {
	defer func() {
		if r := recover(); r != nil {
			_ = s.d.p.fault("data channel", r)
		}
	}()
	for frame := s.d.take(s); frame != nil; frame = s.d.take(s) {
		if err := s.frame(frame); err != nil {
			s.d.p.cfg.Log.Debug("data channel write", "err", err)
			return // nothing more can be written: writing stays set
		}
	}
}

func (s *session) frame(frame []byte) error {
	if len(frame) <= signal.MaxPlainBytes {
		return s.message(frame)
	}
	s.d.mu.Lock()
	s.d.nextID++
	id := s.d.nextID
	s.d.mu.Unlock()
	chunks, err := signal.Split(id, frame)
	if err != nil {
		return err
	}
	for _, c := range chunks {
		text, err := signal.Encode(signal.TypeChunk, 0, c)
		if err != nil {
			return err
		}
		if err := s.message(text); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) message(text []byte) error {
	for s.ch.BufferedAmount() > highWater {
		select {
		case <-s.low:
		case <-s.done:
			return io.ErrClosedPipe
		case <-s.d.p.closing:
			return io.ErrClosedPipe
		}
	}
	n, err := s.ch.WriteDataChannel(text, true)
	s.d.out.Add(int64(n))
	return err
}

// bucket is a token bucket that may go into debt.
type bucket struct {
	tokens int64 // bytes that may be taken now
	at     int64 // ns, when tokens was right
}

// take takes n bytes and returns how long to wait until the debt is paid.
func (b *bucket) take(n int, now int64) time.Duration {
	elapsed := now - b.at
	if elapsed < 0 || elapsed > int64(time.Minute) { // a minute fills it; more could overflow
		elapsed = min(max(elapsed, 0), int64(time.Minute))
		b.at = now - elapsed
	}
	earned := elapsed * dataRate / int64(time.Second)
	// What the division leaves over stays in the clock, or a slow trickle would earn nothing.
	b.at += earned * int64(time.Second) / dataRate
	b.tokens = min(b.tokens+earned, dataBurst)
	if b.tokens -= int64(n); b.tokens >= 0 {
		return 0
	}
	return time.Duration(-b.tokens) * time.Second / dataRate
}
