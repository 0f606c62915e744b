package entry

import (
	"context"
	"log/slog"
	"time"

	"mayfly/functions/control/life"
)

// The scheduler's finest schedule is a minute, but a start that ECS refused is asked
// for again after 2, 4 and 8 s, and everybody who waits for a room whose event was
// lost waits for the sweep. So one scheduled invocation sweeps several times, until
// the next one is due.
const (
	sweepPause = 12 * time.Second
	// sweepSpare is the time that the last pass is left before the function times out.
	sweepSpare = 5 * time.Second
)

// sweeper is the scheduled invocation of the lifecycle function.
type sweeper struct {
	life *life.Life
	now  func() time.Time
	wait func(context.Context, time.Duration) error
	log  *slog.Logger
	long time.Duration // how long it goes on
}

func (d Deps) sweeper() *sweeper {
	s := &sweeper{life: d.life(), now: d.Now, wait: d.Wait, log: d.Log, long: d.Config.SweepFor}
	if s.wait == nil {
		s.wait = pause
	}
	return s
}

// run sweeps until its time is over, or no room is left to look at. Its error is
// that of the last pass: what an earlier one could not do, a later one did.
func (s *sweeper) run(ctx context.Context) error {
	began := s.now()
	for {
		err := s.life.Sweep(ctx)
		if !s.fits(ctx, began) {
			return err
		}
		if busy, berr := s.life.Busy(ctx); berr == nil && !busy && err == nil {
			return nil
		}
		if err != nil {
			s.log.WarnContext(ctx, "a pass of the sweep failed", "err", err)
		}
		if werr := s.wait(ctx, sweepPause); werr != nil {
			return err // the invocation ends, which is the sweep's error or none
		}
	}
}

// fits says whether there is time for another pass.
func (s *sweeper) fits(ctx context.Context, began time.Time) bool {
	next := s.now().Add(sweepPause)
	if next.Sub(began) > s.long {
		return false
	}
	limit, ok := ctx.Deadline()
	return !ok || !next.Add(sweepSpare).After(limit)
}

// pause waits on the machine's clock.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
