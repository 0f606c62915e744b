// Package push posts to WebSocket connections through API Gateway: control.Post.
//
// It owns the calls to the management endpoints of the two WebSocket APIs and the
// meaning of their errors. functions/wire makes it for the functions that speak to
// clients or tasks. It must not know what it posts. Order between posts is the
// caller's business: a post that is repeated may overtake another.
package push

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"

	"mayfly/functions/control"
)

// Retries of one post. API Gateway answers 429 when the account's rate is used up and
// when one client's buffer is full: waiting longer than this would hold up the others
// for one slow client.
const (
	attempts  = 4
	baseDelay = 50 * time.Millisecond // doubled each time, with full jitter
	maxDelay  = 400 * time.Millisecond
)

// Times that one attempt may take: an API that cannot be reached must not hold up what a
// sweep has to do besides.
const (
	dialTimeout    = time.Second
	attemptTimeout = 2 * time.Second
)

// Post sends to both APIs. All fields are set once.
type Post struct {
	clients, tasks *apigatewaymanagementapi.Client
}

var _ control.Post = (*Post)(nil)

// New returns a Post for the two APIs' management endpoints, such as
// "https://abc123.execute-api.eu-central-1.amazonaws.com/default". The options come
// last, for tests.
func New(cfg aws.Config, clientEndpoint, taskEndpoint string, options ...func(*apigatewaymanagementapi.Options)) *Post {
	client := func(endpoint string) *apigatewaymanagementapi.Client {
		return apigatewaymanagementapi.NewFromConfig(cfg, append([]func(*apigatewaymanagementapi.Options){
			func(o *apigatewaymanagementapi.Options) {
				o.BaseEndpoint = &endpoint
				if c, ok := o.HTTPClient.(*awshttp.BuildableClient); ok { // the SDK's own
					o.HTTPClient = c.WithTimeout(attemptTimeout).WithDialerOptions(func(d *net.Dialer) { d.Timeout = dialTimeout })
				}
				o.Retryer = retry.NewStandard(func(r *retry.StandardOptions) {
					r.MaxAttempts, r.Backoff = attempts, retry.BackoffDelayerFunc(backoff)
					r.Retryables = append(r.Retryables, retry.RetryableHTTPStatusCode{Codes: map[int]struct{}{
						http.StatusTooManyRequests: {},
					}})
				})
			},
		}, options...)...)
	}
	return &Post{clients: client(clientEndpoint), tasks: client(taskEndpoint)}
}

// backoff replaces the SDK's, which has no jitter below one second. attempt is the
// number of the one that failed, from 1.
func backoff(attempt int, _ error) (time.Duration, error) {
	return rand.N(min(baseDelay<<min(attempt, attempts), maxDelay)), nil //nolint:gosec // spreads load, guards nothing
}

// Send posts one message.
func (p *Post) Send(ctx context.Context, c control.Conn, data []byte) error {
	_, err := p.api(c).PostToConnection(ctx, &apigatewaymanagementapi.PostToConnectionInput{ConnectionId: &c.ID, Data: data})
	return mapError("send", err)
}

// Close ends the connection.
func (p *Post) Close(ctx context.Context, c control.Conn) error {
	_, err := p.api(c).DeleteConnection(ctx, &apigatewaymanagementapi.DeleteConnectionInput{ConnectionId: &c.ID})
	if err = mapError("close", err); errors.Is(err, control.ErrGone) {
		return nil
	}
	return err
}

func (p *Post) api(c control.Conn) *apigatewaymanagementapi.Client {
	if c.Task {
		return p.tasks
	}
	return p.clients
}

// mapError gives the errors that callers act on their names. A 403 stays an error of
// its own: it is a missing permission or a wrong endpoint, never the connection.
func mapError(operation string, err error) error {
	if err == nil {
		return nil
	}
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) {
		switch answer.HTTPStatusCode() {
		case http.StatusGone, http.StatusBadRequest: // 400 is an id that API Gateway never gave out
			return fmt.Errorf("push: %s: %w", operation, control.ErrGone)
		case http.StatusTooManyRequests:
			return fmt.Errorf("push: %s: %w", operation, control.ErrThrottled)
		case http.StatusRequestEntityTooLarge:
			return fmt.Errorf("push: %s: %w", operation, control.ErrTooLarge)
		}
	}
	return fmt.Errorf("push: %s: %w", operation, err)
}
