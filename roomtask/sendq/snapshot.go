package sendq

import (
	"sync/atomic"

	"mayfly/roomtask/bwe"
	"mayfly/roomtask/forward"
)

// kind is what a written packet counts as.
type kind int

const (
	kindAudio kind = iota
	kindVideo
	kindRTX
	numKinds
)

// counters are added to by the goroutine and read by anyone.
type counters struct {
	bytes, packets [numKinds]atomic.Int64
	resendBudget   atomic.Int64
	notConnected   atomic.Int64
	writeErrors    atomic.Int64
}

// Drops counts what was not sent, by reason.
type Drops struct {
	VideoOverflow, AudioOverflow int64 // the inbox was full
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
	Paused  string // why the video is not sent, "" if it is, or if nothing sits there
	Loss    float64
	Audio   forward.State
	Resends uint64
}

// Snapshot tells how the subscriber does. Bytes count as they were written: SRTP
// packets without UDP and IP headers.
type Snapshot struct {
	AudioBytes, VideoBytes, RTXBytes       int64
	AudioPackets, VideoPackets, RTXPackets int64
	RTT                                    int64 // ns, 0 = unknown
	Path                                   bwe.Snapshot
	Loss                                   float64 // of all streams, by receiver reports
	Drops                                  Drops
	Seats                                  []SeatState // in ascending order; must not be changed
}

// state is what the goroutine publishes; it is not changed afterwards.
type state struct {
	rtt   int64
	path  bwe.Snapshot
	loss  float64
	drops Drops
	seats []SeatState
}

// Snapshot returns the present counts of bytes and packets; all else is at most
// decideEvery old. It stays valid after Close.
func (s *Sender) Snapshot() Snapshot {
	st := s.shown.Load()
	c := &s.count
	d := s.in.dropped()
	d.ResendBudget, d.NotConnected, d.WriteErrors = c.resendBudget.Load(), c.notConnected.Load(), c.writeErrors.Load()
	d.Stale, d.Duplicate, d.Swallowed, d.Unrepaired = st.drops.Stale, st.drops.Duplicate, st.drops.Swallowed, st.drops.Unrepaired
	return Snapshot{
		AudioBytes: c.bytes[kindAudio].Load(), VideoBytes: c.bytes[kindVideo].Load(), RTXBytes: c.bytes[kindRTX].Load(),
		AudioPackets: c.packets[kindAudio].Load(), VideoPackets: c.packets[kindVideo].Load(), RTXPackets: c.packets[kindRTX].Load(),
		RTT: st.rtt, Path: st.path, Loss: st.loss, Drops: d, Seats: st.seats,
	}
}

// show publishes what Snapshot returns.
func (s *Sender) show(now int64) {
	st := &state{rtt: s.rtt, path: s.est.Snapshot(now), seats: make([]SeatState, 0, len(s.seats))}
	var weight float64
	for _, l := range s.all {
		f := l.f.Stats()
		st.drops.Stale += int64(f.Stale)
		st.drops.Duplicate += int64(f.Duplicate)
		st.drops.Swallowed += int64(f.Swallowed)
		st.drops.Unrepaired += int64(f.Unrepaired)
		if l.f.Layer() >= 0 {
			st.loss += l.loss * float64(f.Packets)
			weight += float64(f.Packets)
		}
	}
	if weight > 0 {
		st.loss /= weight
	}
	for _, num := range s.seatNumbers() {
		seat := s.seats[num]
		v := SeatState{Seat: num, Layer: -1, Target: -1, Paused: seat.reason}
		if seat.video != nil {
			v.State, v.Layer, v.Loss = seat.video.f.State(), seat.video.f.Layer(), seat.video.loss
			v.Target, _ = seat.video.f.Waiting()
			v.Resends = seat.video.f.Stats().Resent
		}
		if seat.audio != nil {
			v.Audio = seat.audio.f.State()
		}
		st.seats = append(st.seats, v)
	}
	s.shown.Store(st)
}
