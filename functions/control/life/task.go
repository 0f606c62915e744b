package life

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"mayfly/functions/control"
	"mayfly/functions/control/ledger"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
)

// startedBy is how ECS remembers whose task it is.
func startedBy(room string, epoch int) string {
	return control.StartRequest{Room: room, Epoch: epoch}.StartedBy()
}

// parseStartedBy is the inverse of startedBy.
func parseStartedBy(s string) (room string, epoch int, ok bool) {
	rest, ok := strings.CutPrefix(s, "room/")
	if !ok {
		return "", 0, false
	}
	room, n, ok := strings.Cut(rest, "/")
	epoch, err := strconv.Atoi(n)
	return room, epoch, ok && err == nil && room != "" && epoch > 0
}

// Allocate claims the start of a requested room and starts its task. Somebody else
// having done so is no error.
func (l *Life) Allocate(ctx context.Context, room string) error {
	r, todo, err := l.step(ctx, room, lifecycle.Event{Kind: lifecycle.Claim}, nil)
	if _, refused := refusal(err); refused {
		return nil
	}
	if err != nil {
		return err
	}
	return l.act(ctx, r, todo, l.run)
}

func (l *Life) stop(ctx context.Context, room, task, reason string) error {
	if err := l.Fleet.Stop(ctx, task, "mayfly: "+reason); err != nil {
		return fmt.Errorf("stop task of %s: %w", room, err)
	}
	return nil
}

// TaskChanged takes ECS's word on a task, in any order and any number of times.
// Tasks that are not a room's are passed over.
func (l *Life) TaskChanged(ctx context.Context, t control.Task) error {
	if t.LastStatus == ledger.Stopped {
		defer l.unname(ctx, t.ARN)
	}
	if slot, ok := parseSlot(t.StartedBy); ok {
		return l.slotWord(ctx, slot, t, control.FromEvent, l.search)
	}
	room, epoch, ok := parseStartedBy(t.StartedBy)
	if !ok {
		return nil
	}
	err := l.word(ctx, room, epoch, t, lifecycle.TaskSeen, control.FromEvent, l.search)
	if errors.Is(err, ErrNotFound) {
		return nil // the sweep stops tasks that have no room
	}
	return err
}

// word feeds ECS's word on a task to its room and to the ledger, in one commit, and
// acts on it as far as do may. seen is the event of a task that has not stopped.
func (l *Life) word(ctx context.Context, room string, epoch int, t control.Task, seen lifecycle.Kind, from string, do doer) error {
	e := lifecycle.Event{Kind: seen, Epoch: epoch, Task: t.ARN, Version: t.Version, Phase: phaseOf(t), Stopping: stopping(t)}
	if t.LastStatus == ledger.Stopped {
		e.Kind, e.Clean = lifecycle.TaskStopped, clean(t)
	}
	accepted := l.nowMS()
	return l.proof(ctx, room, e, said{&t, from, func(ep *control.Epoch) bool {
		changed := ledger.Merge(ep, t, from)
		if changed && seen == lifecycle.Started && ep.AcceptedMS == 0 {
			ep.AcceptedMS = accepted
		}
		return changed
	}}, do)
}

// said is what was learnt of a task, and how it changes the epoch's usage.
type said struct {
	task  *control.Task // ECS's word; nil if it knows no such task
	from  string        // provenance: control.From…
	merge func(*control.Epoch) bool
}

// proof steps the room by an event about an epoch's task, and merges it into the
// epoch's usage in the same commit. do carries out what follows. What comes after
// the bill was closed is for the ledger to correct.
func (l *Life) proof(ctx context.Context, room string, e lifecycle.Event, w said, do doer) error {
	var was, is control.Epoch
	late := false
	r, todo, err := l.step(ctx, room, e, func(_, _ *Room) ([]store.Write, error) {
		ep, err := control.Load[control.Epoch](ctx, l.Store, control.EpochKey(room, e.Epoch))
		if err != nil {
			return nil, fmt.Errorf("load epoch %d: %w", e.Epoch, err)
		}
		was = *ep
		changed := w.merge(ep)
		if is = *ep; !changed {
			return nil, nil
		}
		put, err := control.Put(ep)
		if err != nil || !was.Stopped {
			return []store.Write{put}, err
		}
		// A change of a stopped epoch is a change of the ledger.
		touch, closed, err := l.ledger().Touch(ctx, room)
		if late = closed; closed || err != nil {
			return nil, err
		}
		return []store.Write{put, touch}, nil
	})
	if code, refused := refusal(err); refused {
		l.Log.WarnContext(ctx, "word of an epoch that the room has not reached", "room", room, "epoch", e.Epoch, "code", code)
		return nil
	}
	if err != nil {
		return err
	}
	err = l.act(ctx, r, todo, do)
	switch {
	case late && w.task != nil:
		err = errors.Join(err, l.ledger().CorrectTask(ctx, room, e.Epoch, *w.task, w.from))
	case was.Stopped && is.StoppedFrom != was.StoppedFrom:
		err = errors.Join(err, l.ledger().Rebound(ctx, room, e.Epoch))
	case is.Stopped && e.Kind == lifecycle.TaskStopped:
		err = errors.Join(err, l.ledger().Bound(ctx, room, e.Epoch))
	}
	return err
}

// phaseOf translates ECS's status for people who wait.
func phaseOf(t control.Task) string {
	switch t.LastStatus {
	case "PROVISIONING":
		return lifecycle.PhaseProvisioning
	case "PENDING":
		switch {
		case t.PullStoppedMS > 0:
			return lifecycle.PhaseBooting
		case t.PullStartedMS > 0:
			return lifecycle.PhasePulling
		}
		return lifecycle.PhaseProvisioning
	case "ACTIVATING", "RUNNING":
		return lifecycle.PhaseBooting
	}
	return ""
}

// stopping says that the task will be stopped, and that its process may still serve.
func stopping(t control.Task) bool {
	switch t.LastStatus {
	case "RUNNING", "DEACTIVATING", "STOPPING":
		return t.StoppingMS != 0 && t.ExitCode == nil && t.ExecStoppedMS == 0
	}
	return false
}

// clean says that the task ended by its own decision: nobody stopped it, and its
// exit code says that the room is over.
func clean(t control.Task) bool {
	return t.ExitCode != nil && *t.ExitCode == 0 && (t.StopCode == "" || t.StopCode == "EssentialContainerExited")
}

// look asks ECS about a task and feeds the answer back.
func (l *Life) look(ctx context.Context, room string, epoch int, arn string) error {
	t, err := l.Fleet.Describe(ctx, arn)
	if errors.Is(err, control.ErrTaskUnknown) {
		return l.unknown(ctx, room, epoch, arn)
	}
	if err != nil {
		return fmt.Errorf("look at task of %s: %w", room, err)
	}
	return l.word(ctx, room, epoch, t, lifecycle.TaskSeen, control.FromDescribe, l.search)
}

// find asks ECS whether an epoch has a task at all. Stopped tasks are not listed,
// but none listed long after the last RunTask is proof enough that none runs.
func (l *Life) find(ctx context.Context, room string, epoch int) error {
	tasks, err := l.Fleet.Find(ctx, startedBy(room, epoch))
	if err != nil {
		return fmt.Errorf("find task of %s: %w", room, err)
	}
	if len(tasks) == 0 {
		return l.unknown(ctx, room, epoch, "")
	}
	var errs []error
	for _, t := range tasks {
		errs = append(errs, l.word(ctx, room, epoch, t, lifecycle.TaskSeen, control.FromDescribe, l.search))
	}
	return errors.Join(errs...)
}

// unknown takes ECS's not knowing a task for its end, once it is too late for
// "not yet".
func (l *Life) unknown(ctx context.Context, room string, epoch int, arn string) error {
	ep, err := control.Load[control.Epoch](ctx, l.Store, control.EpochKey(room, epoch))
	if err != nil {
		return fmt.Errorf("load epoch %d of %s: %w", epoch, room, err)
	}
	r, err := l.Get(ctx, room)
	if err != nil {
		return err
	}
	// A start is repeated for a while, so the task may be much younger than its epoch.
	asked, sure := max(ep.AskedMS, ep.AcceptedMS, ep.Task.CreatedMS), false
	if epoch == r.Epoch {
		asked, sure = max(asked, r.AskedMS), arn == "" && r.AskedMS != 0 && r.Open == 0 // ECS has refused every call
	}
	if !sure && l.nowMS() < asked+l.Config.Rules.WithDefaults().AskGraceMS {
		return nil
	}
	e := lifecycle.Event{Kind: lifecycle.TaskStopped, Epoch: epoch, Task: arn}
	return l.proof(ctx, room, e, said{nil, control.FromSweep, func(ep *control.Epoch) bool {
		return ep.Task.ARN == arn && ledger.MergeGone(ep) // else its task has become known meanwhile
	}}, l.search)
}
