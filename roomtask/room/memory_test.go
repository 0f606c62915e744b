package room

import (
	"io/fs"
	"testing"
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
