package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ticks tell a period by the kernel's clock, precise to some 50 µs. Go's own timers end
// when epoll_wait does, which counts whole milliseconds: publishers whose time comes within
// the same one would send at the same moment, and a burst of several is another load.
type ticks struct{ f *os.File }

// newTicks begins at from, on the clock of nanos, which may be over.
func newTicks(from, period time.Duration) (*ticks, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("timer: %w", err)
	}
	first := max(from-time.Duration(nanos()), 1)
	err = unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{
		Value: unix.NsecToTimespec(int64(first)), Interval: unix.NsecToTimespec(int64(period)),
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("timer: %w", err)
	}
	return &ticks{os.NewFile(uintptr(fd), "timer")}, nil
}

// wait returns when at least one period is over that no call has told yet.
func (t *ticks) wait() error {
	var expired [8]byte
	_, err := t.f.Read(expired[:])
	return err
}
