package room

import (
	"slices"
	"time"

	"mayfly/roomtask/alloc"
	"mayfly/roomtask/sendq"
	"mayfly/shared/signal"
)

// planFor decides the seats of one viewer.
func (r *Room) planFor(p *participant) map[int]plan {
	if !p.grants.Subscribe {
		return map[int]plan{}
	}
	others := r.occupants[:0]
	for _, o := range r.order {
		if o != p && !o.joining {
			others = append(others, occupant{o.id, o.forwarded()})
		}
	}
	r.occupants = others
	seats := p.media.Seats()
	if p.joining {
		seats = p.offered
	}
	return r.reduced(seat(seats, p.view, others, r.spoken.Loudest, p.ears.Members(), p.seats))
}

// reseat brings everyone's seats up to date, and tells what changed.
func (r *Room) reseat() {
	for _, p := range r.order {
		if p.joining {
			continue
		}
		prev := p.seats
		p.seats = r.planFor(p)
		for n := range prev {
			if _, still := p.seats[n]; !still {
				p.media.Assign(n, nil, Placement{})
			}
		}
		r.apply(p)
		list := r.seatList(p)
		if !slices.Equal(list, p.toldSeats) {
			p.toldSeats = list
			if p.dataOpen {
				p.seatRev++
				r.data(p, signal.TypeSeating, signal.Seating{Rev: p.seatRev, Seats: list})
			}
		}
	}
}

// apply hands the plans of one viewer to its media. Repeating one is cheap: the
// sender compares.
func (r *Room) apply(p *participant) {
	for n, s := range p.seats {
		from := r.people[s.participant]
		if from == nil {
			continue
		}
		p.media.Assign(n, from.media, Placement{
			Video: s.video, Audio: s.audio, Width: s.width, Height: s.height,
			Pinned: s.pinned, Speaking: s.participant == r.spoken.Active,
		})
	}
}

// seatList is what a viewer is told of its seats.
func (r *Room) seatList(p *participant) []signal.Seat {
	list := make([]signal.Seat, 0, len(p.seats))
	for n, s := range p.seats {
		t := signal.Seat{Seat: n, Participant: s.participant}
		if s.audio != "" {
			t.Audio = s.participant + "/" + s.audio
		}
		if s.video != "" {
			t.Video = s.participant + "/" + s.video
			t.Paused = r.whyPaused(p, n, s)
		}
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b signal.Seat) int { return a.Seat - b.Seat })
	return list
}

func (r *Room) whyPaused(p *participant, n int, s plan) string {
	switch {
	case r.people[s.participant] != nil && r.people[s.participant].kinds[s.video]:
		return "muted"
	case s.width == 0 || s.height == 0:
		return "hidden"
	}
	if why := p.media.Paused(n); why != alloc.ReasonMuted {
		return why
	}
	return sendq.ReasonNoKeyframe // nothing comes of it, although it is on: it is being woken, or about to begin
}

// listen finds out who speaks.
func (r *Room) listen(now time.Time) {
	for _, p := range r.order {
		if muted, ok := p.kinds[signal.KindMic]; ok && !muted && !p.joining && p.may(signal.KindMic) {
			level, voice := p.media.Level()
			r.speaker.Update(p.id, level, voice, now.UnixNano())
		}
	}
	active, loudest, changed := r.speaker.Tick(now.UnixNano())
	for _, p := range r.order {
		r.prick(p, now)
	}
	if !changed {
		return
	}
	r.dirty = true // audio-only seats follow the loudest, and the speaker's video goes first
	r.spoken = signal.Speakers{Active: active, Loudest: slices.Clone(loudest)}
	r.broadcast(signal.TypeSpeakers, r.spoken)
}

// prick chooses whom a viewer hears by the seats that no picture takes: as many of the
// loudest as there are such seats, of those whom it does not hear with their picture.
func (r *Room) prick(p *participant, now time.Time) {
	if p.joining || !p.grants.Subscribe {
		return
	}
	free := len(p.media.Seats())
	with := map[string]bool{p.id: true}
	for _, s := range p.seats {
		if s.video != "" {
			free--
			with[s.participant] = with[s.participant] || s.audio == signal.KindMic
		}
	}
	if r.speaker.Choose(&p.ears, free, func(id string) bool { return with[id] }, now.UnixNano()) {
		r.dirty = true
	}
}
