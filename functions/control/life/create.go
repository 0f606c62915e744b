package life

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/oklog/ulid/v2"

	"mayfly/functions/control"
	"mayfly/functions/control/ledger"
	"mayfly/functions/control/outbox"
	"mayfly/functions/control/shape"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
)

// Create makes the room with its open ledger, quota, idempotency key and event in
// one commit, then asks for its task. Errors of the second part do not fail it:
// the sweep tries again. Errors: ErrIdemReused, ErrQuota, ErrRate, ErrSpend.
func (l *Life) Create(ctx context.Context, r CreateRequest) (Created, error) {
	now := l.Now()
	id, err := ulid.New(ulid.Timestamp(now), rand.Reader)
	if err != nil {
		return Created{}, fmt.Errorf("room id: %w", err)
	}
	book, err := l.Books.Current(ctx, now.UnixMilli())
	if err != nil {
		return Created{}, fmt.Errorf("create room: %w", err)
	}
	room := newRoom("room_"+id.String(), r, now)
	room.PriceBook = book.ID
	room.Revision = l.Config.Revisions.Of(room.ID, r.Revision)
	var made Created
	err = l.Config.Retry.Do(ctx, func() error {
		var err error
		made, err = l.create(ctx, room, r)
		return err
	})
	if err != nil {
		return Created{}, fmt.Errorf("create room: %w", err)
	}
	if made.Existed || made.State != lifecycle.Requested {
		return made, nil
	}
	if err := l.Allocate(ctx, made.ID); err != nil {
		l.Log.WarnContext(ctx, "allocation left to the sweep", "room", made.ID, "err", err)
	}
	if now, err := l.Get(ctx, made.ID); err == nil {
		made.Room = now
	}
	return made, nil
}

func newRoom(id string, r CreateRequest, now time.Time) control.Room {
	ms := now.UnixMilli()
	limits := r.Limits
	limits.EndsAtMS = ms + int64(limits.MaxDurationS)*1000
	room := control.Room{
		Room: lifecycle.New(ms, limits.EndsAtMS), ID: id, Tenant: r.Tenant, ExternalID: r.ExternalID,
		Region: r.Region, Limits: limits, Metadata: r.Metadata, Tags: r.Tags, Caps: r.Caps,
		Media: r.Media, Spot: r.Spot, E2EE: r.E2EE,
	}
	room.QueueMS = int64(r.StartDeadlineS) * 1000
	if r.Size != "" {
		room.Size = shape.Resolve(r.Size, limits.MaxParticipants, r.Media)
	}
	return room
}

// create is one try: what the idempotency key made before, or the commit.
func (l *Life) create(ctx context.Context, room control.Room, r CreateRequest) (Created, error) {
	if r.IdempotencyKey != "" {
		made, err := l.replay(ctx, r)
		if !errors.Is(err, store.ErrNotFound) {
			return made, err
		}
	}
	// A conflict may be our own commit, which took effect although its answer was lost.
	if own, err := l.Get(ctx, room.ID); !errors.Is(err, ErrNotFound) {
		return Created{Room: own, Answer: r.Answer}, err
	}
	open, named, err := l.claimName(ctx, &room, r)
	if err != nil || open != nil {
		return Created{Room: deref(open), Existed: true}, err
	}
	quota, err := l.take(ctx, &room)
	if err != nil {
		return Created{}, err
	}
	writes, err := firstWrites(&room, quota.doc, r, l.eventData(&room))
	if err != nil {
		return Created{}, err
	}
	writes = append(writes, named...)
	if err := l.Store.Commit(ctx, writes...); err != nil {
		return Created{}, err
	}
	room.Ver = 1
	return Created{Room: room, Answer: r.Answer, Left: &quota.left}, nil
}

// firstWrites is the commit that creates a room.
func firstWrites(room *control.Room, quota *control.Quota, r CreateRequest, data StateData) ([]store.Write, error) {
	event, err := outbox.Append(room, outbox.RoomCreated, room.CreatedMS, data)
	if err != nil {
		return nil, err
	}
	docs := []control.Doc{
		room, quota, ledger.Open(room),
		&control.Listed{Tenant: room.Tenant, Room: room.ID, ExternalID: room.ExternalID, CreatedMS: room.CreatedMS},
	}
	if r.IdempotencyKey != "" {
		docs = append(docs, &control.Idem{
			Tenant: r.Tenant, Key: r.IdempotencyKey, BodyHash: r.BodyHash, Room: room.ID,
			Answer: r.Answer, CreatedMS: room.CreatedMS,
		})
	}
	writes := []store.Write{event}
	for _, d := range docs {
		w, err := control.Put(d)
		if err != nil {
			return nil, err
		}
		writes = append(writes, w)
	}
	return writes, nil
}

// replay finds what the key made before. store.ErrNotFound means nothing.
func (l *Life) replay(ctx context.Context, r CreateRequest) (Created, error) {
	idem, err := control.Load[control.Idem](ctx, l.Store, control.IdemKey(r.Tenant, r.IdempotencyKey))
	if err != nil {
		return Created{}, err
	}
	if idem.BodyHash != r.BodyHash {
		return Created{}, ErrIdemReused
	}
	room, err := l.Get(ctx, idem.Room)
	return Created{Room: room, Answer: idem.Answer, Replayed: true, Existed: idem.Existed}, err
}

// Delete ends a room: at once when no task was asked for, else through its task.
// A room that is draining or over is no error. Errors: ErrNotFound.
func (l *Life) Delete(ctx context.Context, room string) error {
	r, todo, err := l.step(ctx, room, lifecycle.Event{Kind: lifecycle.Delete}, nil)
	if err != nil {
		return err
	}
	if err := l.act(ctx, r, todo, l.run); err != nil {
		l.Log.WarnContext(ctx, "deletion left to the sweep", "room", room, "err", err)
	}
	return nil
}

// AdmitJoin is Admit with writes that do not depend on the join's number.
func (l *Life) AdmitJoin(ctx context.Context, room string, with ...store.Write) (joinSeq uint64, r Room, err error) {
	return l.Admit(ctx, room, func(uint64) ([]store.Write, error) { return with, nil })
}

// Admit counts a join against the room's ending: after it, an Ending that has not seen
// this join is answered Keep. The writes that with makes for the join's number become
// part of the same commit; a conflict on one of them is returned as it is
// (*store.ConflictError). Errors: ErrNotFound, ErrNotLive, ErrEnded.
func (l *Life) Admit(ctx context.Context, room string, with func(joinSeq uint64) ([]store.Write, error)) (joinSeq uint64, r Room, err error) {
	var theirs error
	tries := 0
	next, _, err := l.step(ctx, room, lifecycle.Event{Kind: lifecycle.Join}, func(_, next *Room) ([]store.Write, error) {
		writes, err := with(next.JoinSeq)
		if err != nil {
			return nil, err
		}
		if tries++; tries > 1 { // a commit was lost: to whom?
			if theirs = l.stale(ctx, writes); theirs != nil {
				return nil, theirsError{theirs}
			}
		}
		return writes, nil
	})
	switch code, refused := refusal(err); {
	case theirs != nil && err != nil:
		return 0, Room{}, theirs
	case refused && code == lifecycle.Over:
		return 0, Room{}, ErrEnded
	case refused:
		return 0, Room{}, ErrNotLive
	case err != nil:
		return 0, Room{}, err
	}
	l.Log.DebugContext(ctx, "join admitted", slog.String("room", room), slog.Uint64("join_seq", next.JoinSeq))
	return next.JoinSeq, *next, nil
}

// stale says which of the caller's own writes cannot succeed any more: trying the
// step again would not help.
func (l *Life) stale(ctx context.Context, writes []store.Write) error {
	for i, w := range writes {
		it, err := l.Store.Get(ctx, w.Item.Key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if it.Version != w.Expect {
			return &store.ConflictError{Key: w.Item.Key, Index: i}
		}
	}
	return nil
}

// theirsError hides a conflict on the caller's writes from the retry.
type theirsError struct{ error }

// Unwrap returns nothing, so that Retry does not take it for its own lost race.
func (theirsError) Unwrap() error { return nil }
