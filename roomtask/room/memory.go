package room

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"mayfly/roomtask/metrics"
)

// gcPercent is how much garbage may gather beside what is in use. What a room holds
// is mostly the state of connections, which lives as long as they do, and the packet
// path makes no garbage: so the collector runs every few seconds even at a fifth of Go's
// default.
const gcPercent = 20

// At rest, where nobody comes or goes, there is little garbage. A join makes a megabyte
// of it, and the collector must not run for each. Where the processor is what is short,
// memory is spent instead: at ten publishers and fifty viewers the collector takes 4.6 %
// of the processor at 5 %, in a task that is held to half of what it needs 17 %.
const (
	restPercent     = 5
	busyPercent     = 10 // with busy of all processors in use
	veryBusyPercent = 20
	shortPercent    = 50 // with pictures withheld
	busy, veryBusy  = 0.4, 0.6
	busyMargin      = 0.1 // below which it must fall again
)

// restAfter is how long nobody must have come or gone.
const restAfter = 3 * time.Second

// Collector sets the garbage collector by what the room does. Its methods may be called
// from any goroutine.
type Collector struct {
	withheld func() float64 // set once

	// guarded by mu
	mu      sync.Mutex
	resting bool
	percent int
	cpu     float64 // seconds, at the last look
	at      time.Time
}

// NewCollector makes one that asks which share of the pictures is withheld because the
// processor does not suffice.
func NewCollector(withheld func() float64) *Collector {
	return &Collector{withheld: withheld, percent: gcPercent}
}

// Rest is for Config.Rest. At rest it also gives back to the system what joins have left.
func (c *Collector) Rest(resting bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resting = resting
	if resting {
		c.set(restPercent)
		go debug.FreeOSMemory() // collects, which takes some 20 ms of a processor
	} else {
		c.set(max(c.percent, gcPercent))
	}
}

// Look is for Config.Judged.
func (c *Collector) Look(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cpu, took := metrics.CPUSeconds(), now.Sub(c.at).Seconds()
	if !c.at.IsZero() && took > 0 {
		used := (cpu - c.cpu) / took / float64(runtime.GOMAXPROCS(0))
		c.set(percentFor(c.percent, c.resting, used, c.withheld() > 0))
	}
	c.cpu, c.at = cpu, now
}

// set is called with mu held.
func (c *Collector) set(percent int) {
	if percent != c.percent && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
	c.percent = percent
}

// percentFor is how much garbage may gather, where it was percent, with such a share of
// the processors used.
func percentFor(percent int, resting bool, used float64, short bool) int {
	least := gcPercent
	if resting {
		least = restPercent
	}
	for _, step := range []struct {
		percent int
		from    float64
	}{{veryBusyPercent, veryBusy}, {busyPercent, busy}} {
		if used >= step.from || percent >= step.percent && used >= step.from-busyMargin {
			least = max(least, step.percent)
		}
	}
	if short {
		return shortPercent
	}
	return least
}

// rest is when a room is at rest. It is pure.
type rest struct {
	busyAt  time.Time // when somebody came or went last; zero: nobody did since it rests
	resting bool
}

// busy notes that somebody comes or goes, and says whether that ends a rest.
func (r *rest) busy(now time.Time) (ended bool) {
	ended = r.resting
	*r = rest{busyAt: now}
	return ended
}

// begins says whether a rest begins at now.
func (r *rest) begins(now time.Time) bool {
	if r.resting || r.busyAt.IsZero() || now.Sub(r.busyAt) < restAfter {
		return false
	}
	r.resting = true
	return true
}

// KeepSmall sets the garbage collector for a process that is a room, unless the
// environment does (GOGC), and goes without the samples of a heap profile, which take
// 1.5 MB, unless profiles are wanted (MAYFLY_PPROF). It is the first thing that main does.
func KeepSmall() {
	if os.Getenv("MAYFLY_PPROF") != "1" {
		runtime.MemProfileRate = 0
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if limit := containerMemory(os.ReadFile); limit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit - limit/10)
	}
}

// containerMemory is what the container may use, in bytes, by cgroup v2 or v1; 0 = it has
// no limit. The collector works harder before it is reached, where the kernel would end
// the task. A tenth is left to what the Go runtime does not count: sockets, and the pages
// of the program.
func containerMemory(read func(name string) ([]byte, error)) int64 {
	for _, name := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		b, err := read(name)
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		if err != nil || n <= 0 || n >= noLimit {
			return 0 // "max", or v1's way to say that
		}
		return n
	}
	return 0
}

const noLimit = 1 << 50
