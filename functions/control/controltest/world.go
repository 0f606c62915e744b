// Package controltest gives the control plane's tests a world to live in: a clock
// that is moved by hand, a fleet that keeps ECS's promises and no more (fleet.go), a
// gateway that records what is posted (post.go), and a process that crashes at a
// chosen effect, before or after it happened (crash.go).
//
// Nothing here is a mock of the control plane's own code: the fakes hold state and
// keep to the interfaces' contracts. Only tests import it. Read fleet.go first.
package controltest

import (
	"sync"
	"time"
)

// Clock tells the time that the test sets.
type Clock struct {
	mu  sync.Mutex
	now time.Time // guarded by mu
}

// NewClock starts in 2026, on a whole second.
func NewClock() *Clock {
	return &Clock{now: time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)}
}

// Now is a control.Clock.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// MS is Now in Unix milliseconds.
func (c *Clock) MS() int64 { return c.Now().UnixMilli() }

// Advance moves the time on.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
