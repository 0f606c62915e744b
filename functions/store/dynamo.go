package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Conditions on an item. An expired item is absent, whether TTL has deleted it yet
// or not (which it does within two days).
const (
	condAbsent  = "attribute_not_exists(PK) OR expiresAt <= :now"
	condVersion = "v = :expect AND (attribute_not_exists(expiresAt) OR expiresAt > :now)"
)

// Dynamo is a Store in one DynamoDB table. All fields are set once.
type Dynamo struct {
	client *dynamodb.Client
	table  string
	now    func() time.Time
}

var _ Store = (*Dynamo)(nil)

// NewDynamo returns the store in the table. The client's retryer decides how often a
// throttled or lost call is tried again.
func NewDynamo(client *dynamodb.Client, table string) *Dynamo {
	return &Dynamo{client: client, table: table, now: time.Now}
}

// Get reads one item.
func (d *Dynamo) Get(ctx context.Context, k Key) (Item, error) {
	out, err := d.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: &d.table, Key: keyAttrs(k), ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return Item{}, wrap("get", err)
	}
	if out.Item == nil {
		return Item{}, ErrNotFound
	}
	it, err := decodeItem(out.Item)
	if err != nil {
		return Item{}, err
	}
	if d.expired(it) {
		return Item{}, ErrNotFound
	}
	return it, nil
}

// Query lists items of a partition.
func (d *Dynamo) Query(ctx context.Context, pk, prefix string, q QueryOptions) (Page, error) {
	after, err := QueryStart(q.Cursor, pk, prefix)
	if err != nil {
		return Page{}, err
	}
	in := &dynamodb.QueryInput{
		TableName: &d.table, ConsistentRead: aws.Bool(true),
		KeyConditionExpression:    aws.String("PK = :pk"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":pk": str(pk)},
	}
	if prefix != "" {
		in.KeyConditionExpression = aws.String("PK = :pk AND begins_with(SK, :prefix)")
		in.ExpressionAttributeValues[":prefix"] = str(prefix)
	}
	if after != "" {
		in.ExclusiveStartKey = keyAttrs(Key{PK: pk, SK: after})
	}
	return d.page(ctx, in, q, func(last Item) string { return QueryCursor(last.Key) })
}

// Index lists items of one index partition.
func (d *Dynamo) Index(ctx context.Context, indexPK, upTo string, q QueryOptions) (Page, error) {
	after, err := IndexStart(q.Cursor, indexPK, upTo)
	if err != nil {
		return Page{}, err
	}
	in := &dynamodb.QueryInput{
		TableName: &d.table, IndexName: aws.String(indexName),
		KeyConditionExpression:    aws.String("IndexPK = :pk"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":pk": str(indexPK)},
	}
	if upTo != "" {
		in.KeyConditionExpression = aws.String("IndexPK = :pk AND IndexSK <= :upTo")
		in.ExpressionAttributeValues[":upTo"] = str(upTo)
	}
	if after.PK != "" {
		in.ExclusiveStartKey = keyAttrs(after.Key)
		in.ExclusiveStartKey[attrIndexPK] = str(after.IndexPK)
		in.ExclusiveStartKey[attrIndexSK] = str(after.IndexSK)
	}
	return d.page(ctx, in, q, IndexCursor)
}

// page fills one page. DynamoDB ends a request at 1 MB and counts expired items, so
// it may take several. One item more than the page tells whether there is another.
func (d *Dynamo) page(ctx context.Context, in *dynamodb.QueryInput, q QueryOptions, cursor func(Item) string) (Page, error) {
	limit := q.PageLimit()
	in.ScanIndexForward = aws.Bool(!q.Descending)
	var p Page
	for {
		in.Limit = aws.Int32(int32(limit + 1 - len(p.Items))) //nolint:gosec // at most MaxLimit + 1
		out, err := d.client.Query(ctx, in)
		if err != nil {
			return Page{}, wrap("query", err)
		}
		for _, attrs := range out.Items {
			it, err := decodeItem(attrs)
			if err != nil {
				return Page{}, err
			}
			if d.expired(it) {
				continue
			}
			if len(p.Items) == limit {
				p.Next = cursor(p.Items[limit-1])
				return p, nil
			}
			p.Items = append(p.Items, it)
		}
		if len(out.LastEvaluatedKey) == 0 {
			return p, nil
		}
		in.ExclusiveStartKey = out.LastEvaluatedKey
	}
}

// Commit applies all writes or none.
func (d *Dynamo) Commit(ctx context.Context, writes ...Write) error {
	if err := CheckWrites(writes); err != nil {
		return err
	}
	if len(writes) == 1 && writes[0].Op == Put {
		return d.putOne(ctx, writes[0])
	}
	return d.transact(ctx, writes)
}

// putOne writes one item at half the price of a transaction.
//
// When the answer to a Put is lost, the client repeats it, and the repeat finds its
// own write and fails its condition. The write's mark tells that apart from a lost
// race. A transaction needs no mark: the client's token, the same on each repeat,
// makes DynamoDB answer as it did the first time. Single deletes go that way, because
// an absent item bears no mark.
func (d *Dynamo) putOne(ctx context.Context, w Write) error {
	mark := rand.Text()
	attrs := itemAttrs(w)
	attrs[attrWrite] = str(mark)
	cond, values := d.condition(w.Expect)
	_, err := d.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: &d.table, Item: attrs,
		ConditionExpression: &cond, ExpressionAttributeValues: values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	if err == nil {
		return nil
	}
	var failed *types.ConditionalCheckFailedException
	if errors.As(err, &failed) {
		if s, ok := failed.Item[attrWrite].(*types.AttributeValueMemberS); ok && s.Value == mark {
			return nil
		}
		return &ConflictError{Key: w.Item.Key, Index: 0}
	}
	var busy *types.TransactionConflictException
	if errors.As(err, &busy) {
		return &ConflictError{Key: w.Item.Key, Index: -1}
	}
	return wrap("put", err)
}

func (d *Dynamo) transact(ctx context.Context, writes []Write) error {
	items := make([]types.TransactWriteItem, len(writes))
	for i, w := range writes {
		items[i] = d.transactItem(w)
	}
	// The SDK fills in ClientRequestToken once per call, the same for its retries.
	_, err := d.client.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: items})
	if err == nil {
		return nil
	}
	var cancelled *types.TransactionCanceledException
	if errors.As(err, &cancelled) {
		if mapped := cancellation(writes, cancelled.CancellationReasons); mapped != nil {
			return mapped
		}
	}
	return wrap("transact", err)
}

func (d *Dynamo) transactItem(w Write) types.TransactWriteItem {
	cond, values := d.condition(w.Expect)
	switch w.Op {
	case Delete:
		return types.TransactWriteItem{Delete: &types.Delete{
			TableName: &d.table, Key: keyAttrs(w.Item.Key),
			ConditionExpression: &cond, ExpressionAttributeValues: values,
		}}
	case Check:
		return types.TransactWriteItem{ConditionCheck: &types.ConditionCheck{
			TableName: &d.table, Key: keyAttrs(w.Item.Key),
			ConditionExpression: &cond, ExpressionAttributeValues: values,
		}}
	case Put:
	}
	return types.TransactWriteItem{Put: &types.Put{
		TableName: &d.table, Item: itemAttrs(w),
		ConditionExpression: &cond, ExpressionAttributeValues: values,
	}}
}

// cancellation turns the reasons of a cancelled transaction, one per write, into the
// contract's errors. A failed expectation outweighs the others: it is certain.
func cancellation(writes []Write, reasons []types.CancellationReason) error {
	var busy, throttled bool
	for i, r := range reasons {
		switch aws.ToString(r.Code) {
		case "ConditionalCheckFailed":
			if i < len(writes) {
				return &ConflictError{Key: writes[i].Item.Key, Index: i}
			}
		case "TransactionConflict":
			busy = true
		case "ThrottlingError", "ProvisionedThroughputExceeded":
			throttled = true
		}
	}
	switch {
	case busy:
		return &ConflictError{Key: writes[0].Item.Key, Index: -1}
	case throttled:
		return fmt.Errorf("store: dynamodb transact: %w", ErrThrottled)
	}
	return nil
}

func (d *Dynamo) condition(expect int64) (string, map[string]types.AttributeValue) {
	values := map[string]types.AttributeValue{":now": num(d.now().Unix())}
	if expect == 0 {
		return condAbsent, values
	}
	values[":expect"] = num(expect)
	return condVersion, values
}

func (d *Dynamo) expired(it Item) bool { return Expired(EpochSeconds(it.ExpiresAt), d.now()) }

func wrap(operation string, err error) error {
	var api smithy.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode() {
		case "ProvisionedThroughputExceededException", "RequestLimitExceeded", "ThrottlingException":
			return fmt.Errorf("store: dynamodb %s: %w (%s)", operation, ErrThrottled, api.ErrorCode())
		}
	}
	if unreachable(err) {
		return fmt.Errorf("store: dynamodb %s: %w: %w", operation, ErrUnavailable, err)
	}
	return fmt.Errorf("store: dynamodb %s: %w", operation, err)
}

// unreachable says that the request found nobody, no answer, or a fault of DynamoDB's own.
func unreachable(err error) bool {
	var send *smithyhttp.RequestSendError
	var answer *smithyhttp.ResponseError
	return errors.As(err, &send) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &answer) && answer.HTTPStatusCode() >= http.StatusInternalServerError
}

func str(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func num(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

func keyAttrs(k Key) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{attrPK: str(k.PK), attrSK: str(k.SK)}
}

func itemAttrs(w Write) map[string]types.AttributeValue {
	it := w.Item
	it.Version = w.Expect + 1
	attrs := map[string]types.AttributeValue{}
	for name, typed := range Image(it) {
		for kind, value := range typed {
			if kind == "N" {
				attrs[name] = &types.AttributeValueMemberN{Value: value}
			} else {
				attrs[name] = str(value)
			}
		}
	}
	return attrs
}

func decodeItem(attrs map[string]types.AttributeValue) (Item, error) {
	return ReadImage(func(name string) string {
		switch v := attrs[name].(type) {
		case *types.AttributeValueMemberS:
			return v.Value
		case *types.AttributeValueMemberN:
			return v.Value
		}
		return ""
	})
}
