package room

import (
	"io/fs"
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
	for _, v := range []struct {
		name    string
		percent int
		resting bool
		used    float64
		short   bool
		want    int
	}{
		{"a call at rest", 5, true, 0.1, false, 5},
		{"people come", 5, false, 0.1, false, 20},
		{"busy at rest", 5, true, 0.45, false, 10},
		{"a little less busy", 10, true, 0.35, false, 10},
		{"not busy any more", 10, true, 0.25, false, 5},
		{"very busy", 10, true, 0.65, false, 20},
		{"a little less", 20, true, 0.55, false, 20},
		{"busy again", 20, true, 0.45, false, 10},
		{"people come while it is busy", 20, false, 0.7, false, 20},
		{"pictures are withheld", 5, true, 0.1, true, 50},
		{"none any more", 50, true, 0.1, false, 5},
	} {
		if got := percentFor(v.percent, v.resting, v.used, v.short); got != v.want {
			t.Errorf("%s: %d %%, want %d", v.name, got, v.want)
		}
	}
}
