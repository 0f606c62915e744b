package ingest

import (
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"

	"mayfly/roomtask/rtpx"
)

// Limits of one participant. A client publishes four sources: two of one stream, two of
// three layers, each with its retransmission.
const (
	maxStreams = 64
	maxOut     = 256 // queued RTCP packets; more means that nobody takes them

	maxDatagram = 1200 // bytes of one RTCP datagram
)

// Periods of what Tick does.
const (
	reportEvery   = int64(time.Second)
	feedbackEvery = int64(60 * time.Millisecond)
	rateEvery     = int64(500 * time.Millisecond)
	// A packet can be sent again for so many of the longest round trips to a viewer, and
	// within these bounds: three round trips of 400 ms, as in libwebrtc, are the most. On
	// short paths it is asked for soon, and again soon. Of ten cameras each second of it is
	// 2.8 MB.
	ringTrips = 6
	ringLeast = int64(300 * time.Millisecond)
	ringMost  = int64(1200 * time.Millisecond)
)

// Publisher receives everything that one participant sends us.
type Publisher struct {
	// set once
	cfg    Config
	sender uint32 // SSRC that our RTCP comes from
	video  pace   // of a source, as Config.Limits has it
	audio  pace
	writer writer

	rtt  atomic.Int64 // nanoseconds, 0 while unknown
	keep atomic.Int64 // how long packets can be sent again, ns

	reporting flow // of RTCP; owned by DeliverControl's caller

	mu sync.Mutex
	// guarded by mu
	closed   bool
	abused   bool
	table    *table
	sources  []*Source
	streams  map[uint32]*sink
	out      []rtcp.Packet
	spare    []rtcp.Packet // the slice that the writer has emptied
	twcc     recorder
	clock    senderClock
	nackBuf  []uint16
	stray    flow                             // of streams that belong to no source
	red      [rtpx.MaxREDBlocks]rtpx.REDBlock // of the packet under way
	stats    Stats
	nextRR   int64
	nextTWCC int64
	nextRate int64
}

// NewPublisher makes a Publisher. The goroutine that writes its RTCP is there while there
// is any: of most viewers there never is.
func NewPublisher(cfg Config) *Publisher {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Publisher{
		cfg:     cfg,
		sender:  rand.Uint32() | 1,
		table:   nothing,
		streams: make(map[uint32]*sink),
	}
	p.video, p.audio = cfg.Limits.paces()
	p.keep.Store(ringLeast)
	p.writer.init(p.write)
	return p
}

// Source returns the source of that kind, or nil.
func (p *Publisher) Source(kind string) *Source {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sources {
		if s.kind == kind {
			return s
		}
	}
	return nil
}

// Sources returns all sources, in the order of the last Bind.
func (p *Publisher) Sources() []*Source {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.sources)
}

// SetRTT tells the round trip to the publisher, in nanoseconds, as measured with our
// own sender reports. Until then the Publisher judges by its retransmissions.
func (p *Publisher) SetRTT(ns int64) {
	if ns > 0 {
		p.rtt.Store(ns)
	}
}

// SetViewersRTT tells the longest round trip to anybody who may ask for a packet again, in
// nanoseconds; 0 = it is not known.
func (p *Publisher) SetViewersRTT(ns int64) {
	keep := ringMost
	if ns > 0 {
		keep = min(max(ringTrips*ns, ringLeast), ringMost)
	}
	p.keep.Store(keep)
}

// Stats returns a copy of the counters.
func (p *Publisher) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.stats
	st.RTT = p.rtt.Load()
	for _, s := range p.sources {
		for _, l := range s.all() {
			st.Layers = append(st.Layers, LayerStats{
				Source: s.id, Layer: l.index, Info: l.info(wholeStream),
				Packets: l.packets, Bytes: l.bytes, Keyframes: l.keyframes,
				Expected: l.recv.expected(), Received: l.recv.received, Jitter: l.recv.meanJitter(), Codec: l.name,
			})
		}
	}
	return st
}

// Tick does what is due at now: NACKs that nobody answered, keyframe requests,
// receiver reports, feedback, rates, liveness. The room calls it every 20 ms. It
// never waits for the network.
func (p *Publisher) Tick(now int64) {
	var changed []*Source
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	rate := now >= p.nextRate
	if rate {
		p.nextRate = now + rateEvery
	}
	for _, s := range p.sources {
		dirty := false
		for _, l := range s.all() {
			l.trim(now)
			p.nack(l, now)
			if rate {
				l.rates.measure(now)
			}
			if l.dry(now) {
				dirty = true
			}
		}
		if dirty {
			changed = append(changed, s)
		}
	}
	if now >= p.nextRR {
		p.nextRR = now + reportEvery
		p.report(now)
	}
	if now >= p.nextTWCC {
		p.nextTWCC = now + feedbackEvery
		p.out = p.twcc.build(p.out, p.sender)
	}
	wake := len(p.out) > 0 || p.keyframeDue(now)
	p.mu.Unlock()
	if wake {
		p.wakeWriter()
	}
	for _, s := range changed {
		p.changed(s)
	}
}

// keyframeDue says whether some gate has something to send. The caller holds mu.
func (p *Publisher) keyframeDue(now int64) bool {
	for _, s := range p.sources {
		for _, l := range s.all() {
			if l.active && (l.asked.Load() || l.gate.pending(now)) {
				return true
			}
		}
	}
	return false
}

// Close waits for the writer goroutine and gives all packets back. Close the
// connection first: it ends a WriteRTCP that is under way.
func (p *Publisher) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		p.writer.end()
		return
	}
	p.closed = true
	for _, s := range p.sources {
		for _, l := range s.all() {
			l.close()
		}
	}
	p.mu.Unlock()
	p.writer.end()
}

func (p *Publisher) changed(s *Source) {
	if p.cfg.Changed != nil {
		p.cfg.Changed(s)
	}
}

func (p *Publisher) wakeWriter() { p.writer.wake() }

// queue adds an RTCP packet for the writer. The caller holds mu.
func (p *Publisher) queue(pkt rtcp.Packet) {
	if len(p.out) < maxOut {
		p.out = append(p.out, pkt)
	}
}

// nack queues a request for the packets of l that are due. The caller holds mu. It
// reports whether it queued one.
func (p *Publisher) nack(l *layer, now int64) bool {
	if len(l.nacks.list) == 0 {
		return false
	}
	if p.nackBuf == nil {
		p.nackBuf = make([]uint16, 0, nackCap)
	}
	seqs, given := l.nacks.due(p.nackBuf[:0], now, l.window.high, p.rtt.Load())
	p.stats.Lost += uint64(given)
	if given > 0 && l.src.video {
		l.gate.request()
	}
	if len(seqs) == 0 {
		return false
	}
	p.stats.NACKs += uint64(len(seqs))
	p.queue(&rtcp.TransportLayerNack{
		SenderSSRC: p.sender, MediaSSRC: l.ssrc,
		Nacks: rtcp.NackPairsFromSequenceNumbers(seqs),
	})
	return true
}

// report queues receiver reports about all layers that receive. The caller holds mu.
func (p *Publisher) report(now int64) {
	var blocks []rtcp.ReceptionReport
	flush := func() {
		if len(blocks) > 0 {
			p.queue(&rtcp.ReceiverReport{SSRC: p.sender, Reports: blocks})
			blocks = nil
		}
	}
	for _, s := range p.sources {
		for _, l := range s.all() {
			if l.active && l.recv.received > 0 {
				b := l.recv.block(l.ssrc, l.sr, l.hasSR, now)
				b.FractionLost = s.fraction(b.FractionLost, now)
				blocks = append(blocks, b)
			}
			if len(blocks) == 31 { // the count has five bits
				flush()
			}
		}
	}
	flush()
}

// take hands the queued packets to the writer, with the keyframe requests that are
// due. Keyframe requests are looked for here, so that one who asks need only wake
// the writer.
func (p *Publisher) take() []rtcp.Packet {
	now := p.cfg.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sources {
		for _, l := range s.all() {
			if l.asked.Swap(false) {
				l.gate.request()
			}
			if l.active && l.gate.due(now) {
				p.stats.PLIs++
				p.queue(&rtcp.PictureLossIndication{SenderSSRC: p.sender, MediaSSRC: l.ssrc})
			}
		}
	}
	pkts := p.out
	p.out, p.spare = p.spare[:0], pkts
	return pkts
}

// write sends what was queued, in datagrams of at most maxDatagram bytes.
func (p *Publisher) write() {
	pkts := p.take()
	for len(pkts) > 0 {
		n, size := 1, pkts[0].MarshalSize()
		for n < len(pkts) && size+pkts[n].MarshalSize() <= maxDatagram {
			size += pkts[n].MarshalSize()
			n++
		}
		// An error means that the connection is not up yet or already gone.
		// What is lost is asked for again.
		if err := p.cfg.WriteRTCP(pkts[:n:n]); err != nil {
			return
		}
		pkts = pkts[n:]
	}
}

// Deliver takes one decrypted RTP packet. It keeps nothing of it, and never blocks. One
// goroutine at a time calls it.
func (p *Publisher) Deliver(b []byte) {
	now := p.cfg.Now()
	var h rtpx.Header
	if h.Parse(b) != nil {
		p.malformed()
		return
	}
	var out admitted
	l, news, wake, abuse := p.admit(&h, len(b), now, &out)
	for _, pkt := range out.pkts[:out.n] {
		l.deliver(pkt)
		pkt.Release()
	}
	if wake {
		p.wakeWriter()
	}
	if news {
		p.changed(l.src)
	}
	if abuse && p.cfg.Abuse != nil {
		p.cfg.Abuse("too many streams")
	}
}

func (p *Publisher) malformed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Malformed++
}

// admit is the part of Deliver that needs the lock. The unlock is deferred because
// peer recovers from a panic here to save the room, whose ticker needs the lock too.
func (p *Publisher) admit(h *rtpx.Header, size int, now int64, out *admitted) (l *layer, news, wake, abuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, false, false, false
	}
	p.stats.Packets++
	p.stats.Bytes += uint64(size)
	s, abuse := p.sink(h.SSRC)
	if s == nil {
		p.stats.Unbound++
		return nil, false, false, abuse
	}
	if !p.within(s, size, now) {
		p.stats.Flood++
		return nil, false, false, false
	}
	x := p.table.read(h)
	if x.hasTransportSeq {
		p.twcc.record(s.ssrc, x.transportSeq, now)
	}
	in, l := p.route(s, h, &x)
	if l == nil {
		return nil, false, false, false
	}
	in.now = now
	if in.blocks > 0 {
		news = l.restore(p, &in, p.red[:in.blocks], out)
	}
	pkt, changed := l.receive(p, &in)
	out.add(pkt)
	news = news || changed
	wake = p.nack(l, now) || news && l.gate.wanted
	return l, news, wake, false
}
