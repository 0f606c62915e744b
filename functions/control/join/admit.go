package join

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/oklog/ulid/v2"

	"mayfly/functions/control"
	"mayfly/functions/control/ledger"
	"mayfly/functions/control/life"
	"mayfly/functions/store"
	"mayfly/shared/signal"
)

// maxWrapBytes is the most that the link's envelope adds to a client's frame:
// connection, participant and session, names escaped.
const maxWrapBytes = 4 << 10

// join admits a client and hands its offer to the task, which answers.
//
// The claim of the ticket (or the rotation of the resume secret), the participant,
// the connection and the room's count of joins are one commit: a ticket is not
// used up by a join that a room did not take. A crash after it is repaired by the
// client, which repeats the join with the same attempt.
func (j *Join) join(ctx context.Context, conn string, f signal.Frame) error {
	var m signal.Join
	if err := decode(f, &m); err != nil {
		return err
	}
	if strings.IndexFunc(m.Name, unprintable) >= 0 {
		return signal.Fault(signal.CodeBadMessage, "name with control characters")
	}
	raw, err := encodeFrame(f)
	if err != nil {
		return err
	}
	if len(raw)+maxWrapBytes > signal.MaxMessageBytes {
		return signal.Fault(signal.CodeTooLarge, "join of %d bytes", len(raw))
	}
	who, err := j.identify(ctx, conn, m.Ticket, m.Resume)
	if err != nil {
		return err
	}
	session, room, err := j.admit(ctx, who, &m)
	if errors.Is(err, life.ErrNotLive) {
		// The client waits for room{live}: see to it that it will hear of it.
		if err := j.follow(ctx, who); err != nil {
			return err
		}
		return roomFault(life.ErrNotLive)
	}
	if err != nil {
		return roomFault(err)
	}
	err = j.toLink(ctx, room.ID, room.Epoch, signal.LinkClient, signal.Client{
		Conn: conn, Participant: who.participant, Session: session, Frame: f,
	})
	if err != nil {
		return linkFault(err)
	}
	j.Log.InfoContext(ctx, "join admitted", "room", room.ID, "participant", who.participant, "conn", conn,
		"epoch", room.Epoch, "session", session.ID, "resumed", session.Resumed)
	return nil
}

// admit commits the join. It is retried from the start when it loses a race.
func (j *Join) admit(ctx context.Context, who *identified, m *signal.Join) (*signal.Session, life.Room, error) {
	var session *signal.Session
	var admitted life.Room
	err := j.Retry.Do(ctx, func() error {
		if err := j.reload(ctx, who); err != nil {
			return err
		}
		room, err := j.room(ctx, who.room)
		if err != nil {
			return err
		}
		claim, writes, err := j.claim(ctx, who, hashOf(m.Attempt))
		if err != nil {
			return err
		}
		fresh := claim && who.part == nil
		if fresh && room.Present >= room.Limits.MaxParticipants {
			return signal.Fault(signal.CodeRoomFull, "%d participants are present", room.Present)
		}
		over, err := j.over(ctx, who)
		if err != nil {
			return err
		}
		p, secret := j.participant(who, m, room.Epoch, claim, over)
		w, err := control.Put(p)
		if err != nil {
			return err
		}
		writes = append(writes, w, notBanned(who.room, p.Identity))
		rows, err := j.rows(ctx, who, room.Epoch)
		if err != nil {
			return err
		}
		writes = append(writes, rows...)
		opens := who.part == nil || who.part.Session != p.Session
		seq, after, err := j.Life.Admit(ctx, who.room, func(joinSeq uint64) ([]store.Write, error) {
			if !opens {
				return writes, nil
			}
			session, err := control.Put(ledger.OpenSession(&room, p, joinSeq, j.Now().UnixMilli()))
			return append(slices.Clip(writes), session), err
		})
		if err != nil {
			return err
		}
		if after.Epoch != room.Epoch {
			// The task was replaced in between: do it again, as a repeat, for the new one.
			return &store.ConflictError{Key: control.RoomKey(who.room), Index: -1}
		}
		admitted = after
		session = &signal.Session{
			ID: p.Session, Identity: p.Identity, Name: p.Name, Grants: p.Grants, JoinSeq: seq,
			Resume: resumeText(p, secret), Resumed: who.resume != nil, Moved: who.resume != nil && after.HandingTask != "",
			Muted: p.Muted, OrderRev: p.OrderRev,
		}
		return nil
	})
	return session, admitted, err
}

// claim says whether this is a new attempt, and what it writes to be the only one.
// A repeat of the attempt that has the claim is welcome; any other is refused.
func (j *Join) claim(ctx context.Context, who *identified, attempt string) (isNew bool, writes []store.Write, err error) {
	if who.resume != nil {
		repeat := who.part.Attempt == attempt && who.resume.hash == who.part.ResumePrev
		return !repeat, nil, nil
	}
	c, err := control.Load[control.Claim](ctx, j.Store, control.ClaimKey(who.room, who.claims.ID))
	switch {
	case errors.Is(err, store.ErrNotFound):
		w, err := control.Put(&control.Claim{
			Room: who.room, JTI: who.claims.ID, Attempt: attempt, Participant: who.participant, AtMS: j.Now().UnixMilli(),
		})
		return true, []store.Write{w}, err
	case err != nil:
		return false, nil, fmt.Errorf("load claim: %w", err)
	case c.Attempt == attempt && who.part == nil:
		// Claim and participant are one commit: it came between our two reads.
		return false, nil, &store.ConflictError{Key: c.Place().Key, Index: -1}
	case c.Attempt != attempt, who.part.Attempt != attempt:
		// The latter: its holder has moved on to a resume secret since.
		return false, nil, signal.Fault(signal.CodeTicketUsed, "the ticket was used before")
	}
	return false, nil, nil
}

// participant is the row as it is after this join, and the secret to resume with.
// A repeat keeps secret and session, so that a lost answer can be given again; a
// session belongs to one epoch and one stay, so the next task gets a new one, and
// so does a repeat after the task has told that the session is over.
func (j *Join) participant(who *identified, m *signal.Join, epoch int, isNew, over bool) (*control.Participant, string) {
	now := j.Now().UnixMilli()
	p := &control.Participant{Room: who.room, ID: who.participant, CreatedMS: now}
	if who.part != nil {
		old := *who.part
		p = &old
	}
	if c := who.claims; c != nil {
		p.Identity, p.Grants, p.Attributes, p.JTI = c.Identity, c.Grants, c.Attributes, c.ID
		if p.Ordered != nil {
			p.Grants = *p.Ordered
		}
		p.Name = c.Name
		if p.Name == "" {
			p.Name = strings.TrimSpace(m.Name)
		}
		if p.Name == "" {
			p.Name = c.Identity
		}
	}
	if isNew {
		p.Attempt, p.Salt, p.ResumePrev = hashOf(m.Attempt), newSalt(), ""
		if who.resume != nil {
			p.ResumePrev = who.resume.hash
		}
	}
	if isNew || over || p.Epoch != epoch {
		p.Session = "s_" + ulid.MustNew(ulid.Timestamp(j.Now()), rand.Reader).String()
		p.Epoch = epoch
	}
	if p.JoinedMS == 0 {
		p.JoinedMS = now
	}
	p.State, p.Conn = "joined", who.conn
	secret := secretOf(p, m.Attempt)
	p.Resume = hashOf(secret)
	return p, secret
}

// over says whether the participant's session has ended, as far as the ledger knows.
func (j *Join) over(ctx context.Context, who *identified) (bool, error) {
	if who.part == nil || who.part.Session == "" {
		return false, nil
	}
	s, err := (&ledger.Ledger{Store: j.Store}).Stay(ctx, who.room, who.part.Epoch, who.part.Session)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil && s.LeftMS != 0, err
}

// rows are the writes that bind the connection to its room: as a watcher, or as a
// participant who joined in an epoch (which count from 1).
func (j *Join) rows(ctx context.Context, who *identified, epoch int) ([]store.Write, error) {
	now := j.Now().UnixMilli()
	row := &control.Connection{ID: who.conn, CreatedMS: now}
	if who.row != nil {
		old := *who.row
		row = &old
	}
	row.Kind, row.Room, row.Participant = control.ConnClient, who.room, who.participant
	row.Joined, row.Epoch = epoch > 0, epoch
	rc, err := control.Load[control.RoomConn](ctx, j.Store, control.RoomConnKey(who.room, who.conn))
	if errors.Is(err, store.ErrNotFound) {
		rc, err = &control.RoomConn{Room: who.room, Conn: who.conn, CreatedMS: now}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load room connection: %w", err)
	}
	rc.Kind, rc.Participant = control.ConnClient, who.participant
	w1, err := control.Put(row)
	if err != nil {
		return nil, err
	}
	w2, err := control.Put(rc)
	if err != nil {
		return nil, err
	}
	writes := []store.Write{w1, w2}
	if who.row != nil { // its time is being counted
		return writes, nil
	}
	opened, err := j.Life.OpenWire(ctx, who.room, who.conn, control.ConnClient)
	return append(writes, opened...), err
}

// unprintable is what no shown name may hold: control characters, and invisible
// ones that turn the direction of the text around.
func unprintable(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)
}
