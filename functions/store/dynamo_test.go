package store_test

import (
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"mayfly/functions/store"
	"mayfly/functions/store/storetest"
)

// TestContractDynamoDBLocal runs against AWS's own engine.
func TestContractDynamoDBLocal(t *testing.T) {
	s := engine(t, "MAYFLY_DYNAMODB_LOCAL", "scripts/dynamodb-local.sh run go test ./functions/store/...", http.DefaultTransport)
	storetest.Run(t, func(*testing.T) store.Store { return s })
}

// TestContractMoto runs against an engine written by others from the documentation.
// moto answers requests on threads without isolating its transactions from each
// other, so that concurrent ones both take effect. It gets one request at a time; the
// races that the suite looks for are between requests.
func TestContractMoto(t *testing.T) {
	s := engine(t, "MAYFLY_MOTO", "scripts/moto.sh run go test ./functions/store/...", &serial{})
	storetest.Run(t, func(*testing.T) store.Store { return s })
}

// TestLostAnswers makes every write take effect and then fail on its first attempt.
// The store must tell its own write from another's. moto does not keep the tokens
// that make a transaction repeatable.
func TestLostAnswers(t *testing.T) {
	lossy := &lossy{}
	s := engine(t, "MAYFLY_DYNAMODB_LOCAL", "scripts/dynamodb-local.sh run go test ./functions/store/...", lossy)
	ctx := t.Context()
	key := store.Key{PK: "lost#" + rand.Text(), SK: "1"}
	one := store.Write{Item: store.Item{Key: key, Data: []byte(`1`)}}
	other := store.Write{Item: store.Item{Key: store.Key{PK: key.PK, SK: "2"}, Data: []byte(`1`)}}
	gone := store.Write{Op: store.Delete, Item: store.Item{Key: key}, Expect: 3}

	steps := []struct {
		name   string
		writes []store.Write
		want   int64 // version of key afterwards
	}{
		{"create", []store.Write{one}, 1},
		{"replace", []store.Write{{Item: one.Item, Expect: 1}}, 2},
		{"transaction", []store.Write{{Item: one.Item, Expect: 2}, other}, 3},
		{"delete", []store.Write{gone}, 0},
	}
	for i, step := range steps {
		if err := s.Commit(ctx, step.writes...); err != nil {
			t.Fatalf("%s: %v, although it took effect", step.name, err)
		}
		if got := lossy.lost.Load(); got != int64(i+1) {
			t.Fatalf("%s: %d answers lost so far, want %d", step.name, got, i+1)
		}
		it, err := s.Get(ctx, key)
		if it.Version != step.want || (step.want == 0) != errors.Is(err, store.ErrNotFound) {
			t.Fatalf("%s: version %d, %v, want %d", step.name, it.Version, err, step.want)
		}
	}
	var conflict *store.ConflictError
	if err := s.Commit(ctx, gone); !errors.As(err, &conflict) {
		t.Fatalf("deleting twice = %v, want a conflict", err)
	}
	if err := s.Commit(ctx, one, other); !errors.As(err, &conflict) || conflict.Index != 1 {
		t.Fatalf("creating what exists = %v, want a conflict on write 1", err)
	}
}

// serial sends one request at a time.
type serial struct{ mu sync.Mutex }

func (s *serial) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return http.DefaultTransport.RoundTrip(r)
}

// lossy loses the answer to the first attempt of each write that the engine accepts.
type lossy struct {
	lost atomic.Int64
	seen sync.Map // invocation ids that lost an answer already
}

func (l *lossy) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	switch r.Header.Get("X-Amz-Target") {
	case "DynamoDB_20120810.PutItem", "DynamoDB_20120810.TransactWriteItems":
		// The SDK gives the attempts of one call the same invocation id.
		if _, again := l.seen.LoadOrStore(r.Header.Get("Amz-Sdk-Invocation-Id"), true); again {
			return resp, nil
		}
		_ = resp.Body.Close() // the answer is meant to be lost
		l.lost.Add(1)
		return nil, io.ErrUnexpectedEOF
	}
	return resp, nil
}

// engine returns a store in a new table of the engine that the variable points to.
func engine(t *testing.T, variable, how string, transport http.RoundTripper) *store.Dynamo {
	t.Helper()
	endpoint := os.Getenv(variable)
	if endpoint == "" {
		// The engines are separate programs; the script fetches one and sets the variable.
		t.Skipf("%s is not set; run: %s", variable, how)
	}
	client := newClient(endpoint, transport)
	table := "mayfly-" + rand.Text()
	createTable(t, client, table)
	return store.NewDynamo(client, table)
}

// newClient makes a client that repeats failed calls at once.
func newClient(endpoint string, transport http.RoundTripper) *dynamodb.Client {
	return dynamodb.New(dynamodb.Options{
		Region:       "us-east-1",
		BaseEndpoint: &endpoint,
		Credentials:  credentials.NewStaticCredentialsProvider("test", "test", ""),
		HTTPClient:   &http.Client{Transport: transport},
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
		}),
	})
}

// createTable makes the table that infra/table.yaml describes.
func createTable(t *testing.T, client *dynamodb.Client, name string) {
	t.Helper()
	key := func(hash, rng string) []types.KeySchemaElement {
		return []types.KeySchemaElement{
			{AttributeName: &hash, KeyType: types.KeyTypeHash},
			{AttributeName: &rng, KeyType: types.KeyTypeRange},
		}
	}
	var attributes []types.AttributeDefinition
	for _, a := range []string{"PK", "SK", "IndexPK", "IndexSK"} {
		attributes = append(attributes, types.AttributeDefinition{
			AttributeName: aws.String(a), AttributeType: types.ScalarAttributeTypeS,
		})
	}
	_, err := client.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: &name, BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: attributes, KeySchema: key("PK", "SK"),
		GlobalSecondaryIndexes: []types.GlobalSecondaryIndex{{
			IndexName: aws.String("Index"), KeySchema: key("IndexPK", "IndexSK"),
			Projection: &types.Projection{ProjectionType: types.ProjectionTypeAll},
		}},
	})
	if err != nil {
		t.Fatalf("create table: %v", err)
	}
}
