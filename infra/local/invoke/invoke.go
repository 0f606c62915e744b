// Package invoke calls Lambda handlers the way Lambda does: with JSON, a deadline
// and a request id, in one of three models. Function.Call is the synchronous one
// (API Gateway), Async the queued one with two retries (EventBridge, schedules),
// Stream the ordered batches with retries (DynamoDB streams).
//
// It is called by infra/local and its gateway. It must not know what a payload
// means. Read Function.Call first, then async.go.
package invoke

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

// MaxPayload is the largest synchronous request or answer of Lambda, in bytes.
const MaxPayload = 6 << 20

// Function is one Lambda function.
type Function struct {
	Name string
	// Handler is what a Lambda main gives to lambda.Start: a function.
	Handler any
	Timeout time.Duration // of one invocation; 0 means 29 s, API Gateway's longest wait
}

// PanicError is what a caller sees of a handler that panicked. On Lambda the
// execution environment would be replaced and the invocation would have failed.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("handler panicked: %v", e.Value) }

// Call invokes the function once and returns its JSON answer.
func (f Function) Call(ctx context.Context, payload []byte) (answer []byte, err error) {
	if len(payload) > MaxPayload {
		return nil, fmt.Errorf("invoke %s: request of %d bytes is over %d", f.Name, len(payload), MaxPayload)
	}
	timeout := f.Timeout
	if timeout <= 0 {
		timeout = 29 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ctx = lambdacontext.NewContext(ctx, &lambdacontext.LambdaContext{
		AwsRequestID:       RequestID(),
		InvokedFunctionArn: "arn:aws:lambda:local:000000000000:function:" + f.Name,
	})
	defer func() {
		if v := recover(); v != nil {
			answer, err = nil, fmt.Errorf("invoke %s: %w", f.Name, &PanicError{Value: v, Stack: debug.Stack()})
		}
	}()
	// An execution environment runs one invocation at a time, and lambda.NewHandler
	// relies on it: the handler keeps its answer's buffer. So each has its own.
	answer, err = lambda.NewHandler(f.Handler).Invoke(ctx, payload)
	if err != nil {
		return nil, fmt.Errorf("invoke %s: %w", f.Name, err)
	}
	if len(answer) > MaxPayload {
		return nil, fmt.Errorf("invoke %s: answer of %d bytes is over %d", f.Name, len(answer), MaxPayload)
	}
	return answer, nil
}

// RequestID returns a random id in the form of Lambda's, a version 4 UUID.
func RequestID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
