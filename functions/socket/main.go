// Command socket is the function behind both WebSocket APIs, the clients' and the
// tasks'. It faces browsers and holds no secret. See functions/entry for its
// environment and functions/control/join for what it does.
package main

import (
	"context"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"mayfly/functions/entry"
	"mayfly/functions/wire"
)

func main() {
	const me = entry.SocketFunction
	deps, err := wire.Deps(context.Background(), me, os.Getenv)
	if err != nil {
		wire.Fatal(me, err)
	}
	lambda.Start(entry.Socket(deps))
}
