package room

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// gcPercent is how much garbage may gather beside what is in use. What a room holds
// is mostly the state of connections, which lives as long as they do, and the packet
// path makes no garbage: so the collector runs every few seconds even at a fifth of Go's
// default.
const gcPercent = 20

// restPercent is that of a room where nobody comes or goes. A join makes a megabyte of
// garbage, and the collector must not run for each; at rest there is little.
const restPercent = 5

// restAfter is how long nobody must have come or gone.
const restAfter = 3 * time.Second

// Rest is for Config.Rest. At rest it also gives back to the system what joins have left.
func Rest(resting bool) {
	percent := gcPercent
	if resting {
		percent = restPercent
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
	if resting {
		go debug.FreeOSMemory() // collects, which takes some 20 ms of a processor
	}
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
