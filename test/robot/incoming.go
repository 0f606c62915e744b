package robot

import (
	"encoding/binary"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/transport/v4/packetio"
)

const (
	feedbackEvery = 50 * time.Millisecond
	nackWindow    = 200 // packets
	nackTries     = 10
	audioStep     = 960 // RTP time of one packet of Opus (20 ms)
)

// Stream is what a robot received over one m-line of a seat.
type Stream struct {
	Packets    int64 // as they came, retransmissions among them
	Bytes      int64 // RTP with header, without SRTP and below
	Duplicates int64
	Missed     int64 // missing when a later packet came, repaired or not
	Repaired   int64 // by RTX or RED
	Lost       int64 // for good
	Marked     int64 // with the robot's own mark
	Foreign    int64 // with another one
	// Of video: frames that a decoder could show, keyframes among them, and frames that
	// it could not, for want of a part or of a reference.
	Frames, Keyframes, Broken int64
	Width, Height             int
}

// incoming is one RTP stream that the room sends.
type incoming struct {
	seat  int
	video bool
	ssrc  uint32
	mark  uint16
	// guarded by receiver.mu
	unwrap    unwrapper
	seqs      gaps
	pics      frames
	stat      Stream
	nacked    map[uint64]nack
	lastSR    uint32 // middle of its NTP time
	srAt      int64
	expected  uint64 // at the last receiver report
	arrived   int64
	fresh     int64 // packets that came as sent, not as RTX
	firstExt  uint64
	plisAt    int64
	latencies Histogram
}

type nack struct {
	tries int
	at    int64
}

// receiver takes what the room sends to a robot, straight from Pion's SRTP goroutine.
type receiver struct {
	now  func() int64
	send func([]rtcp.Packet) error
	own  func(ssrc uint32, p rtcp.Packet) // RTCP about what the robot sends
	ssrc uint32                           // in our reports

	lines map[string]place // by mid; set before media flows
	trace *trace           // nil: off; set before media flows
	mark  uint16           // set once

	mu sync.Mutex
	// guarded by mu
	midID    uint8 // header extensions, once they are negotiated
	twccID   uint8
	streams  map[uint32]*incoming
	repairs  map[uint32]uint32 // media SSRC by RTX SSRC
	recorder *twcc.Recorder
	twccAt   int64
	rrAt     int64
	unknown  int64
	list     []uint64
	feedback bool // set once

	firstPacket, firstFrame int64 // when they came; 0 = none has

	last atomic.Int64 // when anything came; 0 = nothing has
}

// heardAt is when anything came last; 0 = nothing has.
func (r *receiver) heardAt() int64 { return r.last.Load() }

// place is what an m-line is for.
type place struct {
	seat  int
	video bool
}

func newReceiver(now func() int64, feedback bool) *receiver {
	return &receiver{
		now: now, ssrc: 1, lines: map[string]place{}, streams: map[uint32]*incoming{}, repairs: map[uint32]uint32{},
		recorder: twcc.NewRecorder(1), feedback: feedback,
	}
}

// buffer is the webrtc.SettingEngine's BufferFactory.
func (r *receiver) buffer(kind packetio.BufferPacketType, ssrc uint32) io.ReadWriteCloser {
	s := &sink{closed: make(chan struct{})}
	if kind == packetio.RTPBufferPacket {
		s.take = func(b []byte) { r.rtp(ssrc, b) }
	} else {
		s.take = func(b []byte) { r.rtcp(b) }
	}
	return s
}

// sink is where Pion writes the decrypted packets of one SSRC. Nobody reads.
type sink struct {
	take   func([]byte)
	once   sync.Once
	closed chan struct{}
}

func (s *sink) Write(b []byte) (int, error) { s.take(b); return len(b), nil }
func (s *sink) Read([]byte) (int, error)    { <-s.closed; return 0, io.EOF }
func (s *sink) Close() error                { s.once.Do(func() { close(s.closed) }); return nil }

func (r *receiver) rtp(ssrc uint32, b []byte) {
	var h rtp.Header
	n, err := h.Unmarshal(b)
	if err != nil {
		return
	}
	now := r.now()
	r.last.Store(now)
	payload := b[n:]
	if h.Padding && len(payload) > 0 {
		payload = payload[:max(0, len(payload)-int(payload[len(payload)-1]))]
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.feedback && r.twccID != 0 {
		if e := h.GetExtension(r.twccID); len(e) == 2 {
			r.recorder.Record(ssrc, binary.BigEndian.Uint16(e), now/1000)
		}
	}
	in, repair := r.stream(ssrc, &h)
	if in == nil {
		r.unknown++
		return
	}
	if r.firstPacket == 0 {
		r.firstPacket = now
	}
	r.trace.add(now, in.seat, in.video)
	in.stat.Packets++
	in.stat.Bytes += int64(len(b))
	seq := h.SequenceNumber
	if repair {
		if len(payload) < 2 {
			return // a probe's padding
		}
		seq, payload = binary.BigEndian.Uint16(payload), payload[2:]
	} else {
		in.fresh++
	}
	in.take(&h, seq, payload, now, repair)
	if r.firstFrame == 0 && in.pics.Shown > 0 {
		r.firstFrame = now
	}
}

// stream finds what a packet belongs to. A new SSRC is known by its mid.
func (r *receiver) stream(ssrc uint32, h *rtp.Header) (in *incoming, repair bool) {
	if in := r.streams[ssrc]; in != nil {
		return in, false
	}
	if media, ok := r.repairs[ssrc]; ok {
		return r.streams[media], true // none before its first packet: a probe
	}
	p, ok := r.lines[string(h.GetExtension(r.midID))]
	if !ok {
		return nil, false
	}
	in = &incoming{seat: p.seat, video: p.video, ssrc: ssrc, mark: r.mark, nacked: map[uint64]nack{}}
	r.streams[ssrc] = in
	return in, false
}

func (in *incoming) take(h *rtp.Header, seq uint16, payload []byte, now int64, repair bool) {
	ext := in.unwrap.next(seq)
	if in.firstExt == 0 {
		in.firstExt = ext
	}
	before := in.seqs.highest
	if !in.seqs.take(ext) {
		in.stat.Duplicates++
		return
	}
	if in.seqs.highest > before+1 && before > 0 {
		in.stat.Missed += int64(in.seqs.highest - before - 1)
	}
	if repair {
		in.stat.Repaired++
	}
	delete(in.nacked, ext)
	if mark, at, ok := stamp(payload); ok {
		if mark == in.mark {
			in.stat.Marked++
		} else {
			in.stat.Foreign++
		}
		if !repair {
			in.latencies.Add(now - at)
		}
	}
	if in.video {
		in.pics.take(ext, h.Marker, payload)
	} else if h.PayloadType == ptRED {
		in.recover(ext, payload)
	}
}

// recover takes the earlier packets that a RED packet repeats (RFC 2198 §3).
func (in *incoming) recover(ext uint64, payload []byte) {
	for len(payload) >= 4 && payload[0]&0x80 != 0 {
		back := uint64(binary.BigEndian.Uint16(payload[1:])>>2) / audioStep
		payload = payload[4:]
		if back > 0 && back < ext && in.firstExt < ext-back && in.seqs.take(ext-back) {
			in.stat.Repaired++
		}
	}
}

func (r *receiver) rtcp(b []byte) {
	r.last.Store(r.now())
	packets, err := rtcp.Unmarshal(b)
	if err != nil {
		return
	}
	for _, p := range packets {
		if sr, ok := p.(*rtcp.SenderReport); ok {
			r.mu.Lock()
			if in := r.streams[sr.SSRC]; in != nil {
				in.lastSR, in.srAt = uint32(sr.NTPTime>>16), r.now()
			}
			r.mu.Unlock()
			continue
		}
		for _, ssrc := range p.DestinationSSRC() {
			r.own(ssrc, p)
		}
	}
}

// tick sends what feedback is due.
func (r *receiver) tick() {
	now := r.now()
	r.mu.Lock()
	var out []rtcp.Packet
	if r.feedback {
		out = r.nacks(now, out)
		if now-r.twccAt >= int64(2*feedbackEvery) {
			r.twccAt = now
			out = append(out, r.recorder.BuildFeedbackPacket()...)
		}
		if now-r.rrAt >= int64(time.Second) {
			r.rrAt = now
			out = append(out, r.reports(now)...)
		}
	}
	r.mu.Unlock()
	if len(out) > 0 {
		_ = r.send(out) // fails while the connection is down: feedback lost
	}
}

// nacks asks for what is missing, and for a keyframe where that did not help.
func (r *receiver) nacks(now int64, out []rtcp.Packet) []rtcp.Packet {
	for _, in := range r.streams {
		if !in.video {
			continue
		}
		r.list = in.seqs.missing(nackWindow, r.list[:0])
		var ask []uint16
		for _, seq := range r.list {
			n := in.nacked[seq]
			if n.tries >= nackTries || now-n.at < int64(2*feedbackEvery) {
				continue
			}
			in.nacked[seq] = nack{n.tries + 1, now}
			ask = append(ask, uint16(seq))
		}
		for seq := range in.nacked {
			if seq+nackWindow < in.seqs.highest {
				delete(in.nacked, seq)
			}
		}
		if len(ask) > 0 {
			out = append(out, &rtcp.TransportLayerNack{SenderSSRC: r.ssrc, MediaSSRC: in.ssrc, Nacks: rtcp.NackPairsFromSequenceNumbers(ask)})
		}
		if in.pics.hurt && now-in.plisAt > int64(500*time.Millisecond) {
			in.plisAt = now
			out = append(out, &rtcp.PictureLossIndication{SenderSSRC: r.ssrc, MediaSSRC: in.ssrc})
		}
	}
	return out
}

// reports is a receiver report for each stream (RFC 3550 §6.4.2); 31 fit one packet.
func (r *receiver) reports(now int64) (out []rtcp.Packet) {
	var blocks []rtcp.ReceptionReport
	for _, in := range r.streams {
		if !in.seqs.started {
			continue
		}
		expected := in.seqs.highest - in.firstExt + 1
		gone, came := int64(expected-in.expected), in.fresh-in.arrived
		in.expected, in.arrived = expected, in.fresh
		b := rtcp.ReceptionReport{SSRC: in.ssrc, LastSequenceNumber: uint32(in.seqs.highest), LastSenderReport: in.lastSR}
		if gone > 0 && gone > came {
			b.FractionLost = uint8(min(255, (gone-came)*256/gone))
		}
		b.TotalLost = uint32(max(0, int64(expected)-in.fresh)) & 0xffffff
		if in.lastSR != 0 {
			b.Delay = uint32((now - in.srAt) * 65536 / int64(time.Second))
		}
		blocks = append(blocks, b)
	}
	for c := range slices.Chunk(blocks, 31) {
		out = append(out, &rtcp.ReceiverReport{SSRC: r.ssrc, Reports: c})
	}
	return out
}

// unwrapper makes 16-bit sequence numbers grow for ever.
type unwrapper struct {
	last    uint64
	started bool
}

func (u *unwrapper) next(seq uint16) uint64 {
	if !u.started {
		u.started, u.last = true, 1<<16|uint64(seq)
		return u.last
	}
	ext := u.last + uint64(int64(int16(seq-uint16(u.last))))
	u.last = max(u.last, ext)
	return ext
}

// counts copies what a stream has counted.
func (in *incoming) counts() Stream {
	s := in.stat
	s.Lost = in.seqs.Lost
	s.Frames, s.Keyframes, s.Broken = in.pics.Shown, in.pics.Keys, in.pics.Broken
	s.Width, s.Height = in.pics.Width, in.pics.Height
	return s
}
