package sendq

import (
	"slices"
	"sync"
	"sync/atomic"

	"mayfly/roomtask/alloc"
	"mayfly/roomtask/bwe"
	"mayfly/roomtask/forward"
)

// kind is what a written packet counts as.
type kind int

const (
	kindAudio kind = iota
	kindVideo
	kindRTX
	kindProbe   // sent again only to probe
	kindPadding // likewise, of padding alone
	numKinds
)

// counters are counted by the goroutine, which publishes them after each step: that
// costs less than counting atomically.
type counters struct {
	tally
	public [2*numKinds + 6]atomic.Int64
}

type tally struct {
	screen, fec               int64 // bytes, of kindVideo and of kindAudio
	bytes, packets            [numKinds]int64
	resendBudget, paced       int64
	notConnected, writeErrors int64
}

func (c *counters) publish() {
	for k := range numKinds {
		if p := &c.public[k]; p.Load() != c.bytes[k] {
			p.Store(c.bytes[k])
			c.public[numKinds+k].Store(c.packets[k])
		}
	}
	rest := c.public[2*numKinds:]
	rest[0].Store(c.resendBudget)
	rest[1].Store(c.paced)
	rest[2].Store(c.notConnected)
	rest[3].Store(c.writeErrors)
	rest[4].Store(c.screen)
	rest[5].Store(c.fec)
}

// read may be called from any goroutine.
func (c *counters) read() (t tally) {
	for k := range numKinds {
		t.bytes[k], t.packets[k] = c.public[k].Load(), c.public[numKinds+k].Load()
	}
	rest := c.public[2*numKinds:]
	t.resendBudget, t.paced, t.notConnected, t.writeErrors = rest[0].Load(), rest[1].Load(), rest[2].Load(), rest[3].Load()
	t.screen, t.fec = rest[4].Load(), rest[5].Load()
	return t
}

// Drops counts what was not sent, by reason.
type Drops struct {
	VideoOverflow, AudioOverflow int64 // the inbox was full
	Paced                        int64 // video for which the path had no room in time
	Feedback                     int64 // RTCP beyond what may wait
	ResendBudget                 int64 // retransmissions beyond their share
	NotConnected                 int64 // written before DTLS was done
	WriteErrors                  int64
	Stale, Duplicate, Swallowed  int64 // see forward.Stats
	Unrepaired                   int64
}

// SeatState is one seat's video.
type SeatState struct {
	Seat    int
	State   forward.State
	Layer   int    // being sent, −1 = none
	Target  int    // whose keyframe is awaited, −1 = none
	Wanted  int    // what the view asks for and the source has, −1 = none
	TID     int    // temporal layers up to this one are granted
	Paused  string // why the video is not sent, "" if it is, or if nothing sits there
	Loss    float64
	Audio   forward.State
	Unheard bool // its audio is left out: the path has room for the loudest only
	RED     int  // former packets that go out again with each packet of its audio, in it or beside it
	Resends uint64

	AudioLoss                  float64 // as the receiver last reported, 0…1; Loss is the video's
	AudioPackets, VideoPackets int64   // sent over the seat's lines
}

// Snapshot tells how the subscriber does. Bytes count as they were written: SRTP
// packets without UDP and IP headers.
type Snapshot struct {
	AudioBytes, VideoBytes, RTXBytes       int64
	AudioPackets, VideoPackets, RTXPackets int64
	ScreenBytes, FECBytes                  int64 // of VideoBytes those of screens, of AudioBytes those of former packets
	// Of what was sent only to probe: packets sent again that nobody asked for, and
	// packets of padding.
	ProbeBytes, PaddingBytes     int64
	ProbePackets, PaddingPackets int64

	RTT       int64 // ns, 0 = unknown
	Path      bwe.Snapshot
	Loss      float64 // of all streams, by receiver reports
	Audio     alloc.AudioMode
	GrantBps  int64 // what the audio and the granted layers cost
	Paced     bool  // video waits for its time
	PaceQueue int64 // how long the newest of what waits will wait, at the estimate's rate, ns
	Drops     Drops
	Switches  uint64      // pictures that began, changed their layer or their occupant
	Seats     []SeatState // in ascending order; the caller's own
}

// shown is what the goroutine publishes at each decision. The lock is held for
// copying only.
type shown struct {
	mu   sync.Mutex
	snap Snapshot // guarded by mu; without the counts that are read when asked
}

// Snapshot returns the present counts of bytes and packets; all else is at most
// decideEvery old. It stays valid after Close.
func (s *Sender) Snapshot() Snapshot {
	s.shown.mu.Lock()
	snap := s.shown.snap
	snap.Seats = slices.Clone(snap.Seats)
	s.shown.mu.Unlock()
	t, d := s.count.read(), s.in.dropped()
	snap.AudioBytes, snap.VideoBytes, snap.RTXBytes = t.bytes[kindAudio], t.bytes[kindVideo], t.bytes[kindRTX]
	snap.AudioPackets, snap.VideoPackets, snap.RTXPackets = t.packets[kindAudio], t.packets[kindVideo], t.packets[kindRTX]
	snap.ScreenBytes, snap.FECBytes = t.screen, t.fec
	snap.ProbeBytes, snap.PaddingBytes = t.bytes[kindProbe], t.bytes[kindPadding]
	snap.ProbePackets, snap.PaddingPackets = t.packets[kindProbe], t.packets[kindPadding]
	to := &snap.Drops
	to.VideoOverflow, to.AudioOverflow, to.Feedback = d.VideoOverflow, d.AudioOverflow, d.Feedback
	to.Paced, to.ResendBudget, to.NotConnected, to.WriteErrors = t.paced, t.resendBudget, t.notConnected, t.writeErrors
	return snap
}

// RTT is the smoothed round trip in nanoseconds, 0 while unknown.
func (s *Sender) RTT() int64 {
	s.shown.mu.Lock()
	defer s.shown.mu.Unlock()
	return s.shown.snap.RTT
}

// Paused is the seat's SeatState.Paused alone: a room asks for it for each seat of each
// viewer every second.
func (s *Sender) Paused(seat int) string {
	s.shown.mu.Lock()
	defer s.shown.mu.Unlock()
	for i := range s.shown.snap.Seats {
		if st := &s.shown.snap.Seats[i]; st.Seat == seat {
			return st.Paused
		}
	}
	return ""
}

// show publishes what Snapshot returns.
func (s *Sender) show() {
	s.shown.mu.Lock()
	defer s.shown.mu.Unlock()
	snap := &s.shown.snap
	*snap = Snapshot{
		RTT: s.path.rtt, Path: s.path.now, Audio: s.alloc.audio, GrantBps: s.alloc.used,
		Paced: s.pace.on, PaceQueue: s.pace.queue.delay(), Seats: snap.Seats[:0],
	}
	var weight float64
	for _, l := range s.all {
		f := l.f.Stats()
		if l.out.video {
			snap.Switches += f.Switches
		}
		snap.Drops.Stale += int64(f.Stale)
		snap.Drops.Duplicate += int64(f.Duplicate)
		snap.Drops.Swallowed += int64(f.Swallowed)
		snap.Drops.Unrepaired += int64(f.Unrepaired)
		if l.f.Layer() >= 0 {
			snap.Loss += l.loss * float64(f.Packets)
			weight += float64(f.Packets)
		}
	}
	if weight > 0 {
		snap.Loss /= weight
	}
	for _, st := range s.seats {
		snap.Seats = append(snap.Seats, st.show())
	}
}

func (st *seat) show() SeatState {
	v := SeatState{Seat: st.num, Layer: -1, Target: -1, Wanted: st.want, Paused: st.reason, Unheard: st.unheard}
	if st.video != nil {
		v.State, v.Layer, v.Loss, v.TID = st.video.f.State(), st.video.f.Layer(), st.video.loss, int(st.video.tid)
		v.Target, _ = st.video.f.Waiting()
		v.Resends, v.VideoPackets = st.video.f.Stats().Resent, int64(st.video.f.Stats().Packets)
	}
	if st.audio != nil {
		v.Audio, v.RED = st.audio.f.State(), max(st.audio.f.RED(), st.audio.repeat)
		v.AudioLoss, v.AudioPackets = st.audio.loss, int64(st.audio.f.Stats().Packets)
	}
	return v
}
