package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	region  = "us-east-1"
	tables  = "DynamoDB_20120810."
	streams = "DynamoDBStreams_20120810."
)

// call makes one call of DynamoDB's JSON protocol: what the SDK's client for tables has
// no method for, or would hide.
func (e *Engine) call(ctx context.Context, target string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("%s: %w", target, err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.endpoint, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%s: %w", target, err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	r.Header.Set("X-Amz-Target", target)
	sum := sha256.Sum256(body)
	who := aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}
	if err := v4.NewSigner().SignHTTP(ctx, who, r, hex.EncodeToString(sum[:]), "dynamodb", region, time.Now()); err != nil {
		return fmt.Errorf("%s: sign: %w", target, err)
	}
	answer, err := e.send.RoundTrip(r)
	if err != nil {
		return fmt.Errorf("%s: %w", target, err)
	}
	defer func() { _ = answer.Body.Close() }() // it has been read
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return fmt.Errorf("%s: %w", target, err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %d %.300s", target, answer.StatusCode, text)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("%s: %w", target, err)
	}
	return nil
}

// Records are the records of the table's stream since the last call, each as AWS hands
// it to a function: of one item in the order of its changes.
func (e *Engine) Records(ctx context.Context) ([]json.RawMessage, error) {
	var table struct {
		Table struct{ LatestStreamArn string }
	}
	if err := e.call(ctx, tables+"DescribeTable", map[string]any{"TableName": e.Table}, &table); err != nil {
		return nil, err
	}
	arn := table.Table.LatestStreamArn
	var stream struct {
		StreamDescription struct {
			Shards []struct {
				ShardID string `json:"ShardId"`
			}
		}
	}
	if err := e.call(ctx, streams+"DescribeStream", map[string]any{"StreamArn": arn}, &stream); err != nil {
		return nil, err
	}
	if e.position == nil {
		e.position = map[string]string{}
	}
	var all []json.RawMessage
	for _, shard := range stream.StreamDescription.Shards {
		records, err := e.shard(ctx, arn, shard.ShardID)
		if err != nil {
			return nil, err
		}
		all = append(all, records...)
	}
	return all, nil
}

// shard reads what is new in one shard.
func (e *Engine) shard(ctx context.Context, arn, id string) ([]json.RawMessage, error) {
	at := e.position[id]
	if at == "" {
		var first struct{ ShardIterator string }
		err := e.call(ctx, streams+"GetShardIterator", map[string]any{
			"StreamArn": arn, "ShardId": id, "ShardIteratorType": "TRIM_HORIZON",
		}, &first)
		if err != nil {
			return nil, err
		}
		at = first.ShardIterator
	}
	var all []json.RawMessage
	for {
		var page struct {
			Records           []json.RawMessage
			NextShardIterator string
		}
		if err := e.call(ctx, streams+"GetRecords", map[string]any{"ShardIterator": at, "Limit": 1000}, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Records...)
		if page.NextShardIterator != "" {
			at = page.NextShardIterator
			e.position[id] = at
		}
		if len(page.Records) == 0 || page.NextShardIterator == "" {
			return all, nil
		}
	}
}
