package ingest

import "time"

// Limits cap what one source may bring, per second; a burst is what a second allows.
// Above them packets are dropped before they cost a copy, a place in a ring or a
// subscriber's path. A zero is the default, below zero there is no limit.
type Limits struct {
	VideoPackets, VideoBits int64
	AudioPackets, AudioBits int64
}

// defaultLimits are several times what the best camera or screen sends, and Opus of
// 5 ms packets with redundancy.
var defaultLimits = Limits{VideoPackets: 4000, VideoBits: 20_000_000, AudioPackets: 400, AudioBits: 1_000_000}

// Unlimited is for those who measure how much there can be.
var Unlimited = Limits{-1, -1, -1, -1}

const (
	flowBurst = int64(time.Second)
	// controlGap bounds RTCP: 4,000 packets a second is four times what a browser with 64
	// seats sends.
	controlGap = int64(250 * time.Microsecond)
)

// pace is a limit as the time that each packet and each byte takes of it, in ns.
type pace struct{ packet, byte int64 }

func newPace(packets, bits, standardPackets, standardBits int64) pace {
	gap := func(rate, standard, unit int64) int64 {
		switch {
		case rate < 0:
			return 0
		case rate == 0:
			rate = standard
		}
		return unit * int64(time.Second) / rate
	}
	return pace{gap(packets, standardPackets, 1), gap(bits, standardBits, 8)}
}

func (l Limits) paces() (video, audio pace) {
	return newPace(l.VideoPackets, l.VideoBits, defaultLimits.VideoPackets, defaultLimits.VideoBits),
		newPace(l.AudioPackets, l.AudioBits, defaultLimits.AudioPackets, defaultLimits.AudioBits)
}

// flow limits a rate by the generic cell rate algorithm (ITU-T I.371): it knows when
// the next packet and the next byte would be due if they came evenly.
type flow struct{ packets, bytes int64 }

// admit tells whether a packet is within the rate, and counts it if so.
func (f *flow) admit(now int64, p pace, size int) bool {
	latest := now + flowBurst
	if f.packets > latest || f.bytes > latest {
		return false
	}
	f.packets = max(f.packets, now) + p.packet
	f.bytes = max(f.bytes, now) + p.byte*int64(size)
	return true
}

// within tells whether a packet of a stream is within what its source may send. What
// belongs to no source yet has a limit of its own. The caller holds mu.
func (p *Publisher) within(s *sink, size int, now int64) bool {
	l := s.media
	if l == nil {
		l = s.repairs
	}
	switch {
	case l == nil:
		return p.stray.admit(now, p.video, size)
	case l.src.video:
		return l.src.flow.admit(now, p.video, size)
	default:
		return l.src.flow.admit(now, p.audio, size)
	}
}
