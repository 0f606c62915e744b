package room

import (
	"slices"
	"time"

	"mayfly/shared/signal"
	"mayfly/shared/usage"
)

// Data-channel messages of one participant: a burst, and a steady rate per second.
const (
	dataBurst = 50
	dataRate  = 20
)

// bucket is a token bucket.
type bucket struct {
	tokens float64
	at     time.Time
}

func newBucket(now time.Time) bucket { return bucket{dataBurst, now} }

func (b *bucket) take(now time.Time) bool {
	b.tokens = min(dataBurst, b.tokens+now.Sub(b.at).Seconds()*dataRate)
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// dataFrame handles one message from a participant's data channel.
func (r *Room) dataFrame(p *participant, data []byte) {
	if !p.bucket.take(r.cfg.Now()) {
		r.data(p, signal.TypeError, signal.Fault(signal.CodeRateLimited, "over %d messages a second", dataRate))
		return
	}
	f, err := signal.ParseFrame(data, signal.MaxDataBytes)
	if err == nil {
		err = r.dataMessage(p, f)
	}
	if err != nil {
		r.data(p, signal.TypeError, asFault(err))
	}
}

func (r *Room) dataMessage(p *participant, f signal.Frame) error {
	switch f.Type {
	case signal.TypeView:
		var m signal.View
		if err := signal.DecodeStrict(f, &m); err != nil {
			return err
		}
		if m.Rev > p.view.Rev {
			p.view, r.dirty = m, true
		}
	case signal.TypeMute:
		var m signal.Mute
		if err := signal.DecodeStrict(f, &m); err != nil {
			return err
		}
		return r.mute(p, m)
	case signal.TypeChat:
		var m signal.Chat
		if err := signal.DecodeStrict(f, &m); err != nil {
			return err
		}
		return r.chat(p, m)
	case signal.TypeOffer:
		p.overWS = false
		r.offer(p, f)
	case signal.TypeLeave:
		r.leaves(p, f)
	case signal.TypePing:
		r.data(p, signal.TypePong, struct{}{})
	default:
		return signal.Fault(signal.CodeBadMessage, "%.20q is not for the data channel", f.Type)
	}
	return nil
}

func (r *Room) mute(p *participant, m signal.Mute) error {
	was, published := p.kinds[m.Kind]
	if !published {
		return signal.Fault(signal.CodeBadMessage, "%s is not published", m.Kind)
	}
	if was != m.Muted {
		p.kinds[m.Kind] = m.Muted
		r.dirty = true
		r.announce(p)
	}
	return nil
}

// tracks are the sources that are published and not muted.
func (p *participant) tracks() usage.Tracks {
	on := func(kind string) bool {
		muted, published := p.kinds[kind]
		return published && !muted
	}
	return usage.Tracks{
		Mic: on(signal.KindMic), Camera: on(signal.KindCamera), Screen: on(signal.KindScreen), ScreenAudio: on(signal.KindScreenAudio),
	}
}

func (r *Room) chat(p *participant, m signal.Chat) error {
	if !p.grants.Chat {
		return signal.Fault(signal.CodeNotPermitted, "chat is not permitted")
	}
	m.From, m.Name, m.AtMS = p.id, p.name, r.cfg.Now().UnixMilli()
	r.broadcast(signal.TypeChat, m)
	return nil
}

// describe is a participant as the others see it.
func (r *Room) describe(p *participant) signal.Participant {
	d := signal.Participant{ID: p.id, Identity: p.identity, Name: p.name, Sources: []signal.Source{}}
	for _, kind := range []string{signal.KindMic, signal.KindCamera, signal.KindScreen, signal.KindScreenAudio} {
		if muted, ok := p.kinds[kind]; ok && slices.Contains(p.grants.Publish, kind) {
			held := slices.Contains(p.held, kind)
			d.Sources = append(d.Sources, signal.Source{ID: p.id + "/" + kind, Kind: kind, Codec: p.codecOf(kind), Muted: muted || held, Held: held})
		}
	}
	return d
}

// codecOf names the codec of a source: that of audio is the room's own choice.
func (p *participant) codecOf(kind string) string {
	if kind == signal.KindMic || kind == signal.KindScreenAudio {
		return "opus"
	}
	return p.media.Codec(kind)
}

// retell tells the others of a participant whose browser sends another codec than it
// was described with.
func (r *Room) retell(p *participant) {
	if !p.joining && p.videoCodecs() != p.codecs {
		r.announce(p)
	}
}

func (p *participant) videoCodecs() [2]string {
	return [2]string{p.codecOf(signal.KindCamera), p.codecOf(signal.KindScreen)}
}

// announce tells the others that a participant came or changed.
func (r *Room) announce(p *participant) {
	d := r.describe(p)
	p.codecs = p.videoCodecs()
	for _, o := range r.order {
		if o != p && o.dataOpen {
			o.peopleRev++
			r.data(o, signal.TypeParticipants, signal.Participants{Rev: o.peopleRev, Upsert: []signal.Participant{d}})
		}
	}
}

func (r *Room) broadcastGone(p *participant) {
	for _, o := range r.order {
		if o.dataOpen {
			o.peopleRev++
			r.data(o, signal.TypeParticipants, signal.Participants{Rev: o.peopleRev, Remove: []string{p.id}})
		}
	}
}

// tellEverything brings a participant whose data channel has just opened up to
// date: what changed since Joined could not be told until now.
func (r *Room) tellEverything(p *participant) {
	m := signal.Participants{Rev: p.peopleRev + 1}
	p.peopleRev++
	for _, o := range r.order {
		if o != p && !o.joining {
			m.Upsert = append(m.Upsert, r.describe(o))
			delete(p.toldPeople, o.id)
		}
	}
	for id := range p.toldPeople {
		m.Remove = append(m.Remove, id)
	}
	p.toldPeople = nil
	slices.Sort(m.Remove)
	r.data(p, signal.TypeParticipants, m)
	p.seatRev++
	r.data(p, signal.TypeSeating, signal.Seating{Rev: p.seatRev, Seats: p.toldSeats})
	r.data(p, signal.TypeSpeakers, r.spoken)
	r.tellBudget(p)
	if p.amended {
		r.tellStanding(p)
	}
}

// tell sends over the data channel, or the WebSocket where the client asked there.
func (r *Room) tell(p *participant, typ string, body any) {
	if p.overWS || !p.dataOpen {
		r.toClient(p.conn, typ, body, false)
		return
	}
	r.data(p, typ, body)
}

// data sends over the data channel. False means that the message was dropped: the
// client does not take them as fast as they come.
func (r *Room) data(p *participant, typ string, body any) bool {
	frame, err := signal.Encode(typ, 0, body)
	if err != nil {
		r.cfg.Log.Error("message not encodable", "type", typ, "err", err)
		return false
	}
	if !p.media.SendData(frame) {
		r.cfg.Log.Debug("data channel full, message dropped", "participant", p.id, "type", typ)
		return false
	}
	return true
}

func (r *Room) broadcast(typ string, body any) {
	frame, err := signal.Encode(typ, 0, body)
	if err != nil {
		r.cfg.Log.Error("message not encodable", "type", typ, "err", err)
		return
	}
	for _, p := range r.order {
		if p.dataOpen {
			p.media.SendData(frame)
		}
	}
}
