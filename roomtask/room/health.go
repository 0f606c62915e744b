package room

import (
	"slices"
	"time"

	"mayfly/roomtask/quality"
	"mayfly/shared/signal"
)

// Quality is judged every judgeEvery. It is told when a level changes, else every
// toldEvery, for the figures that come with it.
const (
	judgeEvery = 2 * time.Second
	toldEvery  = 4 * time.Second
)

// Health is what Media counts and measures of a participant's connection. Counts only
// grow, unless a stream begins anew.
type Health struct {
	RTT       time.Duration // 0 = not known
	Bps       int64         // estimate of the path to the participant, 0 = no limit is known
	Loss      float64       // lately, of all that was sent to it, 0…1
	Heard     int64         // bytes that came from it, its reports included
	Transport string
	Up        []UpHealth
	Down      []DownHealth // by seat, in ascending order
}

// UpHealth is one own source of the participant, all its layers together.
type UpHealth struct {
	Kind               string
	Expected, Received int64 // packets, without retransmissions
	Jitter             time.Duration
	RED                bool
}

// DownHealth is one seat of the participant.
type DownHealth struct {
	Seat                 int
	Audio, Video         int64   // packets sent
	AudioLoss, VideoLoss float64 // as last reported, 0…1
	RED                  int     // packets that each packet of audio repeats
	Layer                int     // being sent, −1 = none
	Paused               string
}

// vitals is what the room remembers of a participant's health. Owned by the loop.
type vitals struct {
	at     time.Time // end of the last interval
	heard  int64
	last   Health
	up     map[string]*stream
	down   map[int]*seatStream
	told   signal.Quality
	toldAt time.Time
}

// stream is the meter of one stream with the counts at the end of the last interval.
type stream struct {
	meter              quality.Meter
	expected, received int64
	packets            int64   // expected in the last interval
	loss               float64 // of them
}

// seatStream is one seat: what sits there may change, and is judged anew then.
type seatStream struct {
	audio, video stream
	of           plan
	short        bool // the picture was below its view at the end of the last interval
	concealed    float64
	mos          float64
}

func newVitals(now time.Time) *vitals {
	return &vitals{at: now, up: map[string]*stream{}, down: map[int]*seatStream{}}
}

// judge ends an interval for everybody: first what is published, then what is received.
func (r *Room) judge(now time.Time) {
	for _, p := range r.order {
		if p.joining {
			continue
		}
		v, h := p.vitals, p.media.Health()
		took, heard := now.Sub(v.at), h.Heard > v.heard
		v.at, v.heard, v.last = now, h.Heard, h
		r.judgeUp(p, took)
		r.judgeDown(p, took, heard)
		r.metrics.health(&h, v)
	}
	r.publishFigures()
	if r.cfg.Judged != nil {
		r.cfg.Judged(now)
	}
}

func (r *Room) judgeUp(p *participant, took time.Duration) {
	v := p.vitals
	for _, u := range v.last.Up {
		s := v.up[u.Kind]
		if s == nil {
			s = &stream{}
			v.up[u.Kind] = s
		}
		expected, received := u.Expected-s.expected, u.Received-s.received
		if expected < 0 || received < 0 { // a new stream counts from 0
			expected, received = u.Expected, u.Received
		}
		s.expected, s.received = u.Expected, u.Received
		video := u.Kind == signal.KindCamera || u.Kind == signal.KindScreen
		w := quality.Window{
			Media: quality.Media{Video: video, RED: u.RED, FEC: !video}, Took: took, Packets: expected,
			RTT: v.last.RTT, Jitter: u.Jitter, Muted: p.kinds[u.Kind], Heard: true, // a lost path is ICE's to notice
		}
		if expected > 0 {
			w.Loss = max(0, 1-float64(received)/float64(expected))
		}
		s.packets, s.loss = w.Packets, w.Loss
		s.meter.Add(w)
	}
}

func (r *Room) judgeDown(p *participant, took time.Duration, heard bool) {
	v := p.vitals
	for n := range v.down {
		if _, still := p.seats[n]; !still {
			delete(v.down, n)
		}
	}
	for _, d := range v.last.Down {
		of, seated := p.seats[d.Seat]
		if !seated {
			continue
		}
		s := v.down[d.Seat]
		if s == nil || s.of.participant != of.participant || s.of.video != of.video || s.of.audio != of.audio {
			s = &seatStream{audio: stream{expected: d.Audio}, video: stream{expected: d.Video}}
			v.down[d.Seat] = s
		}
		s.of = of
		base := quality.Window{Took: took, RTT: v.last.RTT, Heard: heard}
		r.judgeSound(s, d, v.last.Loss, base)
		r.judgePicture(s, d, v.last.Loss, base)
	}
}

func (r *Room) judgeSound(s *seatStream, d DownHealth, path float64, w quality.Window) {
	w.Media = quality.Media{RED: d.RED > 0, FEC: true}
	w.Packets, s.audio.expected = max(0, d.Audio-s.audio.expected), d.Audio
	w.Loss = max(d.AudioLoss, path)
	w.Muted = s.of.audio == "" || r.muted(s.of.participant, s.of.audio)
	s.concealed = concealment(&w, &d)
	s.mos = quality.MOS(r.oneWay(s.of, w.RTT), s.concealed)
	s.audio.packets, s.audio.loss = w.Packets, w.Loss
	s.audio.meter.Add(w)
}

// oneWay is about how long a seat's sound is on its way: half of both round trips, and
// what a receiver keeps back against the publisher's jitter, which is twice that.
func (r *Room) oneWay(of plan, rtt time.Duration) time.Duration {
	way := rtt / 2
	if from := r.people[of.participant]; from != nil {
		way += from.vitals.last.RTT / 2
		for _, u := range from.vitals.last.Up {
			if u.Kind == of.audio {
				way += 2 * u.Jitter
			}
		}
	}
	return way
}

func (r *Room) judgePicture(s *seatStream, d DownHealth, path float64, w quality.Window) {
	w.Media.Video = true
	w.Packets, s.video.expected = max(0, d.Video-s.video.expected), d.Video
	w.Loss = max(d.VideoLoss, path)
	w.Muted = s.of.video == "" || s.of.width == 0 && s.of.height == 0 || r.muted(s.of.participant, s.of.video)
	missing := 0
	if from := r.people[s.of.participant]; from != nil && !w.Muted {
		missing = max(0, layersFor(from.media.Layers(s.of.video), s.of.width, s.of.height)-1-d.Layer)
	}
	// A view has just grown, or a picture has just begun: that takes a moment.
	if short := missing > 0; short && s.short {
		w.Missing, w.Paused = missing, d.Layer < 0
	}
	s.short = missing > 0
	s.video.meter.Add(w)
}

func (r *Room) muted(participant, kind string) bool {
	p := r.people[participant]
	return p == nil || p.kinds[kind]
}

// lost says that ICE has no path to p at present.
func lost(p *participant) bool { return !p.lostAt.IsZero() }

// upScore is how well a source of p reaches the room.
func upScore(p *participant, kind string) int {
	if p == nil || lost(p) {
		return 0
	}
	if s := p.vitals.up[kind]; s != nil {
		return s.meter.Score()
	}
	return 100
}

// qualityOf sums up what p is told.
func (r *Room) qualityOf(p *participant) signal.Quality {
	v := p.vitals
	q := signal.Quality{
		Participant: p.id, Up: 100, Down: 100, RTTMS: int(v.last.RTT.Milliseconds()), LossPermil: int(v.last.Loss * 1000),
		BandwidthKbps: int(v.last.Bps / 1000), Transport: v.last.Transport, Seats: []signal.SeatQuality{},
	}
	for kind := range p.kinds {
		q.Up = min(q.Up, upScore(p, kind))
	}
	var concealed float64
	for n, s := range v.down {
		from := r.people[s.of.participant]
		near, far := min(s.audio.meter.Score(), s.video.meter.Score()), 100
		for _, kind := range []string{s.of.audio, s.of.video} {
			if kind != "" {
				far = min(far, upScore(from, kind))
			}
		}
		q.Down = min(q.Down, near)
		concealed = max(concealed, s.concealed)
		q.Seats = append(q.Seats, signal.SeatQuality{Seat: n, Level: quality.LevelOf(min(near, far)).String(), Far: far < near})
	}
	slices.SortFunc(q.Seats, func(a, b signal.SeatQuality) int { return a.Seat - b.Seat })
	if lost(p) {
		q.Up, q.Down = 0, 0
	}
	q.ConcealedPermil = int(concealed * 1000)
	q.Score = min(q.Up, q.Down)
	q.Level = quality.LevelOf(q.Score).String()
	return q
}

// tellQuality tells everyone how its own connection and its seats do, where a level
// has changed or the figures are old.
func (r *Room) tellQuality(now time.Time) {
	for _, p := range r.order {
		if p.joining || !p.dataOpen {
			continue
		}
		v, q := p.vitals, r.qualityOf(p)
		same := q.Level == v.told.Level && slices.Equal(q.Seats, v.told.Seats)
		if same && now.Sub(v.toldAt) < toldEvery {
			continue
		}
		if r.data(p, signal.TypeQuality, q) {
			v.told, v.toldAt = q, now
		}
	}
}
