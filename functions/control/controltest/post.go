package controltest

import (
	"context"
	"encoding/json"
	"slices"
	"sync"

	"mayfly/functions/control"
	"mayfly/shared/signal"
)

// Post is the gateway's @connections in memory.
type Post struct {
	mu     sync.Mutex
	sent   map[control.Conn][]signal.Frame // guarded by mu
	gone   map[string]bool                 // guarded by mu
	closed []string                        // guarded by mu
	full   map[string]bool                 // guarded by mu
}

// NewPost is a gateway to which every connection is open.
func NewPost() *Post {
	return &Post{sent: map[control.Conn][]signal.Frame{}, gone: map[string]bool{}, full: map[string]bool{}}
}

var _ control.Post = (*Post)(nil)

// Send implements control.Post.
func (p *Post) Send(_ context.Context, c control.Conn, data []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.gone[c.ID]:
		return control.ErrGone
	case p.full[c.ID]:
		return control.ErrThrottled
	case len(data) > signal.MaxMessageBytes:
		return control.ErrTooLarge
	}
	var f signal.Frame
	if err := json.Unmarshal(data, &f); err != nil {
		return err
	}
	p.sent[c] = append(p.sent[c], f)
	return nil
}

// Close implements control.Post.
func (p *Post) Close(_ context.Context, c control.Conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = append(p.closed, c.ID)
	p.gone[c.ID] = true
	return nil
}

// Drop makes a connection gone.
func (p *Post) Drop(conn string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone[conn] = true
}

// Throttle makes a connection refuse posts, or take them again.
func (p *Post) Throttle(conn string, on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.full[conn] = on
}

// Sent lists the frames posted to a connection.
func (p *Post) Sent(c control.Conn) []signal.Frame {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.sent[c])
}

// Take lists the frames posted to a connection since the last Take.
func (p *Post) Take(c control.Conn) []signal.Frame {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.sent[c]
	delete(p.sent, c)
	return f
}

// Closed lists the connections that were closed, in order.
func (p *Post) Closed() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.closed)
}
