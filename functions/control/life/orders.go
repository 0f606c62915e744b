package life

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"mayfly/functions/control"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
)

// What a product orders of an open room (other limits, mutes, grants, ejections) is
// stored as the state that is to be, with the room's OrderRev in the same commit. The
// task is told at once, and again with every heartbeat until it has said that it has
// carried that revision out. A new epoch is told everything that was ever ordered.

// ErrNoParticipant says that nobody of that id has joined the room.
var ErrNoParticipant = errors.New("life: no such participant")

// edit makes the changes of one order. It is called afresh on every try; a nil list
// says that everything is as ordered already.
type edit func(next *Room) ([]store.Write, error)

// order commits one order and tells the task. Errors: ErrNotFound, ErrOver.
func (l *Life) order(ctx context.Context, room string, change edit) (Room, error) {
	var now Room
	told := true
	err := l.Config.Retry.Do(ctx, func() error {
		r, err := control.Load[control.Room](ctx, l.Store, control.RoomKey(room))
		switch {
		case errors.Is(err, store.ErrNotFound):
			return ErrNotFound
		case err != nil:
			return err
		case r.State == lifecycle.Draining || r.State.Final():
			return ErrOver
		}
		now = *r
		next := *r
		next.OrderRev++
		writes, err := change(&next)
		if err != nil || writes == nil {
			return err
		}
		w, err := control.Put(&next)
		if err != nil {
			return err
		}
		if err := l.Store.Commit(ctx, append(writes, w)...); err != nil {
			return err
		}
		next.Ver++
		now, told = next, false
		return nil
	})
	if err != nil {
		return Room{}, fmt.Errorf("order for %s: %w", room, err)
	}
	if !told {
		if err := l.sendOrders(ctx, &now); err != nil {
			l.Log.WarnContext(ctx, "order left to the next heartbeat", "room", room, "err", err)
		}
	}
	return now, nil
}

// Amend is what may be changed of an open room. Nil leaves as it is.
type Amend struct {
	MaxParticipants, UnusedTimeoutS, EmptyTimeoutS, MaxDurationS *int
	Metadata                                                     []byte // JSON
}

// ErrEndsBefore says that a room cannot end before now.
var ErrEndsBefore = errors.New("life: the room would have ended already")

// Amend changes limits and metadata. Errors: ErrNotFound, ErrOver, ErrEndsBefore.
func (l *Life) Amend(ctx context.Context, room string, a Amend) (Room, error) {
	return l.order(ctx, room, func(next *Room) ([]store.Write, error) {
		before := next.Limits
		for _, f := range []struct{ to, from *int }{
			{&next.Limits.MaxParticipants, a.MaxParticipants}, {&next.Limits.UnusedTimeoutS, a.UnusedTimeoutS},
			{&next.Limits.EmptyTimeoutS, a.EmptyTimeoutS}, {&next.Limits.MaxDurationS, a.MaxDurationS},
		} {
			if f.from != nil {
				*f.to = *f.from
			}
		}
		if next.Limits.MaxDurationS != before.MaxDurationS {
			ends := next.CreatedMS + int64(next.Limits.MaxDurationS)*1000
			if ends <= l.nowMS() {
				return nil, ErrEndsBefore
			}
			moved, _, err := l.Config.Rules.Step(next.Room, lifecycle.Event{Kind: lifecycle.Extend, AtMS: l.nowMS(), EndsMS: ends})
			if err != nil {
				return nil, err
			}
			next.Room, next.Limits.EndsAtMS = moved, ends
		}
		same := next.Limits == before
		if a.Metadata != nil && !slices.Equal(a.Metadata, []byte(next.Metadata)) {
			next.Metadata, same = a.Metadata, false
		}
		if same {
			return nil, nil
		}
		return []store.Write{}, nil
	})
}

// Moderation is what may be ordered of a participant. Nil leaves as it is.
type Moderation struct {
	Muted  map[string]bool // by kind of source
	Grants *signal.Grants  // instead of the ticket's
}

// Moderate changes what a participant may do. Errors: ErrNotFound, ErrOver, ErrNoParticipant.
func (l *Life) Moderate(ctx context.Context, room, participant string, m Moderation) (Room, *control.Participant, error) {
	var p *control.Participant
	r, err := l.order(ctx, room, func(next *Room) (_ []store.Write, err error) {
		if p, err = l.participant(ctx, room, participant); err != nil {
			return nil, err
		}
		before := *p
		p.Muted = muted(p.Muted, m.Muted)
		if m.Grants != nil {
			p.Grants, p.Ordered = *m.Grants, m.Grants
		}
		if slices.Equal(before.Muted, p.Muted) && (m.Grants == nil || before.Ordered != nil && sameGrants(*before.Ordered, *m.Grants)) {
			return nil, nil
		}
		p.OrderRev = next.OrderRev
		w, err := control.Put(p)
		return []store.Write{w}, err
	})
	return r, p, err
}

// muted is the list with what is set and cleared.
func muted(list []string, change map[string]bool) []string {
	var out []string
	for _, kind := range []string{signal.KindMic, signal.KindCamera, signal.KindScreen, signal.KindScreenAudio} {
		now, said := change[kind]
		if said && now || !said && slices.Contains(list, kind) {
			out = append(out, kind)
		}
	}
	return out
}

func sameGrants(a, b signal.Grants) bool {
	return slices.Equal(a.Publish, b.Publish) && a.Subscribe == b.Subscribe && a.Chat == b.Chat && a.Moderate == b.Moderate
}

// mostEjected is how many participants of one identity one order ejects.
const mostEjected = 90

// Eject ends a participation for good: its ticket and its resume secret are refused
// from the commit on. With ban so is its identity, whatever ticket it brings, and
// everybody who is in by that identity is ejected too.
// Errors: ErrNotFound, ErrOver, ErrNoParticipant.
func (l *Life) Eject(ctx context.Context, room, participant string, ban bool) (Room, *control.Participant, error) {
	var p *control.Participant
	r, err := l.order(ctx, room, func(next *Room) (writes []store.Write, err error) {
		if p, err = l.participant(ctx, room, participant); err != nil {
			return nil, err
		}
		out := []*control.Participant{p}
		if ban {
			if writes, err = l.ban(ctx, room, p.Identity); err != nil {
				return nil, err
			}
			if out, err = l.known(ctx, room, p); err != nil {
				return nil, err
			}
		}
		return l.eject(next, out, writes)
	})
	return r, p, err
}

// Ban refuses an identity, and ejects who is in by it. Errors: ErrNotFound, ErrOver.
func (l *Life) Ban(ctx context.Context, room, identity string) (Room, error) {
	return l.order(ctx, room, func(next *Room) ([]store.Write, error) {
		writes, err := l.ban(ctx, room, identity)
		if err != nil {
			return nil, err
		}
		out, err := l.known(ctx, room, &control.Participant{Identity: identity})
		if err != nil {
			return nil, err
		}
		return l.eject(next, out, writes)
	})
}

// eject adds the writes for those who are not out yet.
func (l *Life) eject(next *Room, out []*control.Participant, writes []store.Write) ([]store.Write, error) {
	for _, p := range out {
		if p.EjectedMS != 0 {
			continue
		}
		p.EjectedMS, p.OrderRev = l.nowMS(), next.OrderRev
		w, err := control.Put(p)
		if err != nil {
			return nil, err
		}
		writes = append(writes, w)
	}
	return writes, nil
}

// known are all who joined by an identity, first among them.
func (l *Life) known(ctx context.Context, room string, first *control.Participant) ([]*control.Participant, error) {
	all, err := control.LoadAll[control.Participant](ctx, l.Store, control.RoomPK(room), control.PartPrefix)
	if err != nil {
		return nil, fmt.Errorf("participants of %s: %w", room, err)
	}
	var out []*control.Participant
	if first.ID != "" {
		out = append(out, first)
	}
	for _, o := range all {
		if o.Identity == first.Identity && o.ID != first.ID && o.EjectedMS == 0 && len(out) < mostEjected {
			out = append(out, o)
		}
	}
	return out, nil
}

// ban is the write that bans an identity; none if it is banned.
func (l *Life) ban(ctx context.Context, room, identity string) ([]store.Write, error) {
	_, err := control.Load[control.Ban](ctx, l.Store, control.BanKey(room, identity))
	if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	w, err := control.Put(&control.Ban{Room: room, Identity: identity, AtMS: l.nowMS()})
	return []store.Write{w}, err
}

func (l *Life) participant(ctx context.Context, room, id string) (*control.Participant, error) {
	p, err := control.Load[control.Participant](ctx, l.Store, control.PartKey(room, id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrNoParticipant
	}
	return p, err
}

// ordersPerFrame keeps a frame below 64 KB: an order is some 250 bytes.
const ordersPerFrame = 200

// sendOrders tells the task what it has not carried out yet, and so the task that hands
// the room over to it: whoever is still there must hear of it, too. That task is told
// once; it is gone in a moment.
func (l *Life) sendOrders(ctx context.Context, r *Room) error {
	if r.OrderAck >= r.OrderRev || r.Link == "" && r.HandingLink == "" {
		return nil
	}
	all, err := control.LoadAll[control.Participant](ctx, l.Store, control.RoomPK(r.ID), control.PartPrefix)
	if err != nil {
		return fmt.Errorf("participants of %s: %w", r.ID, err)
	}
	var list []signal.Order
	for _, p := range all {
		if p.OrderRev > r.OrderAck {
			list = append(list, signal.Order{
				Participant: p.ID, Rev: p.OrderRev, Grants: p.Grants, Muted: p.Muted, Ejected: p.EjectedMS != 0,
			})
		}
	}
	var errs []error
	for _, link := range []string{r.HandingLink, r.Link} {
		if link != "" {
			errs = append(errs, l.postOrders(ctx, r, link, list))
		}
	}
	return errors.Join(errs...)
}

// postOrders posts to one link. The last frame completes the revision.
func (l *Life) postOrders(ctx context.Context, r *Room, link string, list []signal.Order) error {
	for {
		m := signal.Orders{Limits: r.Limits, Participants: list[:min(ordersPerFrame, len(list))]}
		list = list[len(m.Participants):]
		if len(list) == 0 {
			m.Rev = r.OrderRev
		}
		data, err := signal.Encode(signal.LinkOrders, 0, m)
		if err != nil {
			return fmt.Errorf("encode orders: %w", err)
		}
		if err := l.Post.Send(ctx, control.Conn{ID: link, Task: true}, data); err != nil {
			return fmt.Errorf("orders for %s: %w", r.ID, err)
		}
		if len(list) == 0 {
			return nil
		}
	}
}

// ordered notes what the task says that it has carried out, and tells it the rest.
func (l *Life) ordered(ctx context.Context, r *Room, rev uint64) error {
	if rev = min(rev, r.OrderRev); rev > r.OrderAck {
		err := l.Config.Retry.Do(ctx, func() error {
			now, err := control.Load[control.Room](ctx, l.Store, control.RoomKey(r.ID))
			if err != nil || now.Epoch != r.Epoch || now.OrderAck >= rev {
				return err
			}
			now.OrderAck = rev
			w, err := control.Put(now)
			if err != nil {
				return err
			}
			return l.Store.Commit(ctx, w)
		})
		if err != nil {
			return fmt.Errorf("orders of %s: %w", r.ID, err)
		}
		r.OrderAck = rev
	}
	return l.sendOrders(ctx, r)
}
