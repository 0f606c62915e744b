// Command rooms is the function behind the HTTP API: rooms, tickets, usage and the
// call page. It is the only one that holds the ticket secret and the API keys'
// hashes. See functions/entry for its environment and functions/control/api for what
// it does.
package main

import (
	"context"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"mayfly/functions/entry"
	"mayfly/functions/wire"
)

func main() {
	const me = entry.RoomsFunction
	deps, err := wire.Deps(context.Background(), me, os.Getenv)
	if err != nil {
		wire.Fatal(me, err)
	}
	handler, err := entry.Rooms(deps)
	if err != nil {
		wire.Fatal(me, err)
	}
	lambda.Start(handler)
}
