package room

import (
	"io/fs"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestContainerMemory(t *testing.T) {
	const v2, v1 = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"
	for _, v := range []struct {
		name  string
		files map[string]string
		want  int64
	}{
		{"no cgroup", nil, 0},
		{"v2", map[string]string{v2: "536870912\n"}, 536870912},
		{"v2 without a limit", map[string]string{v2: "max\n"}, 0},
		{"v1", map[string]string{v1: "1073741824\n"}, 1073741824},
		{"v1 without a limit", map[string]string{v1: "9223372036854771712\n"}, 0},
		{"both", map[string]string{v2: "4096", v1: "8192"}, 4096},
		{"nonsense", map[string]string{v2: "-5"}, 0},
	} {
		got := containerMemory(func(name string) ([]byte, error) {
			if text, ok := v.files[name]; ok {
				return []byte(text), nil
			}
			return nil, fs.ErrNotExist
		})
		if got != v.want {
			t.Errorf("%s: %d, want %d", v.name, got, v.want)
		}
	}
}

func TestRestBeginsOnceAndEndsWithWhoComes(t *testing.T) {
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }
	var r rest
	if r.begins(at(100)) {
		t.Error("a room where nobody ever was has nothing to give back")
	}
	if r.busy(at(100)) {
		t.Error("a rest ended that never began")
	}
	r.busy(at(102))
	for _, v := range []struct {
		at   float64
		want bool
	}{{104.9, false}, {105, true}, {105.1, false}, {200, false}} {
		if got := r.begins(at(v.at)); got != v.want {
			t.Errorf("at %v s: begins %v, want %v", v.at, got, v.want)
		}
	}
	if !r.busy(at(201)) || r.busy(at(202)) {
		t.Error("the first who comes ends the rest, and nobody else")
	}
	if r.begins(at(204.9)) || !r.begins(at(205)) {
		t.Error("the next rest does not begin 3 s after the last who came")
	}
}

func TestCollectorSparesWhatIsShort(t *testing.T) {
	t.Setenv("GOGC", "") // it is ours to set
	before := debug.SetGCPercent(gcPercent)
	defer debug.SetGCPercent(before)
	ballast := make([]byte, 2*smallHeap)
	runtime.GC()
	withheld, heap := 0.0, gcPercent
	c := NewCollector(func() float64 { return withheld })
	for _, v := range []struct {
		withheld float64
		want     int
	}{{0, heap}, {0.3, shortPercent}, {2, shortPercent}, {0, heap}} {
		withheld = v.withheld
		c.Look(time.Time{})
		got := debug.SetGCPercent(gcPercent)
		debug.SetGCPercent(got)
		if got != v.want {
			t.Errorf("%v withheld: %d %%, want %d", v.withheld, got, v.want)
		}
	}
	runtime.KeepAlive(ballast)
}

func TestPercentOfTheHeap(t *testing.T) {
	for _, v := range []struct {
		mb        uint64
		now, want int
	}{
		{1, gcPercent, smallPercent}, {7, shortPercent, smallPercent}, {9, smallPercent, smallPercent}, {9, gcPercent, gcPercent},
		{9, shortPercent, gcPercent}, {11, smallPercent, gcPercent}, {200, gcPercent, gcPercent},
	} {
		if got := percentFor(v.mb<<20, v.now); got != v.want {
			t.Errorf("%d MB in use at %d %%: %d %%, want %d", v.mb, v.now, got, v.want)
		}
	}
}
