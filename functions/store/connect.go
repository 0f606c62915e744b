package store

import (
	"net"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

// Times that one attempt may take. DynamoDB answers in milliseconds; the SDK makes three
// attempts with up to 3 s between them. So a table that cannot be reached is an error
// before the function that asked is out of time (25 s), and its caller is told.
const (
	dialTimeout    = time.Second
	attemptTimeout = 3 * time.Second
)

// Connect returns the store in the table, reached with the account and Region of cfg.
func Connect(cfg aws.Config, table string) *Dynamo {
	return connect(cfg, table, dialTimeout, attemptTimeout)
}

func connect(cfg aws.Config, table string, dial, attempt time.Duration) *Dynamo {
	return NewDynamo(dynamodb.NewFromConfig(cfg, func(o *dynamodb.Options) {
		if c, ok := o.HTTPClient.(*awshttp.BuildableClient); ok { // the SDK's own
			o.HTTPClient = c.WithTimeout(attempt).WithDialerOptions(func(d *net.Dialer) { d.Timeout = dial })
		}
	}), table)
}
