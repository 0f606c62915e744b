package ingest

import "sync"

// writer has a goroutine while there is something to write, and one at most. Two
// kilobytes of stack for each viewer who publishes nothing would be for nothing.
type writer struct {
	write func() // set once

	mu      sync.Mutex
	changed sync.Cond
	// guarded by mu
	wanted  bool // wake was called since the last write began
	running bool
	ended   bool
}

func (w *writer) init(write func()) { w.write, w.changed.L = write, &w.mu }

// wake has write called, once more if it is being called. It never waits for that.
func (w *writer) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	w.wanted = true
	if !w.running {
		w.running = true
		go w.run()
	}
}

func (w *writer) run() {
	for w.next() {
		w.write()
	}
}

func (w *writer) next() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wanted && !w.ended {
		w.wanted = false
		return true
	}
	w.running = false
	w.changed.Broadcast()
	return false
}

// end returns when write is not being called and will not be any more.
func (w *writer) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	for w.running {
		w.changed.Wait()
	}
}
