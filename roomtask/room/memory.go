package room

import (
	"os"
	"runtime"
	"runtime/debug"
)

// gcPercent is how much garbage may gather beside what is in use. What a room holds
// is mostly the state of connections, which lives as long as they do, and the packet
// path makes no garbage: so the collector runs every few seconds even at a fifth of Go's
// default, at a cost that cannot be told from noise. With a hundred viewers a task takes
// 420 KB for each of them instead of 550.
const gcPercent = 20

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
}
