package room

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"
)

// gcPercent is how much garbage may gather beside what is in use. What a room holds
// is mostly the state of connections, which lives as long as they do, and the packet
// path makes no garbage: so the collector runs every few seconds even at a fifth of Go's
// default. At a twentieth it takes nothing off what is resident, and packets wait for it:
// with two hundred viewers 30 ms at p99 instead of 10.
const gcPercent = 20

// smallPercent is that of a heap of less than smallHeap, which is a small room's: what is
// saved shows beside what it holds, and it makes less garbage.
const (
	smallPercent = 10
	smallHeap    = 8 << 20
)

// shortPercent is that of a task whose processor does not suffice: memory is spent instead.
// At 5 % the collector took 17 % of such a processor.
const shortPercent = 50

// restAfter is how long nobody must have come or gone.
const restAfter = 3 * time.Second

// Collector sets the garbage collector by what the room does. Its methods are called by
// the room's loop.
type Collector struct {
	withheld func() float64 // set once
	percent  int
	live     [1]metrics.Sample // scratch of Look
}

// NewCollector makes one that asks which share of the pictures is withheld because the
// processor does not suffice.
func NewCollector(withheld func() float64) *Collector {
	c := &Collector{withheld: withheld, percent: smallPercent}
	c.live[0].Name = "/gc/heap/live:bytes"
	return c
}

// Rest is for Config.Rest. At rest it gives back to the system what joins have left.
func (c *Collector) Rest(resting bool) {
	if resting {
		go debug.FreeOSMemory() // collects, which takes some 20 ms of a processor
	}
}

// Look is for Config.Judged.
func (c *Collector) Look(time.Time) {
	metrics.Read(c.live[:])
	percent := percentFor(c.live[0].Value.Uint64(), c.percent)
	if c.withheld() > 0 {
		percent = shortPercent
	}
	if percent != c.percent && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
	c.percent = percent
}

// percentFor is what suits a heap of which so many bytes are in use. Between the two sizes
// it stays as it is.
func percentFor(live uint64, now int) int {
	if live < smallHeap || now == smallPercent && live < smallHeap+smallHeap/4 {
		return smallPercent
	}
	return gcPercent
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
		debug.SetGCPercent(smallPercent)
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
