package life

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/control/ledger"
	"mayfly/functions/store"
	"mayfly/shared/signal"
)

// A relay's name. The task learns of it only when it leads there: who asks for a name
// that does not exist is told so, and remembers that for minutes. Until then clients have
// the relay's other ways. Each step is taken by whoever hears from the task next: its
// registration, its heartbeats, or its standing by, so that a pool's task has its name
// before it has a room.
const (
	// namingLimit is how long one frame of a task waits for the zone.
	namingLimit = 3 * time.Second
	// spreadAfterMS is when the zone is asked for the first time whether it has told all
	// its servers. That takes it up to a minute; its calls are counted.
	spreadAfterMS = 15_000
	// pointAgainMS is when a call of Point that nobody knows the end of is repeated.
	pointAgainMS = 10_000
	// goneForMS is for how long a call of Point may still be on its way: longer than the
	// socket function runs.
	goneForMS = 60_000
	// namelessMS is how old a name must be before its task, not listed, is asked for.
	namelessMS = 60_000
)

// named is the name of a task that registers, if it leads there. Else after makes it do so.
func (l *Life) named(ctx context.Context, arn, address string) (tls *signal.RelayTLS, after func(context.Context)) {
	if l.Naming == nil {
		return nil, nil
	}
	name, stands := l.Naming.Name(control.TaskID(arn))
	if !stands {
		n, err := control.Load[control.RelayName](ctx, l.Store, control.RelayNameKey(control.TaskID(arn)))
		if err != nil || n.State != control.NameLive {
			return nil, func(ctx context.Context) { l.name(ctx, arn, address) }
		}
	}
	return l.certificate(ctx, name), nil
}

// certificate gets it. Without one the relay does without TLS: most people need none.
func (l *Life) certificate(ctx context.Context, name string) *signal.RelayTLS {
	ctx, cancel := context.WithTimeout(ctx, namingLimit)
	defer cancel()
	tls, err := l.Naming.Certificate(ctx, name)
	if err != nil {
		l.Log.ErrorContext(ctx, "no certificate for the relay", "err", err)
		return nil
	}
	return tls
}

// name takes the next step, and returns the name if it leads to the task after it.
func (l *Life) name(ctx context.Context, arn, address string) *signal.RelayTLS {
	if l.Naming == nil || address == "" {
		return nil
	}
	name, stands := l.Naming.Name(control.TaskID(arn))
	if !stands {
		bounded, cancel := context.WithTimeout(ctx, namingLimit)
		defer cancel()
		live, err := l.nameStep(bounded, arn, name, address)
		switch {
		case errors.Is(err, control.ErrNamingBusy) || control.LostRace(err):
			l.Log.InfoContext(ctx, "naming left to the task's next frame", "task", arn, "err", err)
		case err != nil:
			l.Log.WarnContext(ctx, "naming left to the task's next frame", "task", arn, "err", err)
		}
		if !live {
			return nil
		}
	}
	return l.certificate(ctx, name)
}

// nameStep looks where the name stands. Losing a race leaves the step to the winner.
func (l *Life) nameStep(ctx context.Context, arn, name, address string) (live bool, err error) {
	n, err := control.Load[control.RelayName](ctx, l.Store, control.RelayNameKey(control.TaskID(arn)))
	switch {
	case errors.Is(err, store.ErrNotFound):
		// The record's item comes first: what is made can then be found, and removed.
		n = &control.RelayName{Task: arn, Name: name, Address: address, State: control.NameMaking, SinceMS: l.nowMS()}
		if err := l.putName(ctx, n); err != nil {
			return false, err
		}
		return false, l.point(ctx, n)
	case err != nil:
		return false, fmt.Errorf("load the name: %w", err)
	case n.State == control.NameMaking && l.nowMS()-n.SinceMS >= pointAgainMS:
		return false, l.point(ctx, n)
	case n.State == control.NameSpreading && l.nowMS()-n.SinceMS >= spreadAfterMS:
		spread, err := l.Naming.Spread(ctx, n.Change)
		if err != nil || !spread {
			return false, err
		}
		n.State, n.Change, n.SinceMS = control.NameLive, "", l.nowMS()
		return true, l.putName(ctx, n)
	}
	return n.State == control.NameLive, nil
}

// point makes the record. If its task has stopped meanwhile, the commit does not find
// what it believes, and the sweep removes the record.
func (l *Life) point(ctx context.Context, n *control.RelayName) error {
	change, err := l.Naming.Point(ctx, n.Name, n.Address)
	if err != nil {
		return err
	}
	n.State, n.Change, n.SinceMS = control.NameSpreading, change, l.nowMS()
	return l.putName(ctx, n)
}

// putName commits a name, which holds its next version then.
func (l *Life) putName(ctx context.Context, n *control.RelayName) error {
	w, err := control.Put(n)
	if err != nil {
		return err
	}
	if err := l.Store.Commit(ctx, w); err != nil {
		return fmt.Errorf("store the name: %w", err)
	}
	n.Ver++
	return nil
}

// unname removes the name of a task that has stopped. What fails is left to the sweep.
func (l *Life) unname(ctx context.Context, arn string) {
	if l.Naming == nil {
		return
	}
	if err := l.removeName(ctx, arn); err != nil {
		l.Log.WarnContext(ctx, "removing a name left to the sweep", "task", arn, "err", err)
	}
}

// removeName removes the record, and then its item. While a call of Point may be on its
// way the item stays: the record could come back, and somebody else get its address.
func (l *Life) removeName(ctx context.Context, arn string) error {
	return l.Config.Retry.Do(ctx, func() error {
		n, err := control.Load[control.RelayName](ctx, l.Store, control.RelayNameKey(control.TaskID(arn)))
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("load the name: %w", err)
		}
		if n.State == control.NameGone && l.nowMS()-n.SinceMS < goneForMS {
			return nil
		}
		making := n.State == control.NameMaking
		if making {
			n.State, n.SinceMS = control.NameGone, l.nowMS()
			if err := l.putName(ctx, n); err != nil {
				return err
			}
		}
		if err := l.Naming.Remove(ctx, n.Name, n.Address); err != nil || making {
			return err
		}
		if err := l.Store.Commit(ctx, control.Remove(n)); err != nil {
			return fmt.Errorf("forget the name: %w", err)
		}
		return nil
	})
}

// sweepNames removes the names of tasks that have stopped and whose event was lost.
// running are the tasks that ECS lists.
func (l *Life) sweepNames(ctx context.Context, running map[string]bool) error {
	if l.Naming == nil {
		return nil
	}
	names, err := control.LoadAll[control.RelayName](ctx, l.Store, control.NamesPK, control.NamePrefix)
	if err != nil {
		return fmt.Errorf("load the names: %w", err)
	}
	var errs []error
	for _, n := range names {
		if running[n.Task] || !l.nameless(ctx, n) {
			continue
		}
		err := l.removeName(ctx, n.Task)
		if errors.Is(err, control.ErrNamingBusy) {
			return errors.Join(errs...) // the next pass goes on
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// nameless says whether the task of a name has stopped. The list of running ones may be
// behind, so that not being in it proves nothing.
func (l *Life) nameless(ctx context.Context, n *control.RelayName) bool {
	age := l.nowMS() - n.SinceMS
	if age < namelessMS {
		return false
	}
	t, err := l.Fleet.Describe(ctx, n.Task)
	if errors.Is(err, control.ErrTaskUnknown) {
		return age >= orphanAgeMS
	}
	return err == nil && t.LastStatus == ledger.Stopped
}
