package peer

import (
	"mayfly/roomtask/ingest"
	"mayfly/roomtask/rtpx"
	"mayfly/shared/signal"
)

// role is what an m-line is for. It never changes while the Peer lives.
type role struct {
	video bool
	kind  string // of the client's own source; "" for a seat
	seat  int    // meaningful if kind is ""
}

func (r role) isSeat() bool { return r.kind == "" }

func (r role) media() string {
	if r.video {
		return "video"
	}
	return "audio"
}

// line is an accepted audio or video m-line.
type line struct {
	mid string
	role
	codec, rtx uint8             // payload types, of video the first of order; rtx 0 if not offered
	types      rtpx.PayloadTypes // of video
	order      []rtpx.Codec      // of video, as the client likes them
	red        uint8             // of Opus with redundancy (RFC 2198), 0 if not offered
	redFirst   bool              // the client prefers it to plain Opus
	ext        map[string]uint8  // of the extensions in extensions
	rids       []string          // lowest layer first
	ssrcs      []uint32
	groups     []ingest.Group
}

// layout is what has been negotiated so far: the facts that a later offer must
// keep. It is a value: checkOffer makes a new one, and the peer adopts it when the
// negotiation has succeeded.
type layout struct {
	mids        []string // of all m-lines in their order, the data channel's included
	data        string   // mid of the data channel
	lines       map[string]line
	fingerprint string
}

// seatLines are the two m-lines of a seat.
type seatLines struct{ audio, video line }

func (l *layout) seats() map[int]seatLines {
	seats := map[int]seatLines{}
	for _, ln := range l.lines {
		if !ln.isSeat() {
			continue
		}
		s := seats[ln.seat]
		if ln.video {
			s.video = ln
		} else {
			s.audio = ln
		}
		seats[ln.seat] = s
	}
	return seats
}

// published are the client's own lines, in SDP order.
func (l *layout) published() []ingest.Line {
	var out []ingest.Line
	for _, mid := range l.mids {
		ln, ok := l.lines[mid]
		if !ok || ln.isSeat() {
			continue
		}
		var codecs []ingest.Codec
		if !ln.video {
			codecs = append(codecs, ingest.Codec{PT: ln.codec, Name: "opus", ClockRate: opusClock})
		}
		for _, c := range ln.order {
			codecs = append(codecs, ingest.Codec{PT: ln.types[c].PT, Name: c.String(), ClockRate: videoClock})
			if rtx := ln.types[c].RTX; rtx != 0 {
				codecs = append(codecs, ingest.Codec{PT: rtx, Name: "rtx", ClockRate: videoClock, RTXOf: ln.types[c].PT})
			}
		}
		if ln.red != 0 {
			codecs = append(codecs, ingest.Codec{PT: ln.red, Name: "red", ClockRate: opusClock})
		}
		out = append(out, ingest.Line{
			Mid: mid, Kind: ln.kind, Rids: ln.rids, Codecs: codecs, Ext: ln.ext, SSRCs: ln.ssrcs, Groups: ln.groups,
		})
	}
	return out
}

// roles reads what the offer says its m-lines are for.
func roles(o signal.Offer) (map[string]role, *signal.Error) {
	out := map[string]role{}
	add := func(mid string, r role) *signal.Error {
		if _, twice := out[mid]; twice {
			return refuse("mid %.16q is described twice", mid)
		}
		out[mid] = r
		return nil
	}
	kinds := map[string]bool{}
	for _, s := range o.Sources {
		video := s.Kind == signal.KindCamera || s.Kind == signal.KindScreen
		switch {
		case !video && s.Kind != signal.KindMic && s.Kind != signal.KindScreenAudio:
			return nil, refuse("unknown kind of source %.16q", s.Kind)
		case kinds[s.Kind]:
			return nil, refuse("two sources of kind %s", s.Kind)
		}
		kinds[s.Kind] = true
		if err := add(s.Mid, role{video: video, kind: s.Kind}); err != nil {
			return nil, err
		}
	}
	if len(o.Seats) > signal.MaxSeats {
		return nil, signal.Fault(signal.CodeTooManySeats, "%d seats, the limit is %d", len(o.Seats), signal.MaxSeats)
	}
	if len(o.Seats) == 0 {
		return nil, refuse("no seats")
	}
	seats := map[int]bool{}
	for _, s := range o.Seats {
		if s.Seat < 0 || s.Seat > maxSeatNumber || seats[s.Seat] {
			return nil, refuse("seat number %d is out of range or used twice", s.Seat)
		}
		seats[s.Seat] = true
		if err := add(s.Audio, role{seat: s.Seat}); err != nil {
			return nil, err
		}
		if err := add(s.Video, role{seat: s.Seat, video: true}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func refuse(format string, args ...any) *signal.Error {
	return signal.Fault(signal.CodeBadOffer, format, args...)
}
