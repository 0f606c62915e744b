package life

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/oklog/ulid/v2"

	"mayfly/functions/control"
	"mayfly/functions/control/ledger"
	"mayfly/functions/control/pool"
	"mayfly/functions/control/shape"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
)

// defaultPoolTenant is whose bill the pool is on.
const defaultPoolTenant = "operator"

// slotRequest is the same for the same slot, whenever it is asked.
func slotRequest(s *control.Slot) control.StartRequest {
	return control.StartRequest{Slot: s.ID, Token: s.ID, Region: s.Region, Revision: s.Revision, Shape: s.Shape}
}

// parseSlot is the inverse of slotRequest's StartedBy.
func parseSlot(startedBy string) (slot string, ok bool) { return strings.CutPrefix(startedBy, "pool/") }

// sweepPool brings the pool to its size: it asks for tasks, stops those that are not
// wanted, and settles those that have stopped. running are the tasks that ECS lists.
func (l *Life) sweepPool(ctx context.Context, running map[string]bool) error {
	head, err := control.Load[control.PoolHead](ctx, l.Store, control.PoolHeadKey())
	if errors.Is(err, store.ErrNotFound) {
		head, err = &control.PoolHead{}, nil
	}
	if err != nil {
		return fmt.Errorf("load the pool: %w", err)
	}
	slots, err := control.LoadAll[control.Slot](ctx, l.Store, control.PoolPK, control.SlotPrefix)
	if err != nil {
		return fmt.Errorf("load the pool: %w", err)
	}
	var errs []error
	view := make([]pool.Slot, 0, len(slots))
	byID := make(map[string]*control.Slot, len(slots))
	for _, s := range slots {
		byID[s.ID] = s
		state := s.State
		if s.Run.Task.StoppingMS != 0 && state != pool.Claimed { // ECS takes it back
			state = pool.Leaving
		}
		view = append(view, pool.Slot{
			ID: s.ID, Size: s.Size, Revision: s.Revision, State: state, Known: s.Run.Task.ARN != "",
			CreatedMS: s.CreatedMS, AskedMS: s.AskedMS, SeenMS: s.SeenMS, Refusals: s.Refusals,
		})
		if s.State == pool.Claimed || s.State == pool.Leaving || !running[s.Run.Task.ARN] {
			errs = append(errs, l.chase(ctx, s, running))
		}
	}
	for _, a := range l.Config.PoolRules.Decide(l.nowMS(), l.Config.Pool, l.Config.Revisions.Stable, view) {
		switch a.Kind {
		case pool.Start:
			err := l.newSlot(ctx, head, a.Size)
			if control.LostRace(err) {
				return errors.Join(errs...) // another sweep does the same
			}
			errs = append(errs, err)
		case pool.Again:
			errs = append(errs, l.startSlot(ctx, byID[a.Slot]))
		case pool.Retire:
			errs = append(errs, l.retire(ctx, a.Slot, a.Reason))
		}
	}
	return errors.Join(errs...)
}

// newSlot commits a slot, and asks for its task: no task can run without its slot.
func (l *Life) newSlot(ctx context.Context, head *control.PoolHead, size string) error {
	now := l.Now()
	id, err := ulid.New(ulid.Timestamp(now), rand.Reader)
	if err != nil {
		return fmt.Errorf("slot id: %w", err)
	}
	book, err := l.Books.Current(ctx, now.UnixMilli())
	if err != nil {
		return fmt.Errorf("new slot: %w", err)
	}
	s := &control.Slot{
		ID: "pool_" + id.String(), Size: size, Shape: shape.Of(size), Revision: l.Config.Revisions.Stable, Region: l.Config.Region,
		PriceBook: book.ID, State: pool.Asked, CreatedMS: now.UnixMilli(), AskedMS: now.UnixMilli(),
	}
	s.Run.Asked, s.Run.AskedMS = s.Shape, s.CreatedMS
	head.Made++
	made, err := control.Put(s)
	if err != nil {
		return err
	}
	counted, err := control.Put(head)
	if err != nil {
		return err
	}
	if err := l.Store.Commit(ctx, made, counted); err != nil {
		return fmt.Errorf("new slot: %w", err)
	}
	head.Ver++
	return l.startSlot(ctx, s)
}

// startSlot calls RunTask for a slot and records the answer. A refusal is no error: the
// pool is a matter of speed.
func (l *Life) startSlot(ctx context.Context, s *control.Slot) error {
	t, err := l.Fleet.Start(ctx, slotRequest(s))
	no := errors.Is(err, control.ErrNoCapacity) || errors.Is(err, control.ErrBusy) || errors.Is(err, control.ErrRefused)
	if no {
		l.Log.WarnContext(ctx, "standby task refused", "slot", s.ID, "size", s.Size, "err", err)
	} else if err != nil {
		err = fmt.Errorf("start standby task of %s: %w", s.ID, err)
	}
	cerr := l.changeSlot(ctx, s.ID, func(s *control.Slot) bool {
		if s.State != pool.Asked || s.Run.Task.ARN != "" {
			return false
		}
		s.AskedMS = l.nowMS()
		switch {
		case err == nil:
			s.Refusals = 0
			ledger.Merge(&s.Run, t, control.FromDescribe)
		case no:
			s.Refusals++
		}
		return true
	})
	if no {
		return cerr
	}
	return errors.Join(err, cerr)
}

// changeSlot loads, changes and stores a slot. One that is gone is no error.
func (l *Life) changeSlot(ctx context.Context, slot string, change func(*control.Slot) bool) error {
	err := l.Config.Retry.Do(ctx, func() error {
		s, err := control.Load[control.Slot](ctx, l.Store, control.SlotKey(slot))
		if err != nil {
			return err
		}
		if !change(s) {
			return nil
		}
		w, err := control.Put(s)
		if err != nil {
			return err
		}
		return l.Store.Commit(ctx, w)
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("change %s: %w", slot, err)
	}
	return nil
}

// retire takes a slot out of the pool, unless a room was faster, and stops its task.
func (l *Life) retire(ctx context.Context, slot, reason string) error {
	arn := ""
	err := l.changeSlot(ctx, slot, func(s *control.Slot) bool {
		if s.State != pool.Asked && s.State != pool.Standby {
			return false
		}
		s.State, arn = pool.Leaving, s.Run.Task.ARN
		return true
	})
	if err != nil || arn == "" {
		return err
	}
	l.Log.InfoContext(ctx, "standby task retired", "slot", slot, "reason", reason)
	return l.stop(ctx, slot, arn, "standby, "+reason)
}

// chase looks after a slot whose task may be over, or is to be.
func (l *Life) chase(ctx context.Context, s *control.Slot, running map[string]bool) error {
	arn := s.Run.Task.ARN
	switch {
	case s.State == pool.Claimed:
		return l.settleSlot(ctx, s.ID) // once the room knows its task's end
	case arn == "" && s.State == pool.Leaving:
		return l.noTask(ctx, s)
	case arn == "":
		return nil
	case running[arn]:
		return l.stop(ctx, s.ID, arn, "standby, leaving")
	}
	t, err := l.Fleet.Describe(ctx, arn)
	if errors.Is(err, control.ErrTaskUnknown) {
		if l.nowMS()-s.AskedMS < l.Config.Rules.WithDefaults().AskGraceMS {
			return nil
		}
		return l.slotGone(ctx, s.ID)
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", s.ID, err)
	}
	return l.slotWord(ctx, s.ID, t, control.FromDescribe, l.search)
}

// noTask lets a slot go that never had a task, once no call can start one any more.
func (l *Life) noTask(ctx context.Context, s *control.Slot) error {
	if l.nowMS()-s.AskedMS < l.Config.Rules.WithDefaults().AskGraceMS {
		return nil
	}
	tasks, err := l.Fleet.Find(ctx, slotRequest(s).StartedBy())
	if err != nil {
		return fmt.Errorf("find task of %s: %w", s.ID, err)
	}
	if len(tasks) == 0 {
		return l.slotGone(ctx, s.ID)
	}
	return l.slotWord(ctx, s.ID, tasks[0], control.FromDescribe, l.search)
}

// slotGone takes ECS's not knowing a slot's task for its end: at its last word.
func (l *Life) slotGone(ctx context.Context, slot string) error {
	err := l.changeSlot(ctx, slot, func(s *control.Slot) bool {
		s.Run.ReportedMS = s.SeenMS
		return s.State != pool.Claimed && ledger.MergeGone(&s.Run)
	})
	return errors.Join(err, l.settleSlot(ctx, slot))
}

// slotWord takes ECS's word on the task of a slot: the slot's, or the room's that
// claimed it.
func (l *Life) slotWord(ctx context.Context, slot string, t control.Task, from string, do doer) error {
	s, err := control.Load[control.Slot](ctx, l.Store, control.SlotKey(slot))
	if errors.Is(err, store.ErrNotFound) {
		return l.lateSlotWord(ctx, slot, t, from, do)
	}
	if err != nil {
		return fmt.Errorf("load %s: %w", slot, err)
	}
	if s.State != pool.Claimed {
		err := l.changeSlot(ctx, slot, func(now *control.Slot) bool {
			s = now
			return now.State != pool.Claimed && ledger.Merge(&now.Run, t, from)
		})
		if err != nil {
			return err
		}
	}
	if s.State == pool.Claimed {
		err = l.word(ctx, s.Room, s.Epoch, t, lifecycle.TaskSeen, from, do)
	} else if t.LastStatus != ledger.Stopped && s.Run.Task.ARN != t.ARN {
		err = l.stop(ctx, slot, t.ARN, "a second task of a slot")
	}
	return errors.Join(err, l.settleSlot(ctx, slot))
}

// lateSlotWord is ECS's word on a task whose slot is settled, or never was.
func (l *Life) lateSlotWord(ctx context.Context, slot string, t control.Task, from string, do doer) error {
	gone, err := control.Load[control.GoneSlot](ctx, l.Store, control.GoneSlotKey(slot))
	switch {
	case err == nil && gone.Room != "":
		return l.word(ctx, gone.Room, gone.Epoch, t, lifecycle.TaskSeen, from, do)
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("load %s: %w", slot, err)
	case t.LastStatus == ledger.Stopped || l.nowMS()-t.CreatedMS < orphanAgeMS:
		return nil
	}
	l.Log.WarnContext(ctx, "stopping a standby task without a slot", "task", t.ARN, "slot", slot)
	return l.stop(ctx, slot, t.ARN, "orphan")
}

// settleSlot lets a slot go whose task has stopped, with the bill of its standing by,
// in one commit. What a room used of it the room's own epoch says.
func (l *Life) settleSlot(ctx context.Context, slot string) error {
	err := l.Config.Retry.Do(ctx, func() error {
		s, err := control.Load[control.Slot](ctx, l.Store, control.SlotKey(slot))
		if err != nil {
			return err
		}
		run := &s.Run
		if s.State == pool.Claimed {
			if run, err = control.Load[control.Epoch](ctx, l.Store, control.EpochKey(s.Room, s.Epoch)); err != nil {
				return err
			}
		}
		if !run.Stopped {
			return nil
		}
		docs := []control.Doc{&control.GoneSlot{ID: s.ID, Room: s.Room, Epoch: s.Epoch, GoneMS: l.nowMS()}}
		bill, err := l.ledger().Standby(ctx, s, run, cmp.Or(l.Config.PoolTenant, defaultPoolTenant))
		if err != nil {
			return err
		}
		if bill != nil {
			docs = append(docs, bill)
		}
		writes := []store.Write{control.Remove(s)}
		for _, d := range docs {
			w, err := control.Put(d)
			if err != nil {
				return err
			}
			writes = append(writes, w)
		}
		return l.Store.Commit(ctx, writes...)
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("settle %s: %w", slot, err)
	}
	return nil
}
