package load

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Task is the process of a room on this machine.
type Task struct {
	Room string
	PID  int
	CPU  time.Duration // user and system time so far
	RSS  int64         // bytes
}

// clockTick is the unit of /proc/<pid>/stat: USER_HZ, 100 on every Linux that Go knows.
const clockTick = 10 * time.Millisecond

// tasks finds the room tasks of rooms among this machine's processes, by the room in
// their environment. None where there is no /proc, or the rooms are elsewhere.
func tasks(rooms []string) (found []Task) {
	dirs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range dirs {
		env, err := os.ReadFile(path)
		if err != nil {
			continue // ended, or another user's
		}
		room := ""
		for v := range bytes.SplitSeq(env, []byte{0}) {
			if rest, ok := bytes.CutPrefix(v, []byte("MAYFLY_ROOM=")); ok {
				room = string(rest)
			}
		}
		if room == "" || !slices.Contains(rooms, room) {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(path, "/")[2])
		if err != nil {
			continue
		}
		t := Task{Room: room, PID: pid}
		if t.read() {
			found = append(found, t)
		}
	}
	return found
}

// read reads /proc/<pid>/stat (proc(5)): utime, stime and rss are fields 14, 15 and 24,
// counted behind the name, which may hold anything.
func (t *Task) read() bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", t.PID))
	if err != nil {
		return false
	}
	_, rest, ok := strings.Cut(string(raw), ") ")
	f := strings.Fields(rest)
	if !ok || len(f) < 22 {
		return false
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	pages, err3 := strconv.ParseInt(f[21], 10, 64)
	t.CPU = time.Duration(user+system) * clockTick
	t.RSS = pages * int64(os.Getpagesize())
	return err1 == nil && err2 == nil && err3 == nil
}

// Machine describes this machine in a line.
func Machine() string {
	model := runtime.GOARCH
	if raw, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(raw)) {
			if key, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	memory := ""
	if raw, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kb int64
		if n, _ := fmt.Sscanf(string(raw), "MemTotal: %d", &kb); n == 1 {
			memory = fmt.Sprintf(", %d GB", (kb+1<<19)>>20)
		}
	}
	return fmt.Sprintf("%d × %s%s, %s, %s", runtime.NumCPU(), model, memory, runtime.GOOS, runtime.Version())
}
