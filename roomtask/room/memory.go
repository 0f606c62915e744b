package room

import (
	"os"
	"runtime/debug"
)

// gcPercent is how much garbage may gather beside what is in use. What a room holds
// is mostly the state of connections, which lives as long as they do, and the packet
// path makes no garbage: so the collector runs every few seconds even at less than
// half of Go's default, and the task is a third smaller.
const gcPercent = 40

// KeepSmall sets the garbage collector for a process that is a room, unless the
// environment does (GOGC).
func KeepSmall() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
