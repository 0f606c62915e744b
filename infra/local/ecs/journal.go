package ecs

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// journal remembers tasks in one small JSON file, rewritten whole at each change. Its
// modification time is the last sign of life of the process that wrote it.
type journal struct {
	path      string   // set once; "" remembers nothing
	lastAlive int64    // set once: Unix ms, of the process before
	before    []record // set once: what the process before left

	mu      sync.Mutex
	records map[string]record // guarded by mu: by ARN
	failed  error             // guarded by mu: the first write that failed
}

func openJournal(path string) (*journal, error) {
	j := &journal{path: path, records: map[string]record{}}
	if path == "" {
		return j, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ecs: journal: %w", err)
	}
	if err := json.Unmarshal(data, &j.before); err != nil {
		return nil, fmt.Errorf("ecs: journal %s: %w", path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("ecs: journal: %w", err)
	}
	j.lastAlive = info.ModTime().UnixMilli()
	for _, r := range j.before {
		j.records[r.Task.ARN] = r
	}
	return j, nil
}

func (j *journal) put(r record) {
	j.change(func(m map[string]record) { m[r.Task.ARN] = r })
}

func (j *journal) drop(arn string) {
	j.change(func(m map[string]record) { delete(m, arn) })
}

func (j *journal) change(edit func(map[string]record)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	edit(j.records)
	if j.path == "" {
		return
	}
	all := make([]record, 0, len(j.records))
	for _, r := range j.records {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b record) int { return strings.Compare(a.Task.ARN, b.Task.ARN) })
	if err := replaceFile(j.path, all); err != nil && j.failed == nil {
		j.failed = fmt.Errorf("ecs: journal: %w", err)
	}
}

// replaceFile writes v whole or not at all.
func replaceFile(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	next := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".next")
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return err
	}
	return os.Rename(next, path)
}

// alive marks the file.
func (j *journal) alive(now time.Time) {
	// Without the file there is no task yet, and nothing to remember.
	_ = os.Chtimes(j.path, now, now)
}

func (j *journal) err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failed
}
