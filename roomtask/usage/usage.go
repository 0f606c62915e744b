// Package usage counts what a room used, for the bill: connected time and bytes
// per session, cumulative, in integers.
//
// The room loop owns one Book and is its only caller. The package reads no clock
// and sends nothing: room puts its reports on the link, and the control plane's
// ledger keeps the highest one. The wire form is shared/usage.
package usage

import (
	"sort"
	"strconv"

	"mayfly/shared/usage"
)

// MaxSessions is how many sessions one report carries, so that its frame stays
// below 32 KB (a session is at most about 615 bytes of JSON).
const MaxSessions = 50

// Book holds the sessions of one task. It is owned by the room loop.
type Book struct {
	// Messages tells the signalling messages so far, as the gateway received and sent
	// them; nil counts none. Set before use.
	Messages func() (in, out int64)

	sessions map[string]*entry
	order    []string // session ids in the order they began
	seq      uint64   // of the last report
	present  int
	peak     int
}

type entry struct {
	s        usage.Session
	told     uint64 // seq of the last report that carried the present values, 0 = none
	dirty    bool   // changed since told
	accepted bool   // told was acknowledged
}

// NewBook returns an empty book.
func NewBook() *Book { return &Book{sessions: map[string]*entry{}} }

// Stay names the session of a participant who comes in by id: id itself, or, if that
// session is over, id.2, id.3 and so on. A client that was lost may come back with
// the join that it made before, and its second stay is a session of its own.
func (b *Book) Stay(id string) string {
	stay := id
	for n := 2; b.sessions[stay] != nil && b.sessions[stay].s.LeftMS != 0; n++ {
		stay = id + "." + strconv.Itoa(n)
	}
	return stay
}

// Begin opens a session at now (Unix ms). Beginning a known session changes nothing.
func (b *Book) Begin(id, participant string, now int64) {
	if _, ok := b.sessions[id]; ok {
		return
	}
	b.sessions[id] = &entry{s: usage.Session{ID: id, Participant: participant, JoinedMS: now}, dirty: true}
	b.order = append(b.order, id)
	b.present++
	b.peak = max(b.peak, b.present)
}

// Update sets a session's cumulative counters. Counters never fall: a smaller
// value, as from a peer that is closing, is ignored.
func (b *Book) Update(id string, now int64, in, out usage.Bytes, transport string) {
	e := b.sessions[id]
	if e == nil || e.s.LeftMS != 0 {
		return
	}
	seen := video(e.s)
	e.s.BytesIn, e.s.BytesOut = grown(e.s.BytesIn, in), grown(e.s.BytesOut, out)
	passed := max(0, now-e.s.JoinedMS-e.s.ParticipantMS)
	e.s.ParticipantMS += passed
	if video(e.s) == seen {
		e.s.AudioOnlyMS += passed
	}
	if transport != "" {
		e.s.Transport = transport
	}
	e.dirty = true
}

// Publish sets what a session publishes.
func (b *Book) Publish(id string, on usage.Tracks) {
	e := b.sessions[id]
	if e == nil || e.s.LeftMS != 0 || e.s.On == on {
		return
	}
	e.s.On, e.dirty = on, true
}

// video is what says that a session was more than sound.
func video(s usage.Session) int64 {
	return s.BytesIn.Video + s.BytesOut.Video + s.BytesIn.Screen + s.BytesOut.Screen
}

// End closes a session at now. The first End of a session counts.
func (b *Book) End(id string, now int64, reason string) {
	e := b.sessions[id]
	if e == nil || e.s.LeftMS != 0 {
		return
	}
	e.s.LeftMS, e.s.LeaveReason, e.s.On = max(now, e.s.JoinedMS), reason, usage.Tracks{}
	e.s.ParticipantMS = max(e.s.ParticipantMS, e.s.LeftMS-e.s.JoinedMS)
	e.dirty = true
	b.present--
}

// Present is the number of open sessions.
func (b *Book) Present() int { return b.present }

// Report makes the next report. It carries the sessions that changed since they
// were last acknowledged, those told longest ago first, at most MaxSessions.
// more says that others are waiting: call again.
func (b *Book) Report(now int64, final bool) (r usage.Report, more bool) {
	b.seq++
	r = usage.Report{Seq: b.seq, AtMS: now, Final: final, Totals: b.totals()}
	var due []*entry
	for _, id := range b.order {
		if e := b.sessions[id]; e.dirty || !e.accepted {
			due = append(due, e)
		}
	}
	sort.SliceStable(due, func(i, j int) bool { return due[i].told < due[j].told })
	if len(due) > MaxSessions {
		due, more = due[:MaxSessions], true
	}
	for _, e := range due {
		e.told, e.dirty, e.accepted = b.seq, false, false
		r.Sessions = append(r.Sessions, e.s)
	}
	return r, more
}

// Acked says that the report seq arrived. Later reports leave out what it told and
// has not changed since.
func (b *Book) Acked(seq uint64) {
	for _, e := range b.sessions {
		if e.told == seq {
			e.accepted = true
		}
	}
}

// Settled says that every session's last state was acknowledged.
func (b *Book) Settled() bool {
	for _, e := range b.sessions {
		if e.dirty || !e.accepted {
			return false
		}
	}
	return true
}

func (b *Book) totals() usage.Totals {
	t := usage.Totals{Sessions: int64(len(b.order)), Present: b.present, PeakParticipants: b.peak}
	if b.Messages != nil {
		t.MessagesIn, t.MessagesOut = b.Messages()
	}
	for _, e := range b.sessions {
		t.ParticipantMS += e.s.ParticipantMS
		t.AudioOnlyMS += e.s.AudioOnlyMS
		t.BytesIn = t.BytesIn.Add(e.s.BytesIn)
		t.BytesOut = t.BytesOut.Add(e.s.BytesOut)
	}
	return t
}

func grown(old, now usage.Bytes) usage.Bytes {
	return old.Zip(now, func(x, y int64) int64 { return max(x, y) })
}
