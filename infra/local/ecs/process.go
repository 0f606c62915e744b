package ecs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
)

// spawner starts processes from one OS thread that lives as long as the fleet: Linux
// kills a child with a parent-death signal when the *thread* that started it ends.
type spawner struct {
	starts chan spawnRequest
	done   chan struct{}
}

type spawnRequest struct {
	cmd    *exec.Cmd
	answer chan error
}

func newSpawner() *spawner {
	s := &spawner{starts: make(chan spawnRequest), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for r := range s.starts {
			r.answer <- r.cmd.Start()
		}
	}()
	return s
}

func (s *spawner) start(cmd *exec.Cmd) error {
	isolate(cmd)
	answer := make(chan error, 1)
	s.starts <- spawnRequest{cmd, answer}
	return <-answer
}

// close ends the thread. No start may follow.
func (s *spawner) close() {
	close(s.starts)
	<-s.done
}

// digestOf hashes the binary, which stands for the image.
func digestOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// maxLine is where a longer line of output is cut, in bytes.
const maxLine = 64 << 10

// lineWriter passes on whole lines.
type lineWriter struct {
	line func(string) // set once

	mu  sync.Mutex
	buf []byte // guarded by mu: the line that has not ended
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf, p...)
	for {
		i := bytes.IndexByte(w.buf, '\n')
		if i < 0 {
			break
		}
		w.line(string(bytes.TrimRight(w.buf[:i], "\r")))
		w.buf = w.buf[i+1:]
	}
	if len(w.buf) > maxLine {
		w.line(string(w.buf[:maxLine]))
		w.buf = nil
	}
	return len(p), nil
}

// flush passes on a last line that did not end.
func (w *lineWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.buf) > 0 {
		w.line(string(w.buf))
		w.buf = nil
	}
}
