package store

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// TestTableThatCannotBeReached: whatever the network does, the caller is told in time, and
// told that the table is not there rather than that something is wrong with its request.
func TestTableThatCannotBeReached(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + closed.Addr().String()
	closed.Close()
	silent := listen(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	hangsUp := listen(t, func(net.Conn) {})
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(broken.Close)
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"__type":"com.amazonaws.dynamodb.v20120810#AccessDeniedException"}`)
	}))
	t.Cleanup(refusing.Close)
	for _, c := range []struct {
		name, endpoint string
		unavailable    bool
	}{
		{"nobody listens", nobody, true},
		{"it takes the request and says nothing", silent, true},
		{"it hangs up", hangsUp, true},
		{"it has a fault", broken.URL, true},
		{"it refuses", refusing.URL, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := connect(aws.Config{
				Region: "local", BaseEndpoint: &c.endpoint, Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
				Retryer: func() aws.Retryer {
					return retry.NewStandard(func(o *retry.StandardOptions) {
						o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
					})
				},
			}, "table", time.Second, 100*time.Millisecond)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			_, read := s.Get(ctx, Key{PK: "P", SK: "1"})
			_, query := s.Query(ctx, "P", "", QueryOptions{})
			write := Write{Item: Item{Key: Key{PK: "P", SK: "1"}, Kind: "thing", Data: []byte(`{}`)}}
			for what, err := range map[string]error{"Get": read, "Query": query, "Commit": s.Commit(ctx, write)} {
				if err == nil || errors.Is(err, ErrUnavailable) != c.unavailable || errors.Is(err, ErrNotFound) {
					t.Errorf("%s: %v", what, err)
				}
			}
			if ctx.Err() != nil {
				t.Error("it hung until the caller was out of time")
			}
		})
	}
}

// listen serves each connection with f, and closes it.
func listen(t *testing.T, f func(net.Conn)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); f(c) }()
		}
	}()
	return "http://" + l.Addr().String()
}
