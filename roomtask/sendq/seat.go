package sendq

import (
	"math/rand/v2"
	"slices"
	"strings"

	"mayfly/roomtask/alloc"
	"mayfly/roomtask/forward"
	"mayfly/roomtask/ingest"
	"mayfly/roomtask/rtpx"
	"mayfly/shared/signal"
)

const (
	ms     = int64(1e6)
	second = int64(1e9)

	maxLayers = 8
)

// seat is owned by the goroutine.
type seat struct {
	num          int
	audio, video *line // nil = not negotiated
	a            Assignment
	unheard      bool // its audio is left out: the path has room for the loudest only
	reason       string
	want         int // the layer that the view asks for, alloc.None = none
	layers       []alloc.Layer
	occupant     int64 // of the video, never the same for two
}

// seat returns the seat of that number, which it makes if there is none.
func (s *Sender) seat(num int) *seat {
	i, ok := slices.BinarySearchFunc(s.seats, num, func(st *seat, n int) int { return st.num - n })
	if !ok {
		s.seats = slices.Insert(s.seats, i, &seat{num: num, want: alloc.None})
	}
	return s.seats[i]
}

// bind makes the lines of a seat what was negotiated.
func (s *Sender) bind(num int, audio, video *lineOut) {
	st := s.seat(num)
	st.audio = s.bindLine(st, st.audio, audio)
	st.video = s.bindLine(st, st.video, video)
	s.path.est.Probes = s.mayProbe()
	s.look(s.cfg.Now())
	s.apply(st)
}

func (s *Sender) bindLine(st *seat, old *line, o *lineOut) *line {
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
	l := &line{s: s, num: s.freeNumber(), out: *o, seat: st, tid: alloc.MaxTemporal - 1, screen: st.screen()}
	l.f = forward.New(o.line(), l, uint16(rand.Uint32()), rand.Uint32())
	l.f.Share(&s.worker.scratch)
	l.f.SetRTT(s.path.trip())
	s.all = append(s.all, l)
	s.lines[o.SSRC] = l
	if o.RTXSSRC != 0 {
		s.lines[o.RTXSSRC] = l
	}
	return l
}

// freeNumber is the smallest that no line has. Packets that still wait of a line that
// is gone do not matter: nothing is sent of a former selection.
func (s *Sender) freeNumber() int {
	for n := 0; ; n++ {
		if !slices.ContainsFunc(s.all, func(l *line) bool { return l.num == n }) {
			return n
		}
	}
}

// screen says whether the pictures in the seat are of a screen.
func (st *seat) screen() bool { return st.a.Video != nil && st.a.Video.Kind() == signal.KindScreen }

func (s *Sender) assign(num int, a Assignment) {
	st := s.seat(num)
	if st.a.Video != a.Video && st.video != nil {
		st.video.blocked, st.video.cost = [maxLayers]int64{}, [maxLayers]cost{}
	}
	if st.a.Video != a.Video {
		s.occupants++
		st.occupant = s.occupants
	}
	if st.a.Audio != a.Audio {
		st.unheard = false
	}
	st.a = a
	if st.video != nil {
		st.video.screen = st.screen()
	}
	s.apply(st)
}

// apply carries out a changed assignment: audio at once, video through the allocator.
func (s *Sender) apply(st *seat) {
	now := s.cfg.Now()
	s.applyAudio(st, now)
	s.decide(now)
}

func (s *Sender) applyAudio(st *seat, now int64) {
	if st.audio == nil {
		return
	}
	if src := st.a.Audio; src == nil || st.unheard || !st.audio.out.playable(src) {
		st.audio.f.Close()
	} else {
		st.audio.f.Select(src, 0, now)
	}
}

// playable says whether the receiver takes the codec of src. An unknown one passes: it
// is known with the first packet.
func (o *lineOut) playable(src *ingest.Source) bool {
	name := src.Codec()
	c := rtpx.CodecOf(name)
	switch {
	case name == "":
		return true
	case !o.video:
		return c == rtpx.CodecOpus || strings.EqualFold(name, "red")
	case o.Types.None():
		return c == rtpx.CodecVP8
	}
	return o.Types[c].PT != 0
}
