// Command deliver is the function that empties the outbox and sends webhooks: woken by
// the table's stream, and by a schedule for what the stream lost and what is to be
// repeated. See functions/entry for its environment, and functions/control/outbox and
// functions/control/hooks for what it does.
package main

import (
	"context"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"mayfly/functions/entry"
	"mayfly/functions/wire"
)

func main() {
	const me = entry.DeliverFunction
	deps, err := wire.Deps(context.Background(), me, os.Getenv)
	if err != nil {
		wire.Fatal(me, err)
	}
	deliver, err := entry.Deliver(deps)
	if err != nil {
		wire.Fatal(me, err)
	}
	lambda.Start(deliver)
}
