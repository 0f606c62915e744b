package main

import (
	"bytes"
	"fmt"
	"math/bits"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// clockTick is the unit of /proc/<pid>/stat: USER_HZ is 100 on every architecture
// that Go runs Linux on. The kernel derives the sum of both times from the scheduler's
// own account in nanoseconds, so it is not sampled.
const clockTick = 10 * time.Millisecond

// processor reads the processor time of the server and of this process.
func (g *generator) processor() (server, own time.Duration, err error) {
	if server, err = processorOf(g.PID); err != nil {
		return 0, 0, err
	}
	own, err = processorOf(os.Getpid())
	return server, own, err
}

// processorOf is user and system time of all threads.
func processorOf(pid int) (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, ok := bytes.Cut(raw, []byte(") ")) // the name may hold spaces
	f := bytes.Fields(rest)
	if !ok || len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat cannot be read", pid)
	}
	var sum time.Duration
	for _, n := range f[11:13] { // utime and stime, proc_pid_stat(5)
		ticks, err := strconv.ParseInt(string(n), 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ticks) * clockTick
	}
	return sum, nil
}

// memoryUse is the resident set in bytes, and what of it is pages of files: the program's
// code, which is read as it is used first.
type memoryUse struct{ RSS, Code int64 }

func memory(pid int) (m memoryUse, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return m, err
	}
	f := bytes.Fields(raw)
	if len(f) < 3 {
		return m, fmt.Errorf("/proc/%d/statm cannot be read", pid)
	}
	for i, to := range []*int64{&m.RSS, &m.Code} {
		pages, err := strconv.ParseInt(string(f[1+i]), 10, 64)
		if err != nil {
			return m, err
		}
		*to = pages * int64(os.Getpagesize())
	}
	return m, nil
}

// ahead is the nice value of what is measured, so that little else on the machine
// comes between.
const ahead = -15

// startPinned starts a process on one processor and ahead of what else the machine
// does. It is a session of its own, since Linux shares the processor among sessions
// first (sched(7), autogroup), and ends with this one. On a machine with one processor,
// or without the right to be ahead, it goes without.
func startPinned(cmd *exec.Cmd, cpu int) error {
	runtime.LockOSThread() // the process inherits from this thread
	defer runtime.UnlockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err == nil && before.Count() > 1 {
		one.Set(nth(before, cpu))
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			return fmt.Errorf("pin to a processor: %w", err)
		}
		defer func() { _ = unix.SchedSetaffinity(0, &before) }()
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	_ = unix.Setpriority(unix.PRIO_PROCESS, cmd.Process.Pid, ahead)
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", cmd.Process.Pid), []byte(strconv.Itoa(ahead)), 0)
	return nil
}

// nth is the number of the n-th processor of a set.
func nth(set unix.CPUSet, n int) int {
	for cpu := 0; ; cpu++ {
		if set.IsSet(cpu) {
			if n == 0 {
				return cpu
			}
			n--
		}
	}
}

// histogram counts durations in steps of about 6 %, from a microsecond on.
type histogram struct{ counts [64 * perOctave]atomic.Int64 }

const perOctave = 12 // buckets; a power of two would waste resolution on shifts alone

func bucket(d time.Duration) int {
	us := uint64(max(d.Microseconds(), 1))
	octave := bits.Len64(us) - 1
	return octave*perOctave + int((us-1<<octave)*perOctave>>octave)
}

func (h *histogram) add(d time.Duration) { h.counts[bucket(d)].Add(1) }

func (h *histogram) reset() {
	for i := range h.counts {
		h.counts[i].Store(0)
	}
}

func (h *histogram) merge(o *histogram) {
	for i := range h.counts {
		if n := o.counts[i].Load(); n > 0 {
			h.counts[i].Add(n)
		}
	}
}

// quantile is the upper edge of the bucket that holds it.
func (h *histogram) quantile(q float64) time.Duration {
	var total, sum int64
	for i := range h.counts {
		total += h.counts[i].Load()
	}
	for i := range h.counts {
		if sum += h.counts[i].Load(); total > 0 && float64(sum) >= q*float64(total) {
			octave, part := i/perOctave, i%perOctave
			return time.Duration((1<<octave)*(perOctave+part+1)/perOctave) * time.Microsecond
		}
	}
	return 0
}
