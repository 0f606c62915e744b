package signal

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits that Check applies and that are not on the wire's own list.
const (
	MaxNameRunes    = 64      // a shown name
	MaxTicketBytes  = 4 << 10 // a join ticket or resume secret
	MinAttemptBytes = 22      // 16 random bytes in base64url
	MaxAttemptBytes = 128
	MaxPixels       = 16384 // a wanted width or height
	maxIDBytes      = 128   // ids of sources, mids, software names
)

// Check says what is wrong with a message that came from a client, or nil. It
// knows the message alone: tickets, grants and m-lines are checked where they are known.
func (m *Watch) Check() *Error {
	return checkSecret(m.Ticket, m.Resume)
}

// Check says what is wrong with the message, or nil.
func (m *Join) Check() *Error {
	if e := checkSecret(m.Ticket, m.Resume); e != nil {
		return e
	}
	if len(m.Attempt) < MinAttemptBytes || len(m.Attempt) > MaxAttemptBytes {
		return Fault(CodeBadMessage, "attempt of %d bytes", len(m.Attempt))
	}
	if utf8.RuneCountInString(m.Name) > MaxNameRunes {
		return Fault(CodeTooLarge, "name over %d characters", MaxNameRunes)
	}
	if m.Client != nil && len(m.Client.SDK)+len(m.Client.Browser) > 2*maxIDBytes {
		return Fault(CodeTooLarge, "client names its software in %d bytes", len(m.Client.SDK)+len(m.Client.Browser))
	}
	if e := m.Offer.Check(); e != nil {
		return e
	}
	return m.View.Check()
}

// Check says what is wrong with the message, or nil. The meaning of the SDP is
// checked by the room task.
func (m *Offer) Check() *Error {
	if m.Generation < 1 {
		return Fault(CodeBadMessage, "generation %d", m.Generation)
	}
	if m.SDP == "" || len(m.Seats) == 0 {
		return Fault(CodeBadOffer, "an offer needs SDP and at least one seat")
	}
	if strings.Count(m.SDP, "\n") > MaxSDPLines {
		return Fault(CodeBadOffer, "SDP over %d lines", MaxSDPLines)
	}
	if len(m.Seats) > MaxSeats {
		return Fault(CodeTooManySeats, "%d seats, the limit is %d", len(m.Seats), MaxSeats)
	}
	return m.checkLines()
}

// checkLines wants every kind, seat and mid named once.
func (m *Offer) checkLines() *Error {
	mids := make(map[string]bool)
	once := func(mid string) bool {
		ok := mid != "" && len(mid) <= maxIDBytes && !mids[mid]
		mids[mid] = true
		return ok
	}
	var kinds []string
	for _, s := range m.Sources {
		if !KnownKind(s.Kind) || slices.Contains(kinds, s.Kind) || !once(s.Mid) {
			return Fault(CodeBadOffer, "source %.20q on mid %.20q", s.Kind, s.Mid)
		}
		kinds = append(kinds, s.Kind)
	}
	seats := make(map[int]bool)
	for _, s := range m.Seats {
		if s.Seat < 0 || s.Seat >= MaxSeats || seats[s.Seat] || !once(s.Audio) || !once(s.Video) {
			return Fault(CodeBadOffer, "seat %d on mids %.20q and %.20q", s.Seat, s.Audio, s.Video)
		}
		seats[s.Seat] = true
	}
	return nil
}

// Check says what is wrong with the message, or nil.
func (m *View) Check() *Error {
	if len(m.Wants) > MaxWants {
		return Fault(CodeTooLarge, "%d wants, the limit is %d", len(m.Wants), MaxWants)
	}
	if o := m.Others; o != nil && (o.Width < 0 || o.Height < 0 || o.Width > MaxPixels || o.Height > MaxPixels) {
		return Fault(CodeBadMessage, "others at %d×%d pixels", o.Width, o.Height)
	}
	seen := make(map[string]bool, len(m.Wants))
	for _, w := range m.Wants {
		if w.Source == "" || len(w.Source) > maxIDBytes || seen[w.Source] {
			return Fault(CodeBadMessage, "want of source %.40q", w.Source)
		}
		if w.Width < 0 || w.Height < 0 || w.Width > MaxPixels || w.Height > MaxPixels {
			return Fault(CodeBadMessage, "want of %d×%d pixels", w.Width, w.Height)
		}
		seen[w.Source] = true
	}
	return nil
}

// Check says what is wrong with the message, or nil.
func (m *Mute) Check() *Error {
	if !KnownKind(m.Kind) {
		return Fault(CodeBadMessage, "kind %.20q", m.Kind)
	}
	return nil
}

// Check says what is wrong with a client's text, or nil. The room sets the other fields.
func (m *Chat) Check() *Error {
	if len(m.Text) > MaxChatBytes {
		return Fault(CodeTooLarge, "text of %d bytes, the limit is %d", len(m.Text), MaxChatBytes)
	}
	if strings.TrimSpace(m.Text) == "" {
		return Fault(CodeBadMessage, "empty text")
	}
	return nil
}

// KnownKind says whether a source may be of this kind.
func KnownKind(kind string) bool {
	switch kind {
	case KindMic, KindCamera, KindScreen, KindScreenAudio:
		return true
	}
	return false
}

func checkSecret(ticket, resume string) *Error {
	if (ticket == "") == (resume == "") {
		return Fault(CodeBadMessage, "exactly one of ticket and resume is needed")
	}
	if len(ticket)+len(resume) > MaxTicketBytes {
		return Fault(CodeTooLarge, "ticket or resume over %d bytes", MaxTicketBytes)
	}
	return nil
}
