// Command lifecycle is the function that hears what ECS says about tasks, and sweeps
// every minute. See functions/entry for its environment and functions/control/life
// for what it does.
package main

import (
	"context"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"mayfly/functions/entry"
	"mayfly/functions/wire"
)

func main() {
	const me = entry.LifecycleFunction
	deps, err := wire.Deps(context.Background(), me, os.Getenv)
	if err != nil {
		wire.Fatal(me, err)
	}
	lambda.Start(entry.Lifecycle(deps))
}
