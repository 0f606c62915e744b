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

// vouched is how far ahead of its own clock a process dates the journal: the longest that
// it expects to live on unseen, several of its marks (markEvery). What it did last, a
// task's last report above all, it did before that time.
const (
	vouched   = 5 * time.Second
	markEvery = time.Second
)

// journal remembers tasks in one small JSON file, rewritten whole at each change. Its
// modification time lies ahead: it is the time by which the process that wrote it had
// ended, unless another one has seen earlier that it is gone.
type journal struct {
	path   string           // set once; "" remembers nothing
	now    func() time.Time // set once
	goneBy int64            // set once: Unix ms, by which the process before had ended
	before []record         // set once: what the process before left

	mu      sync.Mutex
	records map[string]record // guarded by mu: by ARN
	failed  error             // guarded by mu: the first write that failed
}

// openJournal reads what an earlier process left, which must have ended: the caller holds
// a lock that this one had.
func openJournal(path string, now func() time.Time) (*journal, error) {
	j := &journal{path: path, now: now, records: map[string]record{}}
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
	// Not the last mark: tasks went on, and were heard, until the process ended.
	j.goneBy = min(info.ModTime().UnixMilli(), now().UnixMilli())
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
	if err := replaceFile(j.path, all, j.now().Add(vouched)); err != nil && j.failed == nil {
		j.failed = fmt.Errorf("ecs: journal: %w", err)
	}
}

// replaceFile writes v whole or not at all, with its modification time.
func replaceFile(path string, v any, modified time.Time) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	next := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".next")
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return err
	}
	if err := os.Chtimes(next, modified, modified); err != nil {
		return err
	}
	return os.Rename(next, path)
}

// alive dates the file anew.
func (j *journal) alive() {
	until := j.now().Add(vouched)
	// Without the file there is no task yet, and nothing to remember.
	_ = os.Chtimes(j.path, until, until)
}

func (j *journal) err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failed
}
