package control

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"mayfly/functions/store"
)

// Retry repeats load → decide → commit while commits lose races. The zero value
// is ready: 20 tries, the wait before each doubling from 2 ms to 250 ms, all of it
// random, so that a hundred callers that collide once do not collide again.
type Retry struct {
	Tries int
	Base  time.Duration
	Max   time.Duration
	// Sleep waits; nil means a timer. Tests put their own here.
	Sleep func(ctx context.Context, d time.Duration) error
	// Random is a number in [0, 1); nil means math/rand.
	Random func() float64
}

// Do calls f until it returns anything but a conflict or a throttle of the store.
// f must load what it decides on afresh each time. The last error is returned.
func (r Retry) Do(ctx context.Context, f func() error) error {
	tries, wait, most := r.Tries, r.Base, r.Max
	if tries <= 0 {
		tries = 20
	}
	if wait <= 0 {
		wait = 2 * time.Millisecond
	}
	if most <= 0 {
		most = 250 * time.Millisecond
	}
	for try := 1; ; try++ {
		err := f()
		if err == nil || !LostRace(err) && !errors.Is(err, store.ErrThrottled) || try >= tries {
			return err
		}
		if serr := r.Pause(ctx, time.Duration(r.Float64()*float64(wait))); serr != nil {
			return errors.Join(err, serr)
		}
		wait = min(wait*2, most)
	}
}

// Pause waits for d, or returns the error of a context that ended.
func (r Retry) Pause(ctx context.Context, d time.Duration) error {
	if r.Sleep != nil {
		return r.Sleep(ctx, d)
	}
	return sleepTimer(ctx, d)
}

// Float64 is a random number in [0, 1).
func (r Retry) Float64() float64 {
	if r.Random != nil {
		return r.Random()
	}
	return rand.Float64()
}

// LostRace says that err is a commit that found another version than it believed.
func LostRace(err error) bool {
	var c *store.ConflictError
	return errors.As(err, &c)
}

func sleepTimer(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
