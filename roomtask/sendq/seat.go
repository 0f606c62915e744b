package sendq

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"mayfly/roomtask/alloc"
	"mayfly/roomtask/forward"
	"mayfly/roomtask/ingest"
	"mayfly/shared/signal"
)

const (
	ms     = int64(1e6)
	second = int64(1e9)

	maxLayers   = 8
	decideEvery = 200 * ms // layers come, go and change their rates about as slowly

	// A layer whose keyframe does not come within patience is left aside for a while
	// when there is another one to show.
	patience   = 2 * second
	blockedFor = 5 * second
)

// Reasons why a seat's video is not sent, beside those of alloc.
const (
	ReasonCodec      = "codec"       // what is published cannot be forwarded
	ReasonNoKeyframe = "no_keyframe" // asked for and not received yet
)

// seat is owned by the goroutine.
type seat struct {
	num          int
	audio, video *line // nil = not negotiated
	a            Assignment
	reason       string
	layers       []alloc.Layer
}

func (s *Sender) seat(num int) *seat {
	st := s.seats[num]
	if st == nil {
		st = &seat{num: num}
		s.seats[num] = st
	}
	return st
}

// bind makes the lines of a seat what was negotiated.
func (s *Sender) bind(num int, audio, video *lineOut) {
	st := s.seat(num)
	st.audio = s.bindLine(st.audio, audio)
	st.video = s.bindLine(st.video, video)
	s.apply(st)
}

func (s *Sender) bindLine(old *line, o *lineOut) *line {
	if old != nil && o != nil && old.out.SSRC == o.SSRC && old.out.RTXSSRC == o.RTXSSRC {
		old.out.Out = o.Out
		old.f.Rebind(o.line())
		return old
	}
	if old != nil {
		old.f.Close()
		s.all = slices.DeleteFunc(s.all, func(l *line) bool { return l == old })
		delete(s.lines, old.out.SSRC)
		delete(s.lines, old.out.RTXSSRC)
	}
	if o == nil {
		return nil
	}
	l := &line{s: s, out: *o}
	l.f = forward.New(o.line(), l, uint16(rand.Uint32()), rand.Uint32())
	s.all = append(s.all, l)
	s.lines[o.SSRC] = l
	if o.RTXSSRC != 0 {
		s.lines[o.RTXSSRC] = l
	}
	return l
}

func (s *Sender) assign(num int, a Assignment) {
	st := s.seat(num)
	if st.a.Video != a.Video && st.video != nil {
		st.video.blocked = [maxLayers]int64{}
	}
	st.a = a
	s.apply(st)
}

// apply carries out a changed assignment: audio at once, video through the allocator.
func (s *Sender) apply(st *seat) {
	now := s.cfg.Now()
	if st.audio != nil {
		src := st.a.Audio
		if src == nil || !playable(src) {
			st.audio.f.Close()
		} else {
			st.audio.f.Select(src, 0, s.clock(src), now)
		}
	}
	s.decide(now)
}

// clock is the one that all sources of a publisher share.
func (s *Sender) clock(src *ingest.Source) *forward.Clock {
	publisher, _, _ := strings.Cut(src.ID(), "/")
	c := s.clocks[publisher]
	if c == nil {
		if len(s.clocks) > 4*len(s.seats)+16 {
			s.forgetClocks()
		}
		c = &forward.Clock{}
		s.clocks[publisher] = c
	}
	return c
}

// forgetClocks drops those of publishers that sit nowhere, so that a long room does
// not gather them. One that comes back is learnt again from its next report.
func (s *Sender) forgetClocks() {
	seated := map[string]bool{}
	for _, st := range s.seats {
		for _, src := range []*ingest.Source{st.a.Audio, st.a.Video} {
			if src != nil {
				publisher, _, _ := strings.Cut(src.ID(), "/")
				seated[publisher] = true
			}
		}
	}
	maps.DeleteFunc(s.clocks, func(publisher string, _ *forward.Clock) bool { return !seated[publisher] })
}

// playable says whether the codec is one that the seats negotiate. An unknown one
// passes: it is known with the first packet.
func playable(src *ingest.Source) bool {
	c := src.Codec()
	if src.Video() {
		return c == "" || strings.EqualFold(c, "VP8")
	}
	return c == "" || strings.EqualFold(c, "opus") || strings.EqualFold(c, "red")
}

// decide chooses the layer of every seat.
func (s *Sender) decide(now int64) {
	s.decideAt = now + decideEvery
	s.demands, s.wanted = s.demands[:0], s.wanted[:0]
	var audio, plain int64 // with redundancy, and without
	for _, num := range s.seatNumbers() {
		st := s.seats[num]
		if st.audio != nil && st.a.Audio != nil {
			bps := max(st.a.Audio.LayerInfo(0).Bps, minAudioBps)
			plain += bps
			audio += bps * int64(1+st.audio.f.RED())
		}
		if st.video == nil || st.a.Video == nil {
			st.reason = ""
			if st.video != nil {
				st.video.f.Close()
			}
			continue
		}
		if !playable(st.a.Video) {
			st.reason = ReasonCodec
			st.video.f.Close()
			continue
		}
		s.demands = append(s.demands, s.demand(num, st, now))
		s.wanted = append(s.wanted, st)
	}
	in := alloc.Input{Estimate: alloc.Unlimited, Audio: alloc.Audio{Bps: plain, RED: audio - plain, Top: plain}, Demands: s.demands}
	if e := s.est.Snapshot(now); e.Bps > 0 {
		in.Estimate = e.Bps
	}
	r := s.alloc.Allocate(now, &in)
	s.audioShort = r.Audio == alloc.AudioTop
	for i, st := range s.wanted {
		s.grant(st, r.Grants[i], now)
	}
	s.show(now)
}

// minAudioBps is kept free for each audio line even while it is silent.
const minAudioBps = 40_000

func (s *Sender) seatNumbers() []int {
	nums := make([]int, 0, len(s.seats))
	for n := range s.seats {
		nums = append(nums, n)
	}
	slices.Sort(nums)
	return nums
}

// demand describes a seat's video to the allocator.
func (s *Sender) demand(num int, st *seat, now int64) alloc.Demand {
	src := st.a.Video
	st.layers = st.layers[:0]
	others := false
	for i := range min(src.LayerCount(), maxLayers) {
		info := src.LayerInfo(i)
		st.layers = append(st.layers, alloc.Layer{Active: info.Active, Width: info.Width, Height: info.Height, Bps: [alloc.MaxTemporal]int64{info.Bps}})
		others = others || (info.Active && now >= st.video.blocked[i])
	}
	if l, since := st.video.f.Waiting(); l >= 0 && l < maxLayers && now-since > patience && st.video.f.State() == forward.WaitKey {
		st.video.blocked[l] = now + blockedFor
	}
	for i := range st.layers {
		if others && now < st.video.blocked[i] {
			st.layers[i].Active = false
		}
	}
	return alloc.Demand{ID: int64(num), Class: classOf(&st.a), Layers: st.layers, Width: st.a.Width, Height: st.a.Height}
}

func classOf(a *Assignment) alloc.Class {
	switch {
	case a.Video.Kind() == signal.KindScreen:
		return alloc.Screen
	case a.Speaking:
		return alloc.Speaker
	case a.Pinned:
		return alloc.Pinned
	}
	return alloc.Other
}

// grant carries out the allocator's answer for one seat.
func (s *Sender) grant(st *seat, g alloc.Grant, now int64) {
	src, f := st.a.Video, st.video.f
	st.reason = g.Reason
	switch {
	case g.Layer >= 0:
		f.Select(src, g.Layer, s.clock(src), now)
	case g.Reason == alloc.ReasonMuted:
		// It may begin at any moment. The tap is there before its first keyframe is,
		// so that one need not be asked for; browsers start with the lowest layer.
		if !f.Selected(src) {
			f.Select(src, 0, s.clock(src), now)
		}
	default:
		f.Close()
	}
	if _, since := f.Waiting(); g.Layer >= 0 && f.State() == forward.WaitKey && now-since > patience {
		st.reason = ReasonNoKeyframe
	}
}
