// Package engine reaches DynamoDB engines that nobody here wrote: DynamoDB Local, which
// is AWS's own, and moto. Tests call it: the store's contract suite, and test/engines,
// which runs the control plane on them.
//
// An engine is a separate program. scripts/dynamodb-local.sh and scripts/moto.sh start
// one around a command and tell its address in a variable; without it Open returns nil.
// Each table is made as infra/table.yaml declares it. Besides the store itself a test
// gets what AWS would give: the items' attributes as they are kept (Raw), and the
// records of the table's stream (stream.go). It must not be imported by product code.
// Read Open.
package engine

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"go.yaml.in/yaml/v3"

	"mayfly/functions/store"
)

// Kind is one of the engines.
type Kind struct {
	Name     string
	Variable string // that tells where it listens
	Script   string // that starts it
	// Alone: it gets one request at a time. moto answers on threads without isolating its
	// transactions from each other, so that concurrent ones both take effect; the races
	// that tests look for are between requests.
	Alone bool
	// Repeatable: it keeps the tokens that make a transaction repeatable.
	Repeatable bool
	quiet      bool // its tables have no stream
}

// WithoutStream is the engine with tables that have no stream. moto copies the stream
// with the table for each transaction, which doubles the time that the contract takes.
func WithoutStream(k Kind) Kind {
	k.quiet = true
	return k
}

// The engines.
var (
	DynamoDBLocal = Kind{Name: "DynamoDB Local", Variable: "MAYFLY_DYNAMODB_LOCAL", Script: "scripts/dynamodb-local.sh", Repeatable: true}
	Moto          = Kind{Name: "moto", Variable: "MAYFLY_MOTO", Script: "scripts/moto.sh", Alone: true}
)

// How says how the engine is started around a command.
func (k Kind) How(packages string) string { return k.Script + " run go test " + packages }

// Engine is a new table on an engine. All fields are set once.
type Engine struct {
	Kind
	Store    *store.Dynamo
	Table    string
	endpoint string
	send     http.RoundTripper
	position map[string]string // of each shard of the stream, where Records goes on; owned by the test
}

// Open makes a table, or returns nil if the engine does not run. wrap, which may be nil,
// stands between the SDK and the engine.
func Open(t testing.TB, k Kind, wrap func(http.RoundTripper) http.RoundTripper) *Engine {
	t.Helper()
	endpoint := os.Getenv(k.Variable)
	if endpoint == "" {
		return nil
	}
	send := http.DefaultTransport
	if k.Alone {
		send = &serial{}
	}
	e := &Engine{Kind: k, Table: "mayfly-" + rand.Text(), endpoint: endpoint, send: send}
	if wrap != nil {
		send = wrap(send)
	}
	if err := e.create(t.Context()); err != nil {
		t.Fatalf("%s: %v", k.Name, err)
	}
	t.Cleanup(func() { // moto copies all its tables for each transaction
		if err := e.call(context.WithoutCancel(t.Context()), tables+"DeleteTable", map[string]any{"TableName": e.Table}, nil); err != nil {
			t.Error(err)
		}
	})
	e.Store = store.NewDynamo(Client(endpoint, send), e.Table)
	return e
}

// Client makes a client that repeats failed calls at once.
func Client(endpoint string, transport http.RoundTripper) *dynamodb.Client {
	return dynamodb.New(dynamodb.Options{
		Region:       region,
		BaseEndpoint: &endpoint,
		Credentials:  credentials.NewStaticCredentialsProvider("test", "test", ""),
		HTTPClient:   &http.Client{Transport: transport},
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
		}),
	})
}

// serial sends one request at a time.
type serial struct{ mu sync.Mutex }

// RoundTrip implements http.RoundTripper.
func (s *serial) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return http.DefaultTransport.RoundTrip(r)
}

// properties are the table's, of infra/table.yaml.
func properties() (map[string]any, error) {
	_, here, _, _ := runtime.Caller(0)
	path := filepath.Join(filepath.Dir(here), "../../../../infra/table.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the template: %w", err)
	}
	var template struct {
		Resources map[string]struct {
			Type       string         `yaml:"Type"`
			Properties map[string]any `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	if err := yaml.Unmarshal(text, &template); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	for _, r := range template.Resources {
		if r.Type == "AWS::DynamoDB::Table" {
			return r.Properties, nil
		}
	}
	return nil, fmt.Errorf("%s declares no table", path)
}

// create makes the table that the template declares.
func (e *Engine) create(ctx context.Context) error {
	declared, err := properties()
	if err != nil {
		return err
	}
	request := map[string]any{"TableName": e.Table}
	for _, name := range []string{"BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes"} {
		request[name] = declared[name]
	}
	if view, ok := declared["StreamSpecification"].(map[string]any); ok && !e.quiet {
		request["StreamSpecification"] = map[string]any{"StreamEnabled": true, "StreamViewType": view["StreamViewType"]}
	}
	if err := e.call(ctx, tables+"CreateTable", request, nil); err != nil {
		return err
	}
	return e.call(ctx, tables+"UpdateTimeToLive", map[string]any{
		"TableName": e.Table, "TimeToLiveSpecification": declared["TimeToLiveSpecification"],
	}, nil)
}

// Raw is an item as the engine keeps it: attribute → type → value. It is nil for none.
func (e *Engine) Raw(ctx context.Context, k store.Key) (map[string]map[string]any, error) {
	var out struct{ Item map[string]map[string]any }
	err := e.call(ctx, tables+"GetItem", map[string]any{
		"TableName": e.Table, "ConsistentRead": true,
		"Key": map[string]any{"PK": map[string]any{"S": k.PK}, "SK": map[string]any{"S": k.SK}},
	}, &out)
	return out.Item, err
}

// TTL is the attribute by which the engine lets items expire.
func (e *Engine) TTL(ctx context.Context) (attribute string, err error) {
	var out struct {
		TimeToLiveDescription struct{ AttributeName, TimeToLiveStatus string }
	}
	err = e.call(ctx, tables+"DescribeTimeToLive", map[string]any{"TableName": e.Table}, &out)
	if d := out.TimeToLiveDescription; err == nil && d.TimeToLiveStatus != "ENABLED" {
		return "", fmt.Errorf("time to live is %q", d.TimeToLiveStatus)
	}
	return out.TimeToLiveDescription.AttributeName, err
}
