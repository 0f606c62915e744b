package ingest

import (
	"slices"
	"time"

	"mayfly/roomtask/rtpx"
)

// Limits of a seed. A few packets are worth it however old they are, as those of a
// still screen; of a moving picture no more than what comes in half a second, in which no
// other keyframe can be asked for (gate.go): a camera of 2 Mbit/s sends so many in it.
const (
	seedFew   = 40
	seedMost  = 128
	seedYoung = int64(500 * time.Millisecond)
	seedOld   = int64(10 * time.Second)
	// seedStale is how long ago the last packet may have come: what was shown before a
	// camera was muted is not for those who come afterwards.
	seedStale = int64(1500 * time.Millisecond)
)

// gop is what a layer has sent since its newest keyframe. It is guarded by
// Publisher.mu.
type gop struct {
	first uint64 // first packet of the keyframe, 0 = none is known
	at    int64  // when that came
}

// note takes in a packet that was put into the ring.
func (g *gop) note(p *rtpx.Packet) {
	if p.Video && p.Start && p.Key && p.ExtSeq > g.first {
		g.first, g.at = p.ExtSeq, p.Arrival
	}
}

// fits says whether a seed of the packets up to high is small and young enough.
func (g *gop) fits(high uint64, now int64) bool {
	if g.first == 0 || high < g.first {
		return false
	}
	count, age := high-g.first+1, now-g.at
	return count <= seedFew && age <= seedOld || count <= seedMost && age <= seedYoung
}

// Seed are the packets that a tap was given when it was added, all that the layer sent
// since its newest keyframe. TS and At are those of the newest of them, which stands
// for the present.
type Seed struct {
	First, Last uint64 // extended sequence numbers
	TS          uint32
	At          int64
}

// AddSeeded adds t as AddTap does, and gives it at once what the layer has sent since
// its newest keyframe, if that is all there, and little and young enough. Then nobody
// needs to ask the publisher. The packet that is on its way to the taps at this moment
// may reach t twice. Deliver must not call back into the source.
func (s *Source) AddSeeded(layer int, t Tap) (seed Seed, ok bool) {
	l := s.layer(layer)
	if l == nil {
		return Seed{}, false
	}
	var held [seedMost]*rtpx.Packet
	now := s.p.cfg.Now()
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	n := l.collect(held[:], now)
	for _, p := range held[:n] {
		t.Deliver(p)
		seed = Seed{First: held[0].ExtSeq, Last: p.ExtSeq, TS: p.TS, At: p.Arrival}
		p.Release()
	}
	l.changeTaps(func(taps []Tap) []Tap {
		if slices.Contains(taps, t) {
			return taps
		}
		return append(slices.Clone(taps), t)
	})
	return seed, n > 0
}

// collect fills held with the packets of a seed, retained, and returns how many they
// are: 0 if there is none, or one is missing. The caller holds Publisher.mu.
func (l *layer) collect(held []*rtpx.Packet, now int64) (n int) {
	if !l.active || now-l.lastAt > seedStale || !l.gop.fits(l.window.high, now) {
		return 0
	}
	for ext := l.gop.first; ext <= l.window.high; ext++ {
		p := l.ring.Get(ext)
		if p == nil || p.SSRC != l.ssrc {
			if p != nil {
				p.Release()
			}
			for _, p := range held[:n] {
				p.Release()
			}
			return 0
		}
		held[n] = p
		n++
	}
	return n
}

// trim forgets packets that nobody will ask for any more. What a newcomer could begin
// with stays: a still screen sends little, and is there at once all the same.
func (l *layer) trim(now int64) {
	before := now - l.src.p.keep.Load()
	if now-l.lastAt <= seedStale && l.gop.at < before && l.gop.fits(l.window.high, now) {
		before = l.gop.at
	}
	l.ring.Trim(before)
}
