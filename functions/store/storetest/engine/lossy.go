package engine

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// Lossy loses the answer to the first attempt of each write that the engine accepts: the
// write takes effect, and whoever asked sees a broken connection.
type Lossy struct {
	to   http.RoundTripper // set once, by Wrap
	lost atomic.Int64
	seen sync.Map // invocation ids that lost an answer already
}

// Wrap is what Open takes.
func (l *Lossy) Wrap(to http.RoundTripper) http.RoundTripper {
	l.to = to
	return l
}

// Lost counts the answers that were lost.
func (l *Lossy) Lost() int64 { return l.lost.Load() }

// RoundTrip implements http.RoundTripper.
func (l *Lossy) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.to.RoundTrip(r)
	op := r.Header.Get("X-Amz-Target")
	if err != nil || resp.StatusCode != http.StatusOK || !strings.HasSuffix(op, ".PutItem") && !strings.HasSuffix(op, ".TransactWriteItems") {
		return resp, err
	}
	// The SDK gives the attempts of one call the same invocation id.
	if _, again := l.seen.LoadOrStore(r.Header.Get("Amz-Sdk-Invocation-Id"), true); again {
		return resp, nil
	}
	_ = resp.Body.Close() // the answer is meant to be lost
	l.lost.Add(1)
	return nil, io.ErrUnexpectedEOF
}
