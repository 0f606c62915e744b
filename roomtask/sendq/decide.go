package sendq

import (
	"cmp"
	"slices"

	"mayfly/roomtask/alloc"
	"mayfly/roomtask/forward"
	"mayfly/roomtask/ingest"
	"mayfly/shared/signal"
)

const (
	decideEvery = 200 * ms // layers come, go and change their rates about as slowly

	// A layer whose keyframe does not come within patience is left aside for a while
	// when there is another one to show.
	patience   = 2 * second
	blockedFor = 5 * second
	// downTime is how long a layer that is too large may go on until the smaller one
	// has a keyframe; then nothing is sent until it has.
	downTime = second

	// minAudioBps is kept free for each of so many voices, even while all are silent: more
	// rarely speak at once, and those who do then come before pictures.
	minAudioBps = 40_000
	minVoices   = 2
	// screenBps is what a screen takes at least, as soon as something moves.
	screenBps = 50_000
	// topSpeakers is how many are heard when the path has no room for all.
	topSpeakers = 3
)

// Reasons why a seat's video is not sent, beside those of alloc.
const (
	ReasonCodec      = "codec"       // the receiver's browser cannot decode what is published
	ReasonNoKeyframe = "no_keyframe" // asked for and not received yet
)

// allocation is what was decided last. It is owned by the sender's goroutine.
type allocation struct {
	alloc.Allocator
	at               int64           // when to decide next
	audio            alloc.AudioMode // how much of the audio is sent
	used, step, want int64           // as in alloc.Result
	demands          []alloc.Demand
	wanted           []*seat // in the demands' order
	loud             []*seat // scratch of chooseSpeakers
}

// decide chooses the layer of every seat, and how much of the audio is sent.
func (s *Sender) decide(now int64) {
	a := &s.alloc
	a.at = now + decideEvery
	a.demands, a.wanted = a.demands[:0], a.wanted[:0]
	in := alloc.Input{Estimate: alloc.Unlimited, Withheld: s.withheld(), Audio: s.audioCost()}
	for _, st := range s.seats {
		if s.wants(st) {
			a.demands = append(a.demands, s.demand(st, now))
			a.wanted = append(a.wanted, st)
		}
	}
	in.Demands = a.demands
	if bps := s.path.now.Bps; bps > 0 {
		in.Estimate = s.path.opened.allow(bps, &in)
	}
	r := a.Allocate(now, &in)
	s.path.est.SetFloor(r.FloorBps)
	a.used, a.step, a.want = r.UsedBps, r.StepBps, r.WantBps
	if r.Audio != a.audio {
		s.cfg.Log.Info("audio", "mode", r.Audio.String(), "bps", in.Estimate)
		a.audio, s.protectAt = r.Audio, 0
	}
	s.chooseSpeakers(now)
	for i, st := range a.wanted {
		s.grant(st, r.Grants[i], now)
	}
	s.show()
}

// wants says whether a seat has video to ask for, and settles it if not.
func (s *Sender) wants(st *seat) bool {
	if st.video == nil || st.a.Video == nil {
		st.reason, st.want = "", alloc.None
		if st.video != nil {
			st.video.f.Close()
		}
		return false
	}
	if !st.video.out.playable(st.a.Video) {
		st.reason, st.want = ReasonCodec, alloc.None
		st.video.f.Close()
		return false
	}
	return true
}

// audioCost is what the audio of all seats takes. Room for a voice is kept for as many
// as are likely to speak at once, and not for everybody who is silent: in a meeting of
// eight that would be more than a picture takes.
func (s *Sender) audioCost() (a alloc.Audio) {
	var top [topSpeakers]int64 // what the loudest lines take now, descending
	lines := 0
	for _, st := range s.seats {
		if st.audio == nil || st.a.Audio == nil {
			continue
		}
		lines++
		bps := st.a.Audio.LayerInfo(0).Bps
		a.Bps += bps
		a.RED += bps * int64(st.audio.redundancy())
		for i := range top {
			if bps > top[i] {
				top[i], bps = bps, top[i]
			}
		}
	}
	for i, bps := range top[:min(lines, topSpeakers)] {
		voice := bps
		if i < minVoices {
			voice = max(bps, minAudioBps)
		}
		a.Bps += voice - bps
		a.Top += voice
	}
	if a.Bps-a.Top < a.Top/10 {
		a.Top = a.Bps // to leave out who says nothing would gain nothing
	}
	return a
}

// chooseSpeakers leaves out all audio but the loudest while there is no room for more.
func (s *Sender) chooseSpeakers(now int64) {
	loud := s.alloc.loud[:0]
	for _, st := range s.seats {
		if st.audio != nil && st.a.Audio != nil {
			loud = append(loud, st)
		}
	}
	s.alloc.loud = loud
	if s.alloc.audio == alloc.AudioTop && len(loud) > topSpeakers {
		slices.SortStableFunc(loud, func(a, b *seat) int { return cmp.Compare(loudness(a.a.Audio), loudness(b.a.Audio)) })
		loud = loud[topSpeakers:]
	} else {
		loud = loud[:0]
	}
	for _, st := range s.seats {
		if quiet := slices.Contains(loud, st); quiet != st.unheard {
			st.unheard = quiet
			s.applyAudio(st, now)
		}
	}
}

// loudness orders sources: a smaller one is more worth hearing.
func loudness(src *ingest.Source) int {
	level, voice, _ := src.Level()
	if voice {
		return int(level)
	}
	return int(level) + 128
}

// demand describes a seat's video to the allocator.
func (s *Sender) demand(st *seat, now int64) alloc.Demand {
	src := st.a.Video
	st.layers = st.layers[:0]
	if l, since := st.video.f.Waiting(); l >= 0 && l < maxLayers && now-since > patience && st.video.f.State() == forward.WaitKey {
		st.video.blocked[l] = now + blockedFor
	}
	others := false // there is an active layer that is not left aside
	for i := range min(src.LayerCount(), maxLayers) {
		info := src.LayerInfo(i)
		layer := alloc.Layer{Active: info.Active, Width: info.Width, Height: info.Height, TIDs: info.TIDs, Bps: info.TIDBps}
		if info.TIDs == 0 {
			layer.Bps[0] = info.Bps
		}
		st.video.cost[i].smooth(&layer, src.Kind() == signal.KindScreen)
		st.layers = append(st.layers, layer)
		others = others || (info.Active && now >= st.video.blocked[i])
	}
	for i := range st.layers {
		if others && now < st.video.blocked[i] {
			st.layers[i].Active = false
		}
	}
	return alloc.Demand{ID: st.occupant, Class: classOf(&st.a), Layers: st.layers, Width: st.a.Width, Height: st.a.Height}
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
	st.reason, st.want = g.Reason, g.Want
	switch {
	case g.Layer >= 0:
		s.limitTID(st.video, g)
		if f.State() == forward.Switch && f.Layer() > g.Layer && s.path.now.Bps != 0 && now-switching(f) > downTime {
			f.Close() // too much for the path for too long
		}
		f.Select(src, g.Layer, now)
	case g.Reason == alloc.ReasonMuted:
		// It may begin at any moment. The tap is there before its first keyframe is,
		// so that one need not be asked for; browsers start with the lowest layer.
		if !f.Selected(src) {
			f.Select(src, 0, now)
		}
	default:
		f.Close()
	}
	if _, since := f.Waiting(); g.Layer >= 0 && f.State() == forward.WaitKey && now-since > patience {
		st.reason = ReasonNoKeyframe
	}
}

// limitTID carries out the temporal part of a grant. Down to a smaller layer it takes
// until that has a keyframe; until then the base of the larger one must do.
func (s *Sender) limitTID(l *line, g alloc.Grant) {
	tid := int8(g.TID)
	if l.f.Layer() > g.Layer && s.path.now.Bps != 0 {
		tid = 0
	}
	if tid != l.tid {
		l.tid = tid
		s.setTID(l)
	}
}

// switching is since when a forwarder waits for the keyframe of another layer.
func switching(f *forward.Forwarder) int64 {
	_, since := f.Waiting()
	return since
}

// cost is what a layer took lately.
type cost [alloc.MaxTemporal]int64

// smooth lets the rate of a screen rise at once and fall slowly, to a sixth in 3 s: one
// that stands still takes nothing, and what it takes when it moves again must fit. One
// that was never measured is taken for a quiet one. For others, and while a layer rests,
// the last that was measured holds.
func (c *cost) smooth(l *alloc.Layer, screen bool) {
	for t := range c {
		switch {
		case screen && l.Active:
			c[t] = max(l.Bps[t], c[t]-c[t]/8, screenBps)
		case l.Bps[t] != 0:
			c[t] = l.Bps[t]
		}
		l.Bps[t] = c[t]
	}
}
