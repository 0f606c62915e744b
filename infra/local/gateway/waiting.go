package gateway

import (
	"container/list"
	"context"
	"net"
	"net/http"
	"sync"
)

// Waiting keeps connections that have not sent a whole request from taking the places
// of those that have (slowloris). The server's timeouts end each of them, but as many
// as come in that time may wait; beyond Most of them, the one that has waited longest
// goes. Set it up with Guard before the server serves.
type Waiting struct {
	most int // set once

	mu    sync.Mutex
	order *list.List                 // guarded by mu: net.Conn, the longest waiting first
	at    map[net.Conn]*list.Element // guarded by mu
}

type connKey struct{}

// Guard makes a server keep at most that many connections waiting.
func Guard(s *http.Server, most int) *Waiting {
	w := &Waiting{most: most, order: list.New(), at: map[net.Conn]*list.Element{}}
	next := s.Handler
	s.ConnState = w.state
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) }
	s.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(net.Conn); ok {
			w.done(c) // its request's header is here
		}
		next.ServeHTTP(rw, r)
	})
	return w
}

func (w *Waiting) state(c net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew, http.StateIdle:
		if oldest := w.add(c); oldest != nil {
			oldest.Close()
		}
	case http.StateHijacked, http.StateClosed:
		w.done(c)
	}
}

// add notes a connection that waits, and returns the one that has to go for it.
func (w *Waiting) add(c net.Conn) (oldest net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.at[c] == nil {
		w.at[c] = w.order.PushBack(c)
	}
	if w.order.Len() <= w.most {
		return nil
	}
	oldest = w.order.Remove(w.order.Front()).(net.Conn)
	delete(w.at, oldest)
	return oldest
}

func (w *Waiting) done(c net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := w.at[c]; e != nil {
		w.order.Remove(e)
		delete(w.at, c)
	}
}

// Len is how many wait.
func (w *Waiting) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.order.Len()
}
